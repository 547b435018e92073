"""The rooms in order: history -> Proposal -> commit -> Job -> RunRecord -> Verdict -> Row -> history.

`Loop(session, proposer, runner, bounds, screen).run()` researches until it is told to stop, runs out of its bounds, or
cannot go on; it may be killed at any instant and started again. The journal is written before the deed wherever the
deed can be made again from it (a commit follows from its `attempt`, the branch from the verdicts), so starting again
only has to do what is missing. This file knows the order and nothing else: no git, no statistics, no processes.
"""

import contextlib
import gc
import json
import math
import os
import threading
import time
from typing import Any

from autorl import decision, report
from autorl.confirm.claim import arms, make_claim, next_arm
from autorl.environments import sanity_band
from autorl.errors import Paused
from autorl.interfaces import Proposer, Runner, Screen
from autorl.loop.active_runs import Flights
from autorl.loop.budget import JournalPurse
from autorl.loop.proposal_queue import Desk
from autorl.records import Verdict, to_json
from autorl.session.session import Bounds, Session, program
from autorl.session.state import CONFIRM_SEEDS
from autorl.system.files import atomic_write
from autorl.system.hardware import machine_name

POLL_SECONDS = 0.1
TOLD = {"checkout changed", "outage", "waiting"}  # notes that a person should see at once
PICTURE_SECONDS = 20.0  # progress.png at most this often


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
        self._finished_before = session.ledger.finished
        self._claims_before = len(session.journal.of("claim"))
        self.ledger, self.workspace, self.settings = (
            session.ledger,
            session.workspace,
            session.settings,
        )
        self.state = decision.start(decision.Rules(rigor=self.settings.rigor))  # type: ignore[arg-type]
        self.due: list[Verdict] = []  # verdicts as decided; the journal's are a prefix of them
        self._mutex = threading.RLock()
        self.purse = JournalPurse(self._record, self.ledger, bounds.max_usd, self._mutex)
        self.flights = Flights(session, runner, self.purse, self._record, self.screen.say)
        self.desk = Desk(
            session,
            proposer,
            self.purse,
            self._record,
            self.screen.say,
            bounds.refusals,
            inbox_only,
            ahead=self.places > 1,
        )
        self.stopping = ""  # why, once a signal came
        self.closing = ""  # why, once the search has ended by itself
        self.exit_code = 0
        self._began = time.monotonic()
        self._pictured = -PICTURE_SECONDS
        self._stale_views = True
        for event in session.journal.events:
            self._decide(event)
        session.journal.forget(
            "started", "handle", "run", "control", "verdict", "pinned", "money", "note"
        )  # the ledger has them

    # -- knowledge ---------------------------------------------------------------------------------------------------

    def _record(self, event_type: str, /, **fields: Any) -> dict[str, Any]:
        """Journal, fold, decide: the only way anything becomes known."""
        with self._mutex:
            event = self.session.journal.append(event_type, **fields)
            self.ledger.fold(event)
            self._decide(event)
            self._stale_views = True
        if event_type == "note" and event.get("event") in TOLD:
            self.screen.say(f"{event['event']}: {event['detail']}")
        return event

    def _decide(self, event: dict[str, Any]) -> None:
        fact: Any = None
        if event["type"] == "attempt":
            fact = decision.AttemptFact(
                event["n"], event["parent"], event["key"], event["nodes"], event.get("again")
            )
        elif event["type"] == "opened":
            fact = decision.ResumedFact()
        elif event["type"] == "control":
            fact = decision.ControlFact(
                event["attempt"], event["kind"], event["passed"], event.get("reason", "")
            )
        elif (
            event["type"] == "run"
            and (run := self.ledger.runs[event["run"]]).for_decision
            and run.record is not None
        ):
            score = run.record.avg_return if run.record.scored else None
            fact = decision.RunFact(
                run.run,
                run.attempt,
                run.record.status,
                score,
                run.seed,
                event.get("steady", True),
                run.epoch,
            )
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
                self.flights.collect()
                self._settle()
                if self.stopping:
                    return self._halt()
                if self._finished():
                    break
                more = self._start_wanted()
                self._views()
                self._show()
                time.sleep(
                    POLL_SECONDS if not more and (self.flights or self.desk.thinking) else 0.0
                )
            if (
                self.bounds.confirm_runs
                and not self.exit_code
                and decision.champion(self.state) == 0
            ):
                self.closing += "; nothing is likely enough to be better than the baseline to be put to the proof"
            finished = (
                self._finished_before if self.confirm_only or self.inbox_only else self.closing
            )
            self._record("closed", finished=finished, why=self.closing)
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
            lambda: self.flights.cancel_all("the loop paused", keep_remote=True),
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
                "attempt",
                n=0,
                parent=None,
                source=base["source"],
                title="baseline",
                key=base["key"],
                nodes=base["nodes"],
                proposer="",
            )
        for attempt in self.ledger.attempts.values():
            self.desk.pin(attempt)
        self._check_branch()
        if self.ledger.verdicts:
            self._note(self.ledger.verdicts[-1])
        if (
            (name := machine_name()) != self.ledger.hardware
            and self.runner.name == "local"
            and self.ledger.runs
        ):
            self._record(
                "epoch",
                epoch=self.ledger.epoch + 1,
                hardware=name,
                why=f"continued on other hardware ({self.ledger.hardware} before)",
            )
            self.screen.say(
                "This machine is another than the session's: the incumbent is calibrated again."
            )
        if self.ledger.band is None and self.runner.name != "scripted":
            band = sanity_band(self.settings.env_id)
            self._record("band", band=band)
            self.screen.say(
                f"doing nothing scores {band['nothing']['mean']:.1f} here, acting at random {band['random']['mean']:.1f}"
            )
        self.flights.recover()

    def _check_branch(self) -> None:
        """The branch stands where we left it, or where the next move takes it (a kill came between)."""
        there, due = (
            self.workspace.branch(self.session.tag),
            self.ledger.attempts[self.state.incumbent].commit,
        )
        if self.ledger.tip and there not in (self.ledger.tip, due):
            self.workspace.move_branch(
                self.session.tag, due, self.ledger.tip
            )  # fails, and says what to do

    def _finished(self) -> bool:
        """True when nothing is left to do."""
        if self.flights or self._wants():
            return False
        if self.state.stop and not self.confirm_only:
            self.closing, self.exit_code = (
                self.state.stop,
                0 if self.state.saturated and not self.state.broken else 1,
            )
            if self.state.broken:
                return True
        self.closing = self.closing or "nothing is left to do"
        return not self._confirm_wanted()

    def _wants(self) -> tuple[decision.Want, ...]:
        """What decision/ asks for, without new candidates once the bounds are reached."""
        if self.confirm_only:
            self.closing = "the confirmation is done"
            return ()
        wants = decision.wants(self.state, self.places, self.flights.wants)
        if wants and self._time_is_up():
            return ()  # what is under way may land; then only the claim
        if any(isinstance(w, decision.Propose) for w in wants) and self._exhausted():
            wants = tuple(w for w in wants if not isinstance(w, decision.Propose))
        return wants

    def _exhausted(self) -> bool:
        """No further candidates: the bounds are reached (the time for the confirmation is kept back)."""
        if self.desk.owed() is not None:  # counted as one experiment with its second attempt
            return False
        self.closing = self.closing or self.desk.exhausted
        tried = sum(1 for a in self.ledger.attempts.values() if a.n and a.state != "superseded")
        if self.bounds.experiments is not None and tried >= self.bounds.experiments:
            count = self.bounds.experiments
            self.closing = (
                self.closing or f"{count} experiment{' is' if count == 1 else 's are'} done"
            )
        return bool(self.closing)

    def _time_is_up(self) -> bool:
        """One more run and the confirmation would go beyond the hours given."""
        if self.bounds.hours is None:
            return False
        ends = [r.record.total_seconds or 0.0 for r in self.ledger.runs.values() if r.record]
        one = max(ends, default=self.settings.time_budget * 1.1)
        need = one * (1 + math.ceil(2 * self.bounds.confirm_runs / self.places))
        left = self.bounds.hours * 3600 - (time.monotonic() - self._began)
        if need > left:
            minutes = self.bounds.hours * 60
            given = f"{self.bounds.hours:g} hours" if minutes >= 60 else f"{minutes:.0f} minutes"
            self.closing = self.closing or (
                f"{given} are up"
                if left <= one
                else f"{given} are nearly up: {left / 60:.0f} minutes are left, and a run and the confirmation take {need / 60:.0f}"
            )
        return need > left

    def _start_wanted(self) -> bool:
        """Fill the free places; True when there is more to ask for at once."""
        wants = self._wants()
        if not wants and self.closing and self._confirm_wanted():
            self._confirm()
        for want in wants:
            if isinstance(want, decision.Propose):
                try:
                    if self.desk.next(self.state):
                        return True  # something became known: ask again what is wanted
                except Paused:
                    if self.stopping:  # the researcher was told so, too
                        return False
                    raise
            elif self.flights.room:
                kind = want.kind if isinstance(want, decision.Control) else "measure"
                purpose = f"control {kind}" if isinstance(want, decision.Control) else want.purpose
                self.flights.start(want.attempt, purpose, kind, self.ledger.next_seed_index(), want)
        return False

    # -- verdicts ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Verdict -> journal -> branch -> note; each step is made again if a kill came between."""
        counted = {scored.run for arm in self.state.arms.values() for scored in arm.runs}
        if promoted := sorted(n for n in counted if not self.ledger.runs[n].steady):
            self._record("promoted", runs=promoted)
            self.screen.say(
                "The machine gives less than it did, and goes on so: from here on runs are compared with each other only."
            )
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
            atomic_write(
                self.session.folder / "evidence.json",
                json.dumps(self.ledger.claim, indent=1, ensure_ascii=False).encode(),
            )
        self._stale_views = False
        if final or time.monotonic() - self._pictured > PICTURE_SECONDS:
            self._pictured = time.monotonic()
            picture = report.progress_png(
                rows, self.settings.env_id, solved_at=self.session.extras.get("solved_at")
            )
            atomic_write(self.session.folder / "progress.png", picture)
            gc.collect()  # a figure is a knot of references: 11 MB each until somebody looks

    def _show(self) -> None:
        self.screen.progress(
            self.flights.shown(),
            f"{self.desk.proposer.name} is thinking" if self.desk.thinking else "",
        )

    # -- the end -----------------------------------------------------------------------------------------------------

    def _halt(self) -> int:
        self.flights.cancel_all(self.stopping, keep_remote=False)
        self._settle()
        self._record("closed", why=self.stopping)
        self._views(final=True)
        what = (
            f"confirm --tag {self.session.tag} --runs {self.bounds.confirm_runs}"
            if self.confirm_only
            else f"run --tag {self.session.tag}"
        )
        flags = "" if self.confirm_only else self.session.extras.get("flags", "")
        self.screen.say(
            f"Stopped ({self.stopping}); the branch stands at the best commit. Resume with: {program(self.session.root)} {what} {flags}".rstrip()
        )
        return 130

    # -- the claim ---------------------------------------------------------------------------------------------------

    def _confirm_wanted(self) -> bool:
        """Fresh-seed runs of baseline and champion are due: something was kept since the last claim."""
        champion = decision.champion(self.state)
        if not self.bounds.confirm_runs or champion == 0:
            return False
        if self.confirm_only:
            return len(self.session.journal.of("claim")) == self._claims_before
        known = self.ledger.claim
        return not (
            known
            and known["champion"] == champion
            and min(known["claim"]["runs"], known["claim"]["runs0"]) >= self.bounds.confirm_runs
        )

    def _confirm(self) -> None:
        """The champion's controls, then one more run of whichever arm is owed one; when both are full, the claim."""
        champion = decision.champion(self.state)
        flying = self.flights.wants
        if controls := decision.controls_owed(self.state, champion, flying) or flying:
            for want in controls if self.flights.room else ():
                if isinstance(want, decision.Control) and want not in flying:
                    self.flights.start(
                        champion,
                        f"control {want.kind}",
                        want.kind,
                        self.ledger.next_seed_index(),
                        want,
                    )
                    break
            return
        runs = arms(self.ledger, champion, len(self.session.journal.of("claim")))
        owed = next_arm(runs, self.bounds.confirm_runs)
        if owed is not None and self.flights.room:
            purpose = f"confirm {len(self.session.journal.of('claim'))}"
            self.flights.start(
                owed, purpose, "measure", self.ledger.next_seed_index(CONFIRM_SEEDS), None
            )
        elif owed is None and not self.flights:
            claim = make_claim(self.ledger, champion, runs, len(self.session.journal.of("claim")))
            self._record("claim", claim=claim)
            self.screen.say(str(claim["claim"].get("sentence", "")))


def _refused_by_machine(error: OSError) -> Paused:
    """A process that cannot be started, a folder that cannot be made: one sentence."""
    where = f" ({error.filename})" if error.filename else ""
    return Paused(
        f"The machine refused{where}: {error.strerror or error}; see to that, then run the same command; everything up to here is kept."
    )
