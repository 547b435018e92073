"""Simulated sessions of 30 known ideas on a machine that others use, through the shipped decision/.

    uv run python benchmarks/busy.py [SESSIONS] [--slope SD]

Prints for each machine: the share of the runs after the calibration that are candidates', wrong
verdicts (a harmful idea kept, a good one discarded, a better attempt taken back), how many more
than on a quiet machine (paired), the champion's true gain, and the minutes waited before a run.
Unit: sd, one run's standard deviation at fixed code. A run takes 12 minutes, and what it gets is
the mean share of its minutes. What a lower share costs is an assumption: SD sd for each halving
(1), and it is the same for every attempt. What it does not do: train anything, or pay for a claim.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from autorl.decision import (
    AttemptFact,
    Control,
    ControlFact,
    Propose,
    Rules,
    RunFact,
    champion,
    observe,
    start,
    wants,
)
from autorl.decision.rules import TOLERANCE
from autorl.loop.quiet import MOST, usual
from autorl.records import Verdict

IDEAS = (2.0, 1.5, 1.0, 1.0, 0.5, 0.5, *[0.0] * 12, *[-0.5] * 3, *[-1.0] * 5, *[-2.0] * 4)  # sd
RUN = 12  # minutes
LOW, HIGH = 0.3, 1.0  # share of the cores
MACHINES = {
    "quiet": "nobody else",
    "walks": "a random walk of .05 a minute between .3 and 1",
    "walks slowly": "of .02 a minute",
    "jumps": "another share between .3 and 1 every 20 minutes on average",
    "jumps seldom": "every 60",
    "halves": "nobody else, then half of the cores from the 4th hour on",
    "doubles": "the other way round",
}


class Machine:
    """What share of the cores others leave, minute by minute."""

    def __init__(self, kind: str, seed: int):
        self.kind, self.rng, self.minutes = kind, np.random.default_rng((seed, 3)), 0
        self.share = float(self.rng.uniform(LOW, HIGH))

    def minute(self) -> float:
        """The share of the next minute."""
        self.minutes += 1
        if self.kind.startswith("walks"):
            step = 0.02 if "slowly" in self.kind else 0.05
            self.share += step * float(self.rng.standard_normal())
            if self.share < LOW or self.share > HIGH:
                self.share = 2 * (LOW if self.share < LOW else HIGH) - self.share
        elif self.kind.startswith("jumps"):
            if self.rng.random() < 1 / (60 if "seldom" in self.kind else 20):
                self.share = float(self.rng.uniform(LOW, HIGH))
        else:
            late = self.minutes > 4 * 60
            self.share = 0.5 if self.kind == ("halves" if late else "doubles") else 1.0
        return self.share

    def waited(self, wanted: float) -> int:
        """Minutes until it leaves this share, at most MOST."""
        for minutes in range(int(MOST / 60)):
            if self.minute() >= wanted:
                return minutes
        return int(MOST / 60)

    def run(self) -> float:
        """The share that a run gets."""
        return float(np.mean([self.minute() for _ in range(RUN)]))


@dataclass
class Session:
    """What a session came to."""

    candidates: int = 0  # runs after the calibration
    others: int = 0  # of the incumbent
    waited: int = 0  # minutes
    verdicts: int = 0
    wrong: int = 0
    gain: float = 0.0  # of the champion, true, sd


def session(kind: str, seed: int, slope: float, rules: Rules, waits: bool = True) -> Session:
    """Session `seed`: its ideas come in an order of its own, the same on every machine."""
    machine, out, level = Machine(kind, seed), Session(), {0: 0.0}
    ideas, noise = (np.random.default_rng((seed, stream)) for stream in (1, 2))
    left, shares = list(ideas.permutation(IDEAS)), list[float]()
    state, _ = observe(start(rules), AttemptFact(0, None, "0"))
    while not state.stop:
        want = wants(state)[0]
        if isinstance(want, Propose):
            if not left:
                break
            n = len(level)
            level[n] = level[want.parent] + float(left.pop())
            state, verdicts = observe(state, AttemptFact(n, want.parent, str(n)))
        elif isinstance(want, Control):
            fact = ControlFact(want.attempt, want.kind, passed=True)
            state, verdicts = observe(state, fact)
        else:
            counted = state.posterior is not None
            waited = machine.waited(TOLERANCE * usual(shares)) if waits else 0
            share = machine.run()
            shares.append(share)
            score = level[want.attempt] + noise.standard_normal() + slope * math.log2(share)
            run = RunFact(len(shares), want.attempt, "ok", score, len(shares), share)
            out.waited += counted * waited
            out.candidates += counted and want.purpose == "candidate"
            out.others += counted and want.purpose != "candidate"
            state, verdicts = observe(state, run)
        for verdict in verdicts:
            out.verdicts += verdict.outcome in ("keep", "discard", "taken back")
            out.wrong += _is_wrong(verdict, level)
    out.gain = level[champion(state)]
    return out


def _is_wrong(verdict: Verdict, level: dict[int, float]) -> bool:
    if verdict.incumbent is None:
        return False
    gain = level[verdict.attempt] - level[verdict.incumbent]
    return gain < 0 if verdict.outcome == "keep" else gain > 0


def table(sessions: int, slope: float) -> None:
    """Each machine, and what does without a part of the rule."""
    print(f"{sessions} sessions of {len(IDEAS)} known ideas; a halving costs {slope:g} sd")
    print(
        "                           candidates'      wrong        more than quiet     gain   waited"
    )
    quiet = [session("quiet", seed, slope, Rules()) for seed in range(sessions)]
    before = _wrong(quiet)
    for kind in MACHINES:
        _row(kind, [session(kind, seed, slope, Rules()) for seed in range(sessions)], before)
    for kind in ("walks", "jumps"):
        found = [session(kind, seed, slope, Rules(), waits=False) for seed in range(sessions)]
        _row(f"{kind}, never waited", found, before)
        plain = Rules(share=0.0, unsure=math.inf)
        found = [session(kind, seed, slope, plain, waits=False) for seed in range(sessions)]
        _row(f"{kind}, share not looked at", found, before)


def _wrong(found: list[Session]) -> np.ndarray:
    return np.array([100 * s.wrong / s.verdicts for s in found])


def _row(name: str, found: list[Session], before: np.ndarray) -> None:
    runs = sum(s.candidates + s.others for s in found)
    share = 100 * sum(s.candidates for s in found) / runs
    wrong, gain = _wrong(found), np.array([s.gain for s in found])
    more, root = wrong - before, math.sqrt(len(found))
    waited = sum(s.waited for s in found) / runs
    print(
        f"{name:<26} {share:8.1f} %  {wrong.mean():6.2f} ± {wrong.std() / root:.2f} % "
        f"{more.mean():+7.2f} ± {more.std() / root:.2f} %  {gain.mean():5.2f} ± "
        f"{gain.std() / root:.2f} {waited:5.1f} min",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sessions", nargs="?", type=int, default=200)
    parser.add_argument("--slope", type=float, default=1.0, metavar="SD")
    given = parser.parse_args()
    table(given.sessions, given.slope)


if __name__ == "__main__":
    main()
