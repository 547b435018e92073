"""A night of random faults: one real session under a scripted researcher and scripted runs, checked after every fault.

    uv run python benchmarks/soak.py --minutes 60 --seed 1       # prints a table; exit code 1 on any broken invariant

The researcher is the claude one over real HTTP against the scripted server of the tests; runs are the scripted runner's
(real child processes, no training); git, journal, locks, signals and kills are real. After each fault the loop is
started again, must decide at least one more experiment, is stopped, and I1-I8 (tests/faults/ground.py) are checked.
The last tenth of the time is calm: resident memory and open descriptors of one sitting are sampled and their slopes printed.

What it does not do: the faults that need a real judge (22), a second machine (31) or another clock (14): they have
tests of their own.
"""

import argparse
import ast
import contextlib
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests"), str(PROJECT / "tests" / "faults")]

from api_server import KEY, ApiServer, Drop, Message, Status, propose, text, tool  # noqa: E402
from forge import Forge, Process  # noqa: E402
from ground import Site, children_in, git, script  # noqa: E402

SCRIPT = re.compile(r"^SCRIPT = .*$", re.MULTILINE)
SOON = {"retry-after": "0.02"}
MINUTES = 60.0
PATIENCE = 90.0  # seconds that a sitting may take to decide one more experiment
TITLES = (
    "tab\there",
    "two\nlines",
    "line\u2028separator",
    "nul\0byte",
    "emoji 🙂",
    "=1+1",
    "x" * 100_000,
    '"quoted" | ünï',
    "\x1b[31mred",
    "",
)


def usd(usage: dict[str, Any]) -> float:
    """What the server bills a reply, in dollars per million tokens of the default model, from below."""
    split = usage["cache_creation"]
    return (
        float(
            4 * usage["input_tokens"]
            + 20 * usage["output_tokens"]
            + 0.2 * usage["cache_read_input_tokens"]
            + 5 * split["ephemeral_5m_input_tokens"]
        )
        / 1e6
    )


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
            if event["type"] == "run" and not event["steady"]:
                self.count["unsteady"] += 1
            if event["type"] == "note" and event["event"] == "stale lock":
                self.count["stale lock"] += 1
        return self.count


@dataclass
class Fault:
    row: str  # of FAULTS.md
    what: str
    injected: int = 0
    breaks: list[str] = field(default_factory=list)


