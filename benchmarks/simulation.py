"""Simulated research nights: worlds of ideas and noise, and one night in them through the shipped decision room.

Unit: s, one run's standard deviation at fixed code. Used by benchmarks/decision.py and the tests.
"""

import json
import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from autorl.decision import (
    AttemptFact,
    Comparison,
    Control,
    ControlFact,
    Measure,
    Propose,
    Rules,
    RunFact,
    Want,
    champion,
    observe,
    start,
    wants,
)

NOISE = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "noise.json"
BUDGETS = (40, 100)  # runs: about one night, about three

# ---------------------------------------------------------------------------
# Worlds
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Ideas and noise. Half of the ideas that are not good change nothing, the others harm (exponential, mean `harm`)."""

    good: float = 0.30  # share of good ideas
    sizes: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # s
    odds: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    harm: float = 1.0  # s
    harmful: float = 0.5  # of the ideas that are not good
    noise: str = "normal"  # or "skew": 15 % of runs fail to take off, skewness -1.6; or a number: a gamma's skewness
    drift: float = 0.0  # s; amplitude of a slow wave over 40 runs
    candidate_sd: float = 1.0  # s; spread of a candidate's runs
    bloat: float = 0.0  # share of ideas that make the file longer


MID = World(good=0.2, sizes=(0.25, 0.5, 1.0), odds=(0.4, 0.35, 0.25))
LATE = World(good=0.1, sizes=(0.25, 0.5, 1.0), odds=(0.5, 0.35, 0.15))
WORLDS = {"base": World(), "mid": MID, "late": LATE, "drift": World(drift=0.5)}
STRESS = {
    "skewed noise": World(noise="skew"),
    "late, skewed": replace(LATE, noise="skew"),
    "late, drift": replace(LATE, drift=0.5),
    "candidate SD 1.6": World(candidate_sd=1.6),
    "erosion": replace(LATE, good=0.05, harm=0.3, harmful=0.8),
    "barren": replace(LATE, good=0.03),
    "mostly harm": replace(MID, harmful=0.9),
    "all longer": replace(MID, bloat=1.0),
}


def real_world() -> World | None:
    """Ideas as in `mid`, noise of a gamma with the skewness measured on real runs; None before it was measured."""
    if not NOISE.is_file():
        return None
    return replace(MID, noise=str(json.loads(NOISE.read_text())["skewness"]))


class Nature:
    """One night's draws, in the order of the reference simulation, so that the same seed gives the same night."""

    def __init__(self, world: World, rng: np.random.Generator):
        self.world, self.rng, self.t = world, rng, 0
        self.stock = rng.standard_normal(4096)
        self.used = 0
        self.phase = rng.uniform(0, 2 * math.pi)

    def eps(self) -> float:
        if self.world.noise == "normal":
            if self.used >= len(self.stock):
                self.stock, self.used = self.rng.standard_normal(4096), 0
            self.used += 1
            return float(self.stock[self.used - 1])
        if self.world.noise == "skew":
            p, gap = 0.15, 2.2
            e = self.rng.standard_normal() * 0.62
            return float(e + (-gap * (1 - p) if self.rng.random() < p else gap * p))
        skew = float(self.world.noise)
        if abs(skew) < 0.05:
            return float(self.rng.standard_normal())
        shape = 4 / skew**2
        return math.copysign(1.0, skew) * float((self.rng.gamma(shape) - shape) / math.sqrt(shape))

    def run(self, mean: float, candidate: bool = False) -> float:
        self.t += 1
        wave = self.world.drift * math.sin(2 * math.pi * self.t / 40 + self.phase)
        return mean + wave + self.eps() * (self.world.candidate_sd if candidate else 1.0)

    def idea(self) -> float:
        w, u = self.world, self.rng.random()
        if u < w.good:
            return float(self.rng.choice(w.sizes, p=w.odds))
        if u < w.good + (1 - w.good) * (1 - w.harmful):
            return 0.0
        return -float(self.rng.exponential(w.harm))


# ---------------------------------------------------------------------------
# Nights
# ---------------------------------------------------------------------------


@dataclass
class Night:
    """What a night came to, at each budget."""

    gain: dict[int, float] = field(default_factory=dict)  # champion's true mean - baseline's, s
    ledger: float = 0.0  # what the runs on the ledger say it was
    keeps: int = 0
    bad: int = 0  # keeps that gained nothing
    ideas: int = 0
    undone: int = 0
    rounds: int = 0  # places filled and waited for


