"""Proposals that a person or a coding agent leaves with `agent_loop.py try`: one JSON file each,
oldest first.

The loop looks here before it asks its researcher, so `try` works whether or not a loop is running.
A file is removed once the journal holds its ticket. An empty file `ID.cancel` beside them asks the
loop to take an experiment back. What it does not do: judge a proposal, or start anything.
"""

import json
import os
import time
from pathlib import Path

import numpy as np

from autorl.records import Proposal, from_json, to_json
from autorl.system.faults import effect
from autorl.system.files import atomic_write

EPOCH = 1_767_225_600_000  # 2026 began, in ms: tickets are ms since then, to base 36
CHECK_LOCK = "check.lock"  # beside the journal: `try --check` has the session's cores meanwhile


class Inbox:
    """The folder `inbox/` of a session."""

    def __init__(self, folder: Path):
        self.folder = folder

    def leave(self, proposal: Proposal) -> str:
        """Store a proposal, whole and durable; returns its ticket."""
        number = max(0, time.time_ns() // 1_000_000 - EPOCH)
        while (path := self.folder / f"t{np.base_repr(number, 36).lower()}.json").exists():
            number += 1
        atomic_write(path, json.dumps(to_json(proposal)).encode())
        return path.stem

    def waiting(self) -> list[tuple[str, Proposal]]:
        """(ticket, proposal), oldest first, without what is cancelled."""
        if not self.folder.is_dir():
            return []
        found, cancelled = [], self.cancelled()
        for path in sorted(self.folder.glob("t*.json"), key=lambda p: (len(p.name), p.name)):
            if path.stem in cancelled:
                continue
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                found.append((path.stem, from_json(Proposal, data)))
            except FileNotFoundError:
                continue  # taken meanwhile
            except (ValueError, TypeError):  # torn by a power cut: not lost, and in nobody's way
                os.replace(path, path.with_suffix(".bad"))
        return found

    def drop(self, ticket: str) -> None:
        """Forget a proposal that the journal now holds."""
        effect("file write", lambda: (self.folder / f"{ticket}.json").unlink(missing_ok=True))

    def cancel(self, name: str) -> None:
        """Ask for an experiment, by ticket or number, to be taken back."""
        atomic_write(self.folder / f"{name}.cancel", b"")

    def cancelled(self) -> list[str]:
        """What is asked to be taken back, by ticket or number."""
        return sorted(path.stem for path in self.folder.glob("*.cancel"))

    def forget(self, name: str) -> None:
        """Forget what was asked, once the journal holds it or there is nothing to take back."""
        (self.folder / f"{name}.cancel").unlink(missing_ok=True)
