"""The confirmation: baseline and champion in turn on fresh seeds; then the claim."""

from autorl import decision
from autorl.confirm import arms, make_claim, next_arm
from autorl.interfaces import Console
from autorl.loop.active_runs import ActiveRuns
from autorl.session import Session
from autorl.session.events import Claimed
from autorl.session.state import CONFIRM_SEEDS


class Confirmation:
    """A driver of the loop.

    Args:
        wanted: fresh runs of each arm; 0 = no confirmation.
        again: even if the champion was confirmed with as many runs before.

    Attributes:
        why, exit_code: as of `Research`.
    """

    def __init__(
        self, session: Session, runs: ActiveRuns, console: Console, wanted: int, again: bool = False
    ):
        self.session, self.runs, self.console = session, runs, console
        self.wanted, self.again = wanted, again
        self.why, self.exit_code = "", 0
        self._claims_before = session.state.claims

    def finished(self) -> bool:
        if self.runs.active or self._due():
            return False
        self.why = "the confirmation is done"
        if self.wanted and decision.champion(self.session.decision) == 0:
            self.why = "nothing is likely enough to be better than the baseline to be confirmed"
        return True

    def _due(self) -> bool:
        """Something was kept since the last claim."""
        state, champion = self.session.state, decision.champion(self.session.decision)
        if not self.wanted or champion == 0:
            return False
        if self.again:
            return state.claims == self._claims_before
        known = state.claim
        if not known or known["champion"] != champion:
            return True
        return bool(min(known["claim"]["runs"], known["claim"]["runs0"]) < self.wanted)

    def start(self) -> bool:
        """The champion's controls, then runs of the arm that has fewer, then the claim."""
        session, state = self.session, self.session.state
        champion = decision.champion(session.decision)
        active = self.runs.wants
        if controls := decision.controls_owed(session.decision, champion, active):
            if self.runs.room:
                self.runs.start_wanted(controls[0])
            return False
        if active:
            return False
        runs = arms(state, champion)
        arm = next_arm(runs, self.wanted)
        if arm is not None and self.runs.room and self.runs.quiet():
            index = state.next_seed_index(CONFIRM_SEEDS)
            self.runs.start(arm, f"confirm {state.claims}", "measure", index, None)
        elif arm is None and not self.runs.active:
            claim = make_claim(state, champion, runs)
            session.record(Claimed(claim=claim))
            self.console.say(str(claim["claim"]["sentence"]))
        return False
