"""Money, journaled: each call's worst case is reserved before it is made and settled from its usage
afterwards.

A ticket that is never settled (the process was killed, a stream was cut) counts at its worst case
for ever, so the sum is never too small. What it does not do: know prices (the proposer and the
runner do).
"""

from collections.abc import Mapping
from typing import Any

from autorl.errors import Paused
from autorl.session import Session
from autorl.session.events import Money, Note


class SpendLimit:
    """interfaces.Budget on a session: at most `max_usd` dollars in all; None is no limit."""

    def __init__(self, session: Session, max_usd: float | None = None):
        self.session, self.max_usd = session, max_usd

    def reserve(self, worst_usd: float, what: str, ticket: str = "") -> str:
        with self.session.mutex:  # the researcher's thread and the loop's reserve side by side
            state = self.session.state
            if not self.covers(worst_usd):
                raise Paused(
                    f"${state.spent():.2f} are spent and {what} could cost ${worst_usd:.2f}, more "
                    "than --max-usd"
                    f" {self.max_usd:g} allows: raise it to go on."
                )
            ticket = ticket or f"m{len(state.money) + 1}"
            self.session.record(Money(ticket=ticket, op="reserve", usd=worst_usd, what=what))
            return ticket

    def covers(self, worst_usd: float) -> bool:
        """Whether there is money left for this."""
        return self.max_usd is None or self.session.state.spent() + worst_usd <= self.max_usd

    def settle(self, ticket: str, usd: float, usage: Mapping[str, Any]) -> None:
        self.session.record(Money(ticket=ticket, op="settle", usd=usd, usage=dict(usage)))

    def note(self, event: str, detail: str) -> None:
        self.session.record(Note(event=event, detail=detail))
