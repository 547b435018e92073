"""Simulated research sessions: worlds of ideas and noise; one session through decision/ or a peer.

Unit: sd, the standard deviation of one run of the baseline. A session's gain is the champion's true
mean less the baseline's; in `Multiplicative` and `Jump`, where the spread grows with it, it is the
logarithm of their ratio over the baseline's coefficient of variation. Session number k of a
world has the same ideas in the same order for every rule.
Used by benchmarks/decision.py and the tests. What it does not do: train anything.
"""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import noises
from noises import Arm, Draws, Noise, Rare

from autorl.decision import (
    AttemptFact,
    Control,
    ControlFact,
    Fact,
    Measure,
    Propose,
    Rules,
    RunFact,
    State,
    Want,
    champion,
    observe,
    start,
    wants,
)

BUDGETS = (40, 100)  # runs

# -- Ideas -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ideas:
    """Good ideas gain one of `sizes`; of the others some harm, the rest change nothing."""

    good: float  # share of ideas
    sizes: tuple[float, ...] = (0.25, 0.5, 1.0)  # sd
    odds: tuple[float, ...] = (0.4, 0.35, 0.25)
    harm: float = 1.0  # mean, sd
    harmful: float = 0.5  # of the ideas that are not good


EARLY = Ideas(0.30, (0.25, 0.5, 1.0, 2.0), (0.4, 0.3, 0.2, 0.1))
MID = Ideas(0.20)
LATE = Ideas(0.10, odds=(0.5, 0.35, 0.15))
EROSION = Ideas(0.05, odds=(0.5, 0.35, 0.15), harm=0.3, harmful=0.8)
BARREN = Ideas(0.03, odds=(0.5, 0.35, 0.15))
MOSTLY_HARM = Ideas(0.20, harmful=0.9)
NONE = Ideas(0.0)


@dataclass(frozen=True)
class World:
    """Ideas, and how runs scatter."""

    ideas: Ideas
    noise: Noise = noises.NORMAL


LUCKY, FAILS = Rare(0.08, 3.0, 0.6), Rare(0.04, -6.0, 1.0)
WORLDS = {
    "base": World(EARLY),
    "mid": World(MID),
    "late": World(LATE),
    "drift": World(EARLY, noises.Drift()),
    "real": World(MID, noises.Gamma()),
    "slots": World(MID, noises.Residuals()),
    "take-off": World(MID, noises.TakeOff()),
    "multiplicative": World(MID, noises.Multiplicative()),
    "lucky": World(MID, LUCKY),
    "ceiling": World(MID, noises.Ceiling()),
    "crash": World(MID, FAILS),
    "late real": World(LATE, noises.Gamma()),
    "late slots": World(LATE, noises.Residuals()),
    "jump": World(MID, noises.Jump()),
    "late lucky": World(LATE, LUCKY),
    "late take-off": World(LATE, noises.TakeOff()),
    "erosion": World(EROSION),
    "barren": World(BARREN),
    "mostly harm": World(MOSTLY_HARM),
}
NULLS = {
    "null": World(NONE),
    "null real": World(NONE, noises.Gamma()),
    "null slots": World(NONE, noises.Residuals()),
    "null lucky": World(NONE, LUCKY),
    "null multiplicative": World(NONE, noises.Multiplicative()),
    "null take-off": World(NONE, noises.TakeOff()),
}

Idea = tuple[float, float]  # gain, how it works


class Nature:
    """One session of a world: what is true of each attempt, and what its runs score."""

    def __init__(self, world: World, seed: int):
        self.world, self.draws = world, Draws(seed)
        self.arms: dict[int, Arm] = {0: world.noise.root()}
        self.ideas: dict[int, tuple[Idea, ...]] = {}

    def idea(self) -> Idea:
        """The next one, whoever asks."""
        ideas, rng = self.world.ideas, self.draws.ideas
        u, size = rng.random(), float(rng.choice(ideas.sizes, p=ideas.odds))
        harm, luck = float(rng.exponential(ideas.harm)), rng.random()
        if u < ideas.good:
            return size, luck
        return (0.0 if u < ideas.good + (1 - ideas.good) * (1 - ideas.harmful) else -harm), luck

    def grow(self, n: int, parent: int, *ideas: Idea) -> None:
        """Attempt `n`: these ideas on top of `parent`."""
        self.ideas[n], arm = ideas, self.arms[parent]
        for idea in ideas:
            arm = self.world.noise.child(arm, *idea)
        self.arms[n] = arm

    def run(self, n: int) -> float:
        """One score of attempt `n`."""
        self.draws.runs += 1
        return float(self.world.noise.run(self.arms[n], self.draws))

    def gain(self, n: int) -> float:
        """True gain of attempt `n` over the baseline."""
        return self.world.noise.truth(self.arms[n])


