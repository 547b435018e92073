"""The search: candidates and their runs as decision/ wants them, within the bounds a person set."""

import math
import time

from autorl import decision
from autorl.loop.active_runs import ActiveRuns
from autorl.loop.proposal_queue import ProposalQueue
from autorl.session import Bounds, Session


def longest_run(session: Session) -> float:
    """Seconds that one more run may take."""
    ends = [r.record.total_seconds or 0.0 for r in session.state.runs.values() if r.record]
    return max(ends, default=session.settings.time_budget * 1.1)


class Research:
    """A driver of the loop.

    Attributes:
        why: why it ended; "" while it goes on.
        exit_code: 0 done, 1 when no claim can follow or the ideas were at fault.
    """

    def __init__(self, session: Session, runs: ActiveRuns, queue: ProposalQueue, bounds: Bounds):
        self.session, self.runs, self.queue, self.bounds = session, runs, queue, bounds
        self.why, self.exit_code = "", 0
        self._began = time.monotonic()

    def finished(self) -> bool:
        """True when nothing is left to do."""
        if self.runs.active or self._wants():
            return False
        state = self.session.decision
        if state.stop:
            self.why = state.stop
            self.exit_code = 0 if state.saturated and not state.broken else 1
        self.why = self.why or "nothing is left to do"
        return True

    def start(self) -> bool:
        """Fill the free places; True when there is more to ask for at once."""
        wants = self._wants()
        for want in wants:
            if isinstance(want, decision.Propose):  # the last ones, where there are any
                free = sum(isinstance(other, decision.Propose) for other in wants)
                return self.queue.take(free)  # something became known: ask again what is wanted
            if self.runs.room and (isinstance(want, decision.Control) or self.runs.quiet()):
                self.runs.start_wanted(want)
        return False

    def _wants(self) -> tuple[decision.Want, ...]:
        """What decision/ asks for, without new candidates once the bounds are reached."""
        wants = decision.wants(self.session.decision, self.runs.places, self.runs.wants)
        if wants and self._time_is_up():
            return ()  # what is under way may land; then only the claim
        if any(isinstance(want, decision.Propose) for want in wants) and self._exhausted():
            return tuple(want for want in wants if not isinstance(want, decision.Propose))
        return wants

    def _exhausted(self) -> bool:
        """No further candidates."""
        state = self.session.state
        if state.waiting_retries(1):  # counted as one experiment with its second attempt
            return False
        why, count = self.queue.nothing_more(), self.bounds.experiments
        if not why and count is not None and state.tried >= count:
            why = f"{count} experiment{' is' if count == 1 else 's are'} done"
        self.why = self.why or why
        return bool(why)

    def _time_is_up(self) -> bool:
        """One more run and the confirmation would go beyond the hours given."""
        if self.bounds.hours is None:
            return False
        one = longest_run(self.session)
        need = one * (1 + math.ceil(2 * self.bounds.confirm_runs / self.runs.places))
        left = self.bounds.hours * 3600 - (time.monotonic() - self._began)
        if need > left:
            minutes = self.bounds.hours * 60
            given = f"{self.bounds.hours:g} hours" if minutes >= 60 else f"{minutes:.0f} minutes"
            nearly = (
                f"{given} are nearly up: a run and the confirmation take {need / 60:.1f} minutes, "
                f"and {left / 60:.1f} are left"
            )
            self.why = self.why or (f"{given} are up" if left <= one else nearly)
        return need > left
