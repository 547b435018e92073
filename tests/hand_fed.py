"""A session of the decision room that a test feeds by hand."""

from typing import Any

from autorl.decision import AttemptFact, Fact, Rules, RunFact, State, observe, start
from autorl.records import Verdict


class Session:
    """A state, fed by hand. Runs are numbered and every verdict is collected."""

    def __init__(self, rules: Rules | None = None, nodes: int = 100):
        self.state: State = start(rules or Rules(controls=False))
        self.verdicts: list[Verdict] = []
        self.facts: list[Fact] = []
        self.runs = 0
        self.tell(AttemptFact(0, None, "k0", nodes))

    def tell(self, fact: Fact) -> tuple[Verdict, ...]:
        self.facts.append(fact)
        self.state, verdicts = observe(self.state, fact)
        self.verdicts += verdicts
        return verdicts

    def run(
        self, attempt: int, score: float | None, status: Any = "ok", **more: Any
    ) -> tuple[Verdict, ...]:
        self.runs += 1
        return self.tell(RunFact(self.runs, attempt, status, score, seed=1000 + self.runs, **more))

    def scores(self, attempt: int, *scores: float) -> tuple[Verdict, ...]:
        return tuple(v for score in scores for v in self.run(attempt, score))

    def propose(
        self,
        n: int,
        parent: int | None = None,
        nodes: int = 100,
        key: str = "",
        again: int | None = None,
    ) -> tuple[Verdict, ...]:
        parent = self.state.incumbent if parent is None else parent
        return self.tell(AttemptFact(n, parent, key or f"k{n}", nodes, again=again))

    def calibrated(self, *scores: float) -> "Session":
        self.scores(0, *(scores or (98.0, 102.0, 96.0, 104.0)))
        return self


def climbed(rules: Rules | None = None, step: float = 8.0) -> Session:
    """A session whose path of keeps is long and good enough to be put to the proof."""
    x = Session(rules).calibrated()
    n = 0
    while x.state.check is None and n < 40:
        n += 1
        x.propose(n)
        while n in x.state.open:
            x.run(n, 100.0 + step * n)
    assert x.state.check is not None
    return x
