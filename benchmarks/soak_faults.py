"""What may happen to a session: each fault, by its row of the printed table.

Used by soak.py, which sets the path.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from api_server import Drop, Message, Status, propose, text, tool
from ground import children_in, git
from sittings import SCRIPT, Restarted

from autorl.records import SCHEMA_VERSION

SOON = {"retry-after": "0.02"}
TITLES = ["tab\there", "two\nlines", "line\u2028separator", "nul\0byte", "emoji 🙂", "=1+1"]
TITLES += ["x" * 100_000, '"quoted" | ünï', "\x1b[31mred", ""]


class Faults(Restarted):
    """Each method does one fault in its own process; returns (row, what, broken invariants)."""

    def unless(self, process: Any, done: Callable[[], bool], why: str) -> list[str]:
        """Wait until it is done; `why` not being so breaks an invariant."""
        return [] if self.until(process, done) else [why]

    def send(self, process: Any, how: int) -> None:
        """Send it, if the process has not ended by itself; its exit code is looked at anyway."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, how)

    def kill_at_an_effect(self) -> tuple[str, str, list[str]]:
        self.trace.unlink(missing_ok=True)
        at = f"{self.rng.randrange(1, 70)}{self.rng.choice(('', ':after'))}"
        process = self.start(AUTORL_KILL_AT=at, AUTORL_EFFECT_TRACE=str(self.trace))
        breaks = self.end(process, (-signal.SIGKILL,))
        self.kills += 1
        trace = self.trace.read_text() if self.trace.exists() else " "
        last = trace.splitlines()[-1].partition(" ")[2]
        self.tail.look()
        if last == "journal append" and self.tail.last in ("run", "control"):
            return "4", "kill -9 between result and decision", breaks
        rows = {
            "git object": ("2", "kill -9 between commit and run"),
            "child start": ("2", "kill -9 between commit and run"),
            "ref move": ("5", "kill -9 at a ref move"),
            "file write": ("6", "kill -9 at a view"),
        }
        return (*rows.get(last, ("1", "kill -9 at effect N")), breaks)

    def kill_while_training(self) -> tuple[str, str, list[str]]:
        self.ends = [("hang", "hangs")]
        process = self.start()
        self.until(process, lambda: bool(children_in(self.site.folder)))
        self.send(process, signal.SIGKILL)
        self.kills += 1
        self.ends = []
        return "3", "kill -9 while a run is on", self.end(process, (-signal.SIGKILL,))

    def kill_at_any_time(self) -> tuple[str, str, list[str]]:
        process = self.start()
        time.sleep(self.rng.uniform(0.0, 2.0))
        self.send(process, signal.SIGKILL)
        self.kills += 1
        breaks = self.end(process, (-signal.SIGKILL,))
        return "29", "the loop killed at any instant (as for memory)", breaks

    def kill_a_child(self) -> tuple[str, str, list[str]]:
        more, process = self.more("verdict"), self.start()
        self.ends = [("hang", "hangs until it is killed")]
        if self.until(process, lambda: bool(children_in(self.site.folder)), 10):
            for child in children_in(self.site.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child.split()[0]), signal.SIGKILL)
        breaks = self.unless(process, more, "I8: nothing was decided after a child was killed")
        return "29b", "a run killed (as for memory)", breaks + self.stop(process)

    def torn_tail(self) -> tuple[str, str, list[str]]:
        journal = self.site.folder / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        half = lines[-1][: self.rng.randrange(1, len(lines[-1]) - 1)]
        tail = self.rng.choice((half, b"\0" * self.rng.randrange(1, 5000), b"\xff\xfe{"))
        before = len(lines)
        with open(journal, "ab") as file:
            file.write(tail)
        opened, process = self.more("opened"), self.start()
        breaks = [] if self.until(process, opened, 30) else ["I8: it did not open"]
        if journal.read_bytes().splitlines(keepends=True)[:before] != lines:
            breaks.append("row 7: whole lines were lost")
        copies = self.site.folder.glob("journal.jsonl.torn-*")
        if not any(copy.read_bytes() == tail for copy in copies):
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
        newer = SCHEMA_VERSION + 1
        bad = good.replace(b'{"v":%d,' % SCHEMA_VERSION, b'{"v":%d,' % newer, 1)
        journal.write_bytes(bad)
        breaks = self.end(self.start(), (2,), f"(log version {newer})")
        breaks += [] if journal.read_bytes() == bad else ["row 34: a refused journal was changed"]
        journal.write_bytes(good)
        return "34", "a journal of a newer version", breaks

    def disk_full_once(self) -> tuple[str, str, list[str]]:
        more = self.more("verdict", 3)
        process = self.start(AUTORL_FAIL_AT=f"{self.rng.randrange(1, 70)}:ENOSPC")
        breaks = self.unless(process, more, "row 9: a disk that was full once stopped the loop")
        return "9", "disk full once", breaks + self.stop(process)

    def disk_full_for_ever(self) -> tuple[str, str, list[str]]:
        process = self.start(AUTORL_FAIL_AT=f"{self.rng.randrange(1, 70)}:ENOSPC:ever")
        return "9b", "disk full for ever", self.end(process, (3,))

    def disk_broken(self) -> tuple[str, str, list[str]]:
        effect, code = self.rng.randrange(1, 70), self.rng.choice(("EIO", "EROFS"))
        process = self.start(AUTORL_FAIL_AT=f"{effect}:{code}:ever")
        return "10", "I/O error, read-only", self.end(process, (3,))

    def stale_lock(self) -> tuple[str, str, list[str]]:
        dot_git = self.site.repo / ".git"
        tag = self.site.tag
        refs = (f"heads/autoresearch/{tag}", f"autorl/{tag}/99999", "notes/autorl")
        ours = f"refs/{self.rng.choice(refs)}.lock"
        (dot_git / ours).parent.mkdir(parents=True, exist_ok=True)  # `git gc` removes empty ones
        (dot_git / ours).write_text("")
        (dot_git / "refs/heads/main.lock").write_text("")
        more, process = self.more("stale lock"), self.start()
        breaks = self.unless(process, more, "row 11: no note about a stale lock")
        breaks += self.stop(process)
        breaks += ["row 11: our stale lock is still there"] if (dot_git / ours).exists() else []
        if not (dot_git / "refs/heads/main.lock").exists():
            breaks.append("row 11: the user's lock was removed")
        (dot_git / "refs/heads/main.lock").unlink(missing_ok=True)
        return "11", "stale git lock", breaks

    def signals(self) -> tuple[str, str, list[str]]:
        opened, process = self.more("opened"), self.start()
        how = self.rng.choice((signal.SIGINT, signal.SIGTERM))
        self.until(process, opened, 30)
        time.sleep(self.rng.uniform(0.0, 1.0))
        if self.rng.random() < 0.5:
            return "12", "Ctrl-C or SIGTERM once", self.stop(process, how) + self.check()
        for _ in range(2):
            self.send(process, how)
            time.sleep(self.rng.uniform(0.0, 0.05))
        return "12b", "Ctrl-C or SIGTERM twice", self.end(process, (130, 0, 1))

    def asleep(self) -> tuple[str, str, list[str]]:
        self.machine.write_text(json.dumps({"cpu_share": 1.0, "suspended_seconds": 7200.0}))
        breaks = self.end(self.start(), (3,), "interrupted 3 times in a row")
        self.machine.unlink()
        return "13", "asleep during every run", breaks

    def stopped(self) -> tuple[str, str, list[str]]:
        opened, process = self.more("opened"), self.start()
        self.until(process, opened, 30)
        self.send(process, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.2, 1.5))
        more = self.more("verdict")
        self.send(process, signal.SIGCONT)
        breaks = self.unless(process, more, "row 13: nothing was decided after a stop")
        return "13b", "SIGSTOP, SIGCONT", breaks + self.stop(process)

    def slower(self) -> tuple[str, str, list[str]]:
        self.machine.write_text(json.dumps({"cpu_share": 0.5}))
        more, process = self.more("incumbent"), self.start()
        breaks = self.unless(
            process, more, "row 33: on a slower machine the incumbent was not run again"
        )
        more = self.more("verdict")
        self.until(process, more, 10)
        self.machine.unlink()
        return "33", "the machine twice slower", breaks + self.stop(process)

    def outage(self) -> tuple[str, str, list[str]]:
        steps: list[Status | Drop] = [
            Status(429, "rate_limit_error", headers=SOON),
            Status(529, "overloaded_error", headers=SOON),
            Status(500, headers=SOON),
            Drop(),
        ]
        self.server.add(self.rng.choice(steps), lambda body: self._cut(body))
        more, process = self.more("verdict", 2), self.start()
        breaks = self.unless(process, more, "row 15: nothing was decided after an outage")
        return "15", "API: 429, 529, 500, reset, cut stream", breaks + self.stop(process)

    def _cut(self, body: dict[str, Any]) -> Message:
        reply = self.answer(body)
        return Message(reply.content, cut_after=self.rng.randrange(1, 12))

    def key_refused(self) -> tuple[str, str, list[str]]:
        code, kind = self.rng.choice(((401, "authentication_error"), (403, "permission_error")))
        self.server.add(Status(code, kind, "no"))
        return "16", "API: 401, 403", self.end(self.start(), (3,))

    def unusable_reply(self) -> tuple[str, str, list[str]]:
        useless = [text("I would")], [tool("rm", {})], [tool("propose_experiment", [1])]
        bad = self.rng.choice(([], *useless))
        self.server.add(*[Message(bad, "end_turn")] * (2 if self.rng.random() < 0.5 else 1))
        more, process = self.more("verdict", 2), self.start()
        breaks = self.unless(process, more, "row 17: nothing was decided after an unusable reply")
        return "17", "empty, no tool, wrong tool, wrong shape", breaks + self.stop(process)

    def unusable_source(self) -> tuple[str, str, list[str]]:
        def spoil(body: dict[str, Any]) -> Message:
            asked = "\n".join(block["text"] for block in body["messages"][0]["content"])
            line = SCRIPT.findall(asked)[0]
            ends = ("", "  # same", "\n# " + "x" * 200_000, "\n# \0", "\r\n")
            bad = self.rng.choice(("SCRIPT = {", "import nothing", *(line + end for end in ends)))
            return propose("cannot be", line if self.rng.random() < 0.8 else "not there", bad)

        self.server.add(*[spoil] * self.rng.randrange(1, 4))
        more, process = self.more("verdict", 2), self.start()
        breaks = self.unless(process, more, "row 18: nothing was decided after unusable sources")
        what = "not Python, unchanged, too large, NUL, CRLF, no match"
        return "18", what, breaks + self.stop(process)

    def bad_ends(self, row: str, what: str, *ends: str) -> tuple[str, str, list[str]]:
        self.ends = [(self.rng.choice(ends), f"{what} {self.number}")]
        more, process = self.more("verdict", 2), self.start()
        breaks = self.unless(process, more, f"row {row}: nothing was decided after {what}")
        return row, what, breaks + self.stop(process)

    def crash(self) -> tuple[str, str, list[str]]:
        what = "raises, exits without a result, NaN"
        return self.bad_ends("20", what, "raise", "silent", "nan", "kill")

    def hang(self) -> tuple[str, str, list[str]]:
        return self.bad_ends("21", "hangs, ignores SIGTERM", "hang")

    def flood(self) -> tuple[str, str, list[str]]:
        return self.bad_ends("23", "floods its output", "flood")

    def device_lost(self) -> tuple[str, str, list[str]]:
        return self.bad_ends("30", "CUDA error", "cuda")

    def odd_title(self) -> tuple[str, str, list[str]]:
        self.ends = [("ok", self.rng.choice(TITLES))]
        more, process = self.more("verdict", 2), self.start()
        breaks = self.unless(process, more, "row 24: nothing was decided after an odd title")
        return "24", "odd descriptions", breaks + self.stop(process)

    def all_crash_for_a_while(self) -> tuple[str, str, list[str]]:
        self.all_crash = True
        process = self.start()
        self.until(process, process.ended.is_set, 60)
        self.all_crash = False
        if process.ended.is_set():
            breaks = self.end(process, (1, 3))
        else:
            why = "row 32: it went on although everything crashed"
            breaks = [why, *self.stop(process)]
        return "32", "every candidate crashes", breaks

    def user_at_work(self) -> tuple[str, str, list[str]]:
        opened, process = self.more("opened"), self.start()
        self.until(process, opened, 30)
        repo, word = self.site.repo, str(self.processes)
        (repo / "notes.txt").write_text(word)
        (repo / f"staged{word}.txt").write_text(word)
        git(repo, "add", f"staged{word}.txt")
        switches = ("checkout", "-q", "-b", f"side{word}"), ("checkout", "-q", "--detach")
        deeds = ("commit", "-q", "-m", word), ("stash", "-q"), *switches, ("gc", "-q")
        git(repo, *self.rng.choice(deeds), check=False)
        self.site.before = self.site.picture()
        more = self.more("verdict")
        breaks = self.unless(process, more, "row 25: nothing was decided while the user worked")
        return "25", "the user edits, stages, commits, switches, packs", breaks + self.stop(process)

    def branch_moved(self) -> tuple[str, str, list[str]]:
        branch = f"refs/heads/autoresearch/{self.site.tag}"
        tip = git(self.site.repo, "rev-parse", branch)
        if self.rng.random() < 0.5:
            commit = ("commit-tree", f"{tip}^{{tree}}", "-p", tip, "-m", "the user's")
            git(self.site.repo, "update-ref", branch, git(self.site.repo, *commit))
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
        opened, process = self.more("opened"), self.start()
        self.until(process, opened, 30)
        breaks = self.end(self.start(), (2,), f"pid {process.pid}")
        more = self.more("verdict")
        breaks += [] if self.until(process, more) else ["row 27: the first loop did not go on"]
        return "27", "a second loop on the tag", breaks + self.stop(process)

    def odd_environment(self) -> tuple[str, str, list[str]]:
        odd = dict.fromkeys(("GIT_DIR", "GIT_INDEX_FILE", "HOME"), "/nonexistent")
        odd |= {"GIT_WORK_TREE": "/", "LANG": "C", "LC_ALL": "C", "TZ": "Asia/Kathmandu"}
        hook = self.site.repo / ".git/hooks/reference-transaction"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
        git(self.site.repo, "config", "commit.gpgSign", "true")
        self.site.before = self.site.picture()
        more, process = self.more("verdict"), self.start(**odd)
        breaks = self.unless(process, more, "row 28: nothing was decided in an odd environment")
        breaks += self.stop(process) + self.site.broken_invariants()
        hook.unlink()
        git(self.site.repo, "config", "--unset", "commit.gpgSign")
        self.site.before = self.site.picture()
        return "28", "no HOME, GIT_*, hooks, gpgSign", breaks

    def all_faults(self) -> list[Callable[[], tuple[str, str, list[str]]]]:
        return [
            self.kill_at_an_effect, self.kill_at_an_effect, self.kill_at_an_effect,
            self.kill_at_an_effect, self.kill_while_training, self.kill_at_any_time,
            self.kill_a_child, self.torn_tail, self.damaged_line, self.newer_journal,
            self.disk_full_once, self.disk_full_for_ever, self.disk_broken, self.stale_lock,
            self.signals, self.signals, self.asleep, self.stopped, self.slower, self.outage,
            self.key_refused, self.unusable_reply, self.unusable_source, self.crash, self.hang,
            self.flood, self.device_lost, self.odd_title, self.all_crash_for_a_while,
            self.user_at_work, self.branch_moved, self.branch_checked_out, self.second_loop,
            self.odd_environment,
        ]  # fmt: skip
