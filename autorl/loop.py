"""The rooms in order: history -> Proposal -> commit -> Job -> RunRecord -> Verdict -> Row -> history.

`Loop(session, proposer, runner, bounds, screen).run()` researches until it is told to stop, runs out of its bounds, or
cannot go on; it may be killed at any instant and started again. The journal is written before the deed wherever the
deed can be made again from it (a commit follows from its `attempt`, the branch from the verdicts), so starting again
only has to do what is missing. This file knows the order and nothing else: no git, no statistics, no processes.
"""

import json
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from autorl import decision, evidence, report
from autorl.inbox import Inbox
from autorl.journal import atomic_write
from autorl.judge import control_passed
from autorl.ledger import CONFIRM_SEEDS, Attempt, Run
from autorl.machine import is_steady, partition
from autorl.memory import edits_between, experiment
from autorl.purse import JournalPurse
from autorl.records import (
    EditMiss,
    History,
    Job,
    Paused,
    Progress,
    Proposal,
    Proposer,
    ProposerError,
    Runner,
    RunRecord,
    Verdict,
    apply_edits,
    to_json,
)
from autorl.session import Bounds, Session, check_disk, machine_name
from autorl.vet import ast_key, ast_nodes, vet

POLL_SECONDS = 0.1
PICTURE_SECONDS = 20.0  # progress.png at most this often
MAX_REPEATS = 3  # of one interrupted run, in a row
PEERS = 7  # newest runs that a run's share of the machine is compared with