class Soak:
    """One session and everything that happens to it."""

    def __init__(self, folder: Path, seed: int, forge: Forge, server: ApiServer, say: Callable[[str], None]):
        self.rng, self.forge, self.server, self.say = random.Random(seed), forge, server, say
        self.site = Site.new(folder, [], script(0.0))
        self.tail = Tail(self.site.folder / "journal.jsonl")
        self.machine = folder / "machine.json"
        self.trace = folder / "trace"
        self.ends: list[tuple[str, str]] = []  # (end, title) of the next ideas
        self.all_crash = False
        self.number, self.sittings, self.kills, self.billed = 0, 0, 0, 0.0
        self.faults: dict[str, Fault] = {}

    # -- the researcher ----------------------------------------------------------------------------------------------

    def answer(self, body: dict[str, Any]) -> Message:
        """A little better or worse than the incumbent; some ideas break."""
        line = SCRIPT.findall("\n".join(block["text"] for block in body["messages"][0]["content"]))[0]
        idea = ast.literal_eval(line.removeprefix("SCRIPT = "))
        self.number += 1
        end, title = self.ends.pop(0) if self.ends else ("ok", f"idea {self.number}")
        if self.all_crash:
            end = "raise"
        elif end == "ok" and self.rng.random() < 0.06:
            end = self.rng.choice(("raise", "nan", "silent"))
        idea |= {"return": round(idea["return"] + self.rng.gauss(-0.3, 1.0), 6) + self.number * 1e-9, "end": end}
        return propose(title, line, f"SCRIPT = {idea!r}")

    # -- sittings ----------------------------------------------------------------------------------------------------

    def argv(self) -> list[str]:
        argv = self.site.argv("--slots", "2")
        argv[argv.index("--proposer") + 1] = "claude"
        at = argv.index("--replay")
        return argv[:at] + argv[at + 2 :]

    def start(self, **env: str) -> Process:
        self.sittings += 1
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
        """Wait for the end of a sitting; sentences about an end that is not as it must be (I8)."""
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
            f"I8: the reason does not say {word!r}: {reasons}" for word in words if rc in (2, 3) and not any(word in r for r in reasons)
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
        for _ in range(3):  # a session that ended by itself (K crashes in a row) goes on when it is started again
            process, more = self.start(), self.more("verdict")
            decided = self.until(process, more)
            breaks += self.stop(process)
            if decided or breaks:
                break
        else:
            breaks.append("I8: three sittings decided nothing")
        return breaks + self.check()

    def check(self, ended: bool = True) -> list[str]:
        breaks = self.site.broken_invariants(ended)
        self.billed += sum(usd(e.usage) for e in self.server.exchanges if e.usage)
        self.server.exchanges.clear()
        spent = self.site.ledger().spent() if self.tail.look() else 0.0
        if spent < self.billed - 1e-9:
            breaks.append(f"I7: ${spent} in the journal, ${self.billed} billed")
        return breaks

    # -- faults ------------------------------------------------------------------------------------------------------

    def count(self, row: str, what: str, breaks: list[str]) -> None:
        fault = self.faults.setdefault(row, Fault(row, what))
        fault.injected += 1
        fault.breaks += breaks
        for line in breaks:
            self.say(f"BREAK {row} {what}: {line}")

    def kill_at_an_effect(self) -> tuple[str, str, list[str]]:
        self.trace.unlink(missing_ok=True)
        at = f"{self.rng.randrange(1, 70)}{self.rng.choice(('', ':after'))}"
        process = self.start(AUTORL_KILL_AT=at, AUTORL_EFFECT_TRACE=str(self.trace))
        breaks = self.end(process, (-signal.SIGKILL,))
        self.kills += 1
        last = self.trace.read_text().splitlines()[-1].partition(" ")[2]
        self.tail.look()
        if last == "journal append" and self.tail.last in ("run", "control"):
            return "4", "kill -9 between result and decision", breaks
        rows = {"git object": ("2", "kill -9 between commit and run"), "child start": ("2", "kill -9 between commit and run"),
                "ref move": ("5", "kill -9 at a ref move"), "file write": ("6", "kill -9 at a view")}  # fmt: skip
        return (*rows.get(last, ("1", "kill -9 at effect N")), breaks)

    def kill_while_training(self) -> tuple[str, str, list[str]]:
        self.ends = [("hang", "hangs")]
        process = self.start()
        self.until(process, lambda: bool(children_in(self.site.folder)))
        os.kill(process.pid, signal.SIGKILL)
        self.kills += 1
        self.ends = []
        return "3", "kill -9 while a run is on", self.end(process, (-signal.SIGKILL,))

    def kill_at_any_time(self) -> tuple[str, str, list[str]]:
        process = self.start()
        time.sleep(self.rng.uniform(0.0, 2.0))
        os.kill(process.pid, signal.SIGKILL)
        self.kills += 1
        return "29", "the loop killed at any instant (as for memory)", self.end(process, (-signal.SIGKILL,))

    def kill_a_child(self) -> tuple[str, str, list[str]]:
        process, more = self.start(), self.more("verdict")
        self.ends = [("hang", "hangs until it is killed")]
        if self.until(process, lambda: bool(children_in(self.site.folder)), 10):
            for child in children_in(self.site.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child.split()[0]), signal.SIGKILL)
        breaks = [] if self.until(process, more) else ["I8: nothing was decided after a child was killed"]
        return "29b", "a run killed (as for memory)", breaks + self.stop(process)

    def torn_tail(self) -> tuple[str, str, list[str]]:
        journal = self.site.folder / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        tail = self.rng.choice((lines[-1][: self.rng.randrange(1, len(lines[-1]) - 1)], b"\0" * self.rng.randrange(1, 5000), b"\xff\xfe{"))
        before = len(lines)
        with open(journal, "ab") as file:
            file.write(tail)
        process = self.start()
        breaks = [] if self.until(process, self.more("opened"), 30) else ["I8: it did not open"]
        if journal.read_bytes().splitlines(keepends=True)[:before] != lines:
            breaks.append("row 7: whole lines were lost")
        if not any(copy.read_bytes() == tail for copy in self.site.folder.glob("journal.jsonl.torn-*")):
            breaks.append("row 7: the tail was not kept")
        return "7", "torn tail, NUL tail", breaks + self.stop(process)

    def damaged_line(self) -> tuple[str, str, list[str]]:
        journal = self.site.folder / "journal.jsonl"
        good = journal.read_bytes()
        lines = good.splitlines(keepends=True)
        number = self.rng.randrange(1, len(lines))  # not the last
        line = bytearray(lines[number - 1])
        line[self.rng.randrange(len(line) - 1)] ^= 1 << self.rng.randrange(8)
        bad = b"".join([*lines[: number - 1], bytes(line), *lines[number:]])
        journal.write_bytes(bad)
        breaks = self.end(self.start(), (2,), f"Line {number} of ")
        breaks += [] if journal.read_bytes() == bad else ["row 8: a refused journal was changed"]
        journal.write_bytes(good)
        return "8", "a flipped bit in the middle", breaks

    def newer_journal(self) -> tuple[str, str, list[str]]:
        journal = self.site.folder / "journal.jsonl"
        good = journal.read_bytes()
        journal.write_bytes(good.replace(b'{"v":1,"seq":0,', b'{"v":2,"seq":0,', 1))
        breaks = self.end(self.start(), (2,), "newer autoRL")
        journal.write_bytes(good)
        return "34", "a journal of a newer version", breaks

    def disk_full_once(self) -> tuple[str, str, list[str]]:
        process, more = self.start(AUTORL_FAIL_AT=f"{self.rng.randrange(1, 70)}:ENOSPC"), self.more("verdict", 3)
        breaks = [] if self.until(process, more) else ["row 9: a disk that was full once stopped the loop"]
        return "9", "disk full once", breaks + self.stop(process)

    def disk_full_for_ever(self) -> tuple[str, str, list[str]]:
        process = self.start(AUTORL_FAIL_AT=f"{self.rng.randrange(1, 70)}:ENOSPC:ever")
        return "9b", "disk full for ever", self.end(process, (3,))

    def disk_broken(self) -> tuple[str, str, list[str]]:
        process = self.start(AUTORL_FAIL_AT=f"{self.rng.randrange(1, 70)}:{self.rng.choice(('EIO', 'EROFS'))}:ever")
        return "10", "I/O error, read-only", self.end(process, (3,))

    def stale_lock(self) -> tuple[str, str, list[str]]:
        dot_git = self.site.repo / ".git"
        ours = self.rng.choice(
            (f"refs/heads/autoresearch/{self.site.tag}.lock", f"refs/autorl/{self.site.tag}/99999.lock", "refs/notes/autorl.lock")
        )
        (dot_git / ours).write_text("")
        (dot_git / "refs/heads/main.lock").write_text("")
        process, more = self.start(), self.more("stale lock")
        breaks = [] if self.until(process, more) else ["row 11: no note about a stale lock"]
        breaks += self.stop(process)
        breaks += ["row 11: our stale lock is still there"] if (dot_git / ours).exists() else []
        breaks += [] if (dot_git / "refs/heads/main.lock").exists() else ["row 11: the user's lock was removed"]
        (dot_git / "refs/heads/main.lock").unlink(missing_ok=True)
        return "11", "stale git lock", breaks

    def signals(self) -> tuple[str, str, list[str]]:
        process = self.start()
        how = self.rng.choice((signal.SIGINT, signal.SIGTERM))
        self.until(process, self.more("opened"), 30)
        time.sleep(self.rng.uniform(0.0, 1.0))
        if self.rng.random() < 0.5:
            return "12", "Ctrl-C or SIGTERM once", self.stop(process, how) + self.check()
        for _ in range(2):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, how)
            time.sleep(self.rng.uniform(0.0, 0.05))
        return "12b", "Ctrl-C or SIGTERM twice", self.end(process, (130, 0, 1))

    def asleep(self) -> tuple[str, str, list[str]]:
        self.machine.write_text(json.dumps({"cpu_share": 1.0, "suspended_seconds": 7200.0}))
        process, more = self.start(), self.more("unsteady")
        breaks = [] if self.until(process, more) else ["row 13: a run that slept was pooled"]
        self.machine.unlink()
        return "13", "asleep during a run", breaks + self.stop(process)

    def stopped(self) -> tuple[str, str, list[str]]:
        process = self.start()
        self.until(process, self.more("opened"), 30)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.2, 1.5))
        more = self.more("verdict")
        os.kill(process.pid, signal.SIGCONT)
        breaks = [] if self.until(process, more) else ["row 13: nothing was decided after a stop"]
        return "13b", "SIGSTOP, SIGCONT", breaks + self.stop(process)

    def slower(self) -> tuple[str, str, list[str]]:
        self.machine.write_text(json.dumps({"cpu_share": 0.5}))
        process, more = self.start(), self.more("unsteady")
        breaks = [] if self.until(process, more) else ["row 33: runs of a slow machine were pooled with the others"]
        more = self.more("verdict")
        self.until(process, more, 10)
        self.machine.unlink()
        return "33", "the machine twice slower", breaks + self.stop(process)

    def outage(self) -> tuple[str, str, list[str]]:
        steps = [
            Status(429, "rate_limit_error", headers=SOON),
            Status(529, "overloaded_error", headers=SOON),
            Status(500, headers=SOON),
            Drop(),
        ]
        self.server.add(self.rng.choice(steps), lambda body: self._cut(body))
        process, more = self.start(), self.more("verdict", 2)
        breaks = [] if self.until(process, more) else ["row 15: nothing was decided after an outage"]
        return "15", "API: 429, 529, 500, reset, cut stream", breaks + self.stop(process)

    def _cut(self, body: dict[str, Any]) -> Message:
        reply = self.answer(body)
        return Message(reply.content, cut_after=self.rng.randrange(1, 12))

    def key_refused(self) -> tuple[str, str, list[str]]:
        code, kind = self.rng.choice(((401, "authentication_error"), (403, "permission_error")))
        self.server.add(Status(code, kind, "no"))
        return "16", "API: 401, 403", self.end(self.start(), (3,))

    def unusable_reply(self) -> tuple[str, str, list[str]]:
        bad = self.rng.choice(([], [text("I would")], [tool("rm", {})], [tool("propose_experiment", [1])]))
        self.server.add(Message(bad, "end_turn"), *([Message(bad, "end_turn")] if self.rng.random() < 0.5 else []))
        process, more = self.start(), self.more("verdict", 2)
        breaks = [] if self.until(process, more) else ["row 17: nothing was decided after an unusable reply"]
        return "17", "empty, no tool, wrong tool, wrong shape", breaks + self.stop(process)

    def unusable_source(self) -> tuple[str, str, list[str]]:
        def spoil(body: dict[str, Any]) -> Message:
            line = SCRIPT.findall("\n".join(block["text"] for block in body["messages"][0]["content"]))[0]
            bad = self.rng.choice(
                ("SCRIPT = {", line, line + "  # same", line + "\n# " + "x" * 200_000, line + "\n# \0", line + "\r\n", "import nothing")
            )
            return propose("cannot be", line if self.rng.random() < 0.8 else "not there", bad)

        self.server.add(*[spoil] * self.rng.randrange(1, 4))
        process, more = self.start(), self.more("verdict", 2)
        breaks = [] if self.until(process, more) else ["row 18: nothing was decided after unusable sources"]
        return "18", "not Python, unchanged, too large, NUL, CRLF, no match", breaks + self.stop(process)

    def bad_ends(self, row: str, what: str, *ends: str) -> tuple[str, str, list[str]]:
        self.ends = [(self.rng.choice(ends), f"{what} {self.number}")]
        process, more = self.start(), self.more("verdict", 2)
        breaks = [] if self.until(process, more) else [f"row {row}: nothing was decided after {what}"]
        return row, what, breaks + self.stop(process)

    def crash(self) -> tuple[str, str, list[str]]:
        return self.bad_ends("20", "raises, exits without a result, NaN", "raise", "silent", "nan", "kill")

    def hang(self) -> tuple[str, str, list[str]]:
        return self.bad_ends("21", "hangs, ignores SIGTERM", "hang")

    def flood(self) -> tuple[str, str, list[str]]:
        return self.bad_ends("23", "floods its output", "flood")

    def device_lost(self) -> tuple[str, str, list[str]]:
        return self.bad_ends("30", "CUDA error", "cuda")

    def odd_title(self) -> tuple[str, str, list[str]]:
        self.ends = [("ok", self.rng.choice(TITLES))]
        process, more = self.start(), self.more("verdict", 2)
        breaks = [] if self.until(process, more) else ["row 24: nothing was decided after an odd title"]
        return "24", "odd descriptions", breaks + self.stop(process)

    def all_crash_for_a_while(self) -> tuple[str, str, list[str]]:
        self.all_crash = True
        process = self.start()
        self.until(process, process.ended.is_set, 60)
        self.all_crash = False
        breaks = [] if process.ended.is_set() else ["row 32: it went on although everything crashed"]
        return "32", "every candidate crashes", breaks + (self.end(process, (1, 3)) if not breaks else self.stop(process))

    def user_at_work(self) -> tuple[str, str, list[str]]:
        process = self.start()
        self.until(process, self.more("opened"), 30)
        repo, word = self.site.repo, str(self.sittings)
        (repo / "notes.txt").write_text(word)
        (repo / f"staged{word}.txt").write_text(word)
        git(repo, "add", f"staged{word}.txt")
        deed = self.rng.choice(
            (
                ("commit", "-q", "-m", word),
                ("stash", "-q"),
                ("checkout", "-q", "-b", f"side{word}"),
                ("checkout", "-q", "--detach"),
                ("gc", "-q"),
            )
        )
        git(repo, *deed, check=False)
        self.site.before = self.site.picture()
        more = self.more("verdict")
        breaks = [] if self.until(process, more) else ["row 25: nothing was decided while the user worked"]
        return "25", "the user edits, stages, commits, switches, packs", breaks + self.stop(process)

    def branch_moved(self) -> tuple[str, str, list[str]]:
        branch = f"refs/heads/autoresearch/{self.site.tag}"
        tip = git(self.site.repo, "rev-parse", branch)
        if self.rng.random() < 0.5:
            git(self.site.repo, "update-ref", branch, git(self.site.repo, "commit-tree", f"{tip}^{{tree}}", "-p", tip, "-m", "the user's"))
        else:
            git(self.site.repo, "update-ref", "-d", branch)
        breaks = self.end(self.start(), (3,), "by somebody else")
        git(self.site.repo, "update-ref", branch, tip)
        return "26", "the user moves or deletes the branch", breaks

    def branch_checked_out(self) -> tuple[str, str, list[str]]:
        there = self.site.repo.parent / "worktree"
        git(self.site.repo, "worktree", "add", "-q", str(there), f"autoresearch/{self.site.tag}")
        breaks = self.end(self.start(), (2,), "stands on")
        git(self.site.repo, "worktree", "remove", "--force", str(there))
        return "26b", "the user checks the branch out", breaks

    def second_loop(self) -> tuple[str, str, list[str]]:
        process = self.start()
        self.until(process, self.more("opened"), 30)
        breaks = self.end(self.start(), (2,), f"pid {process.pid}")
        more = self.more("verdict")
        breaks += [] if self.until(process, more) else ["row 27: the first loop did not go on"]
        return "27", "a second loop on the tag", breaks + self.stop(process)

    def odd_environment(self) -> tuple[str, str, list[str]]:
        odd = {
            "GIT_DIR": "/nonexistent",
            "GIT_INDEX_FILE": "/nonexistent",
            "GIT_WORK_TREE": "/",
            "LANG": "C",
            "LC_ALL": "C",
            "TZ": "Asia/Kathmandu",
            "HOME": "/nonexistent",
        }
        hook = self.site.repo / ".git/hooks/reference-transaction"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
        git(self.site.repo, "config", "commit.gpgSign", "true")
        self.site.before = self.site.picture()
        process, more = self.start(**odd), self.more("verdict")
        breaks = [] if self.until(process, more) else ["row 28: nothing was decided in an odd environment"]
        breaks += self.stop(process) + self.site.broken_invariants()
        hook.unlink()
        git(self.site.repo, "config", "--unset", "commit.gpgSign")
        self.site.before = self.site.picture()
        return "28", "no HOME, GIT_*, hooks, gpgSign", breaks

    # -- the night ---------------------------------------------------------------------------------------------------

    def all_faults(self) -> list[Callable[[], tuple[str, str, list[str]]]]:
        return [
            self.kill_at_an_effect, self.kill_at_an_effect, self.kill_at_an_effect, self.kill_at_an_effect, self.kill_while_training, self.kill_at_any_time,
            self.kill_a_child, self.torn_tail, self.damaged_line, self.newer_journal, self.disk_full_once, self.disk_full_for_ever, self.disk_broken,
            self.stale_lock, self.signals, self.signals, self.asleep, self.stopped, self.slower, self.outage, self.key_refused, self.unusable_reply,
            self.unusable_source, self.crash, self.hang, self.flood, self.device_lost, self.odd_title, self.all_crash_for_a_while, self.user_at_work,
            self.branch_moved, self.branch_checked_out, self.second_loop, self.odd_environment,
        ]  # fmt: skip

    def night(self, seconds: float) -> None:
        """Rounds of all faults, each round in an order of its own, until the time is over."""
        began, due = time.monotonic(), []
        for line in self.recover():
            self.say(f"BREAK before any fault: {line}")
        while time.monotonic() - began < seconds:
            if not due:
                due = self.rng.sample(self.all_faults(), len(self.all_faults()))
                self.say(f"{(time.monotonic() - began) / MINUTES:5.1f} min: {self.sittings} sittings, {self.tail.look()['attempt']} experiments, {sum(f.injected for f in self.faults.values())} faults")  # fmt: skip
            row, what, breaks = due.pop()()
            self.count(row, what, breaks + self.check(ended=False) + self.recover())

    def calm(self, seconds: float) -> dict[str, float]:
        """One sitting without faults: kB of resident memory and descriptors over time, least squares per 100 experiments."""
        process, samples = self.start(), []
        self.until(process, self.more("verdict", 5))
        end = time.monotonic() + seconds
        while time.monotonic() < end and not process.ended.is_set():
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                rss = float(re.findall(r"VmRSS:\s+(\d+)", status)[0])
                samples.append((self.tail.look()["attempt"], rss, float(len(os.listdir(f"/proc/{process.pid}/fd")))))
            except (OSError, IndexError):
                break
            time.sleep(0.5)
        breaks = self.stop(process) + self.check()
        self.count("35", "calm: memory and descriptors", breaks)
        if len(samples) < 3:
            return {}
        x = [s[0] for s in samples]
        half = len(samples) // 2
        return {
            "seconds": seconds, "experiments": x[-1] - x[0], "first_kB": samples[0][1], "last_kB": samples[-1][1],
            "kB_per_100": 100 * _slope(x, [s[1] for s in samples]), "kB_per_100_second_half": 100 * _slope(x[half:], [s[1] for s in samples[half:]]),
            "first_fds": samples[0][2], "last_fds": samples[-1][2], "fds_per_100": 100 * _slope(x, [s[2] for s in samples]),
        }  # fmt: skip