def night(
    world: World,
    rules: Rules,
    rng: np.random.Generator,
    budgets: tuple[int, ...] = BUDGETS,
    places: int = 1,
) -> Night:
    """One night through `wants` and `observe`, runs taking equally long."""
    nature, out = Nature(world, rng), Night()
    truth, nodes = {0: 0.0}, {0: 1000}
    state, _ = observe(start(rules), AttemptFact(0, None, "0", 1000))
    again: list[int] = []
    runs = 0

    def tell(fact: Any) -> None:
        nonlocal state
        state, verdicts = observe(state, fact)
        for v in verdicts:
            out.keeps += v.outcome == "keep"
            out.bad += v.outcome == "keep" and truth[v.attempt] <= truth[v.incumbent or 0]
            out.undone += len(v.undone)
            if v.outcome == "superseded":
                again.append(v.attempt)

    def mark() -> None:
        if runs in budgets:
            out.gain[runs] = truth[champion(state)]

    delta: dict[int, float] = {}
    while runs < max(budgets):
        flying: list[Want] = []
        while len(flying) < places:
            asked = wants(state, places, tuple(flying))
            if not asked:
                break
            want = asked[0]
            if isinstance(want, Propose):
                n, origin = len(truth), again.pop(0) if again else None
                delta[n] = nature.idea() if origin is None else delta[origin]
                out.ideas += origin is None
                truth[n] = truth[want.parent] + delta[n]
                nodes[n] = nodes[want.parent] + (
                    10 if nature.world.bloat and rng.random() < nature.world.bloat else 0
                )
                tell(AttemptFact(n, want.parent, str(n), nodes[n], again=origin))
            elif isinstance(want, Control):
                tell(ControlFact(want.attempt, want.kind, passed=True))
            else:
                flying.append(want)
        if not flying:
            raise RuntimeError(f"the night stands still: {state.stop}")
        out.rounds += 1
        for want in flying:
            if runs < max(budgets) and isinstance(want, Measure):
                runs += 1
                tell(
                    RunFact(
                        runs,
                        want.attempt,
                        "ok",
                        nature.run(truth[want.attempt], want.purpose == "candidate"),
                        runs,
                    )
                )
                mark()
    best = state.arms[champion(state)].runs
    out.ledger = (sum(r.score for r in best) - 0.0) / len(best) - sum(
        r.score for r in state.arms[0].runs[:4]
    ) / 4
    return out


def predecessor(
    world: World, rng: np.random.Generator, budgets: tuple[int, ...] = BUDGETS
) -> Night:
    """The predecessor's rule: one run, kept if it beats the record."""
    nature, out, truth = Nature(world, rng), Night(), 0.0
    first = record = nature.run(0.0)
    for runs in range(2, max(budgets) + 1):
        delta = nature.idea()
        y = nature.run(truth + delta, candidate=True)
        out.ideas += 1
        if y > record:
            record, truth = y, truth + delta
            out.keeps += 1
            out.bad += delta <= 0
        if runs in budgets:
            out.gain[runs] = truth
    out.ledger = record - first
    return out


RULES: dict[str, Rules | None] = {
    "predecessor: one run against the record": None,
    "bold: one run against the mean": Rules(rigor="bold"),
    "SPRT .05 (strict)": Rules(rigor="strict"),
    "SPRT .10, drift guard": Rules(
        rigor="strict", strict=Comparison(alpha=0.10, fresh=8, newest=6)
    ),
    "SPRT .20": Rules(rigor="strict", strict=Comparison(alpha=0.20)),
    "anchored adaptive": Rules(rigor="anchored"),
    "standard": Rules(),
}


def _nights(task: tuple[World, Rules | None, int, int, int, tuple[int, ...]]) -> list[Night]:
    world, rules, nights, seed, places, budgets = task
    rng = np.random.default_rng(seed)
    return [
        predecessor(world, rng, budgets)
        if rules is None
        else night(world, rules, rng, budgets, places)
        for _ in range(nights)
    ]


def simulate(
    pool: Any,
    world: World,
    rules: Rules | None,
    nights: int,
    places: int = 1,
    budgets: tuple[int, ...] = BUDGETS,
) -> list[Night]:
    """`nights` nights in four streams of their own."""
    tasks = [(world, rules, nights // 4, seed, places, budgets) for seed in (5, 6, 7, 8)]
    return [n for part in pool.map(_nights, tasks) for n in part]
