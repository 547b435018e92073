"""Proposals from a file, in order: for tests, demonstrations, a session with another seed.

    uv run python agent_loop.py run --proposer replay --replay ideas.jsonl

The file is a JSON array or one JSON object a line, each a Proposal:

    {"title": "lr x3", "hypothesis": "...", "expected_effect": "...",
     "edits": [{"search": "...", "replace": "..."}]}
    {"title": "whole new file", "source": "...the new train.py..."}

What it does not do: look at results, or remember. Whoever calls says how many rows are already
taken (`consumed`), so a resumed session goes on behind the last one it used. A row whose edits do
not fit the incumbent is spent all the same.
"""

import json
from pathlib import Path
from typing import Any

from autorl.errors import EditMiss, ProposerError, UserError
from autorl.interfaces import Budget
from autorl.records import History, Proposal
from autorl.source.edits import apply_edits, edits_from


class Replay:
    """The rows of `path` from number `consumed` on.

    Raises:
        UserError: the file cannot be read, or a row is no proposal; its number is given.
    """

    name = "replay"

    def __init__(self, path: Path | str, consumed: int = 0):
        self.proposals = read_proposals(Path(path))
        self.consumed = max(0, consumed)

    def close(self) -> None:
        """Nothing is held."""

    def propose(self, history: History, budget: Budget) -> Proposal | None:
        """The next row, None after the last.

        Raises:
            ProposerError: the row's edits do not fit the incumbent's train.py; the row is spent.
        """
        if self.consumed >= len(self.proposals):
            return None
        proposal = self.proposals[self.consumed]
        self.consumed += 1
        if proposal.source is None:
            try:
                apply_edits(history.train_source, proposal.edits)
            except EditMiss as miss:
                raise ProposerError(f"{proposal.title}: {miss}") from miss
        return proposal


def read_proposals(path: Path) -> tuple[Proposal, ...]:
    """Every row of a JSON array or JSON-lines file as a Proposal."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise UserError(f"The proposals in {path} are not JSON: {error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The proposals in {path} cannot be read ({error}); "
            "give a JSON or JSON-lines file in UTF-8."
        ) from error
    proposals = []
    for n, row in enumerate(rows, 1):
        try:
            proposals.append(_proposal(row))
        except (EditMiss, UserError) as error:
            raise UserError(f"{path}, row {n}: {error}") from error
    return tuple(proposals)


def _proposal(row: Any) -> Proposal:
    title = row.get("title") if isinstance(row, dict) else None
    if not isinstance(title, str) or not title.strip():
        raise UserError("a proposal is an object with a title.")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError("it holds characters that are no Unicode text.") from None
    edits, source = row.get("edits"), row.get("source")
    if (source is None) == (not edits):
        raise UserError("a proposal has either edits or source.")
    if source is not None and not isinstance(source, str):
        raise UserError("source is the text of the whole new train.py.")
    return Proposal(
        title=" ".join(title.split()),
        hypothesis=str(row.get("hypothesis", "")),
        expected_effect=str(row.get("expected_effect", "")),
        edits=edits_from(edits) if edits else (),
        source=source,
        proposer="replay",
    )
