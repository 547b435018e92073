"""The runs under way: started, polled, ended, recovered, cancelled; what each was wanted for.

A run is in the journal before it exists, and its end before anything follows from it. What it does not do: choose
which runs are wanted (decision/), or wait.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from autorl import decision
from autorl.decision.controls import band_verdict
from autorl.decision.pooling import is_steady
from autorl.errors import Paused
from autorl.interfaces import Runner
from autorl.loop.budget import JournalPurse
from autorl.records import Job, Progress, RunRecord, from_json, to_json
from autorl.session.session import Session, check_disk
from autorl.session.state import Run, run_ticket
from autorl.system.faults import retry_when_full
from autorl.system.files import atomic_write
from autorl.system.hardware import gpus, partition

MAX_REPEATS = 3  # of one interrupted run, in a row
PEERS = 7  # newest runs that a run's share of the machine is compared with


@dataclass
class InFlight:
    """A run under way."""

    run: Run
    want: decision.Want | None  # None: a run of the confirmation
    handle: str
    place: int  # 0 .. places - 1: which cores, which GPU


class Flights:
    """The runs of one sitting.

    Args:
        record: journals an event.   say: tells the person.
    """

    def __init__(
        self,
        session: Session,
        runner: Runner,
        purse: JournalPurse,
        record: Callable[..., Any],
        say: Callable[[str], None],
    ):
        self.session, self.ledger, self.runner, self.purse, self.record, self.say = (
            session,
            session.ledger,
            runner,
            purse,
            record,
            say,
        )
        self.places = max(1, runner.places)
        # a rented machine's cores are its own affair
        self.groups = (
            [()] * self.places
            if runner.name == "modal"
            else partition(session.settings.cores, self.places)
        )
        self.gpus = gpus(session.settings.gpu) if runner.name == "local" and self.places > 1 else ()
        self.flying: dict[int, InFlight] = {}
        self.before = len(self.ledger.runs)  # runs of earlier sittings

    def __len__(self) -> int:
        return len(self.flying)

    @property
    def room(self) -> bool:
        """A free place, and money for it; with nothing under way the purse itself says what is missing."""
        return len(self) < self.places and (not self.flying or self.affordable())

    @property
    def wants(self) -> tuple[decision.Want, ...]:
        """What decision/ asked for and is under way."""
        return tuple(f.want for f in self.flying.values() if f.want is not None)

    def shown(self) -> list[tuple[str, Progress | None]]:
        """(name, a look at it), for progress bars."""
        return [
            (
                f"run {f.run.run}, experiment {f.run.attempt} ({f.run.purpose})",
                self.runner.progress(f.handle),
            )
            for f in self.flying.values()
        ]

    def recover(self) -> None:
        """After a restart: what a control showed, and what became of the runs that have no end."""
        for run in [r for r in self.ledger.runs.values() if r.kind != "measure"]:
            self.control(run)
        for run in self.ledger.pending():
            place = self._free_place()
            job = self._job(run.attempt, run.seed, run.kind, place)
            if run.handle and self.runner.attach(run.handle, job, self.session.root / run.folder):
                self.flying[run.run] = InFlight(run, self.want_of(run), run.handle, place)
            else:
                self.end(
                    run,
                    RunRecord(
                        status="interrupted",
                        rule="lost",
                        reason="The loop ended while this run was under way.",
                    ),
                )

    def _job(self, n: int, seed: int, kind: str, place: int) -> Job:
        s, cores = self.session.settings, self.groups[place]
        gpu = self.gpus[place % len(self.gpus)] if self.gpus else s.gpu
        fields = {
            "train_source": self.ledger.attempts[n].source, "env_id": s.env_id, "seed": seed, "time_budget": s.time_budget, "num_eval_episodes": s.num_eval_episodes,
            "cores": cores, "threads": len(cores), "gpu": gpu, "sandbox": s.sandbox, "kind": kind,
        }  # fmt: skip
        return from_json(Job, fields)  # type: ignore[no-any-return]

    def affordable(self) -> bool:
        """Whether there is money for one more run, where runs cost money."""
        worst = getattr(self.runner, "worst_usd", None)
        return worst is None or self.purse.covers(worst(self._job(0, 0, "measure", 0)))

    def _free_place(self) -> int:
        used = {f.place for f in self.flying.values()}
        return next((k for k in range(self.places) if k not in used), 0)

    def start(
        self, n: int, purpose: str, kind: str, index: int, want: decision.Want | None
    ) -> None:
        """Begin one run of attempt `n`; it is in the journal before it exists.

        Raises:
            Paused: the disk is nearly full, or this attempt was interrupted again and again.
        """
        here = [
            r.record
            for r in self.ledger.runs.values()
            if r.run > self.before and r.record is not None and r.attempt == n
        ]
        ends = here[-MAX_REPEATS:]
        if len(ends) == MAX_REPEATS and all(
            e.status == "interrupted" and e.rule not in ("lost", "stopped") for e in ends
        ):
            raise Paused(
                f"Experiment {n} was interrupted {MAX_REPEATS} times in a row by something outside of it ({ends[-1].reason}): see to that, then start again."
            )
        check_disk(self.session.folder)
        self.session.check_harness()
        number, place = len(self.ledger.runs) + 1, self._free_place()
        folder = self.session.folder / "runs" / str(n) / str(number)
        attempt = self.ledger.attempts[n]
        if attempt.parent is not None and not (patch := folder.parent / "train.diff").is_file():
            patch.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(
                patch,
                self.session.workspace.diff(
                    self.ledger.attempts[attempt.parent].commit, attempt.commit
                ).encode(),
            )
        seed = self.ledger.seed(index)
        job = self._job(n, seed, kind, place)
        if worst := getattr(self.runner, "worst_usd", None):
            self.purse.reserve(worst(job), f"run {number}", run_ticket(number))
        self.record(
            "started", run=number, attempt=n, purpose=purpose, kind=kind, seed_index=index, seed=seed, epoch=self.ledger.epoch,
            cores=list(self.groups[place]), folder=str(folder.relative_to(self.session.root)), mono=round(time.monotonic(), 3),
        )  # fmt: skip
        run = self.ledger.runs[number]
        handle = retry_when_full(lambda: self.runner.start(job, folder))
        if self.runner.name != "local":
            self.record("handle", run=number, handle=handle)
        self.flying[number] = InFlight(run, want, handle, place)

    def collect(self) -> None:
        """Take in the runs that are over, in whatever order they come; another run's answer is none to this one."""
        for flight in list(self.flying.values()):
            if (record := self.runner.poll(flight.handle)) is not None:
                del self.flying[flight.run.run]
                if record.scored and (record.seed, record.env_id) != (
                    flight.run.seed,
                    self.session.settings.env_id,
                ):
                    record = RunRecord(
                        status="interrupted",
                        rule="lost",
                        reason=f"The answer was that of seed {record.seed}, another run's.",
                    )
                self.end(flight.run, record)

    def end(self, run: Run, record: RunRecord) -> None:
        """RunRecord -> fact, once. A run that got much less machine than the others is repeated, not pooled."""
        if run.record is not None:
            return
        if record.status == "ok" and not record.scored:
            record = replace(
                record,
                status="crash",
                rule="score",
                reason="The judge's record holds no finite score.",
                avg_return=None,
            )
        peers = [
            r.record.machine
            for r in self.ledger.runs.values()
            if r.record is not None and r.record.status == "ok" and r.epoch == run.epoch
        ][-PEERS:]
        steady, why = is_steady(record.machine, peers)
        if record.rule == "late" and not steady:
            record = replace(
                record,
                status="interrupted",
                rule="starved",
                reason=f"{record.reason} It was late where {why}.",
            )
        if record.status != "ok":
            steady, why = True, ""
        self.record(
            "run",
            run=run.run,
            steady=steady,
            why=why,
            mono=round(time.monotonic(), 3),
            record=to_json(replace(record, log_tail=record.log_tail[-2000:])),
        )
        if run_ticket(run.run) in self.ledger.money and (
            record.cost_usd or record.rule not in ("lost", "stopped")
        ):
            self.purse.settle(run_ticket(run.run), record.cost_usd, {})
        if not steady:
            self.say(f"run {run.run} is repeated: {why}")
        for flag in record.flags:
            self.say(f"run {run.run} of experiment {run.attempt}, for a person to look at: {flag}")
        if run.kind != "measure":
            self.control(run)
        elif record.status != "ok":
            self.say(f"run {run.run} of experiment {run.attempt}: {record.status}, {record.reason}")

    def control(self, run: Run) -> None:
        """What a control run showed; made again from its record if a kill came between."""
        known = {c["run"] for c in self.ledger.controls}
        if run.record is None or run.record.status == "interrupted" or run.run in known:
            return
        trained = self.ledger.row(self.ledger.attempts[run.attempt]).avg_return
        passed, reason = band_verdict(run.kind, run.record, self.ledger.band, trained)
        self.record(
            "control", run=run.run, attempt=run.attempt, kind=run.kind, passed=passed, reason=reason
        )

    def want_of(self, run: Run) -> decision.Want | None:
        if run.purpose.startswith("confirm"):
            return None
        return (
            decision.Measure(run.attempt, run.purpose)
            if run.kind == "measure"
            else decision.Control(run.attempt, run.kind)
        )  # type: ignore[arg-type]

    def cancel_all(self, why: str, keep_remote: bool) -> None:
        """Stop every run and record it as interrupted; remote ones may go on and be fetched on resume."""
        ended: list[tuple[Run, RunRecord]] = []
        for flight in list(self.flying.values()):
            record = self.runner.poll(flight.handle)
            if record is None and self.runner.name == "modal" and keep_remote:
                continue  # goes on without us and is fetched by its handle on resume
            self.runner.cancel(flight.handle)
            ended.append(
                (
                    flight.run,
                    record
                    or RunRecord(status="interrupted", rule="stopped", reason=f"Stopped: {why}."),
                )
            )
        self.flying.clear()
        for run, record in ended:  # after the last is cancelled: the disk may refuse the first
            self.end(run, record)
