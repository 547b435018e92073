"""The rooms in order: history -> Proposal -> commit -> Job -> RunRecord -> Verdict -> Row -> history.

`Loop(session, proposer, runner, bounds, screen).run()` researches until it is told to stop, runs out of its bounds, or
cannot go on; it may be killed at any instant and started again. The journal is written before the deed wherever the
deed can be made again from it (a commit follows from its `attempt`, the branch from the verdicts), so starting again
only has to do what is missing. This file knows the order and nothing else: no git, no statistics, no processes.
"""

import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from autorl import claiming, decision, report
from autorl.desk import Desk
from autorl.effects import retry_when_full
from autorl.journal import atomic_write
from autorl.judge import control_passed, sanity_band
from autorl.ledger import CONFIRM_SEEDS, Run, run_ticket
from autorl.machine import is_steady, partition
from autorl.purse import JournalPurse
from autorl.records import Job, Paused, Proposer, Runner, RunRecord, Screen, Verdict, from_json, to_json
from autorl.session import Bounds, Session, check_disk, machine_name

POLL_SECONDS = 0.1
PICTURE_SECONDS = 20.0  # progress.png at most this often
MAX_REPEATS = 3  # of one interrupted run, in a row
PEERS = 7  # newest runs that a run's share of the machine is compared with


@dataclass
class InFlight:
    """A run under way: its place, its want, its handle."""

    run: Run
    want: decision.Want | None  # None: a run of the confirmation
    handle: str
    cores: tuple[int, ...]


