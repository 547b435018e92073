"""A session of decision/ that a test feeds by hand."""

from typing import Any

from autorl.decision import (
    AttemptFact,
    Control,
    ControlFact,
    Fact,
    Measure,
    Rules,
    RunFact,
    State,
    observe,
    start,
    wants,
)
from autorl.records import Verdict


class Session:
    """A state, fed by hand. Runs are numbered and every verdict is collected."""

    def __init__(self, rules: Rules | None = None):
        self.state: State = start(rules or Rules(controls=False))
        self.verdicts: list[Verdict] = []
        self.facts: list[Fact] = []
        self.runs = self.epoch = 0
        self.tell(AttemptFact(0, None, "k0"))

    def tell(self, fact: Fact) -> tuple[Verdict, ...]:
        """Any fact."""
        self.facts.append(fact)
        self.state, verdicts = observe(self.state, fact)
        self.verdicts += verdicts
        return verdicts

    def run(
        self, attempt: int, score: float | None, status: Any = "ok", **more: Any
    ) -> tuple[Verdict, ...]:
        """A run of `attempt` ended; its seed is 1000 and its number."""
        self.runs += 1
        more = {"seed": 1000 + self.runs, "epoch": self.epoch, **more}
        return self.tell(RunFact(self.runs, attempt, status, score, **more))

    def scores(self, attempt: int, *scores: float) -> tuple[Verdict, ...]:
        """Several runs."""
        return tuple(v for score in scores for v in self.run(attempt, score))

    def propose(
        self, n: int, parent: int | None = None, key: str = "", again: tuple[int, ...] = ()
    ) -> tuple[Verdict, ...]:
        """A candidate on top of the incumbent, or of `parent`."""
        parent = self.state.incumbent if parent is None else parent
        return self.tell(AttemptFact(n, parent, key or f"k{n}", again=again))

    def calibrated(self, *scores: float) -> "Session":
        """With four runs of the baseline, 100 on average."""
        self.scores(0, *(scores or (98.0, 102.0, 96.0, 104.0)))
        return self

    def decide(self, n: int, score: float) -> Verdict:
        """Runs of candidate `n` at this score until it is decided, and a calibration if due."""
        if n not in self.state.arms:
            self.propose(n)
        while n in self.state.open:
            self.run(n, score)
        verdict = next(v for v in reversed(self.verdicts) if v.attempt == n)
        while not self.state.calibrated and not self.state.stop:
            (want,) = wants(self.state)
            assert isinstance(want, Measure)
            self.run(want.attempt, score + self.runs % 3 - 1)
        return verdict

    def pass_controls(self) -> None:
        """Every control that is wanted now passes."""
        while controls := [w for w in wants(self.state, 9) if isinstance(w, Control)]:
            self.tell(ControlFact(controls[0].attempt, controls[0].kind, passed=True))


def climbed(keeps: int = 3, rules: Rules | None = None) -> Session:
    """A session that kept experiments 1 to `keeps`, each some 12 better than the one before."""
    x = Session(rules).calibrated()
    for n in range(1, keeps + 1):
        assert x.decide(n, 100.0 + 12 * n).outcome == "keep"
    return x
