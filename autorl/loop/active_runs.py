"""The runs under way: started, polled, ended, recovered, cancelled; what each was wanted for.

A run is in the log before it exists, and its end before anything follows from it. What it does not
do: choose which runs are wanted (decision/, confirm/), or wait.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from autorl import decision
from autorl.decision.controls import band_verdict
from autorl.decision.explain import named, percent
from autorl.decision.rules import TOLERANCE
from autorl.errors import Paused
from autorl.interfaces import Console, Runner
from autorl.loop.budget import SpendLimit
from autorl.loop.quiet import SHORTEST, QuietWait, disturbed, unusual, usual
from autorl.records import Job, Progress, RunRecord
from autorl.session import Run, Session
from autorl.session.events import ControlEnded, Note, RunEnded, RunHandle, RunStarted
from autorl.session.inbox import CHECK_LOCK
from autorl.session.session import check_disk
from autorl.session.state import run_ticket, seed_for
from autorl.system.faults import retry_when_full
from autorl.system.files import atomic_write
from autorl.system.hardware import gpus, partition
from autorl.system.locks import holder

MAX_REPEATS = 3  # of one interrupted run, in a row
MAX_STARVED = 2  # late runs of a candidate in a row that are repeated; the next is its crash
MAX_BUSY = 6  # of the baseline, or of what was kept; then the machine is too busy
LOST, STOPPED = "lost", "stopped"  # rules of interrupted runs that say nothing about the machine


@dataclass
class ActiveRun:
    """A run under way."""

    run: Run
    want: decision.Want | None  # None: a run of the confirmation
    handle: str
    place: int  # 0 .. places - 1: which cores, which GPU


class ActiveRuns:
    """The runs of one process on a session."""

    def __init__(self, session: Session, runner: Runner, budget: SpendLimit, console: Console):
        self.session, self.runner, self.budget, self.console = session, runner, budget, console
        self.places = max(1, runner.places)
        cores, gpu = session.settings.cores, session.settings.gpu
        self.cores = partition(cores, self.places) if runner.owns_cores else [()] * self.places
        self.gpus = gpus(gpu) if runner.owns_cores and self.places > 1 else ()
        self.active: dict[int, ActiveRun] = {}
        self.before = len(session.state.runs)  # runs of earlier processes
        measured_here = runner.owns_cores and not runner.invents_scores
        seconds = session.settings.time_budget
        self.wait = QuietWait(seconds) if measured_here and seconds >= SHORTEST else None

    @property
    def room(self) -> bool:
        """A free place, and money; with nothing under way the budget says what is missing."""
        if len(self.active) >= self.places:
            return False
        return not self.active or self.budget.covers(
            self.runner.worst_usd(self._job(0, 0, "measure", 0))
        )

    def quiet(self) -> bool:
        """Whether a run may begin: nobody else is at work on its cores, or it waited enough."""
        if holder(self.session.folder / CHECK_LOCK):
            return False
        cores = self.cores[self._free_place()]
        ours = any(set(cores) & set(self.cores[a.place]) for a in self.active.values())
        if self.wait is None or ours:
            return True
        told = self.wait.why
        over = self.wait.over(cores, usual(self._shares()))
        if self.wait.why and not told:
            self.session.record(Note(event="machine busy", detail=self.wait.why))
        return over

    @property
    def waiting(self) -> str:
        """What a run waits for; "" when none does."""
        return f"machine busy: {self.wait.why}" if self.wait and self.wait.why else ""

    @property
    def wants(self) -> tuple[decision.Want, ...]:
        """What decision/ asked for and is under way."""
        return tuple(a.want for a in self.active.values() if a.want is not None)

    def shown(self) -> list[tuple[str, Progress | None]]:
        """(name, a look at it), for progress bars."""
        return [
            (
                f"run {a.run.run}, experiment {a.run.attempt} ({a.run.purpose})",
                self.runner.progress(a.handle),
            )
            for a in self.active.values()
        ]

    def recover(self) -> None:
        """After a restart: what a control showed, and what became of the runs that have no end."""
        for run in [r for r in self.session.state.runs.values() if r.kind != "measure"]:
            self._control(run)
        for run in self.session.state.pending():
            place = self._free_place()
            job = self._job(run.attempt, run.seed, run.kind, place)
            if run.handle and self.runner.attach(run.handle, job, self.session.root / run.folder):
                self.active[run.run] = ActiveRun(run, _want_of(run), run.handle, place)
            else:
                self._end(run, _interrupted(LOST, "The loop ended while this run was under way."))

    def start(
        self, n: int, purpose: str, kind: str, index: int, want: decision.Want | None
    ) -> None:
        """Begin one run of attempt `n`; it is in the log before it exists.

        Raises:
            Paused: the disk is nearly full, or this attempt was interrupted again and again.
        """
        session, state = self.session, self.session.state
        self._refuse_endless_repeats(n)
        check_disk(session.folder)
        session.check_harness()
        number, place = len(state.runs) + 1, self._free_place()
        folder = session.folder / "runs" / str(n) / str(number)
        self._write_diff(n, folder)
        seed = seed_for(state.about.root_seed, index)
        job = self._job(n, seed, kind, place)
        if worst := self.runner.worst_usd(job):
            self.budget.reserve(worst, f"run {number}", run_ticket(number))
        session.record(
            RunStarted(
                run=number,
                attempt=n,
                purpose=purpose,
                kind=kind,
                seed_index=index,
                seed=seed,
                epoch=state.epoch,
                folder=str(folder.relative_to(session.root)),
                cores=tuple(self.cores[place]),
                mono=round(time.monotonic(), 3),
            )
        )
        handle = retry_when_full(lambda: self.runner.start(job, folder))
        if self.runner.survives_restart:
            session.record(RunHandle(run=number, handle=handle))
        self.active[number] = ActiveRun(state.runs[number], want, handle, place)

    def start_wanted(self, want: decision.Measure | decision.Control) -> None:
        """Begin a run that decision/ asks for, on the next seed."""
        index = self.session.state.next_seed_index()
        if isinstance(want, decision.Control):
            self.start(want.attempt, f"control {want.kind}", want.kind, index, want)
        else:
            self.start(want.attempt, want.purpose, "measure", index, want)

    def collect(self) -> None:
        """Take in the runs that are over, in whatever order they come."""
        for active in list(self.active.values()):
            if (record := self._answer(active)) is not None:
                del self.active[active.run.run]
                self._end(active.run, record)

    def cancel(self, why: str, keep_remote: bool = False, only: int | None = None) -> None:
        """Stop every run, or those of one attempt, and record it as interrupted; remote ones may
        go on.
        """
        ended: list[tuple[Run, RunRecord]] = []
        for active in [a for a in self.active.values() if only in (None, a.run.attempt)]:
            del self.active[active.run.run]
            record = self._answer(active)
            if record is None and self.runner.survives_restart and keep_remote:
                continue  # goes on without us and is fetched by its handle on resume
            self.runner.cancel(active.handle)
            ended.append((active.run, record or _interrupted(STOPPED, f"Stopped: {why}.")))
        for run, record in ended:  # after the last is cancelled: the disk may refuse the first
            self._end(run, record)

    # -- inside ------------------------------------------------------------------------------------

    def _answer(self, active: ActiveRun) -> RunRecord | None:
        """The record of a run that is over; one of another run's seed counts as lost."""
        record = self.runner.poll(active.handle)
        ours = (active.run.seed, self.session.settings.env_id)
        if record is not None and record.scored and (record.seed, record.env_id) != ours:
            return _interrupted(LOST, f"The answer was that of seed {record.seed}, another run's.")
        return record

    def _job(self, n: int, seed: int, kind: str, place: int) -> Job:
        settings, cores = self.session.settings, self.cores[place]
        gpu = self.gpus[place % len(self.gpus)] if self.gpus else settings.gpu
        source = self.session.state.attempts[n].source
        return settings.job(source, seed, cores=cores, threads=len(cores), gpu=gpu, kind=kind)

    def _free_place(self) -> int:
        used = {a.place for a in self.active.values()}
        return next((k for k in range(self.places) if k not in used), 0)

    def _refuse_endless_repeats(self, n: int) -> None:
        runs = self.session.state.runs.values()
        here = [r.record for r in runs if r.record and r.run > self.before and r.attempt == n]
        ends = here[-MAX_REPEATS:]
        if len(ends) == MAX_REPEATS and all(
            e.status == "interrupted" and e.rule not in (LOST, STOPPED) for e in ends
        ):
            late = [e.rule == "starved" for e in here[-MAX_BUSY:]]
            if len(late) == MAX_BUSY and all(late):
                raise Paused(
                    f"The machine is too busy to measure on: {MAX_BUSY} runs of {named(n)} in a "
                    f"row were late. The last: {ends[-1].reason} Stop the other work, or leave it "
                    "cores of its own (--cores, fewer --slots), then run the same command."
                )
            if all(late[-MAX_REPEATS:]):
                return
            raise Paused(
                f"{named(n).capitalize()} was interrupted {MAX_REPEATS} times in a row by "
                f"something outside of it ({ends[-1].reason.rstrip('.')}): see to that, then start "
                "again."
            )

    def _write_diff(self, n: int, folder: Path) -> None:
        attempts, patch = self.session.state.attempts, folder.parent / "train.diff"
        attempt = attempts[n]
        if attempt.parent is not None and not patch.is_file():
            diff = self.session.repository.diff(attempts[attempt.parent].commit, attempt.commit)
            atomic_write(patch, diff.encode())

    def _end(self, run: Run, record: RunRecord) -> None:
        """RunRecord -> event, once. A score is never adjusted: see `_seen_with_its_share`."""
        if run.record is not None:
            return
        if record.status == "ok" and not record.scored:
            reason = "The judge's record holds no finite score."
            record = replace(record, status="crash", rule="score", reason=reason, avg_return=None)
        record, why = self._seen_with_its_share(run, record)
        steady, before = not why, self.session.decision
        record = replace(record, log_tail=record.log_tail[-2000:])
        mono = round(time.monotonic(), 3)
        self.session.record(RunEnded(run=run.run, record=record, steady=steady, why=why, mono=mono))
        reserved = run_ticket(run.run) in self.session.state.money
        if reserved and (record.cost_usd or record.rule not in (LOST, STOPPED)):
            self.budget.settle(run_ticket(run.run), record.cost_usd, {})
        name = f"run {run.run} of experiment {run.attempt}"
        if not steady:
            self.console.say(f"run {run.run} is repeated: {why}")
        now = self.session.decision
        if now.doubt not in ("", before.doubt):
            self.console.say(now.doubt)
        elif now.moved and not before.moved:
            got, tip = percent(record.machine.cpu_share or 0.0), now.incumbent
            self.console.say(
                f"machine busy: {name} got {got} of its cores, unlike the run before it; "
                f"{named(tip)} is run once more before the verdict"
            )
        for flag in record.flags:
            self.console.say(f"{name}, for a person to look at: {flag}")
        if run.kind != "measure":
            self._control(run)
        elif record.status != "ok":
            self.console.say(f"{name}: {record.status}, {record.reason}")

    def _seen_with_its_share(self, run: Run, record: RunRecord) -> tuple[RunRecord, str]:
        """The record, and why the run is repeated although it has a score ("" where it counts).

        In the search every score counts. In a claim a run with another share than the others is
        repeated, but for one that is itself a repetition. Late runs of a starved machine are
        repeated; the third in a row is a candidate's crash. A file that was in time before, and the
        baseline, are not blamed: the next run waits for quiet.
        """
        shares, share = self._shares(), record.machine.cpu_share
        runs = self.session.state.runs.values()
        earlier = [r for r in runs if r.attempt == run.attempt and r.record]
        if record.status == "ok" and (why := disturbed(record.machine)):
            # what does not count has no score
            record = replace(record, status="interrupted", rule="disturbed", avg_return=None)
            return replace(record, reason=f"It does not count: {why}."), ""
        if record.rule == "late" and share is not None and share < TOLERANCE * usual(shares):
            rules = [r.record.rule for r in earlier[-MAX_STARVED:] if r.record]
            reason = f"{record.reason} It got {percent(share)} of its cores."
            record = replace(record, reason=reason)
            attempt = self.session.state.attempts[run.attempt]
            blameless = attempt.n == 0 or attempt.kept
            if blameless and self.runner.owns_cores and not self.runner.invents_scores:
                self.wait = self.wait or QuietWait(SHORTEST)
            if blameless or rules != ["starved"] * MAX_STARVED:
                record = replace(record, status="interrupted", rule="starved")
        repetition = bool(earlier) and not earlier[-1].steady
        if record.status != "ok" or run.for_decision or run.kind != "measure" or repetition:
            return record, ""
        return record, unusual(record.machine, shares)

    def _shares(self) -> list[float]:
        """What runs on this hardware got of their cores, oldest first."""
        state = self.session.state
        ended = [r.record for r in state.runs.values() if r.record and r.epoch == state.epoch]
        shares = (r.machine.cpu_share for r in ended if r.status == "ok")
        return [share for share in shares if share is not None]

    def _control(self, run: Run) -> None:
        """What a control run showed; made again from its record if a kill came between."""
        state = self.session.state
        known = {c.run for c in state.controls}
        if run.record is None or run.record.status == "interrupted" or run.run in known:
            return
        trained = state.row(state.attempts[run.attempt]).avg_return
        passed, reason = band_verdict(run.kind, run.record, state.baseline_scores, trained)
        kind = run.kind
        assert kind in decision.CONTROLS
        self.session.record(
            ControlEnded(run=run.run, attempt=run.attempt, kind=kind, passed=passed, reason=reason)
        )


def _interrupted(rule: str, reason: str) -> RunRecord:
    return RunRecord(status="interrupted", rule=rule, reason=reason)


def _want_of(run: Run) -> decision.Want | None:
    if run.purpose.startswith("confirm"):
        return None
    if run.kind in decision.CONTROLS:
        return decision.Control(run.attempt, run.kind)
    return decision.Measure(run.attempt, run.purpose)
