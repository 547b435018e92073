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
from typing import Protocol

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
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
Arm = tuple[float, ...]  # what a world knows of one attempt; the first is its level

# ---------------------------------------------------------------------------
# Ideas
# ---------------------------------------------------------------------------


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

# ---------------------------------------------------------------------------
# Noise
# ---------------------------------------------------------------------------


@dataclass
class Draws:
    """The random streams of one session: ideas from one, noise from another."""

    seed: int
    runs: int = 0

    def __post_init__(self) -> None:
        self.ideas = np.random.default_rng((self.seed, 1))
        self.noise = np.random.default_rng((self.seed, 2))
        self.phase = float(self.ideas.uniform(0, 2 * math.pi))


@dataclass(frozen=True)
class Noise:
    """Normal; a gain moves the level."""

    def root(self) -> Arm:
        """The baseline."""
        return (0.0,)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        """`arm` with an idea worth `gain`; `luck`, uniform in 0..1, chooses how it works."""
        return (arm[0] + gain,)

    def run(self, arm: Arm, draws: Draws) -> float:
        """One score."""
        return arm[0] + draws.noise.standard_normal()

    def truth(self, arm: Arm) -> float:
        """Gain over the baseline."""
        return arm[0]


@dataclass(frozen=True)
class Drift(Noise):
    """Normal, on a machine that goes up and down over 40 runs."""

    height: float = 0.5

    def run(self, arm: Arm, draws: Draws) -> float:
        wave = self.height * math.sin(2 * math.pi * draws.runs / 40 + draws.phase)
        return arm[0] + draws.noise.standard_normal() + wave


@dataclass(frozen=True)
class Gamma(Noise):
    """Skewed as real runs are (results/benchmarks/noise.json): few, but far below."""

    skewness: float = -2.5554

    def run(self, arm: Arm, draws: Draws) -> float:
        shape = 4 / self.skewness**2
        luck = (draws.noise.gamma(shape) - shape) / math.sqrt(shape)
        return arm[0] + math.copysign(1, self.skewness) * luck


# Real runs of one file each (results/benchmarks/slots.json).
_SLOTS = (
    (-41.5, 249.0, 268.3, 283.0, 287.3, 288.8, 296.5, 297.0, 300.1, 301.4, 304.4, 310.4),
    (24.8, 171.2, 225.6, 233.7, 242.8, 263.9, 267.8, 285.2, 289.1, 296.5, 297.8, 303.7),
    (186.9, 239.4, 271.0, 287.2, 288.9, 297.6),
)
_RESIDUALS = np.concatenate([np.array(runs) - np.mean(runs) for runs in _SLOTS])
RESIDUALS = _RESIDUALS / _RESIDUALS.std()


@dataclass(frozen=True)
class Residuals(Noise):
    """Drawn from real runs."""

    def run(self, arm: Arm, draws: Draws) -> float:
        drawn = draws.noise.choice(RESIDUALS) + 0.05 * draws.noise.standard_normal()
        return float(arm[0] + drawn)


@dataclass(frozen=True)
class TakeOff(Noise):
    """A share of the runs stays far below; half of the ideas move the level, half that share.

    Arm: level, share.
    """

    stay: float = 0.4

    FALL = math.sqrt((1 - 0.09) / 0.24)  # so that one run's sd is 1

    def root(self) -> Arm:
        return (0.0, self.stay)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        level, stay = arm
        if luck < 0.5:
            return (level + gain / (1 - stay), stay)
        return (level, float(np.clip(stay - gain / max(self.FALL + level, 0.5), 0.02, 0.95)))

    def run(self, arm: Arm, draws: Draws) -> float:
        level = arm[0] if draws.noise.random() >= arm[1] else -self.FALL
        return level + 0.3 * draws.noise.standard_normal()

    def truth(self, arm: Arm) -> float:
        return arm[0] * (1 - arm[1]) - self.FALL * (arm[1] - self.stay)


@dataclass(frozen=True)
class Multiplicative(Noise):
    """The spread grows with the mean."""

    variation: float = 0.36

    def root(self) -> Arm:
        return (1 / self.variation,)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        return (arm[0] * math.exp(self.variation * gain),)

    def run(self, arm: Arm, draws: Draws) -> float:
        return arm[0] * (1 + self.variation * max(-2.5, draws.noise.standard_normal()))

    def truth(self, arm: Arm) -> float:
        return math.log(arm[0] * self.variation) / self.variation


