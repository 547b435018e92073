"""The processes of one session under a scripted researcher: started, watched, stopped, checked.

Used by soak.py, which sets the path.
"""

import ast
import contextlib
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api_server import KEY, ApiServer, Message, propose
from forge import Forge, Process
from ground import Site, script
from researching import hand_price

SCRIPT = re.compile(r"^SCRIPT = .*$", re.MULTILINE)
PATIENCE = 90.0  # seconds that a process may take to decide one more experiment


class Tail:
    """The events of a journal as they come, by reading its new lines only."""

    def __init__(self, path: Path):
        self.path, self.at, self.inode, self.count, self.last = path, 0, 0, Counter[str](), ""

    def look(self) -> Counter[str]:
        """How many events of each type there are by now."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self.count
        if found.st_ino != self.inode or found.st_size < self.at:
            self.at, self.inode, self.count = 0, found.st_ino, Counter()
        with open(self.path, "rb") as file:
            file.seek(self.at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.at += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            self.last = event["type"]
            self.count[self.last] += 1
            if event["type"] == "started" and event["purpose"] == "incumbent":
                self.count["incumbent"] += 1
            if event["type"] == "note" and event["event"] == "stale lock":
                self.count["stale lock"] += 1
        return self.count


class Restarted:
    """One session, started again and again: scripted answers, and what must hold after each."""

    def __init__(
        self, folder: Path, seed: int, forge: Forge, server: ApiServer, say: Callable[[str], None]
    ):
        self.rng, self.forge, self.server, self.say = random.Random(seed), forge, server, say
        self.site = Site.new(folder, [], script(0.0))
        self.tail = Tail(self.site.folder / "journal.jsonl")
        self.machine = folder / "machine.json"
        self.trace = folder / "trace"
        self.ends: list[tuple[str, str]] = []  # (end, title) of the next ideas
        self.all_crash = False
        self.number, self.processes, self.kills, self.billed = 0, 0, 0, 0.0

    # -- the researcher ----------------------------------------------------------------------------

    def answer(self, body: dict[str, Any]) -> Message:
        """A little better or worse than the incumbent; some ideas break."""
        line = SCRIPT.findall("\n".join(block["text"] for block in body["messages"][0]["content"]))[
            0
        ]
        idea = ast.literal_eval(line.removeprefix("SCRIPT = "))
        self.number += 1
        end, title = self.ends.pop(0) if self.ends else ("ok", f"idea {self.number}")
        if self.all_crash:
            end = "raise"
        elif end == "ok" and self.rng.random() < 0.06:
            end = self.rng.choice(("raise", "nan", "silent"))
        idea |= {
            "return": round(idea["return"] + self.rng.gauss(-0.3, 1.0), 6) + self.number * 1e-9,
            "end": end,
        }
        return propose(title, line, f"SCRIPT = {idea!r}")

    # -- processes ---------------------------------------------------------------------------------

    def argv(self) -> list[str]:
        argv = self.site.argv("--slots", "2")
        argv[argv.index("--proposer") + 1] = "claude"
        argv[argv.index("--budget") + 1] = "2"  # what hangs is over soon
        at = argv.index("--replay")
        return argv[:at] + argv[at + 2 :]

    def start(self, **env: str) -> Process:
        self.processes += 1
        known = {
            "ANTHROPIC_BASE_URL": self.server.url,
            "ANTHROPIC_API_KEY": KEY,
            "NO_PROXY": "127.0.0.1",
            "AUTORL_SCRIPTED_MACHINE": str(self.machine),
        }
        return self.forge.start(self.site.repo, self.argv(), self.site.env | known | env)

    def until(self, process: Process, what: Callable[[], bool], patience: float = PATIENCE) -> bool:
        """Wait for something while the loop lives."""
        end = time.monotonic() + patience
        while not process.ended.is_set() and time.monotonic() < end:
            if what():
                return True
            time.sleep(0.02)
        return what()

    def more(self, kind: str, count: int = 1) -> Callable[[], bool]:
        wanted = self.tail.look()[kind] + count
        return lambda: self.tail.look()[kind] >= wanted

    def end(self, process: Process, codes: tuple[int, ...], *words: str) -> list[str]:
        """Wait for the end of a process; sentences about an end that is not as it must be (I8)."""
        try:
            rc, _, err = process.wait(60)
        except TimeoutError as error:
            return [f"I8: {error}"]
        breaks = [] if rc in codes else [f"I8: exit code {rc} is none of {codes}: {err[-500:]}"]
        if "Traceback" in err:
            breaks.append(f"I8: a traceback: {err[-1500:]}")
        reasons = [line for line in err.splitlines() if line.startswith("autorl: ")]
        if rc in (2, 3) and len(reasons) != 1:
            breaks.append(f"I8: exit code {rc} with {len(reasons)} reasons: {err[-300:]}")
        breaks += [
            f"I8: the reason does not say {word!r}: {reasons}"
            for word in words
            if rc in (2, 3) and not any(word in r for r in reasons)
        ]
        return breaks

    def stop(self, process: Process, how: int = signal.SIGTERM) -> list[str]:
        if not process.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, how)
        return self.end(process, (130, 0, 1))

    def recover(self) -> list[str]:
        """Start again, decide one more experiment, stop, check everything."""
        breaks = []
        # a session that ended by itself (K crashes in a row) goes on when it is started again
        for _ in range(3):
            more, process = self.more("verdict"), self.start()
            decided = self.until(process, more)
            breaks += self.stop(process)
            if decided or breaks:
                break
        else:
            breaks.append("I8: three processes decided nothing")
        return breaks + self.check()

    def check(self, ended: bool = True) -> list[str]:
        breaks = self.site.broken_invariants(ended)
        self.billed += sum(hand_price(e.usage) for e in self.server.exchanges if e.usage)
        self.server.exchanges.clear()
        self.server.forget()
        spent = self.site.state().spent() if self.tail.look() else 0.0
        if spent < self.billed - 1e-9:
            breaks.append(f"I7: ${spent} in the journal, ${self.billed} billed")
        return breaks
