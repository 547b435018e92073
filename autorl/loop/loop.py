"""The order: history -> Proposal -> commit -> Job -> RunRecord -> Verdict -> Row -> history.

`Loop(session, proposer, runner, bounds, console).run()` researches until it is told to stop, runs
out of its bounds, or cannot go on; it may be killed at any instant and started again. The log is
written before the deed wherever the deed can be made again from it (a commit follows from its
`attempt`, the branch from the verdicts), so starting again only has to do what is missing. This
file knows the order and nothing else: no git, no statistics, no processes.
"""

import contextlib
import gc
import json
import os
import time
from collections.abc import Callable

from autorl import report
from autorl.environments import sanity_band
from autorl.errors import Paused, UserError
from autorl.interfaces import Console, Proposer, Runner
from autorl.loop.active_runs import ActiveRuns
from autorl.loop.budget import SpendLimit
from autorl.loop.confirmation import Confirmation
from autorl.loop.proposal_queue import ProposalQueue
from autorl.loop.research import Research
from autorl.records import Verdict
from autorl.session import Bounds, Session, program
from autorl.session.events import (
    Attempted,
    BaselineScores,
    BranchMoved,
    Cancelled,
    Claimed,
    Closed,
    Decided,
    EpochBegan,
    Event,
    Note,
    Opened,
)
from autorl.session.session import scored_by
from autorl.system.files import atomic_write
from autorl.system.hardware import machine_name

POLL_SECONDS = 0.1
# notes that a person should see
SHOWN_AT_ONCE = {"checkout changed", "machine busy", "outage", "refusal", "waiting"}
PICTURE_SECONDS = 20.0  # progress.png at most this often