# -- Sessions --------------------------------------------------------------------------------------


@dataclass
class Session:
    """What a session came to, at each budget."""

    gain: dict[int, float] = field(default_factory=dict)  # sd
    champion: int = 0
    arm: Arm = ()  # the champion's
    state: State | None = None  # of decision/, at the end
    ideas: int = 0
    keeps: int = 0
    taken_back: int = 0
    rounds: int = 0  # places filled and waited for


def adaptive(
    nature: Nature,
    budgets: tuple[int, ...] = BUDGETS,
    places: int = 1,
    rules: Rules = Rules(),
) -> Session:
    """One session through `wants` and `observe`; runs started together end together, in order."""
    out, runs, superseded = Session(), 0, list[int]()
    state, _ = observe(start(rules), AttemptFact(0, None, "0"))

    def tell(fact: Fact) -> None:
        nonlocal state
        state, verdicts = observe(state, fact)
        for verdict in verdicts:
            out.keeps += verdict.outcome == "keep"
            out.taken_back += len(verdict.taken_back)
            if verdict.outcome == "superseded":
                superseded.append(verdict.attempt)

    def propose(parent: int) -> None:
        n, again = len(nature.arms), tuple(superseded[: rules.merged])
        del superseded[: rules.merged]
        out.ideas += not again
        nature.grow(n, parent, *([i for m in again for i in nature.ideas[m]] or [nature.idea()]))
        tell(AttemptFact(n, parent, str(n), again=again))

    while runs < max(budgets) and not state.stop:
        flying: list[Want] = []
        while asked := wants(state, places, tuple(flying)):
            if isinstance(asked[0], Propose):
                propose(asked[0].parent)
            elif isinstance(asked[0], Control):
                tell(ControlFact(asked[0].attempt, asked[0].kind, passed=True))
            else:
                flying.append(asked[0])
        out.rounds += 1
        for want in flying:
            if isinstance(want, Measure) and runs < max(budgets):
                runs += 1
                tell(RunFact(runs, want.attempt, "ok", nature.run(want.attempt), runs))
                if runs in budgets:
                    out.gain[runs] = nature.gain(champion(state))
    out.champion = champion(state)
    out.arm, out.state = nature.arms[out.champion], state
    for budget in budgets:  # a search that stopped has nothing more to gain
        out.gain.setdefault(budget, nature.gain(out.champion))
    return out


class Record:
    """zjianyi/autoRL: one run, kept if it beats the best score ever seen."""

    def __init__(self) -> None:
        self.tip, self.best = 0, -math.inf

    def ask(self) -> int | None:
        """The attempt to run next; None: a new child of `tip`."""
        return 0 if self.best == -math.inf else None

    def tell(self, n: int, score: float) -> None:
        """A run of attempt `n` ended."""
        if score > self.best:
            self.best, self.tip = score, n


class Bold(Record):
    """One run, kept if above the incumbent's mean; four runs of the baseline, three of a keep."""

    def __init__(self) -> None:
        self.tip = 0
        self.runs: dict[int, list[float]] = {0: []}

    def ask(self) -> int | None:
        return self.tip if len(self.runs[self.tip]) < (3 if self.tip else 4) else None

    def tell(self, n: int, score: float) -> None:
        self.runs.setdefault(n, []).append(score)
        if n != self.tip and score > np.mean(self.runs[self.tip]):
            self.tip = n


def peer(rule: Record, nature: Nature, budgets: tuple[int, ...] = BUDGETS) -> Session:
    """One session of another rule."""
    out = Session()
    for runs in range(1, max(budgets) + 1):
        tip, n = rule.tip, rule.ask()
        if n is None:
            n = len(nature.arms)
            nature.grow(n, tip, nature.idea())
            out.ideas += 1
        rule.tell(n, nature.run(n))
        out.keeps += rule.tip != tip
        if runs in budgets:
            out.gain[runs] = nature.gain(rule.tip)
    out.champion, out.arm = rule.tip, nature.arms[rule.tip]
    return out
