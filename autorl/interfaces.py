"""The seams: what the loop asks of a researcher, a place to run, a budget and a console.

Implementations live in their rooms.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from autorl.records import History, Job, Progress, Proposal, RunRecord


class Budget(Protocol):
    """Money: the worst case is reserved before a call and settled from the usage after it."""

    def reserve(self, worst_usd: float, what: str) -> str:
        """Return a ticket. Raises Paused when the limit would be passed."""

    def settle(self, ticket: str, usd: float, usage: Mapping[str, Any]) -> None:
        """Replace the reservation by what it cost.

        A ticket never settled counts at its worst case for ever.
        """

    def note(self, event: str, detail: str) -> None:
        """Journal an outage, a re-ask, a wait: whatever a person may want to know later."""


class Console(Protocol):
    """What a person sees while the loop works."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def progress(self, runs: list[tuple[str, Progress | None]], waiting: str) -> None:
        """What is under way now; called many times a second."""


@runtime_checkable
class Proposer(Protocol):
    """The researcher."""

    name: str

    def propose(self, history: History, budget: Budget) -> Proposal | tuple[Proposal, ...] | None:
        """The next idea, or up to `history.wanted` independent ones, each on the same incumbent;
        None when there is nothing left to propose (a replay's end).

        Raises:
            ProposerError: nothing usable came, and asking again did not help.
            Paused: only a person can go on (no credit, bad key).
        """

    def close(self) -> None:
        """The session is over: let go of connections."""


@runtime_checkable
class Runner(Protocol):
    """Where runs happen. Never blocks: the loop starts, polls, and may be killed in between."""

    places: int  # how many runs at once
    survives_restart: bool  # a run goes on without us, and its handle finds it again
    owns_cores: bool  # runs are on this machine: each place has cores (and a GPU) of its own
    invents_scores: bool  # no environment is stepped: what doing nothing scores tells nothing

    def worst_usd(self, job: Job) -> float:
        """The most one run can cost, to be reserved before it starts; 0 on one's own machine."""

    def start(self, job: Job, folder: Path) -> str:
        """Begin a run whose artefacts go to `folder`; returns a handle."""

    def poll(self, handle: str) -> RunRecord | None:
        """The record when it is done, else None."""

    def progress(self, handle: str) -> Progress | None:
        """A look at it, or None."""

    def attach(self, handle: str, job: Job, folder: Path) -> bool:
        """After a restart: is this run still ours to wait for? False: start it again."""

    def cancel(self, handle: str) -> None:
        """Stop it and leave nothing behind."""

    def close(self) -> None:
        """The session is over: let go of what was held between runs."""
