"""Two researchers on one ledger: one changes structure, classical search tunes the constants.

    uv run python agent_loop.py run --proposer claude --hybrid 0.3   # three in ten are search's

Whose turn it is follows from the ledger (rows already proposed by each), so a restarted session
goes on where it was. What it does not do: divide money, or retry a researcher that failed.
"""

import contextlib

from autorl.errors import ProposerError
from autorl.interfaces import Budget, Proposer
from autorl.records import History, Proposal


class HybridProposer:
    """`share` (0 to 1) of the attempts come from `search`, the rest from `structure`."""

    def __init__(self, structure: Proposer, search: Proposer, share: float):
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie in 0..1, got {share}")
        self.structure, self.search, self.share = structure, search, share
        self.name = f"{structure.name}+{search.name}"

    def turn(self, history: History) -> Proposer:
        """Search's turn when its part of all attempts would else fall short of `share`."""
        mine = sum(row.proposer == self.search.name for row in history.rows)
        total = sum(row.proposer in (self.search.name, self.structure.name) for row in history.rows)
        return self.search if mine + 1 <= self.share * (total + 1) + 1e-9 else self.structure

    def close(self) -> None:
        self.structure.close()
        self.search.close()

    def propose(self, history: History, budget: Budget) -> Proposal | tuple[Proposal, ...] | None:
        """The next ideas; search passes its turn on when it has nothing (new) to tune."""
        if self.share == 1:  # nobody is there to pass it on to
            return self.search.propose(history, budget)
        if self.turn(history) is self.search:
            with contextlib.suppress(ProposerError):
                if (proposal := self.search.propose(history, budget)) is not None:
                    return proposal
        return self.structure.propose(history, budget)
