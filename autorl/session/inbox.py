"""Proposals that a person or a coding agent leaves with `agent_loop.py try`: one JSON file each,
oldest first.

The loop looks here before it asks its researcher, so `try` works whether or not a loop is running.
A file is removed once the journal holds its ticket. What it does not do: judge a proposal, or start
anything.
"""

import json
import os
import secrets
import time
from pathlib import Path

from autorl.records import Proposal, from_json, to_json
from autorl.system.faults import effect
from autorl.system.files import atomic_write


class Inbox:
    """The folder `inbox/` of a session."""

    def __init__(self, folder: Path):
        self.folder = folder

    def leave(self, proposal: Proposal) -> str:
        """Store a proposal, whole and durable; returns its ticket."""
        ticket = f"t{time.time_ns():x}{secrets.token_hex(1)}"
        atomic_write(self.folder / f"{ticket}.json", json.dumps(to_json(proposal)).encode())
        return ticket

    def waiting(self) -> list[tuple[str, Proposal]]:
        """(ticket, proposal), oldest first."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in sorted(self.folder.glob("t*.json")):
            try:
                found.append(
                    (path.stem, from_json(Proposal, json.loads(path.read_text(encoding="utf-8"))))
                )
            except FileNotFoundError:
                continue  # taken meanwhile
            except (ValueError, TypeError):  # torn by a power cut: not lost, and in nobody's way
                os.replace(path, path.with_suffix(".bad"))
        return found

    def drop(self, ticket: str) -> None:
        """Forget a proposal that the journal now holds."""
        effect("file write", lambda: (self.folder / f"{ticket}.json").unlink(missing_ok=True))
