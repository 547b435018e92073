"""Classical search against chance: synthetic sessions through the shipped proposer and rule.

    uv run python benchmarks/search.py    # 200 sessions of 30 and of 60 runs, 6 minutes on 2 cores
    uv run python benchmarks/search.py --nights 20 --runs 30

A session: a train.py of ten constants with stated bounds, whose true score is a bowl in them. Where
the bottom lies, how far off the start is and how much each constant matters are drawn anew every
session; every run adds noise of standard deviation s = 1. The budget is *runs*, calibration,
replicates and anchor checks included. Both sides of a comparison see the same sessions. What it
measures is the true score of the incumbent at the end, less that of the baseline, in s.

What it does not show: how search does on a real algorithm, whose landscape is no bowl.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import run_statistics

from autorl import decision
from autorl.proposers.search import SearchProposer
from autorl.proposers.search_space import Constant, constants, rewrite
from autorl.records import Edit, History, Proposal, Row

SOURCE = """
LEARNING_RATE = 3e-4   # [1e-5, 1e-2] log
NUM_STEPS = 512        # {128, 256, 512, 1024, 2048, 4096}
NUM_EPOCHS = 10        # [1, 20]
NUM_MINIBATCHES = 32   # {4, 8, 16, 32, 64, 128}
GAMMA = 0.99           # [0.9, 0.9995]
GAE_LAMBDA = 0.95      # [0.8, 0.995]
CLIP_COEF = 0.2        # [0.05, 0.5]
ENT_COEF = 0.001       # [1e-5, 0.1] log
VF_COEF = 0.5          # [0.1, 2.0] log
MAX_GRAD_NORM = 0.5    # [0.1, 5.0] log
"""
KNOWN = constants(SOURCE)


def unit(constant: Constant, value: float) -> float:
    """Where a value stands between its bounds, 0..1, on the constant's own scale."""
    low, high = constant.dimension.x_bounds
    return (constant.dimension.to_x(value) - low) / (high - low)


def from_unit(constant: Constant, z: float) -> float:
    low, high = constant.dimension.x_bounds
    return constant.dimension.to_value(low + z * (high - low))


@dataclass(frozen=True)
class World:
    """One session's truth."""

    start: dict[str, float]
    bottom: dict[str, float]  # in 0..1
    weight: dict[str, float]  # s per squared unit

    def score(self, values: dict[str, float]) -> float:
        """True score in s; 0 is the best there is."""
        return -sum(
            w * (unit(KNOWN[n], values[n]) - self.bottom[n]) ** 2 for n, w in self.weight.items()
        )


def world(number: int) -> World:
    """The start lies 3 to 8 s below the best; a few constants matter much, most little.

    Their weights are exponential.
    """
    rng = random.Random(f"world {number}")
    bottom = {n: rng.uniform(0.1, 0.9) for n in KNOWN}
    start = {
        n: from_unit(c, min(max(rng.gauss(bottom[n], 0.3), 0.0), 1.0)) for n, c in KNOWN.items()
    }
    weight = {n: rng.expovariate(1.0) for n in KNOWN}
    raw = World(start, bottom, weight)
    deficit = rng.uniform(3.0, 8.0) / max(1e-6, -raw.score(start))
    return World(start, bottom, {n: w * deficit for n, w in weight.items()})


class Chance:
    """Uniform within the same bounds: all constants at once, or one to three of the incumbent's."""

    def __init__(self, seed: int, changed: tuple[int, int]):
        self.name, self.rng, self.changed = "chance", random.Random(f"chance {seed}"), changed

    def propose(self, history: History, budget: object = None) -> Proposal:
        known = constants(history.train_source)
        chosen = self.rng.sample(sorted(known), self.rng.randint(*self.changed))
        values = {
            n: from_unit(KNOWN[n], self.rng.random()) if n in chosen else c.value
            for n, c in known.items()
        }
        source, _ = rewrite(history.train_source, values)
        return Proposal(
            "chance",
            edits=(Edit(history.train_source, source),),
            params=tuple(values.items()),
            proposer=self.name,
        )


def stderr(scores: list[float]) -> float | None:
    """Standard error of their mean; None below two."""
    if len(scores) < 2:
        return None
    mean = sum(scores) / len(scores)
    return math.sqrt(sum((s - mean) ** 2 for s in scores) / (len(scores) - 1) / len(scores))


