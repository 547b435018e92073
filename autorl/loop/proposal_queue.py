"""Where ideas come in: superseded ones again, a person's from the inbox, the researcher's; accepted or refused.

`Desk.next(state)` never blocks: the researcher thinks in a thread of its own. Whatever is accepted is in the journal
before its commit exists, and the commit follows from the journal. What it does not do: decide when an idea is wanted.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from autorl import decision
from autorl.errors import EditMiss, Paused, ProposerError
from autorl.interfaces import Proposer, Purse
from autorl.records import History, Proposal, to_json
from autorl.session.experiment import experiment
from autorl.session.inbox import Inbox
from autorl.session.session import Session
from autorl.session.state import Attempt
from autorl.source.checks import ast_key, ast_nodes, vet
from autorl.source.edits import apply_edits, edits_between


class Desk:
    """The researcher's side of one sitting.

    Args:
        record: journals an event.   say: tells the person.   refusals: unusable proposals in a row before a pause.
        inbox_only: there is no researcher; only what `try` left counts.
    """

    def __init__(
        self,
        session: Session,
        proposer: Proposer,
        purse: Purse,
        record: Callable[..., Any],
        say: Callable[[str], None],
        refusals: int,
        inbox_only: bool = False,
        ahead: bool = False,
    ):
        self.session, self.ledger, self.proposer, self.purse = (
            session,
            session.ledger,
            proposer,
            purse,
        )
        self.record, self.say, self.refusals, self.inbox_only, self.ahead = (
            record,
            say,
            refusals,
            inbox_only,
            ahead,
        )
        self.inbox = Inbox(session.folder / "inbox")
        self.exhausted = ""  # why there is nothing more to come
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="researcher")
        self._base = 0  # the incumbent that the thought is about
        self._thought: Future[Proposal | None] | None = None

    @property
    def thinking(self) -> bool:
        return self._thought is not None and not self._thought.done()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def next(self, state: decision.State) -> bool:
        """Take in one idea if there is one now; True when something was accepted or refused."""
        if (old := self.owed()) is not None:
            edits = old.edits or edits_between(
                self.ledger.attempts[old.parent or 0].source, old.source
            )
            again = Proposal(
                old.title, old.hypothesis, old.expected_effect, edits, proposer=old.proposer
            )
            self._accept(state, again, again=old.n, ticket=old.ticket)
            return True
        tickets = {a.ticket for a in self.ledger.attempts.values()} | {
            r.get("ticket") for r in self.ledger.refusals
        }
        for ticket, proposal in self.inbox.waiting():
            if ticket not in tickets:
                self._accept(state, proposal, ticket=ticket)
            self.inbox.drop(ticket)
            return True
        if self.inbox_only:
            self.exhausted = "every proposal in the inbox is decided"
            return False
        if self._thought is None:
            self._think(state)
        return self._take(state)

    def owed(self) -> Attempt | None:
        """A superseded idea that has not had its second attempt, on top of what superseded it."""
        taken = {a.again for a in self.ledger.attempts.values()} | {
            r.get("again") for r in self.ledger.refusals
        }
        return next(
            (
                a
                for a in self.ledger.attempts.values()
                if a.state == "superseded" and a.n not in taken
            ),
            None,
        )

    def _think(self, state: decision.State) -> None:
        history, self._base = self.history(state), state.incumbent
        self._thought = self._thread.submit(self.proposer.propose, history, self.purse)

    def _take(self, state: decision.State) -> bool:
        if self._thought is None or not self._thought.done():
            return False
        thought, self._thought = self._thought, None
        try:
            proposal = thought.result()
        except ProposerError as error:
            self._refuse("", str(error), self.proposer.name)
            return True
        if proposal is None:
            self.exhausted = f"{self.proposer.name} has nothing left to propose"
            return False
        if (
            proposal.source is not None and self._base != state.incumbent
        ):  # a whole file would take back what was kept meanwhile
            edits = edits_between(self.ledger.attempts[self._base].source, proposal.source)
            proposal = replace(proposal, source=None, edits=edits)
        self._accept(state, proposal)
        if self.ahead:
            self._think(state)  # the next idea is ready before a place is free
        return True

    def _accept(
        self, state: decision.State, proposal: Proposal, again: int | None = None, ticket: str = ""
    ) -> None:
        """Proposal -> commit, or a refusal with a reason that is fed back."""
        parent = self.ledger.attempts[state.incumbent]
        try:
            source = (
                proposal.source
                if proposal.source is not None
                else apply_edits(parent.source, proposal.edits)
            )
            known = {
                a.key
                for a in self.ledger.attempts.values()
                if again is None or a.state != "superseded"
            }  # its own former self is no twin
            if why := vet(source, known):
                raise ProposerError(why)
        except (EditMiss, ProposerError) as error:
            self._refuse(proposal.title, str(error), proposal.proposer, again=again, ticket=ticket)
            return
        n = max(self.ledger.attempts) + 1
        self.record(
            "attempt",
            n=n,
            parent=parent.n,
            source=source,
            title=proposal.title or f"experiment {n}",
            hypothesis=proposal.hypothesis,
            expected_effect=proposal.expected_effect,
            proposer=proposal.proposer,
            params=[list(p) for p in proposal.params],
            edits=to_json(proposal.edits),
            key=ast_key(source),
            nodes=ast_nodes(source),
            cost_usd=proposal.cost_usd,
            ticket=ticket,
            again=again,
        )
        self.pin(self.ledger.attempts[n])
        self.say(f"experiment {n}: {self.ledger.attempts[n].title}")

    def _refuse(
        self, title: str, reason: str, proposer: str, again: int | None = None, ticket: str = ""
    ) -> None:
        self.record(
            "refused", title=title, reason=reason, proposer=proposer, again=again, ticket=ticket
        )
        self.say(f"refused before a run: {title or 'a proposal'} ({reason.splitlines()[0]})")
        if len(self._recent_refusals()) >= self.refusals:
            raise Paused(
                f"{self.refusals} proposals in a row could not be used, the last because: {reason.splitlines()[0]}"
            )

    def _recent_refusals(self) -> list[dict[str, Any]]:
        """Since the last attempt or the start of this sitting."""
        last = max(
            (e["seq"] for kind in ("attempt", "opened") for e in self.session.journal.of(kind)),
            default=0,
        )
        return [r for r in self.ledger.refusals if r["seq"] > last]

    def pin(self, attempt: Attempt) -> None:
        """The commit that follows from an attempt, reachable for ever; made again from the journal if a kill came between."""
        if attempt.commit:
            return
        workspace = self.session.workspace
        if attempt.n == 0:
            commit = self.ledger.session["base"]
        else:
            message = attempt.title + "".join(
                f"\n\n{text}" for text in (attempt.hypothesis, attempt.expected_effect) if text
            )
            parent = self.ledger.attempts[attempt.parent or 0]
            commit = workspace.commit(attempt.source, parent.commit, message, when=attempt.at)
        workspace.pin(self.session.tag, attempt.n, commit)
        self.record("pinned", n=attempt.n, commit=commit)

    def history(self, state: decision.State) -> History:
        """What a researcher sees now."""
        s, ledger = self.session.settings, self.ledger
        program = self.session.root / "program.md"
        return History(
            env_id=s.env_id,
            time_budget=s.time_budget,
            num_eval_episodes=s.num_eval_episodes,
            machine=ledger.hardware + (f", GPU {s.gpu}" if s.gpu else ""),
            program=program.read_text(encoding="utf-8") if program.is_file() else "",
            train_source=ledger.attempts[state.incumbent].source,
            incumbent=state.incumbent,
            rows=ledger.rows(decided_only=False),
            refusals=tuple((r["title"], r["reason"]) for r in self._recent_refusals()),
            solved_at=self.session.extras.get("solved_at"),
            experiment=lambda n: experiment(self.session.root, ledger, n),
            source_of=lambda n: ledger.attempts[n].source,
            vet=lambda source: vet(source, {a.key for a in tuple(ledger.attempts.values())}),
            params={a.n: a.params for a in tuple(ledger.attempts.values())},
            seed=ledger.session["root_seed"],
        )
