"""The journal's events, folded into what a session knows: attempts, runs, verdicts, money, rows.

`Ledger().fold(event)` for every event of the journal *is* resume; nothing here reads a clock, a disk or another room.
What it does not do: decide (decision/) or act (loop.py).

Events (each also has v, seq and at; see journal.py):

    session    env_id tag settings root_seed base          the first line
    attempt    n parent source title ...                   written before its commit exists: the commit follows from it
    pinned     n commit                                    the commit is made and reachable
    refused    title reason proposer                       a proposal that was not measured
    started    run attempt purpose kind seed_index seed epoch cores folder mono
    handle     run handle                                  where a remote run can be found again
    run        run record steady mono                      a run is over (status "interrupted" included)
    promoted   runs                                        they got less machine, but that is the new normal: they count
    control    attempt kind passed reason
    verdict    verdict
    moved      commit old                                  the research branch moved
    epoch      epoch hardware why                          other machine, or a machine that changed: calibrate again
    band       ...                                         what doing nothing and acting at random score
    money      ticket op usd what usage                    op: reserve | settle
    note       event detail
    claim      ...                                         fresh-seed evidence
    opened / closed   why pid                              a loop began / ended working on this session
"""

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import Any

from autorl.records import Edit, Row, RunRecord, Verdict, from_json

CONFIRM_SEEDS = 1_000_000  # seed indices from here on are never used for a decision


