"""Money, journaled: each call's worst case is reserved before it is made and settled from its usage afterwards.

A ticket that is never settled (the process was killed, a stream was cut) counts at its worst case for ever, so the sum
is never too small. What it does not do: know prices (the proposer does).
"""

from collections.abc import Callable, Mapping
from typing import Any

from autorl.ledger import Ledger
from autorl.records import Paused


class JournalPurse:
    """records.Purse on the journal."""

    def __init__(self, record: Callable[..., Any], ledger: Ledger, max_usd: float | None):
        self._record, self._ledger, self.max_usd = record, ledger, max_usd

    def reserve(self, worst_usd: float, what: str, ticket: str = "") -> str:
        spent = self._ledger.spent()
        if self.max_usd is not None and spent + worst_usd > self.max_usd:
            raise Paused(
                f"${spent:.2f} are spent and {what} could cost ${worst_usd:.2f}, more than --max-usd {self.max_usd:g} allows: raise it to go on."
            )
        ticket = ticket or f"m{len(self._ledger.money) + 1}"
        self._record("money", ticket=ticket, op="reserve", usd=worst_usd, what=what, usage={})
        return ticket

    def settle(self, ticket: str, usd: float, usage: Mapping[str, Any]) -> None:
        self._record("money", ticket=ticket, op="settle", usd=usd, what="", usage=dict(usage))

    def note(self, event: str, detail: str) -> None:
        self._record("note", event=event, detail=detail)