class Loop:
    """One process at work on a session.

    Args:
        proposer: None: only what `try` left in the inbox is measured.
        confirm_only: no search: the claim, even if there is one already.
        resume: what a person types to go on, after the program's name.
        others: who has the cores; "" once they are ours. Nothing is run before.
    """

    def __init__(
        self,
        session: Session,
        proposer: Proposer | None,
        runner: Runner,
        bounds: Bounds,
        console: Console,
        confirm_only: bool = False,
        resume: str = "",
        others: Callable[[], str] = str,
    ):
        self.session, self.runner, self.bounds, self.console = session, runner, bounds, console
        self.resume, self.others = resume or f"run --tag {session.tag}", others
        budget = SpendLimit(session, bounds.max_usd)
        self.runs = ActiveRuns(session, runner, budget, console)
        self.queue = ProposalQueue(session, proposer, budget, console, bounds, self.runs.places)
        confirmation = Confirmation(session, self.runs, console, bounds, confirm_only)
        # what the loop is busy with: the search, then the confirmation
        self.drivers: list[Research | Confirmation] = [confirmation]
        if not confirm_only:
            self.drivers.insert(0, Research(session, self.runs, self.queue, bounds))
        # by itself a search with a researcher ends a session; nothing else does
        self._finished_before = session.state.finished
        self._ends_session = not confirm_only and proposer is not None
        self.stopping = ""  # why, once a signal came
        self._pictured = -PICTURE_SECONDS
        self._stale_views = True
        session.observers.append(self._learn)

    def _learn(self, event: Event) -> None:
        self._stale_views = True
        if isinstance(event, Claimed):
            self._note(event.claim["champion"])
        elif isinstance(event, Note) and event.event in SHOWN_AT_ONCE:
            self.console.say(f"{event.event}: {event.detail}")

    # -- the order ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Research.

        Returns the exit code: 0 done, 1 cannot go on, 3 paused, 130 stopped by a signal.
        """
        self.session.record(Opened(pid=os.getpid(), why=self.session.recovered))
        reasons, code = [], 0
        try:
            if self._wait_for_cores():
                return self._halt()
            self._recover()
            for driver in self.drivers:
                if code == 0 or not self.session.decision.broken:
                    while not (self._settled() or driver.finished()):
                        more = driver.start()
                        self._views()
                        waiting = self.queue.thinking or self.runs.waiting
                        self.console.progress(self.runs.shown(), waiting)
                        time.sleep(0.0 if more else POLL_SECONDS)
                    if self.stopping:
                        return self._halt()
                    reasons.append(driver.why)
                    code = code or driver.exit_code
            why = "; ".join(dict.fromkeys(reason.rstrip(".") for reason in reasons if reason))
            finished = why if self._ends_session else self._finished_before
            self.session.record(Closed(why=why, finished=finished, early=bool(code)))
            self.console.say(why)
        except (Paused, OSError) as trouble:
            if self.stopping and isinstance(trouble, Paused):
                return self._halt()  # the researcher was told to stop, and says so
            pause_why = trouble if isinstance(trouble, Paused) else _refused_by_machine(trouble)
            self._wind_down(str(pause_why))
            raise pause_why from (trouble if pause_why is not trouble else None)
        finally:
            self.queue.stop()
            self.session.observers.remove(self._learn)
        self._views(final=True)
        return code

    def _wait_for_cores(self) -> bool:
        """Until no other loop measures on them; True when a signal asks to end."""
        told = ""
        while not self.stopping and (who := self.others()):
            if who != told:
                told = who
                self.session.record(Note(event="waiting", detail=who))
            self._cancel()
            self.console.progress([], told)
            time.sleep(10 * POLL_SECONDS)
        return bool(self.stopping)

    def _settled(self) -> bool:
        """Take in what came; True when a signal asks to end."""
        self.runs.collect()
        self._cancel()
        self._settle()
        return bool(self.stopping)

    def _cancel(self) -> None:
        """What a person takes back: its runs stop, and it is decided or forgotten."""
        state, inbox = self.session.state, self.queue.inbox
        for name in inbox.cancelled():
            attempt = state.named(name)
            if attempt and attempt.n and attempt.outcome in ("running", "superseded"):
                self.runs.cancel("it was cancelled", only=attempt.n)
                self._settle()  # its last run may have ended this instant
                if attempt.outcome in ("running", "superseded"):
                    self.session.record(Cancelled(ticket=attempt.ticket, n=attempt.n))
                    self.console.say(f"experiment {attempt.n} is cancelled: {attempt.title}")
            elif attempt is None:
                self.session.record(Cancelled(ticket=name))
                inbox.drop(name)
            inbox.forget(name)

    def stop(self, why: str) -> None:
        """Ask the loop to end: called from a signal handler, so it only leaves a word."""
        self.stopping = self.stopping or why
        self.queue.stop()

    def _halt(self) -> int:
        self.runs.cancel(self.stopping)
        self._settle()
        self.session.record(Closed(why=self.stopping, early=True))
        self._views(final=True)
        self.console.say(
            f"Stopped ({self.stopping}); the branch stands at the best commit."
            f" Resume with: {program(self.session.root)} {self.resume}"
        )
        return 130

    def _wind_down(self, why: str) -> None:
        """Write what can still be written; that the same disk refuses this as well is no news."""
        last = (
            lambda: self.runs.cancel("the loop paused", keep_remote=True),
            self._settle,
            lambda: self.session.record(Closed(why=why, early=True)),
            lambda: self._views(final=True),
        )
        for step in last:
            with contextlib.suppress(Paused, OSError):
                step()

    # -- starting again
    # ----------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Do what the log says and a kill prevented."""
        session, state = self.session, self.session.state
        for note in session.repository.clear_stale_locks(session.tag):
            session.record(Note(event="stale lock", detail=note))
            self.console.say(note)
        if not state.attempts:
            base = state.about.baseline
            session.record(
                Attempted(n=0, parent=None, source=base.source, title="baseline", key=base.key)
            )
        for attempt in state.attempts.values():
            self.queue.pin(attempt)
        self._check_branch()
        if state.verdicts:
            self._note(*_about(state.verdicts[-1]))
        if state.claim:
            self._note(state.claim["champion"])
        if self.runner.owns_cores:
            self._check_machine()
        if state.baseline_scores is None and not self.runner.invents_scores:
            try:
                band = sanity_band(session.settings.env_id, session.settings.env_kwargs)
            except Exception as error:  # whatever an environment raises
                what = f"{session.settings.env_id} failed while it was tried out"
                raise UserError(f"{what}: {error or type(error).__name__}.") from None
            session.record(BaselineScores(band=band))
            self.console.say(
                f"doing nothing scores {band['nothing']['mean']:.1f} here, acting at random "
                f"{band['random']['mean']:.1f}"
            )
        self.runs.recover()

    def _check_branch(self) -> None:
        """The branch stands where we left it, or where the next move takes it."""
        session, tip = self.session, self.session.state.tip
        there = session.repository.branch(session.tag)
        due = session.state.attempts[session.decision.incumbent].commit
        if tip and there not in (tip, due):
            session.repository.move_branch(session.tag, due, tip)  # fails, and says what to do

    def _check_machine(self) -> None:
        """Other hardware, or other versions of what a score depends on: calibrate again."""
        state, name, packages = self.session.state, machine_name(), scored_by()
        why = ""
        if name != state.hardware:
            why = f"continued on other hardware ({state.hardware} before)"
        elif packages != state.versions:
            before = state.versions
            changed = sorted(n for n in packages | before if packages.get(n) != before.get(n))
            each = (f"{n} {before.get(n, 'none')} -> {packages.get(n, 'none')}" for n in changed)
            why = f"continued with other packages ({', '.join(each)})"
        if why and state.runs:
            self.session.record(
                EpochBegan(epoch=state.epoch + 1, why=why, hardware=name, versions=packages)
            )
            self.console.say(f"The session is {why}: the incumbent is calibrated again.")

    # -- verdicts ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Verdict -> log -> branch -> note; each step is made again if a kill came between."""
        session, state = self.session, self.session.state
        while len(state.verdicts) < len(session.decided):
            verdict = session.decided[len(state.verdicts)]
            session.record(Decided(verdict=verdict))
            n = verdict.attempt
            who = f"experiment {n}, {state.attempts[n].title}: " if n else ""
            self.console.say(f"{verdict.outcome.upper():>10}  {who}{verdict.reason}")
            self._note(*_about(verdict))
        tip = state.attempts[session.decision.incumbent].commit if session.decided else ""
        if tip and tip != state.tip:
            session.repository.move_branch(session.tag, tip, state.tip or None)
            session.record(BranchMoved(commit=tip, old=state.tip))

    def _note(self, *attempts: int) -> None:
        """Why a commit was kept, or taken back, and what claims said of it, attached to it."""
        for attempt in (self.session.state.attempts[n] for n in attempts):
            if attempt.verdict and attempt.outcome in ("baseline", "keep", "taken back"):
                seeds = ", ".join(map(str, attempt.verdict.seeds))
                looks = self.session.state.looks_at(attempt.n)
                said = [look["claim"]["sentence"] for look in looks]
                text = "\n".join([attempt.verdict.reason, f"Training seeds: {seeds}.", *said])
                self.session.repository.note(attempt.commit, text)

    def _views(self, final: bool = False) -> None:
        """results.tsv at once, the picture now and then; both follow from the log."""
        if not self._stale_views and not final:
            return
        session, rows = self.session, self.session.state.rows()
        atomic_write(session.folder / "results.tsv", report.results_tsv(rows).encode())
        if claim := session.state.claim:
            text = json.dumps(claim, indent=1, ensure_ascii=False)
            atomic_write(session.folder / "evidence.json", text.encode())
        self._stale_views = False
        if final or time.monotonic() - self._pictured > PICTURE_SECONDS:
            self._pictured = time.monotonic()
            picture = report.progress_png(
                rows, session.settings.env_id, session.solved_at, session.state.claim
            )
            atomic_write(session.folder / "progress.png", picture)
            gc.collect()  # a figure is a knot of references: 11 MB each until somebody looks


def _about(verdict: Verdict) -> tuple[int, ...]:
    """The attempts whose standing a verdict changes."""
    return verdict.taken_back or (verdict.attempt,)


def _refused_by_machine(error: OSError) -> Paused:
    """A process that cannot be started, a folder that cannot be made: one sentence."""
    where = f" ({error.filename})" if error.filename else ""
    return Paused(
        f"The machine refused{where}: {error.strerror or error}; see to that, then run the same "
        "command;"
        " everything up to here is kept."
    )