def seed_for(root_seed: int, index: int) -> int:
    """Training seed number `index` of a session: 31 bits of SHA-256, so that neighbours share nothing."""
    digest = hashlib.sha256(f"{root_seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def run_ticket(run: int) -> str:
    """The name under which a run's own cost is reserved and settled."""
    return f"run {run}"


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
    key: str = ""  # hash of the AST
    nodes: int = 0  # AST nodes
    cost_usd: float = 0.0
    ticket: str = ""  # the id that `try` gave out
    again: int | None = None  # re-applied from this superseded attempt
    at: str = ""
    commit: str = ""
    verdict: Verdict | None = None  # the first word on it: keep, discard, crash, superseded
    state: str = ""  # provisional | certified | undone | superseded


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

    @property
    def for_decision(self) -> bool:
        return self.kind == "measure" and not self.purpose.startswith("confirm")

    @property
    def counted(self) -> bool:
        """Finished and not to be repeated."""
        return self.record is not None and self.record.status != "interrupted" and self.steady


@dataclass
class Ledger:
    """Everything a session knows."""

    session: dict[str, Any] = field(default_factory=dict)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    _by_attempt: dict[int, list[Run]] = field(
        default_factory=dict
    )  # the same runs, so that a table of 1,000 rows is quick
    verdicts: list[Verdict] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    money: dict[str, float] = field(default_factory=dict)  # ticket -> dollars, reserved or settled
    notes: list[dict[str, Any]] = field(default_factory=list)
    claim: dict[str, Any] | None = None
    band: dict[str, Any] | None = None
    tip: str = ""  # where we last put the research branch
    epoch: int = 0
    hardware: str = ""
    finished: str = ""  # why the session ended by itself; "" while it has work left
    ended: str = ""  # why the last sitting ended

    def fold(self, event: dict[str, Any]) -> None:
        """Take one event in."""
        getattr(self, "_on_" + event["type"], lambda e: None)(event)

    def _on_session(self, e: dict[str, Any]) -> None:
        self.session, self.hardware = e, e.get("hardware", "")

    def _on_attempt(self, e: dict[str, Any]) -> None:
        edits = tuple(Edit(**edit) for edit in e.get("edits", ()))
        params = tuple((name, float(value)) for name, value in e.get("params", ()))
        known = {k: e[k] for k in Attempt.__dataclass_fields__ if k in e}
        self.attempts[e["n"]] = Attempt(**{**known, "edits": edits, "params": params})

    def _on_pinned(self, e: dict[str, Any]) -> None:
        self.attempts[e["n"]].commit = e["commit"]

    def _on_refused(self, e: dict[str, Any]) -> None:
        self.refusals.append(e)

    def _on_started(self, e: dict[str, Any]) -> None:
        keys = ("run", "attempt", "purpose", "kind", "seed_index", "seed", "epoch", "folder")
        self.runs[e["run"]] = run = Run(**{k: e[k] for k in keys})
        self._by_attempt.setdefault(run.attempt, []).append(run)

    def _on_handle(self, e: dict[str, Any]) -> None:
        self.runs[e["run"]].handle = e["handle"]

    def _on_run(self, e: dict[str, Any]) -> None:
        run = self.runs[e["run"]]
        if run.record is None:  # a result that arrives twice counts once
            run.record, run.steady = from_json(RunRecord, e["record"]), e.get("steady", True)

    def _on_promoted(self, e: dict[str, Any]) -> None:
        for number in e["runs"]:
            self.runs[number].steady = True

    def _on_control(self, e: dict[str, Any]) -> None:
        self.controls.append(e)

    def _on_verdict(self, e: dict[str, Any]) -> None:
        verdict: Verdict = from_json(Verdict, e["verdict"])
        self.verdicts.append(verdict)
        attempt = self.attempts.get(verdict.attempt)
        if attempt is None:
            return
        if verdict.outcome in ("baseline", "keep", "discard", "crash", "superseded"):
            attempt.verdict = verdict
            attempt.state = {
                "baseline": "certified",
                "keep": "provisional",
                "superseded": "superseded",
            }.get(verdict.outcome, "")
        if verdict.outcome == "certified":
            for a in self.lineage(verdict.attempt):
                a.state = "certified"
        for n in verdict.undone:
            gone = self.attempts[n]
            gone.state = "undone"
            if (
                gone.verdict is not None
            ):  # the row says why it was taken back, and why it had been kept
                gone.verdict = replace(
                    gone.verdict, reason=f"{verdict.reason} Before: {gone.verdict.reason}"
                )

    def _on_moved(self, e: dict[str, Any]) -> None:
        self.tip = e["commit"]

    def _on_epoch(self, e: dict[str, Any]) -> None:
        self.epoch, self.hardware = e["epoch"], e.get("hardware", self.hardware)

    def _on_band(self, e: dict[str, Any]) -> None:
        self.band = e["band"]

    def _on_money(self, e: dict[str, Any]) -> None:
        self.money[e["ticket"]] = float(e["usd"])

    def _on_note(self, e: dict[str, Any]) -> None:
        self.notes.append(e)

    def _on_claim(self, e: dict[str, Any]) -> None:
        self.claim = e["claim"]

    def _on_opened(self, e: dict[str, Any]) -> None:
        self.finished = ""

    def _on_closed(self, e: dict[str, Any]) -> None:
        self.finished, self.ended = e.get("finished", ""), e.get("why", "")

    # -- questions ---------------------------------------------------------------------------------------------------

    def lineage(self, n: int) -> list[Attempt]:
        """The attempts that `n` stands on, itself first, the baseline last."""
        chain, at = [], self.attempts.get(n)
        while at is not None:
            chain.append(at)
            at = self.attempts.get(at.parent) if at.parent is not None else None
        return chain

    def runs_of(self, n: int) -> list[Run]:
        """Finished decision runs of attempt `n`, in the order they were started."""
        return [r for r in self._by_attempt.get(n, ()) if r.for_decision and r.record is not None]

    def pending(self) -> list[Run]:
        """Runs that were started and have no end in the journal."""
        return [r for r in self.runs.values() if r.record is None]

    def next_seed_index(self, first: int = 0) -> int:
        """The smallest seed number that no finished run has used and no running one is using; interrupted ones give theirs back."""
        taken = {
            r.seed_index
            for r in self.runs.values()
            if r.record is None or r.record.status != "interrupted"
        }
        index = first
        while index in taken:
            index += 1
        return index

    def spent(self) -> float:
        """Dollars: settled calls, open reservations at their worst case, and compute."""
        return sum(self.money.values()) + sum(
            r.record.cost_usd
            for r in self.runs.values()
            if r.record and run_ticket(r.run) not in self.money
        )

    def seed(self, index: int) -> int:
        return seed_for(self.session["root_seed"], index)

    def row(self, attempt: Attempt) -> Row:
        """The attempt's line: its mean over scored, counted decision runs; a missing score stays missing."""
        runs = self.runs_of(attempt.n)
        crashed = attempt.verdict is not None and attempt.verdict.outcome == "crash"
        records = [r.record for r in runs if r.counted and r.record is not None]
        scores = (
            [r.avg_return for r in records if r.scored and r.avg_return is not None]
            if not crashed
            else []
        )
        mean = sum(scores) / len(scores) if scores else None
        stderr = None
        if mean is not None and len(scores) > 1:
            stderr = math.sqrt(
                sum((x - mean) ** 2 for x in scores) / (len(scores) - 1) / len(scores)
            )
        outcome = attempt.verdict.outcome if attempt.verdict else "running"
        status = {"baseline": "keep", "superseded": "discard"}.get(outcome, outcome)
        speeds = [
            r.total_timesteps / r.training_seconds
            for r in records
            if r.total_timesteps and r.training_seconds
        ]
        failures = [r.reason for r in records if not r.scored and r.reason]
        reason = attempt.verdict.reason if attempt.verdict else ""
        return Row(
            n=attempt.n,
            commit=attempt.commit,
            avg_return=mean,
            status=status,
            description=attempt.title,
            state=attempt.state,
            runs=len(records),
            stderr=stderr,
            parent=attempt.parent,
            proposer=attempt.proposer,
            seconds=round(sum(r.record.total_seconds or 0.0 for r in runs if r.record), 1),
            cost_usd=attempt.cost_usd + sum(r.record.cost_usd for r in runs if r.record),
            isolation=",".join(sorted({r.isolation for r in records})),
            reason=(
                f"{reason} {failures[0]}".strip()
                if crashed and failures and failures[0] not in reason
                else reason
            ),
            hypothesis=attempt.hypothesis,
            steps_per_second=sum(speeds) / len(speeds) if speeds else None,
        )

    def rows(self, decided_only: bool = True) -> tuple[Row, ...]:
        """One row per attempt, oldest first."""
        return tuple(
            self.row(a) for a in self.attempts.values() if a.verdict is not None or not decided_only
        )