@dataclass(frozen=True)
class Jump(Multiplicative):
    """Some ideas let a share of the runs break through to a multiple.

    Arm: usual mean, share, multiple.
    """

    def root(self) -> Arm:
        return (1 / self.variation, 0.0, 1.0)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        mean, share, high = arm
        if gain > 0 and luck < 0.15:
            return (mean, min(0.95, share + 0.35), max(high, 1.0) * 3.0)
        if share > 0 and luck > 0.7:
            return (mean, float(np.clip(share + 0.25 * np.sign(gain), 0, 0.95)), high)
        return (mean * math.exp(self.variation * gain), share, high)

    def run(self, arm: Arm, draws: Draws) -> float:
        mean, share, high = arm
        level = mean * (high if draws.noise.random() < share else 1.0)
        return level * (1 + 0.8 * self.variation * draws.noise.standard_normal())

    def truth(self, arm: Arm) -> float:
        mean, share, high = arm
        return math.log(mean * self.variation * (1 + share * (high - 1))) / self.variation


@dataclass(frozen=True)
class Rare(Noise):
    """A share of the runs is off by `shift`."""

    share: float
    shift: float
    usual: float  # sd of the others

    def run(self, arm: Arm, draws: Draws) -> float:
        off = self.shift if draws.noise.random() < self.share else 0.0
        total = math.sqrt(self.usual**2 + self.shift**2 * self.share * (1 - self.share))
        luck = off + self.usual * draws.noise.standard_normal() - self.shift * self.share
        return arm[0] + luck / total


@dataclass(frozen=True)
class Ceiling(Noise):
    """No score is higher than `cap`."""

    cap: float = 2.0

    def run(self, arm: Arm, draws: Draws) -> float:
        return min(self.cap, arm[0] + draws.noise.standard_normal())

    def truth(self, arm: Arm) -> float:
        return self._mean(arm[0]) - self._mean(0.0)

    def _mean(self, level: float) -> float:
        """E[min(cap, N(level, 1))]."""
        z = self.cap - level
        below = 0.5 * (1 + math.erf(z / math.sqrt(2)))
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return level * below - density + self.cap * (1 - below)


@dataclass(frozen=True)
class World:
    """Ideas, and how runs scatter."""

    ideas: Ideas
    noise: Noise = Noise()


LUCKY, FAILS = Rare(0.08, 3.0, 0.6), Rare(0.04, -6.0, 1.0)
WORLDS = {
    "base": World(EARLY),
    "mid": World(MID),
    "late": World(LATE),
    "drift": World(EARLY, Drift()),
    "real": World(MID, Gamma()),
    "slots": World(MID, Residuals()),
    "take-off": World(MID, TakeOff()),
    "multiplicative": World(MID, Multiplicative()),
    "lucky": World(MID, LUCKY),
    "ceiling": World(MID, Ceiling()),
    "crash": World(MID, FAILS),
    "late real": World(LATE, Gamma()),
    "late slots": World(LATE, Residuals()),
    "jump": World(MID, Jump()),
    "late lucky": World(LATE, LUCKY),
    "late take-off": World(LATE, TakeOff()),
    "erosion": World(EROSION),
    "barren": World(BARREN),
    "mostly harm": World(MOSTLY_HARM),
}
NULLS = {
    "null": World(NONE),
    "null real": World(NONE, Gamma()),
    "null slots": World(NONE, Residuals()),
    "null lucky": World(NONE, LUCKY),
    "null multiplicative": World(NONE, Multiplicative()),
    "null take-off": World(NONE, TakeOff()),
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


# ---------------------------------------------------------------------------
# Sessions
# ---------------------------------------------------------------------------


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


class Peer(Protocol):
    """Another rule: the attempt to run next, None for a new child of `tip`."""

    tip: int

    def ask(self) -> int | None:
        """What to run next."""

    def tell(self, n: int, score: float) -> None:
        """A run ended."""


class Record:
    """zjianyi/autoRL: one run, kept if it beats the best score ever seen."""

    def __init__(self) -> None:
        self.tip, self.best = 0, -math.inf

    def ask(self) -> int | None:
        return 0 if self.best == -math.inf else None

    def tell(self, n: int, score: float) -> None:
        if score > self.best:
            self.best, self.tip = score, n


class Bold:
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


def peer(rule: Peer, nature: Nature, budgets: tuple[int, ...] = BUDGETS) -> Session:
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