class Screen:
    """What the loop tells a person; this one tells nothing (see terminal.py)."""

    def say(self, text: str) -> None: ...

    def progress(self, runs: list[tuple[str, Progress | None]], waiting: str) -> None: ...


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
        screen: Screen | None = None,
        inbox_only: bool = False,
        confirm_only: bool = False,
    ):
        self.session, self.proposer, self.runner, self.bounds = session, proposer, runner, bounds
        self.screen = screen or Screen()
        self.inbox = Inbox(session.folder / "inbox")
        self.inbox_only = inbox_only  # stop when every proposal left by `try` is decided
        self.confirm_only = confirm_only  # no search: the claim, even if there is one already
        self._claims_before = len(session.journal.of("claim"))
        self.ledger, self.workspace, self.settings = session.ledger, session.workspace, session.settings
        self.state = decision.start(decision.Rules(rigor=self.settings.rigor))  # type: ignore[arg-type]
        self.due: list[Verdict] = []  # verdicts as decided; the journal's are a prefix of them
        self.flying: dict[int, InFlight] = {}
        self.groups = partition(self.settings.cores, max(1, runner.places))
        self.purse = JournalPurse(self._record, self.ledger, bounds.max_usd)
        self.stopping = ""  # why, once a signal came
        self.closing = ""  # why, once the search has ended by itself
        self.exit_code = 0
        self._mutex = threading.RLock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="researcher")
        self._thought: Future[Proposal | None] | None = None
        self._began = time.monotonic()
        self._pictured = -PICTURE_SECONDS
        self._stale_views = True
        for event in session.journal.events:
            self._decide(event)

    # -- knowledge ---------------------------------------------------------------------------------------------------

    def _record(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Journal, fold, decide: the only way anything becomes known."""
        with self._mutex:
            event = self.session.journal.append(kind, **fields)
            self.ledger.fold(event)
            self._decide(event)
            self._stale_views = True
            return event

    def _decide(self, event: dict[str, Any]) -> None:
        fact: Any = None
        if event["type"] == "attempt":
            fact = decision.AttemptFact(event["n"], event["parent"], event["key"], event["nodes"])
        elif event["type"] == "opened":
            fact = decision.ResumedFact()
        elif event["type"] == "control":
            fact = decision.ControlFact(event["attempt"], event["kind"], event["passed"], event.get("reason", ""))
        elif event["type"] == "run" and (run := self.ledger.runs[event["run"]]).for_decision and run.record is not None:
            score = run.record.avg_return if run.record.scored else None
            fact = decision.RunFact(run.run, run.attempt, run.record.status, score, run.seed, run.steady, run.epoch)
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
                time.sleep(POLL_SECONDS if self.flying or self._thought else 0.0)
            self._record("closed", finished="" if self.confirm_only or self.inbox_only else self.closing, why=self.closing)
            self.screen.say(self.closing)
        except Paused as pause:
            self._cancel_all("the loop paused")
            self._settle()
            self._record("closed", why=str(pause))
            self.exit_code = pause.exit_code
            raise
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._views(final=True)
        return self.exit_code

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
            self._pin(attempt)
        if (name := machine_name()) != self.ledger.hardware and self.runner.name == "local" and self.ledger.runs:
            self._record(
                "epoch", epoch=self.ledger.epoch + 1, hardware=name, why=f"continued on other hardware ({self.ledger.hardware} before)"
            )
            self.screen.say("This machine is another than the session's: the incumbent is calibrated again.")
        for run in self.ledger.pending():
            job = self._job(run.attempt, run.seed, run.kind, ())
            if run.handle and self.runner.attach(run.handle, job, self.session.root / run.folder):
                self.flying[run.run] = InFlight(run, self._want_of(run), run.handle, self._free_cores())
            else:
                self._end(run, RunRecord(status="interrupted", rule="lost", reason="The loop ended while this run was under way."))

    def _finished(self) -> bool:
        """True when nothing is left to do; also decides when to stop proposing and to confirm."""
        if self.flying:
            return False
        wants = self._wants()
        if self.state.stop:
            self.closing, self.exit_code = self.state.stop, 1
        elif self.state.saturated:
            self.closing = str(self.state.saturated)
        if self.closing or not wants:
            self.closing = self.closing or "nothing is left to do"
            return self.exit_code != 0 or not self._confirm_wanted()
        return False

    def _wants(self) -> tuple[decision.Want, ...]:
        if self.confirm_only:
            self.closing = "the confirmation is done"
            return ()
        flying = tuple(f.want for f in self.flying.values() if f.want is not None)
        wants = decision.wants(self.state, max(1, self.runner.places), flying)
        if self._exhausted():
            wants = tuple(w for w in wants if not isinstance(w, decision.Propose))
        return wants

    def _exhausted(self) -> bool:
        """No further candidates: the bounds are reached (the time for confirmation is kept back)."""
        if self.closing:
            return True
        decided = sum(1 for a in self.ledger.attempts.values() if a.n and a.state != "superseded")
        if self.bounds.experiments is not None and decided >= self.bounds.experiments:
            self.closing = f"{self.bounds.experiments} experiments are done"
        if self.bounds.hours is not None:
            one = max(
                (r.record.total_seconds or 0.0 for r in self.ledger.runs.values() if r.record), default=self.settings.time_budget * 1.1
            )
            reserve = one * (1 + 2 * self.bounds.confirm_runs / max(1, self.runner.places))
            if time.monotonic() - self._began + reserve > self.bounds.hours * 3600:
                self.closing = f"{self.bounds.hours:g} hours are over"
        return bool(self.closing)

    def _start_wanted(self) -> None:
        """Fill the free places."""
        if self.closing and not self._wants():
            self._start_confirmation()
            return
        for want in self._wants():
            if isinstance(want, decision.Propose):
                self._propose()
                break
            if len(self.flying) < max(1, self.runner.places):
                kind = want.kind if isinstance(want, decision.Control) else "measure"
                purpose = f"control {kind}" if isinstance(want, decision.Control) else want.purpose
                self._start(want.attempt, purpose, kind, self.ledger.next_seed_index(), want)

    # -- proposals ---------------------------------------------------------------------------------------------------

    def _propose(self) -> None:
        """The next candidate: a superseded one again, a person's from the inbox, or the researcher's."""
        again = {a.again for a in self.ledger.attempts.values()} | {r.get("again") for r in self.ledger.refusals}
        for old in self.ledger.attempts.values():
            if old.state == "superseded" and old.n not in again:
                parent = self.ledger.attempts[old.parent or 0].source
                edits = old.edits or edits_between(parent, old.source)
                proposal = Proposal(old.title, old.hypothesis, old.expected_effect, edits, proposer=old.proposer)
                return self._accept(proposal, again=old.n, ticket=old.ticket)
        for ticket, proposal in self.inbox.waiting():
            known = {a.ticket for a in self.ledger.attempts.values()} | {r.get("ticket") for r in self.ledger.refusals}
            if ticket not in known:
                self._accept(proposal, ticket=ticket)
            return self.inbox.drop(ticket)
        if self.inbox_only:
            self.closing = "every proposal in the inbox is decided"
            return None
        if self._thought is None:
            history = self.history()
            self._thought = self._thread.submit(self.proposer.propose, history, self.purse)
        if not self._thought.done():
            return None
        thought, self._thought = self._thought, None
        try:
            proposal = thought.result()
        except ProposerError as error:
            return self._refuse(getattr(error, "title", ""), str(error), self.proposer.name)
        if proposal is None:
            self.closing = f"{self.proposer.name} has nothing left to propose"
            return None
        return self._accept(proposal)

    def _accept(self, proposal: Proposal, again: int | None = None, ticket: str = "") -> None:
        """Proposal -> commit, or a refusal with a reason that is fed back."""
        parent = self.ledger.attempts[self.state.incumbent]
        try:
            source = proposal.source if proposal.source is not None else apply_edits(parent.source, proposal.edits)
            if why := vet(source, {a.key for a in self.ledger.attempts.values()}):
                raise ProposerError(why)
        except (EditMiss, ProposerError) as error:
            return self._refuse(proposal.title, str(error), proposal.proposer, again=again, ticket=ticket)
        n = max(self.ledger.attempts) + 1
        self._record(
            "attempt", n=n, parent=parent.n, source=source, title=proposal.title or f"experiment {n}", hypothesis=proposal.hypothesis,
            expected_effect=proposal.expected_effect, proposer=proposal.proposer, params=[list(p) for p in proposal.params],
            edits=to_json(proposal.edits), key=ast_key(source), nodes=ast_nodes(source), cost_usd=proposal.cost_usd, ticket=ticket, again=again,
        )  # fmt: skip
        self._pin(self.ledger.attempts[n])
        self.screen.say(f"experiment {n}: {self.ledger.attempts[n].title}")
        return None

    def _refuse(self, title: str, reason: str, proposer: str, again: int | None = None, ticket: str = "") -> None:
        self._record("refused", title=title, reason=reason, proposer=proposer, again=again, ticket=ticket)
        self.screen.say(f"refused before a run: {title or 'a proposal'} ({reason.splitlines()[0]})")
        if self._refused_in_a_row() >= self.bounds.refusals:
            raise Paused(f"{self.bounds.refusals} proposals in a row could not be used, the last because: {reason.splitlines()[0]}")

    def _refused_in_a_row(self) -> int:
        last = max((e["seq"] for e in self.session.journal.of("attempt")), default=0)
        return sum(1 for r in self.ledger.refusals if r["seq"] > last)

    def history(self) -> History:
        """What a researcher sees now."""
        s = self.settings
        last = max((e["seq"] for e in self.session.journal.of("attempt")), default=0)
        program = self.session.root / "program.md"
        return History(
            env_id=s.env_id, time_budget=s.time_budget, num_eval_episodes=s.num_eval_episodes, machine=f"{self.ledger.hardware}{', GPU ' + s.gpu if s.gpu else ''}",
            program=program.read_text(encoding="utf-8") if program.is_file() else "", train_source=self.ledger.attempts[self.state.incumbent].source,
            incumbent=self.state.incumbent, rows=self.ledger.rows(decided_only=False), refusals=tuple((r["title"], r["reason"]) for r in self.ledger.refusals if r["seq"] > last),
            solved_at=self.session.extras.get("solved_at"), experiment=lambda n: experiment(self.session.root, self.ledger, n), source_of=lambda n: self.ledger.attempts[n].source,
            vet=lambda source: vet(source, {a.key for a in self.ledger.attempts.values()}), params={a.n: a.params for a in self.ledger.attempts.values()},
            seed=self.ledger.session["root_seed"],
        )  # fmt: skip

    def _pin(self, attempt: Attempt) -> None:
        """The commit that follows from an attempt, reachable for ever; made again from the journal if a kill came between."""
        if attempt.commit:
            return
        if attempt.n == 0:
            commit = self.ledger.session["base"]
        else:
            message = attempt.title + "".join(f"\n\n{text}" for text in (attempt.hypothesis, attempt.expected_effect) if text)
            parent = self.ledger.attempts[attempt.parent or 0]
            commit = self.workspace.commit(attempt.source, parent.commit, message, when=attempt.at)
        self.workspace.pin(self.session.tag, attempt.n, commit)
        self._record("pinned", n=attempt.n, commit=commit)

    # -- runs --------------------------------------------------------------------------------------------------------

    def _job(self, n: int, seed: int, kind: str, cores: tuple[int, ...]) -> Job:
        s = self.settings
        return Job(
            self.ledger.attempts[n].source,
            s.env_id,
            seed,
            s.time_budget,
            s.num_eval_episodes,
            cores,
            len(cores),
            s.gpu,
            s.sandbox,
            kind=kind,
        )  # type: ignore[arg-type]

    def _free_cores(self) -> tuple[int, ...]:
        used = {f.cores for f in self.flying.values()}
        return next((g for g in self.groups if g not in used), ())

    def _start(self, n: int, purpose: str, kind: str, index: int, want: decision.Want | None) -> None:
        ends = [r for r in self.ledger.runs.values() if r.record is not None]
        if len(ends) >= MAX_REPEATS and all(
            r.record and r.record.status == "interrupted" and r.record.rule != "lost" and r.attempt == n for r in ends[-MAX_REPEATS:]
        ):
            reason = ends[-1].record.reason if ends[-1].record else ""
            raise Paused(
                f"Experiment {n} was interrupted {MAX_REPEATS} times in a row by something outside of it ({reason}): see to that, then start again."
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
        handle = self.runner.start(self._job(n, run.seed, kind, cores), folder)
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
        if not steady:
            self.screen.say(f"run {run.run} is repeated: {why}")
        if run.kind != "measure" and record.status != "interrupted":
            passed, reason = control_passed(run.kind, record, self.ledger.band)
            self._record("control", attempt=run.attempt, kind=run.kind, passed=passed, reason=reason)
        elif record.status != "ok":
            self.screen.say(f"run {run.run} of experiment {run.attempt}: {record.status}, {record.reason}")

    def _want_of(self, run: Run) -> decision.Want | None:
        if run.purpose.startswith("confirm"):
            return None
        return decision.Measure(run.attempt, run.purpose) if run.kind == "measure" else decision.Control(run.attempt, run.kind)  # type: ignore[arg-type]

    # -- verdicts ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Verdict -> journal -> branch -> note; each step is made again if a kill came between."""
        while len(self.ledger.verdicts) < len(self.due):
            verdict = self.due[len(self.ledger.verdicts)]
            self._record("verdict", verdict=to_json(verdict))
            attempt = self.ledger.attempts[verdict.attempt]
            self.screen.say(f"{verdict.outcome.upper():>10}  {attempt.title}: {verdict.reason}")
            if verdict.outcome in ("baseline", "keep", "certified"):
                self.workspace.note(attempt.commit, json.dumps(to_json(verdict), indent=1, ensure_ascii=False))
        tip = self.ledger.attempts[self.state.incumbent].commit if self.due else ""
        if tip and tip != self.ledger.tip:
            self.workspace.move_branch(self.session.tag, tip, self.ledger.tip or None)
            self._record("moved", commit=tip, old=self.ledger.tip)

    def _views(self, final: bool = False) -> None:
        """results.tsv at once, the picture now and then; both follow from the journal."""
        if not self._stale_views and not final:
            return
        rows = self.ledger.rows()
        atomic_write(self.session.folder / "results.tsv", report.results_tsv(rows).encode())
        self._stale_views = False
        if final or time.monotonic() - self._pictured > PICTURE_SECONDS:
            self._pictured = time.monotonic()
            picture = report.progress_png(rows, self.settings.env_id, solved_at=self.session.extras.get("solved_at"))
            atomic_write(self.session.folder / "progress.png", picture)

    def _show(self) -> None:
        shown = [
            (f"run {f.run.run}, experiment {f.run.attempt} ({f.run.purpose})", self.runner.progress(f.handle)) for f in self.flying.values()
        ]
        self.screen.progress(shown, f"{self.proposer.name} is thinking" if self._thought else "")

    # -- the end -----------------------------------------------------------------------------------------------------

    def _halt(self) -> int:
        self._cancel_all(self.stopping)
        self._settle()
        self._record("closed", why=self.stopping)
        self.screen.say(
            f"Stopped ({self.stopping}); the branch stands at the best commit. Resume with: uv run python agent_loop.py run --tag {self.session.tag}"
        )
        return 130

    def _cancel_all(self, why: str) -> None:
        for flight in list(self.flying.values()):
            record = self.runner.poll(flight.handle)
            if record is None and self.runner.name == "modal" and not self.stopping:
                continue  # goes on without us and is fetched by its handle on resume
            self.runner.cancel(flight.handle)
            self._end(flight.run, record or RunRecord(status="interrupted", rule="stopped", reason=f"Stopped: {why}."))
        self.flying.clear()

    # -- the claim ---------------------------------------------------------------------------------------------------

    def _confirm_wanted(self) -> bool:
        """Fresh-seed runs of baseline and champion are due: something was kept since the last claim."""
        if not self.bounds.confirm_runs or self.state.incumbent == 0:
            return False
        if self.confirm_only:
            return len(self.session.journal.of("claim")) == self._claims_before
        return not (self.ledger.claim and self.ledger.claim["champion"] == self.state.incumbent)

    def _start_confirmation(self) -> None:
        """One more run of whichever arm has fewer; when both are full, the claim."""
        round_ = sum(1 for _ in self.session.journal.of("claim"))
        champion, want = self.state.incumbent, self.bounds.confirm_runs
        arms: dict[int, list[Run]] = {0: [], champion: []}
        for r in self.ledger.runs.values():
            if r.purpose == f"confirm {round_}" and r.attempt in arms and (r.record is None or r.counted):
                arms[r.attempt].append(r)
        while (
            len(self.flying) < max(1, self.runner.places)
            and (n := min(arms, key=lambda a: (len(arms[a]), a))) is not None
            and len(arms[n]) < want
        ):
            self._start(n, f"confirm {round_}", "measure", self.ledger.next_seed_index(CONFIRM_SEEDS), None)
            arms[n].append(self.ledger.runs[max(self.ledger.runs)])
        if not self.flying and all(len(runs) >= want for runs in arms.values()):
            self._claim(arms[0], arms[champion], champion)

    def _claim(self, base: list[Run], champ: list[Run], champion: int) -> None:
        def scores(runs: list[Run]) -> list[float | None]:
            return [r.record.avg_return if r.record and r.record.scored else None for r in runs]

        claim = {
            "champion": champion,
            "title": self.ledger.attempts[champion].title,
            "commits": {"baseline": self.ledger.attempts[0].commit, "champion": self.ledger.attempts[champion].commit},
            "env_id": self.settings.env_id,
            "time_budget": self.settings.time_budget,
            "num_eval_episodes": self.settings.num_eval_episodes,
            "claim": to_json(evidence.claim(scores(base), scores(champ))),
            "runs": [
                {"arm": arm, "run": r.run, "seed": r.seed, "avg_return": s, "eval_seeds": list(r.record.eval_seeds) if r.record else [], "returns": list(r.record.returns) if r.record else [],
                 "status": r.record.status if r.record else "", "reason": r.record.reason if r.record else "", "isolation": r.record.isolation if r.record else ""}
                for arm, runs in (("baseline", base), ("champion", champ)) for r, s in zip(runs, scores(runs), strict=True)
            ],
            "versions": next((r.record.versions for r in champ if r.record), {}),
            "hardware": self.ledger.hardware,
        }  # fmt: skip
        self._record("claim", claim=claim)
        atomic_write(self.session.folder / "evidence.json", json.dumps(claim, indent=1, ensure_ascii=False).encode())
        self.screen.say(str(claim["claim"].get("sentence", "")))
