"""Money, journaled: each call's worst case is reserved before it is made and settled from its usage afterwards.

A ticket that is never settled (the process was killed, a stream was cut) counts at its worst case for ever, so the sum
is never too small. What it does not do: know prices (the proposer does).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from threading import RLock
from typing import Any

from autorl.errors import Paused
from autorl.session.state import Ledger


class JournalPurse:
    """interfaces.Purse on the journal."""

    def __init__(
        self,
        record: Callable[..., Any],
        ledger: Ledger,
        max_usd: float | None,
        mutex: AbstractContextManager[Any] | None = None,
    ):
        self._record, self._ledger, self.max_usd = record, ledger, max_usd
        self._mutex = mutex or RLock()

    def reserve(self, worst_usd: float, what: str, ticket: str = "") -> str:
        with self._mutex:  # the researcher's thread and the loop's reserve side by side
            if not self.covers(worst_usd):
                raise Paused(
                    f"${self._ledger.spent():.2f} are spent and {what} could cost ${worst_usd:.2f}, more than --max-usd {self.max_usd:g} allows: raise it to go on."
                )
            ticket = ticket or f"m{len(self._ledger.money) + 1}"
            self._record("money", ticket=ticket, op="reserve", usd=worst_usd, what=what, usage={})
            return ticket

    def covers(self, worst_usd: float) -> bool:
        """Whether there is money left for this."""
        return self.max_usd is None or self._ledger.spent() + worst_usd <= self.max_usd

    def settle(self, ticket: str, usd: float, usage: Mapping[str, Any]) -> None:
        self._record("money", ticket=ticket, op="settle", usd=usd, what="", usage=dict(usage))

    def note(self, event: str, detail: str) -> None:
        self._record("note", event=event, detail=detail)