class Loop:
    """One sitting of a session."""

    def __init__(
        self,
        session: Session,
        proposer: Proposer,
        runner: Runner,
        bounds: Bounds,
        screen: Screen,
        inbox_only: bool = False,
        confirm_only: bool = False,
    ):
        self.session, self.runner, self.bounds = session, runner, bounds
        self.screen = screen
        self.places = max(1, runner.places)
        self.inbox_only = inbox_only  # stop when every proposal left by `try` is decided
        self.confirm_only = confirm_only  # no search: the claim, even if there is one already
        self._claims_before = len(session.journal.of("claim"))
        self.ledger, self.workspace, self.settings = session.ledger, session.workspace, session.settings
        self.state = decision.start(decision.Rules(rigor=self.settings.rigor))  # type: ignore[arg-type]
        self.due: list[Verdict] = []  # verdicts as decided; the journal's are a prefix of them
        self.flying: dict[int, InFlight] = {}
        self.groups = partition(self.settings.cores, self.places)
        self.purse = JournalPurse(self._record, self.ledger, bounds.max_usd)
        self.desk = Desk(session, proposer, self.purse, self._record, self.screen.say, bounds.refusals, inbox_only, ahead=self.places > 1)
        self.stopping = ""  # why, once a signal came
        self.closing = ""  # why, once the search has ended by itself
        self.exit_code = 0
        self._mutex = threading.RLock()
        self._began = time.monotonic()
        self._pictured = -PICTURE_SECONDS
        self._stale_views = True
        for event in session.journal.events:
            self._decide(event)

    # -- knowledge ---------------------------------------------------------------------------------------------------

    def _record(self, event_type: str, /, **fields: Any) -> dict[str, Any]:
        """Journal, fold, decide: the only way anything becomes known."""
        with self._mutex:
            event = self.session.journal.append(event_type, **fields)
            self.ledger.fold(event)
            self._decide(event)
            self._stale_views = True
            return event

    def _decide(self, event: dict[str, Any]) -> None:
        fact: Any = None
        if event["type"] == "attempt":
            fact = decision.AttemptFact(event["n"], event["parent"], event["key"], event["nodes"], event.get("again"))
        elif event["type"] == "opened":
            fact = decision.ResumedFact()
        elif event["type"] == "control":
            fact = decision.ControlFact(event["attempt"], event["kind"], event["passed"], event.get("reason", ""))
        elif event["type"] == "run" and (run := self.ledger.runs[event["run"]]).for_decision and run.record is not None:
            score = run.record.avg_return if run.record.scored else None
            fact = decision.RunFact(run.run, run.attempt, run.record.status, score, run.seed, event.get("steady", True), run.epoch)
        if fact is not None:
            self.state, verdicts = decision.observe(self.state, fact)
            self.due.extend(verdicts)

    # -- the order ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Research. Returns the exit code: 0 done, 1 cannot go on, 3 paused, 130 stopped by a signal."""
        self._record("opened", pid=os.getpid(), why=self.session.recovered)
        try:
            self._recover()
            while True:
                self._collect()
                self._settle()
                if self.stopping:
                    return self._halt()
                if self._finished():
                    break
                self._start_wanted()
                self._views()
                self._show()
                time.sleep(POLL_SECONDS if self.flying or self.desk.thinking else 0.0)
            if self.bounds.confirm_runs and not self.exit_code and decision.champion(self.state) == 0:
                self.closing += "; nothing is likely enough to be better than the baseline to be put to the proof"
            self._record("closed", finished="" if self.confirm_only or self.inbox_only else self.closing, why=self.closing)
            self.screen.say(self.closing)
        except (Paused, OSError) as trouble:
            pause = trouble if isinstance(trouble, Paused) else _refused_by_machine(trouble)
            self._wind_down(str(pause))
            raise pause from (trouble if pause is not trouble else None)
        finally:
            self.desk.close()
        self._views(final=True)
        return self.exit_code

    def _wind_down(self, why: str) -> None:
        """Leave what can still be left behind; that the same disk refuses this as well is no news."""
        last = (
            lambda: self._cancel_all("the loop paused"),
            self._settle,
            lambda: self._record("closed", why=why),
            lambda: self._views(final=True),
        )
        for step in last:
            with contextlib.suppress(Paused, OSError):
                step()

    def stop(self, why: str) -> None:
        """Ask the loop to end: called from a signal handler, so it only leaves a word."""
        self.stopping = self.stopping or why

    def _recover(self) -> None:
        """Do what the journal says and a kill prevented."""
        for note in self.workspace.clear_stale_locks(self.session.tag):
            self._record("note", event="stale lock", detail=note)
            self.screen.say(note)
        if not self.ledger.attempts:
            base = self.ledger.session["baseline"]
            self._record(
                "attempt", n=0, parent=None, source=base["source"], title="baseline", key=base["key"], nodes=base["nodes"], proposer=""
            )
        for attempt in self.ledger.attempts.values():
            self.desk.pin(attempt)
        self._check_branch()
        if self.ledger.verdicts:
            self._note(self.ledger.verdicts[-1])
        if (name := machine_name()) != self.ledger.hardware and self.runner.name == "local" and self.ledger.runs:
            self._record(
                "epoch", epoch=self.ledger.epoch + 1, hardware=name, why=f"continued on other hardware ({self.ledger.hardware} before)"
            )
            self.screen.say("This machine is another than the session's: the incumbent is calibrated again.")
        if self.ledger.band is None and self.runner.name != "scripted":
            band = sanity_band(self.settings.env_id)
            self._record("band", band=band)
            self.screen.say(f"doing nothing scores {band['nothing']['mean']:.1f} here, acting at random {band['random']['mean']:.1f}")
        for run in [r for r in self.ledger.runs.values() if r.kind != "measure"]:
            self._control(run)
        for run in self.ledger.pending():
            job = self._job(run.attempt, run.seed, run.kind, ())
            if run.handle and self.runner.attach(run.handle, job, self.session.root / run.folder):
                self.flying[run.run] = InFlight(run, self._want_of(run), run.handle, self._free_cores())
            else:
                self._end(run, RunRecord(status="interrupted", rule="lost", reason="The loop ended while this run was under way."))

    def _check_branch(self) -> None:
        """The branch stands where we left it, or where the next move takes it (a kill came between)."""
        there, due = self.workspace.branch(self.session.tag), self.ledger.attempts[self.state.incumbent].commit
        if self.ledger.tip and there not in (self.ledger.tip, due):
            self.workspace.move_branch(self.session.tag, due, self.ledger.tip)  # fails, and says what to do

    def _finished(self) -> bool:
        """True when nothing is left to do."""
        if self.flying or self._wants():
            return False
        if self.state.stop and not self.confirm_only:
            self.closing, self.exit_code = self.state.stop, 0 if self.state.saturated else 1
        self.closing = self.closing or "nothing is left to do"
        return self.exit_code != 0 or not self._confirm_wanted()

    def _wants(self) -> tuple[decision.Want, ...]:
        """What decision.py asks for, without new candidates once the bounds are reached."""
        if self.confirm_only:
            self.closing = "the confirmation is done"
            return ()
        flying = tuple(f.want for f in self.flying.values() if f.want is not None)
        wants = decision.wants(self.state, self.places, flying)
        if any(isinstance(w, decision.Propose) for w in wants) and self._exhausted():
            wants = tuple(w for w in wants if not isinstance(w, decision.Propose))
        return wants

    def _exhausted(self) -> bool:
        """No further candidates: the bounds are reached (the time for the confirmation is kept back)."""
        self.closing = self.closing or self.desk.exhausted
        tried = sum(1 for a in self.ledger.attempts.values() if a.n and a.state != "superseded")
        if self.bounds.experiments is not None and tried >= self.bounds.experiments:
            self.closing = self.closing or f"{self.bounds.experiments} experiments are done"
        if self.bounds.hours is not None:
            ends = [r.record.total_seconds or 0.0 for r in self.ledger.runs.values() if r.record]
            one = max(ends, default=self.settings.time_budget * 1.1)
            reserve = one * (1 + 2 * self.bounds.confirm_runs / self.places)
            if time.monotonic() - self._began + reserve > self.bounds.hours * 3600:
                minutes = self.bounds.hours * 60
                self.closing = self.closing or (f"{self.bounds.hours:g} hours are up" if minutes >= 60 else f"{minutes:.0f} minutes are up")
        return bool(self.closing)

    def _start_wanted(self) -> None:
        """Fill the free places."""
        wants = self._wants()
        if not wants and self.closing and self._confirm_wanted():
            self._confirm()
        for want in wants:
            if isinstance(want, decision.Propose):
                try:
                    if self.desk.next(self.state):
                        return  # something became known: ask again what is wanted
                except Paused:
                    if self.stopping:  # the researcher was told so, too
                        return
                    raise
            elif len(self.flying) < self.places:
                kind = want.kind if isinstance(want, decision.Control) else "measure"
                purpose = f"control {kind}" if isinstance(want, decision.Control) else want.purpose
                self._start(want.attempt, purpose, kind, self.ledger.next_seed_index(), want)

    # -- runs --------------------------------------------------------------------------------------------------------

    def _job(self, n: int, seed: int, kind: str, cores: tuple[int, ...]) -> Job:
        s = self.settings
        fields = {
            "train_source": self.ledger.attempts[n].source, "env_id": s.env_id, "seed": seed, "time_budget": s.time_budget, "num_eval_episodes": s.num_eval_episodes,
            "cores": cores, "threads": len(cores), "gpu": s.gpu, "sandbox": s.sandbox, "kind": kind,
        }  # fmt: skip
        return from_json(Job, fields)  # type: ignore[no-any-return]

    def _free_cores(self) -> tuple[int, ...]:
        used = {f.cores for f in self.flying.values()}
        return next((g for g in self.groups if g not in used), ())

    def _start(self, n: int, purpose: str, kind: str, index: int, want: decision.Want | None) -> None:
        ends = [r.record for r in self.ledger.runs.values() if r.record is not None and r.attempt == n][-MAX_REPEATS:]
        if len(ends) == MAX_REPEATS and all(e.status == "interrupted" and e.rule not in ("lost", "stopped") for e in ends):
            raise Paused(
                f"Experiment {n} was interrupted {MAX_REPEATS} times in a row by something outside of it ({ends[-1].reason}): see to that, then start again."
            )
        check_disk(self.session.folder)
        number, cores = len(self.ledger.runs) + 1, self._free_cores()
        folder = self.session.folder / "runs" / str(n) / str(number)
        attempt = self.ledger.attempts[n]
        if attempt.parent is not None and not (patch := folder.parent / "train.diff").is_file():
            patch.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(patch, self.workspace.diff(self.ledger.attempts[attempt.parent].commit, attempt.commit).encode())
        self._record(
            "started", run=number, attempt=n, purpose=purpose, kind=kind, seed_index=index, seed=self.ledger.seed(index), epoch=self.ledger.epoch,
            cores=list(cores), folder=str(folder.relative_to(self.session.root)), mono=round(time.monotonic(), 3),
        )  # fmt: skip
        run = self.ledger.runs[number]
        job = self._job(n, run.seed, kind, cores)
        if worst := getattr(self.runner, "worst_usd", None):
            self.purse.reserve(worst(job), f"run {number}", run_ticket(number))
        handle = retry_when_full(lambda: self.runner.start(job, folder))
        if self.runner.name != "local":
            self._record("handle", run=number, handle=handle)
        self.flying[number] = InFlight(run, want, handle, cores)

    def _collect(self) -> None:
        """Take in the runs that are over."""
        for flight in list(self.flying.values()):
            if (record := self.runner.poll(flight.handle)) is not None:
                del self.flying[flight.run.run]
                self._end(flight.run, record)

    def _end(self, run: Run, record: RunRecord) -> None:
        """RunRecord -> fact. A run that got much less machine than the others is repeated, not pooled."""
        if record.status == "ok" and not record.scored:
            record = replace(record, status="crash", rule="score", reason="The judge's record holds no finite score.", avg_return=None)
        peers = [
            r.record.machine for r in self.ledger.runs.values() if r.record is not None and r.record.status == "ok" and r.epoch == run.epoch
        ][-PEERS:]
        steady, why = is_steady(record.machine, peers) if record.status == "ok" else (True, "")
        self._record(
            "run",
            run=run.run,
            steady=steady,
            why=why,
            mono=round(time.monotonic(), 3),
            record=to_json(replace(record, log_tail=record.log_tail[-2000:])),
        )
        if run_ticket(run.run) in self.ledger.money and (record.cost_usd or record.rule not in ("lost", "stopped")):
            self.purse.settle(run_ticket(run.run), record.cost_usd, {})
        if not steady:
            self.screen.say(f"run {run.run} is repeated: {why}")
        if run.kind != "measure":
            self._control(run)
        elif record.status != "ok":
            self.screen.say(f"run {run.run} of experiment {run.attempt}: {record.status}, {record.reason}")

    def _control(self, run: Run) -> None:
        """What a control run showed; made again from its record if a kill came between."""
        known = {c["run"] for c in self.ledger.controls}
        if run.record is None or run.record.status == "interrupted" or run.run in known:
            return
        trained = self.ledger.row(self.ledger.attempts[run.attempt]).avg_return
        passed, reason = control_passed(run.kind, run.record, self.ledger.band, trained)
        self._record("control", run=run.run, attempt=run.attempt, kind=run.kind, passed=passed, reason=reason)

    def _want_of(self, run: Run) -> decision.Want | None:
        if run.purpose.startswith("confirm"):
            return None
        return decision.Measure(run.attempt, run.purpose) if run.kind == "measure" else decision.Control(run.attempt, run.kind)  # type: ignore[arg-type]

    # -- verdicts ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Verdict -> journal -> branch -> note; each step is made again if a kill came between."""
        counted = {scored.run for arm in self.state.arms.values() for scored in arm.runs}
        if promoted := sorted(n for n in counted if not self.ledger.runs[n].steady):
            self._record("promoted", runs=promoted)
            self.screen.say("The machine gives less than it did, and goes on so: from here on runs are compared with each other only.")
        while len(self.ledger.verdicts) < len(self.due):
            verdict = self.due[len(self.ledger.verdicts)]
            self._record("verdict", verdict=to_json(verdict))
            attempt = self.ledger.attempts[verdict.attempt]
            self.screen.say(f"{verdict.outcome.upper():>10}  {attempt.title}: {verdict.reason}")
            self._note(verdict)
        tip = self.ledger.attempts[self.state.incumbent].commit if self.due else ""
        if tip and tip != self.ledger.tip:
            self.workspace.move_branch(self.session.tag, tip, self.ledger.tip or None)
            self._record("moved", commit=tip, old=self.ledger.tip)

    def _note(self, verdict: Verdict) -> None:
        """The evidence of a keep, attached to its commit."""
        if verdict.outcome in ("baseline", "keep", "certified"):
            text = json.dumps(to_json(verdict), indent=1, ensure_ascii=False)
            self.workspace.note(self.ledger.attempts[verdict.attempt].commit, text)

    def _views(self, final: bool = False) -> None:
        """results.tsv at once, the picture now and then; both follow from the journal."""
        if not self._stale_views and not final:
            return
        rows = self.ledger.rows()
        atomic_write(self.session.folder / "results.tsv", report.results_tsv(rows).encode())
        if self.ledger.claim:
            atomic_write(self.session.folder / "evidence.json", json.dumps(self.ledger.claim, indent=1, ensure_ascii=False).encode())
        self._stale_views = False
        if final or time.monotonic() - self._pictured > PICTURE_SECONDS:
            self._pictured = time.monotonic()
            picture = report.progress_png(rows, self.settings.env_id, solved_at=self.session.extras.get("solved_at"))
            atomic_write(self.session.folder / "progress.png", picture)

    def _show(self) -> None:
        shown = [
            (f"run {f.run.run}, experiment {f.run.attempt} ({f.run.purpose})", self.runner.progress(f.handle)) for f in self.flying.values()
        ]
        self.screen.progress(shown, f"{self.desk.proposer.name} is thinking" if self.desk.thinking else "")

    # -- the end -----------------------------------------------------------------------------------------------------

    def _halt(self) -> int:
        self._cancel_all(self.stopping)
        self._settle()
        self._record("closed", why=self.stopping)
        self._views(final=True)
        self.screen.say(
            f"Stopped ({self.stopping}); the branch stands at the best commit. Resume with: uv run python agent_loop.py run --tag {self.session.tag}"
        )
        return 130

    def _cancel_all(self, why: str) -> None:
        ended: list[tuple[Run, RunRecord]] = []
        for flight in list(self.flying.values()):
            record = self.runner.poll(flight.handle)
            if record is None and self.runner.name == "modal" and not self.stopping:
                continue  # goes on without us and is fetched by its handle on resume
            self.runner.cancel(flight.handle)
            ended.append((flight.run, record or RunRecord(status="interrupted", rule="stopped", reason=f"Stopped: {why}.")))
        self.flying.clear()
        for run, record in ended:  # after the last is cancelled: the disk may refuse the first
            self._end(run, record)

    # -- the claim ---------------------------------------------------------------------------------------------------

    def _confirm_wanted(self) -> bool:
        """Fresh-seed runs of baseline and champion are due: something was kept since the last claim."""
        champion = decision.champion(self.state)
        if not self.bounds.confirm_runs or champion == 0:
            return False
        if self.confirm_only:
            return len(self.session.journal.of("claim")) == self._claims_before
        return not (self.ledger.claim and self.ledger.claim["champion"] == champion)

    def _confirm(self) -> None:
        """The champion's controls, then one more run of whichever arm is owed one; when both are full, the claim."""
        champion = decision.champion(self.state)
        flying = tuple(f.want for f in self.flying.values() if f.want is not None)
        if controls := decision.controls_owed(self.state, champion, flying) or flying:
            for want in controls if len(self.flying) < self.places else ():
                if isinstance(want, decision.Control) and want not in flying:
                    self._start(champion, f"control {want.kind}", want.kind, self.ledger.next_seed_index(), want)
                    break
            return
        runs = claiming.arms(self.ledger, champion, len(self.session.journal.of("claim")))
        owed = claiming.owed(runs, self.bounds.confirm_runs)
        if owed is not None and len(self.flying) < self.places:
            purpose = f"confirm {len(self.session.journal.of('claim'))}"
            self._start(owed, purpose, "measure", self.ledger.next_seed_index(CONFIRM_SEEDS), None)
        elif owed is None and not self.flying:
            claim = claiming.claim(self.ledger, champion, runs)
            self._record("claim", claim=claim)
            self.screen.say(str(claim["claim"].get("sentence", "")))


def _refused_by_machine(error: OSError) -> Paused:
    """A process that cannot be started, a folder that cannot be made: one sentence."""
    where = f" ({error.filename})" if error.filename else ""
    return Paused(
        f"The machine refused{where}: {error.strerror or error}; see to that, then run the same command; everything up to here is kept."
    )
