"""Proposals from a file, in order: for tests, demonstrations, and repeating a night with another seed.

    uv run python agent_loop.py run --proposer replay --replay ideas.jsonl

The file is a JSON array or one JSON object a line, each a Proposal:

    {"title": "lr x3", "hypothesis": "...", "expected_effect": "...", "edits": [{"search": "...", "replace": "..."}]}
    {"title": "whole new file", "source": "...the new train.py..."}

What it does not do: look at results, or remember. Whoever calls says how many rows are already taken (`consumed`), so a
resumed session goes on behind the last one it used. A row whose edits do not fit the incumbent is spent all the same.
"""

import json
from pathlib import Path
from typing import Any

from autorl.errors import EditMiss, ProposerError, UserError
from autorl.interfaces import Budget
from autorl.records import Edit, History, Proposal
from autorl.source.edits import apply_edits


class Replay:
    """The rows of `path` from number `consumed` on.

    Raises:
        UserError: the file cannot be read, or a row is not a proposal; said at the start, with its number.
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
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The proposals in {path} cannot be read ({error}); give a JSON or JSON-lines file in UTF-8."
        ) from error
    try:
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.split("\n") if line.strip()]
        )
    except json.JSONDecodeError as error:
        raise UserError(f"The proposals in {path} are not JSON: {error}.") from error
    return tuple(_proposal(row, f"{path}, row {number}") for number, row in enumerate(rows, 1))


def _proposal(row: Any, where: str) -> Proposal:
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("title"), str)
        or not row["title"].strip()
    ):
        raise UserError(f"{where}: a proposal is an object with a title.")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: it holds characters that are no Unicode text.") from None
    edits, source = row.get("edits", []), row.get("source")
    if (source is None) == (not edits):
        raise UserError(f"{where}: a proposal has either edits or source.")
    if source is not None and not isinstance(source, str):
        raise UserError(f"{where}: source is the text of the whole new train.py.")
    if not isinstance(edits, list) or not all(
        isinstance(e, dict)
        and isinstance(e.get("search"), str)
        and isinstance(e.get("replace"), str)
        for e in edits
    ):
        raise UserError(f"{where}: each edit is an object with the strings search and replace.")
    return Proposal(
        title=" ".join(row["title"].split()),
        hypothesis=str(row.get("hypothesis", "")),
        expected_effect=str(row.get("expected_effect", "")),
        edits=tuple(Edit(e["search"], e["replace"]) for e in edits),
        source=source,
        proposer="replay",
    )