def session(make: Callable[[int], object], number: int, budget: int) -> tuple[float, int]:
    """One session: (true gain in s, candidates measured)."""
    truth, noise, proposer = world(number), random.Random(f"noise {number}"), make(number)
    baseline, _ = rewrite(SOURCE, truth.start)
    sources, params = {0: baseline}, {0: {n: c.value for n, c in constants(baseline).items()}}
    scores: dict[int, list[float]] = {0: []}
    status, state_of, parents = {0: "keep"}, {0: ""}, {0: 0}
    state, _ = decision.observe(decision.start(), decision.AttemptFact(0, None, "baseline"))
    runs = 0
    while runs < budget and not state.stop:
        want = decision.wants(state)[0]
        if isinstance(want, decision.Propose):
            rows = tuple(
                Row(
                    n,
                    f"{n:07x}",
                    sum(s) / len(s) if s else None,
                    status[n],
                    "",
                    state_of[n],
                    len(s),
                    stderr(s),
                    parents[n],
                )
                for n, s in scores.items()
            )
            history = History(
                "Bowl-v0",
                720.0,
                100,
                "",
                "",
                sources[state.incumbent],
                state.incumbent,
                rows,
                source_of=sources.__getitem__,
                params={n: tuple(p.items()) for n, p in params.items()},
                seed=number,
            )
            proposal = proposer.propose(history, None)  # type: ignore[attr-defined]
            if proposal is None:
                break
            n = len(scores)
            source = sources[state.incumbent]
            for edit in proposal.edits:
                source = source.replace(edit.search, edit.replace)
            sources[n], params[n] = source, {name: c.value for name, c in constants(source).items()}
            scores[n], status[n], state_of[n], parents[n] = [], "running", "", state.incumbent
            fact: decision.Fact = decision.AttemptFact(
                n, state.incumbent, str(sorted(params[n].items()))
            )
        elif isinstance(want, decision.Control):
            fact = decision.ControlFact(want.attempt, want.kind, True)
        else:
            score = truth.score(params[want.attempt]) + noise.gauss(0.0, 1.0)
            scores[want.attempt].append(score)
            runs += 1
            fact = decision.RunFact(runs, want.attempt, "ok", score, seed=runs)
        state, verdicts = decision.observe(state, fact)
        for verdict in verdicts:
            if verdict.outcome in ("keep", "discard", "crash"):
                status[verdict.attempt] = verdict.outcome
            for n in verdict.taken_back:
                state_of[n] = "taken back"
    return truth.score(params[state.incumbent]) - truth.score(params[0]), len(scores) - 1


SIDES: dict[str, Callable[[int], object]] = {
    "search": lambda number: SearchProposer(seed=number),
    "chance, all constants": lambda number: Chance(number, (len(KNOWN), len(KNOWN))),
    "chance, 1 to 3 constants": lambda number: Chance(number, (1, 3)),
}


def _session(job: tuple[str, int, int]) -> tuple[float, int]:
    side, number, budget = job
    return session(SIDES[side], number, budget)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (normal; there are hundreds of sessions)."""
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(1, len(values) - 1))
    return mean, 1.96 * spread / math.sqrt(len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--runs", type=int, nargs="+", default=[30, 60])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    print(
        f"{options.nights} sessions; gain in s, true score of the last incumbent less the "
        "baseline's; ± is half a 95 % interval"
    )
    print(
        f"{'runs':>4}  {'proposer':<26}{'gain':>14}  {'candidates':>10}"
        "  sessions won by search (ties half)"
    )
    with ProcessPoolExecutor(options.processes) as pool:
        for budget in options.runs:
            gains: dict[str, list[float]] = {}
            for side in SIDES:
                results = list(
                    pool.map(
                        _session, [(side, k, budget) for k in range(options.nights)], chunksize=5
                    )
                )
                gains[side] = [g for g, _ in results]
                mean, half = interval(gains[side])
                won = ""
                if side != "search":
                    wins = sum(
                        (a > b) + 0.5 * (a == b)
                        for a, b in zip(gains["search"], gains[side], strict=True)
                    )
                    share, (low, high) = (
                        wins / options.nights,
                        run_statistics.wilson(wins, options.nights),
                    )
                    better, margin = interval(
                        [a - b for a, b in zip(gains["search"], gains[side], strict=True)]
                    )
                    won = f"{share:.0%} [{low:.0%}, {high:.0%}], by {better:.2f} ± {margin:.2f}"
                print(
                    f"{budget:>4}  {side:<26}{mean:>7.2f} ± {half:.2f}"
                    f"  {sum(c for _, c in results) / len(results):>10.1f}  {won}",
                    flush=True,
                )
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
