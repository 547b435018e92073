"""What a session knows of a version of train.py and of its runs.

What it does not do: learn (state.py folds the events).
"""

from dataclasses import dataclass

from autorl.records import Edit, Outcome, RunRecord, Verdict


@dataclass(slots=True)
class Attempt:
    """One version of train.py; number 0 is the baseline."""

    n: int
    parent: int | None
    source: str
    title: str
    hypothesis: str = ""
    expected_effect: str = ""
    proposer: str = ""
    params: tuple[tuple[str, float], ...] = ()
    edits: tuple[Edit, ...] = ()
    key: str = ""  # of the program: equal keys do the same
    cost_usd: float = 0.0
    ticket: str = ""  # the id that `try` gave out
    retry_of: tuple[int, ...] = ()  # the superseded attempts whose edits these are
    at: str = ""
    commit: str = ""
    verdict: Verdict | None = None  # the first word on it: keep, discard, crash, superseded
    sd: float | None = None  # of one run, as believed when it was decided
    outcome: Outcome = "running"
    cancelled: bool = False  # by a person: its code may be tried again
    lesson: str = ""  # what a later proposal's author learnt from it

    @property
    def kept(self) -> bool:
        """On the branch, or was when it was last decided."""
        return self.outcome in ("baseline", "keep")


@dataclass(slots=True)
class Run:
    """One measured run of an attempt."""

    run: int
    attempt: int
    purpose: str
    kind: str
    seed_index: int
    seed: int
    epoch: int
    folder: str
    handle: str = ""
    record: RunRecord | None = None
    steady: bool = True
    why: str = ""  # it is not steady

    @property
    def for_decision(self) -> bool:
        return self.kind == "measure" and not self.purpose.startswith("confirm")

    @property
    def counted(self) -> bool:
        """Finished and not to be repeated."""
        return self.record is not None and self.record.status != "interrupted" and self.steady
