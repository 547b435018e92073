"""What a session knows: its events, folded into attempts, runs, verdicts, money, rows.

`state.apply(event)` for every event of the log *is* resume; nothing here reads a clock, a disk or
another room's state.
What it does not do: decide (decision/) or act (loop/).
"""

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autorl.records import Row, Verdict
from autorl.session.attempts import Attempt, Run
from autorl.session.events import (
    STOPPED,
    Attempted,
    BaselineScores,
    BranchMoved,
    Cancelled,
    Claimed,
    Closed,
    ControlEnded,
    Created,
    Decided,
    EpochBegan,
    Event,
    Lesson,
    Money,
    Note,
    Opened,
    Pinned,
    Refused,
    RunEnded,
    RunHandle,
    RunStarted,
)

# of an outcome, in results.tsv
STATUS = {"baseline": "keep", "taken back": "keep", "superseded": "discard"}
CONFIRM_SEEDS = 1_000_000  # seed indices from here on are never used for a decision


def seed_for(root_seed: int, index: int) -> int:
    """Training seed number `index`: 31 bits of SHA-256, so that neighbours share nothing."""
    digest = hashlib.sha256(f"{root_seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def run_ticket(run: int) -> str:
    """The name under which a run's own cost is reserved and settled."""
    return f"run {run}"


@dataclass
class SessionState:
    """Everything a session knows."""

    created: Created | None = None
    attempts: dict[int, Attempt] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    controls: list[ControlEnded] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)  # tickets
    money: dict[str, float] = field(default_factory=dict)  # ticket -> dollars, reserved or settled
    claims: list[dict[str, Any]] = field(default_factory=list)  # every look at every pair
    baseline_scores: dict[str, Any] | None = None
    tip: str = ""  # where we last put the research branch
    epoch: int = 0
    hardware: str = ""
    versions: dict[str, str] = field(default_factory=dict)  # of what a score depends on
    finished: str = ""  # why the session ended by itself; "" while it has work left
    ended: str = ""  # why the last process ended; "" while it works, or where it was killed
    starts: int = 0  # of processes in a row that ended early without a verdict or a refusal
    waits: str = ""  # what the next run waits for: other loops, a quiet machine
    sd: float | None = None  # of one run, as last believed
    fresh: int = 0  # seq of the last attempt, or of the last process's start
    # so that a table of 1,000 rows is quick
    _by_attempt: dict[int, list[Run]] = field(default_factory=dict)

    @property
    def about(self) -> Created:
        """The session's first event."""
        assert self.created is not None, "no event was applied yet"
        return self.created

    @property
    def demo(self) -> bool:
        """Begun by `run --demo`."""
        return self.created is not None and self.created.demo

    # -- events ------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event in."""
        match event:
            case Created():
                self.created, self.hardware, self.versions = event, event.hardware, event.versions
            case Opened():
                self.finished, self.ended, self.waits, self.fresh = "", "", "", event.seq
                self.starts += 1
            case Closed():
                self.finished, self.ended = event.finished, event.why
                self.starts = self.starts if event.early and event.why != STOPPED else 0
            case EpochBegan():
                self.epoch, self.hardware = event.epoch, event.hardware
                self.versions = event.versions or self.versions
            case BranchMoved():
                self.tip = event.commit
            case BaselineScores():
                self.baseline_scores = event.band
            case ControlEnded():
                self.controls.append(event)
            case Money():
                self.money[event.ticket] = event.usd
            case Claimed():
                self.claims.append(event.claim)
            case Note():
                if event.event in ("waiting", "machine busy"):  # the others are for people
                    self.waits = event.detail
            case _:
                self._apply_to_attempts(event)

    def _apply_to_attempts(self, event: Event) -> None:
        """Take in what is about attempts and their runs."""
        match event:
            case Attempted():
                names = (name for name in event.__struct_fields__ if name != "seq")
                self.attempts[event.n] = Attempt(**{name: getattr(event, name) for name in names})
                self.fresh = event.seq
                # the same on the same: not run anew
                for old in (self.attempts[n] for n in event.retry_of):
                    if (old.key, old.parent) == (event.key, event.parent):
                        self._by_attempt[event.n] = self._by_attempt.pop(old.n, [])
            case Lesson():
                self.attempts[event.n].lesson = event.text
            case Pinned():
                self.attempts[event.n].commit = event.commit
            case Refused():
                self.refusals.append(event)
                self.starts = 0
            case Cancelled():
                self.cancelled.add(event.ticket)
                self.starts = 0
                if event.n:
                    self.attempts[event.n].cancelled = True
            case RunStarted():
                e, self.waits = event, ""
                run = Run(
                    e.run, e.attempt, e.purpose, e.kind, e.seed_index, e.seed, e.epoch, e.folder
                )
                self.runs[e.run] = run
                self._by_attempt.setdefault(e.attempt, []).append(run)
            case RunHandle():
                self.runs[event.run].handle = event.handle
            case RunEnded():
                run = self.runs[event.run]
                if run.record is None:  # a result that arrives twice counts once
                    run.record, run.steady, run.why = event.record, event.steady, event.why
            case Decided():
                self._decided(event.verdict)
            case _:
                raise TypeError(f"no such event: {event!r}")

    def _decided(self, verdict: Verdict) -> None:
        """Take in what the rules decided."""
        self.verdicts.append(verdict)
        self.sd = verdict.sd or self.sd
        if verdict.attempt or verdict.outcome != "crash":  # the baseline may crash at each start
            self.starts = 0
        attempt = self.attempts.get(verdict.attempt)
        if attempt is not None and verdict.outcome != "taken back":
            attempt.verdict, attempt.outcome, attempt.sd = verdict, verdict.outcome, self.sd
        for n in verdict.taken_back:
            gone = self.attempts[n]
            gone.outcome = "taken back"
            # the row says why it was taken back, and why it had been kept
            if gone.verdict is not None:
                reason = f"{verdict.reason} Before: {gone.verdict.reason}"
                gone.verdict = replace(gone.verdict, reason=reason)

    # -- questions ---------------------------------------------------------------------------------

    @property
    def claim(self) -> dict[str, Any] | None:
        """The last claim."""
        return self.claims[-1] if self.claims else None

    def looks_at(self, champion: int) -> list[dict[str, Any]]:
        """The claims on this attempt, oldest first."""
        return [claim for claim in self.claims if claim.get("champion") == champion]

    def named(self, name: str) -> Attempt | None:
        """The newest attempt with this ticket or number; a superseded one is measured again."""
        found = [
            a
            for a in self.attempts.values()
            if a.ticket == name or (name.isdecimal() and a.n == int(name))
        ]
        live = [a for a in found if a.outcome != "superseded"]
        return (live or found)[-1] if found else None

    def incumbent(self) -> Attempt | None:
        """The attempt that the research branch stands at."""
        there = (a for a in reversed(self.attempts.values()) if a.commit and a.commit == self.tip)
        return next(there, self.attempts.get(0))

    def every_run_of(self, n: int) -> list[Run]:
        """Controls, confirmation and what is under way included."""
        return list(self._by_attempt.get(n, ()))

    def runs_of(self, n: int) -> list[Run]:
        """Finished decision runs of attempt `n`, in the order they were started."""
        return [r for r in self._by_attempt.get(n, ()) if r.for_decision and r.record is not None]

    def pending(self) -> list[Run]:
        """Runs that were started and have no end in the log."""
        return [r for r in self.runs.values() if r.record is None]

    def waiting_retries(self, most: int) -> list[Attempt]:
        """Superseded ideas to be made again in one attempt on top of what superseded them, oldest
        first, at most `most`.

        A person's idea is made again alone, and so is one that was in a common attempt that
        crashed.
        """
        alone, taken = set[int](), {n for r in self.refusals for n in r.retry_of}
        for a in self.attempts.values():
            together = a.outcome == "crash" and len(a.retry_of) > 1
            (alone if together else taken).update(a.retry_of)
        superseded = (a for a in self.attempts.values() if a.outcome == "superseded")
        waiting = [a for a in superseded if a.n not in taken and not a.cancelled]
        single = [a for a in waiting if a.ticket or a.n in alone]
        return single[:1] or waiting[:most]

    def recent_refusals(self) -> list[Refused]:
        """Since the last attempt or the start of this process."""
        return [r for r in self.refusals if r.seq > self.fresh]

    @property
    def tried(self) -> int:
        """Experiments so far; a superseded one counts once, as its second attempt."""
        return sum(1 for a in self.attempts.values() if a.n and a.outcome != "superseded")

    def next_seed_index(self, first: int = 0) -> int:
        """The smallest seed number that is free; interrupted runs give theirs back."""
        runs = self.runs.values()
        taken = {r.seed_index for r in runs if not r.record or r.record.status != "interrupted"}
        return next(index for index in itertools.count(first) if index not in taken)

    def spent(self) -> float:
        """Dollars: settled calls, open reservations at their worst case, and compute."""
        compute = (
            r.record.cost_usd
            for r in self.runs.values()
            if r.record and run_ticket(r.run) not in self.money
        )
        return sum(self.money.values()) + sum(compute)

    def row(self, attempt: Attempt) -> Row:
        """The attempt's line: its mean over scored, counted decision runs."""
        runs = self.runs_of(attempt.n)
        crashed = attempt.verdict is not None and attempt.verdict.outcome == "crash"
        records = [r.record for r in runs if r.counted and r.record is not None]
        scores = [
            r.avg_return for r in records if r.scored and r.avg_return is not None and not crashed
        ]
        speeds = [
            r.total_timesteps / r.training_seconds
            for r in records
            if r.total_timesteps and r.training_seconds
        ]
        reason = attempt.verdict.reason if attempt.verdict else ""
        failure = next((r.reason for r in records if not r.scored and r.reason), "")
        if crashed and failure not in reason:
            reason = f"{reason} {failure}".strip()
        return Row(
            n=attempt.n,
            commit=attempt.commit,
            avg_return=sum(scores) / len(scores) if scores else None,
            status=STATUS.get(attempt.outcome, attempt.outcome),
            description=attempt.title,
            state="cancelled"
            if attempt.cancelled
            else attempt.outcome
            if attempt.outcome in ("superseded", "taken back")
            else self._claimed(attempt),
            runs=len(records),
            stderr=_stderr(scores),
            parent=attempt.parent,
            proposer=attempt.proposer,
            seconds=round(sum(r.record.total_seconds or 0.0 for r in runs if r.record), 1),
            cost_usd=attempt.cost_usd + sum(r.record.cost_usd for r in runs if r.record),
            isolation=",".join(sorted({r.isolation for r in records})),
            reason=reason,
            hypothesis=attempt.hypothesis,
            steps_per_second=sum(speeds) / len(speeds) if speeds else None,
            sd=attempt.sd or self.sd,
            expected_effect=attempt.expected_effect,
            lesson=attempt.lesson,
        )

    def _claimed(self, attempt: Attempt) -> str:
        shown = [claim["claim"]["shown"] for claim in self.looks_at(attempt.n)]
        return ("shown" if any(shown) else "not shown") if shown else ""

    def rows(self, decided_only: bool = True) -> tuple[Row, ...]:
        """One row per attempt, oldest first."""
        return tuple(
            self.row(a) for a in self.attempts.values() if a.verdict is not None or not decided_only
        )


def _stderr(scores: Sequence[float]) -> float | None:
    if len(scores) < 2:
        return None
    mean = sum(scores) / len(scores)
    return math.sqrt(sum((x - mean) ** 2 for x in scores) / (len(scores) - 1) / len(scores))