def _slope(x: list[int], y: list[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    square = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / square if square else 0.0


def soak(
    minutes: float, seed: int, say: Callable[[str], None] = lambda line: None, keep: Path | None = None
) -> tuple[str, list[str], dict[str, Fault]]:
    """Spend the time; returns (the table, every broken invariant, the faults by row)."""
    seconds = minutes * MINUTES
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        holder: list[Soak] = []
        forge = Forge()
        try:
            with ApiServer(default=lambda body: holder[0].answer(body)) as server:
                server._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # connections of killed loops
                night = Soak(keep or Path(place), seed, forge, server, say)
                holder.append(night)
                began = time.monotonic()
                night.night(0.9 * seconds)
                calm = night.calm(max(10.0, 0.1 * seconds))
                took = time.monotonic() - began
        finally:
            forge.close()
        ledger, events = night.site.ledger(), night.site.events()
        breaks = [f"{fault.row} {fault.what}: {line}" for fault in night.faults.values() for line in fault.breaks]
        outcomes = Counter(v.outcome for v in ledger.verdicts)
        lines = ["row  fault                                                       injected  broken"]
        for fault in sorted(night.faults.values(), key=lambda f: (int(re.findall(r"\d+", f.row)[0]), f.row)):
            lines.append(f"{fault.row:<4} {fault.what:<58} {fault.injected:>9}  {len(fault.breaks):>6}")
        lines += [
            "",
            f"{took / MINUTES:.1f} minutes, seed {seed}: {night.sittings} sittings, {night.kills} kills, {len(ledger.attempts) - 1} experiments, "
            f"{len(ledger.runs)} runs ({sum(r.counted for r in ledger.runs.values())} counted), {len(events)} events, "
            f"{(night.site.folder / 'journal.jsonl').stat().st_size / 1e6:.1f} MB of journal",
            f"verdicts: {', '.join(f'{n} {name}' for name, n in outcomes.most_common())}; spent ${ledger.spent():.2f}, billed ${night.billed:.2f}",
            "calm sitting: " + ", ".join(f"{name} {value:.1f}" for name, value in calm.items()),
            f"this script: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB",
            f"broken invariants: {len(breaks)}",
        ]
        return "\n".join(lines), breaks, night.faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave the session in this new folder")
    options = parser.parse_args()
    table, breaks, _ = soak(options.minutes, options.seed, lambda line: print(line, flush=True), options.keep)
    print(table)
    return 1 if breaks else 0


if __name__ == "__main__":
    sys.exit(main())
