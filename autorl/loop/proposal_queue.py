"""Where ideas come in: superseded ones again, a person's from the inbox, the researcher's; accepted
or refused.

`ProposalQueue.take()` never blocks: the researcher thinks in a thread of its own. With several
places it is asked for as many ideas at once as are short: those for free places, those for the
places that fall free while it thinks, and one to be ready. Whatever is accepted is in the log
before its commit exists, and the commit follows from the log. What it does not do: decide when an
idea is wanted, or keep ideas that are ready over a restart.
"""

import contextlib
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import replace

from autorl.errors import EditMiss, Paused, ProposerError
from autorl.interfaces import Budget, Console, Proposer
from autorl.records import Edit, History, Proposal
from autorl.session import Attempt, Bounds, Session
from autorl.session.events import Attempted, Lesson, Pinned, Refused
from autorl.session.experiment import experiment
from autorl.session.inbox import Inbox
from autorl.source.checks import look
from autorl.source.edits import apply_edits, edits_between

MAX_IDEAS = 8  # asked of one conversation


class ProposalQueue:
    """The ideas of one session.

    Args:
        proposer: None: only what `try` left in the inbox counts.
        bounds: of it, unusable proposals in a row before a pause, and experiments.
        places: how many runs go on at once; with one, no idea is thought of before its turn.
    """

    def __init__(
        self,
        session: Session,
        proposer: Proposer | None,
        budget: Budget,
        console: Console,
        bounds: Bounds,
        places: int = 1,
    ):
        self.session, self.proposer, self.budget, self.console = session, proposer, budget, console
        self.bounds, self.places = bounds, places
        self.inbox = Inbox(session.folder / "inbox")
        self.exhausted = ""  # why there was nothing more to come when it was last asked
        self._ready: deque[Proposal] = deque()
        self._base = 0  # the incumbent that the thought is about
        self._thought: Future[Proposal | tuple[Proposal, ...] | None] | None = None
        self._seconds = 0.0  # that the last thought took
        self._nothing_left = False  # the researcher said so
        self._stopped = False

    @property
    def thinking(self) -> str:
        """That the researcher thinks, in words; "" when it does not."""
        busy = self._thought is not None and not self._thought.done()
        return f"{self.proposer.name} is thinking" if busy and self.proposer else ""

    def stop(self) -> None:
        """Tell the researcher that the loop is ending; called in signal handlers, so no lock."""
        self._stopped = True

    def nothing_more(self) -> str:
        """Why no idea is left; "" while there is one, or one may come."""
        if self.proposer is None:  # whatever was said before: a person leaves one at any time
            empty = not self.inbox.waiting()
            self.exhausted = "every proposal in the inbox is decided" if empty else ""
        return self.exhausted

    def take(self, free: int = 1) -> bool:
        """Take in one idea if there is one now; True when something was accepted or refused.

        Args:
            free: places that wait for an idea.
        """
        state = self.session.state
        if waiting := state.waiting_retries(self.session.decision.rules.merged):
            self._retry(waiting)
            return True
        tickets = {a.ticket for a in state.attempts.values()} | {r.ticket for r in state.refusals}
        tickets |= state.cancelled
        for ticket, proposal in self.inbox.waiting():
            if ticket not in tickets:
                with contextlib.suppress(EditMiss):  # measured as it is
                    proposal = self._on_incumbent(proposal)
                self._accept(proposal, ticket=ticket)
            self.inbox.drop(ticket)
            return True
        if self.proposer is None:
            return False
        if self._collect():
            return True
        taken = self._accept_ready()
        if self._nothing_left and not (taken or self._ready):
            self.exhausted = f"{self.proposer.name} has nothing left to propose"
        elif self._thought is None and (short := self._short(free - taken)) > 0:
            self._think(short)
        return taken

    def _short(self, free: int) -> int:
        """How many ideas to ask for now."""
        target = free
        if self.places > 1:  # runs end while it thinks, about so many; and one is to be ready
            share = min(1.0, self._seconds / self.session.settings.time_budget)
            target += round(self.places * share) + 1
        if self.bounds.experiments is not None:
            target = min(target, self.bounds.experiments - self.session.state.tried)
        return min(target - len(self._ready), MAX_IDEAS)

    def _retry(self, waiting: list[Attempt]) -> None:
        """Superseded ideas on top of the incumbent, as many as fit together, or one as it is."""
        attempts, first = self.session.state.attempts, waiting[0]
        source = attempts[self.session.decision.incumbent].source
        made: list[Attempt] = []
        edits: list[Edit] = []
        whole: str | None = None
        for old in waiting:
            own = old.edits or edits_between(attempts[old.parent or 0].source, old.source)
            try:
                source = apply_edits(source, own)
            except EditMiss:
                if old is not first:
                    continue
                # it does not fit on top of what superseded it: it is weighed against that as it is,
                # once; after that it is refused, with the reason
                made, edits, whole = [old], [], old.source
                if old.retry_of:
                    edits, whole = list(own), None
                break
            if made and look(source).why:
                break
            made.append(old)
            edits += own
        joined = Proposal(
            " + ".join(a.title for a in made),
            "\n".join(a.hypothesis for a in made if a.hypothesis),
            "\n".join(a.expected_effect for a in made if a.expected_effect),
            tuple(edits),
            source=whole,
            proposer=first.proposer,
        )
        self._accept(joined, tuple(a.n for a in made), first.ticket)

    def _think(self, wanted: int) -> None:
        """Let the researcher think, in a thread that does not keep the program from ending."""
        assert self.proposer is not None
        proposer, began = self.proposer, time.monotonic()
        thought = Future[Proposal | tuple[Proposal, ...] | None]()
        history = replace(self.history(), wanted=wanted)
        self._base, self._thought = self.session.decision.incumbent, thought

        def think() -> None:
            try:
                ideas = proposer.propose(history, self.budget)
                self._seconds = time.monotonic() - began
                thought.set_result(ideas)
            except BaseException as error:  # whatever it is, the loop raises it
                thought.set_exception(error)

        threading.Thread(target=think, name="researcher", daemon=True).start()

    def _collect(self) -> bool:
        """Put what was thought of to the ideas that are ready; True when it was unusable."""
        assert self.proposer is not None
        if self._thought is None or not self._thought.done():
            return False
        if self._ready and isinstance(self._thought.exception(), Paused):
            return False  # what is paid for comes first
        thought, self._thought = self._thought, None
        try:
            ideas = thought.result()
        except ProposerError as error:
            self._refuse(Proposal("", proposer=self.proposer.name), str(error))
            return True
        if not ideas:
            self._nothing_left = True
            return False
        for idea in (ideas,) if isinstance(ideas, Proposal) else ideas:
            if idea.lesson and idea.lesson_of in self.session.state.attempts:
                self.session.record(Lesson(n=idea.lesson_of, text=idea.lesson))
            self._ready.append(replace(idea, base=self._base))
        return False

    def _accept_ready(self) -> bool:
        """Accept, or refuse, the oldest idea that is ready; False without one."""
        while self._ready:
            proposal = self._ready.popleft()
            try:
                proposal = self._on_incumbent(proposal)
            except EditMiss:
                if not proposal.cost_usd:  # a free idea is thought of anew; a paid one refused
                    continue
            self._accept(proposal)
            return True
        return False

    def _on_incumbent(self, idea: Proposal) -> Proposal:
        """An idea that was written on an older incumbent, as edits of today's.

        Raises:
            EditMiss: it does not fit there.
        """
        attempts, incumbent = self.session.state.attempts, self.session.decision.incumbent
        if idea.base in (None, incumbent):
            return idea
        if idea.source is not None:  # a whole file would take the keep back
            edits = edits_between(attempts[idea.base or 0].source, idea.source)
            idea = replace(idea, source=None, edits=edits)
        apply_edits(attempts[incumbent].source, idea.edits)
        return idea

    def _accept(self, proposal: Proposal, retry_of: tuple[int, ...] = (), ticket: str = "") -> None:
        """Proposal -> commit, or a refusal with a reason that is fed back."""
        attempts = self.session.state.attempts
        parent = attempts[self.session.decision.incumbent]
        # neither its own former self nor what was cancelled makes it a duplicate
        live = (a for a in attempts.values() if not a.cancelled)
        known = {a.key for a in live if not retry_of or a.outcome != "superseded"}
        try:
            source = proposal.source
            if source is None:
                source = apply_edits(parent.source, proposal.edits)
            found = look(source, known)
            if found.why:
                raise ProposerError(found.why)
        except (EditMiss, ProposerError) as error:
            self._refuse(proposal, str(error), retry_of, ticket)
            return
        n = max(attempts) + 1
        self.session.record(
            Attempted(
                n=n,
                parent=parent.n,
                source=source,
                title=proposal.title or f"experiment {n}",
                key=found.key,
                hypothesis=proposal.hypothesis,
                expected_effect=proposal.expected_effect,
                proposer=proposal.proposer,
                params=proposal.params,
                edits=proposal.edits,
                cost_usd=proposal.cost_usd,
                ticket=ticket,
                retry_of=retry_of,
            )
        )
        self.pin(attempts[n])
        self.console.say(f"experiment {n}: {attempts[n].title}")

    def _refuse(
        self, proposal: Proposal, reason: str, retry_of: tuple[int, ...] = (), ticket: str = ""
    ) -> None:
        title, first = proposal.title, reason.splitlines()[0].partition(" The nearest")[0]
        who = proposal.proposer
        self.session.record(
            Refused(title=title, reason=reason, proposer=who, ticket=ticket, retry_of=retry_of)
        )
        self.console.say(f"refused before a run: {title or 'a proposal'}: {first}")
        if len(self.session.state.recent_refusals()) >= (most := self.bounds.refusals):
            raise Paused(f"{most} proposals in a row could not be used, the last because: {first}")

    def pin(self, attempt: Attempt) -> None:
        """The commit that follows from an attempt, reachable for ever; making it twice is once."""
        if attempt.commit:
            return
        session = self.session
        commit = session.state.about.base
        if attempt.n:
            texts = (attempt.title, attempt.hypothesis, attempt.expected_effect)
            parent = session.state.attempts[attempt.parent or 0]
            message = "\n\n".join(text for text in texts if text)
            commit = session.repository.commit(
                attempt.source, parent.commit, message, when=attempt.at
            )
        session.repository.pin(session.tag, attempt.n, commit)
        session.record(Pinned(n=attempt.n, commit=commit))

    def history(self) -> History:
        """What a researcher sees now."""
        session, state = self.session, self.session.state
        s, incumbent = session.settings, session.decision.incumbent
        program = session.root / "program.md"
        keys = set[str]()  # of what waits for a place
        for idea in self._ready:
            with contextlib.suppress(EditMiss):
                before = state.attempts[idea.base or 0].source
                source = idea.source or apply_edits(before, idea.edits)
                keys.add(look(source).key)

        def vet(source: str) -> str:
            tried = {a.key for a in tuple(state.attempts.values()) if not a.cancelled}
            return look(source, keys | tried).why

        return History(
            env_id=s.env_id,
            time_budget=s.time_budget,
            num_eval_episodes=s.num_eval_episodes,
            env_kwargs=s.env_kwargs,
            budget_steps=s.budget_steps,
            machine=state.hardware + (f", GPU {s.gpu}" if s.gpu else ""),
            program=program.read_text(encoding="utf-8") if program.is_file() else "",
            train_source=state.attempts[incumbent].source,
            incumbent=incumbent,
            rows=state.rows(decided_only=False),
            refusals=tuple((r.title, r.reason) for r in state.recent_refusals()),
            solved_at=session.solved_at,
            experiment=lambda n: experiment(session.root, state, n),
            source_of=lambda n: state.attempts[n].source,
            vet=vet,
            params={a.n: a.params for a in tuple(state.attempts.values())},
            seed=state.about.root_seed,
            ready=tuple(idea.title for idea in self._ready),
            stopped=lambda: self._stopped,
        )
