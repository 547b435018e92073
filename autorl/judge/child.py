"""One confined child process of the judge: started, listened to, watched against limits, ended with its whole tree.

    child = Child(argv, env=..., cwd=..., run_dir=..., limits=..., log=...)
    while child.running and not child.breach:
        child.wait(0.1)
    child.end()

What this file does not do: confine (autorl/judge/sandbox.py makes the argv), know what the child is for, or judge it.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from autorl.judge import process_tree
from autorl.records import Limits, Status
from autorl.system import files
from autorl.system.faults import effect

SAMPLE_SECONDS = 0.15  # between two looks at the tree; a limit is noticed within 200 ms
HEAD_BYTES = TAIL_BYTES = 256 * 1024  # of the log that is kept

# sh -c LAUNCH sh MAX_BLOCKS command...: no core files, no file larger than the disk limit, few descriptors (each is looked
# at), first to die when memory is short
LAUNCH = 'ulimit -c 0 2>/dev/null; ulimit -f "$1" 2>/dev/null; ulimit -n 4096 2>/dev/null; { echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null; shift; exec "$@"'


class Fault(Exception):
    """A run that cannot be scored: a rule and a sentence. There is no partial score."""

    def __init__(self, rule: str, reason: str, status: Status = "crash"):
        super().__init__(reason)
        self.rule, self.reason, self.status = rule, reason, status


class Log:
    """A child's output in constant memory: the head goes to a file as it comes, the tail is appended at the end."""

    def __init__(self, path: Path):
        self.total = 0
        self._head_left, self._tail = HEAD_BYTES, bytearray()
        self._file: BinaryIO = open(path, "wb", buffering=0)  # noqa: SIM115 (closed by close())
        self._recent = bytearray()

    def write(self, data: bytes) -> None:
        """Take what the child said."""
        self.total += len(data)
        self._recent += data[-16_384:]
        del self._recent[:-16_384]
        if self._head_left:
            self._file.write(data[: self._head_left])
            taken = min(self._head_left, len(data))
            self._head_left -= taken
            data = data[taken:]
        self._tail += data
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def tail(self, at_most: int = 4096) -> str:
        """The last bytes as valid UTF-8 without control characters but newline and tab; carriage returns end a line."""
        text = (
            bytes(self._recent[-at_most:])
            .decode("utf-8", "replace")
            .replace("\r\n", "\n")
            .replace("\r", "\n")
        )
        return (
            "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
            .encode("utf-8", "replace")
            .decode()[-at_most:]
        )

    def last_line(self) -> str:
        """The last line that says something, for a reason."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def close(self) -> None:
        """Write the tail, and how much lies between."""
        if self._file.closed:
            return
        del self._tail[:-TAIL_BYTES]
        left_out = self.total - HEAD_BYTES - len(self._tail)
        if left_out > 0:
            self._file.write(f"\n[... {left_out} bytes left out ...]\n".encode())
        self._file.write(self._tail)
        self._file.close()


class Child:
    """A process group of its own with one pipe for everything it says.

    Args:
        cores: threads found outside of these are put back; () = not looked at.
        guarded: not in a PID namespace, so a guard process keeps its tree together (subreaper.py).

    Attributes:
        breach: "" or the name of the limit it broke ("memory", "processes", "disk", "log").
        reason: the sentence that goes with it.
        peak_memory_bytes, cpu_seconds: of the whole tree, sampled. processes: in it, when last looked.
        max_gap_seconds: longest hole between two samples.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, run_dir: Path, limits: Limits, log: Log,
                 pass_fds: Sequence[int] = (), cores: Sequence[int] = (), guarded: bool = False):  # fmt: skip
        self.run_dir, self.limits, self.log, self.cores = run_dir, limits, log, tuple(cores)
        self._guarded, self._device = guarded, os.stat(run_dir).st_dev
        self.breach = self.reason = ""
        self.peak_memory_bytes, self.cpu_seconds, self.max_gap_seconds, self.processes = (
            0,
            0.0,
            0.0,
            0,
        )
        self._shared_before = process_tree.shared_memory_bytes()
        self.widened = False  # it took cores that were not its own
        self.pipe, write = os.pipe()
        os.set_blocking(self.pipe, False)
        lifeline, self._lifeline = os.pipe() if guarded and process_tree.LINUX else (-1, -1)
        guard = (
            [
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("subreaper.py")),
                str(lifeline),
                "--",
            ]
            if lifeline >= 0
            else []
        )
        command = [
            "/bin/sh",
            "-c",
            LAUNCH,
            "sh",
            str(max(1, limits.disk_bytes // 512)),
            *guard,
            *argv,
        ]
        inherited = (*pass_fds, *((lifeline,) if lifeline >= 0 else ()))
        try:
            self.process = effect("child start", lambda: subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=write, stderr=write, env=dict(env), cwd=cwd, pass_fds=inherited,
                start_new_session=True))  # fmt: skip
        finally:
            os.close(write)
            if lifeline >= 0:
                os.close(lifeline)
        self.pid = self.process.pid
        self.ended_at: float | None = None
        self._last_sample = self._next_sample = time.monotonic()
        self._last_pss = 0.0
        self._silent = False  # it closed its end of the pipe
        self._next_disk = 0.0
        self.exit_fd = _pidfd(self.pid)

    @property
    def running(self) -> bool:
        """False once the process itself (not yet its tree) has ended."""
        if self.ended_at is None and self.process.poll() is not None:
            self.ended_at = time.monotonic()
        return self.ended_at is None

    @property
    def exit_code(self) -> int | None:
        """As a shell tells it: negative is a signal; through bubblewrap 128 + signal."""
        return self.process.returncode

    def wait(self, timeout: float) -> None:
        """Take output and samples for at most `timeout` seconds; returns early when the child ends or says something."""
        fds = [fd for fd in (self.exit_fd, None if self._silent else self.pipe) if fd is not None]
        timeout = max(0.0, min(timeout, self._next_sample - time.monotonic()))
        if self.exit_fd is None:
            timeout = min(timeout, 0.05)
        select.select(fds, [], [], timeout)
        self.attend()

    def wait_for_end(self, patience: float) -> None:
        """Wait up to `patience` seconds for the process to end."""
        deadline = time.monotonic() + patience
        while self.running and (left := deadline - time.monotonic()) > 0:
            self.wait(left)
        self.drain(1 << 20)

    def attend(self) -> None:
        """What is due now: output, a sample. Never blocks."""
        self.drain(1 << 20)
        if self.log.total > self.limits.log_bytes:
            self._break("log", f"it wrote more than {_size(self.limits.log_bytes)} of output")
        if self.running and time.monotonic() >= self._next_sample:
            self.sample()

    def drain(self, at_most: int) -> None:
        """Read what the pipe holds, up to `at_most` bytes."""
        while at_most > 0:
            try:
                data = os.read(self.pipe, 65_536)
            except BlockingIOError:
                return
            if not data:
                self._silent = True
                return
            self.log.write(data)
            at_most -= len(data)

    def sample(self) -> None:
        """Look at the tree and the run directory; name the first limit that is broken."""
        now = time.monotonic()
        self.max_gap_seconds = max(self.max_gap_seconds, now - self._last_sample)
        self._last_sample, self._next_sample = now, now + SAMPLE_SECONDS
        limits = self.limits
        used = process_tree.usage(self.pid, at_most=limits.processes + 8)
        self.cpu_seconds, self.processes = max(self.cpu_seconds, used.cpu_seconds), len(used.pids)
        if max(used.threads, len(used.pids)) > limits.processes:
            self._break(
                "processes",
                f"it ran {max(used.threads, len(used.pids))} or more processes and threads; the limit is {limits.processes}",
            )
            return
        memory = used.rss_bytes
        if memory > min(self.peak_memory_bytes, limits.memory_bytes) and (
            memory > limits.memory_bytes or now - self._last_pss > 1
        ):
            memory, self._last_pss = process_tree.pss_bytes(used.pids) or memory, now
            self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        # memory that no process shows (a descriptor closed or sent away, System V segments) is in the machine's own sum
        hidden = process_tree.shared_memory_bytes() - self._shared_before
        if hidden > 2 * limits.memory_bytes:
            self._break(
                "memory",
                f"the machine's shared memory grew by {_size(hidden)} meanwhile; the limit is {_size(limits.memory_bytes)}",
            )
        if memory > limits.memory_bytes:
            self._break(
                "memory",
                f"it held {_size(memory)} of memory; the limit is {_size(limits.memory_bytes)}",
            )
        if now >= self._next_disk:
            disk, entries = files.disk_usage(self.run_dir)
            nameless, elsewhere = files.nameless_usage(used.pids, self._device)
            disk += nameless
            self._next_disk = now + 20 * (
                time.monotonic() - now
            )  # a folder of many files is walked less often
            if disk > limits.disk_bytes:
                self._break(
                    "disk",
                    f"it wrote {_size(disk)} into its run directory; the limit is {_size(limits.disk_bytes)}",
                )
            elif entries > 20_000:
                self._break(
                    "disk",
                    "it made more than 20000 files in its run directory, or folders too deep to be looked into",
                )
            if (
                elsewhere > limits.memory_bytes
            ):  # not added to the resident bytes: what is mapped is in both
                self._break(
                    "memory",
                    f"it held {_size(elsewhere)} in files without a name; the limit is {_size(limits.memory_bytes)}",
                )
        if self.cores:
            self._pin(used.pids)
        self._last_sample = (
            time.monotonic()
        )  # the time that looking took is no gap: only a stopped judge has one

    def _pin(self, pids: Sequence[int]) -> None:
        """Nobody takes more cores than the slot has: threads that widened their affinity are put back."""
        allowed = set(self.cores)
        for pid in pids:
            try:
                for tid in map(int, os.listdir(f"/proc/{pid}/task")):
                    if not os.sched_getaffinity(tid) <= allowed:
                        self.widened = True
                        os.sched_setaffinity(tid, allowed)
            except OSError:
                continue

    def _break(self, rule: str, reason: str) -> None:
        if not self.breach:
            self.breach, self.reason = rule, reason

    def end(self) -> list[int]:
        """Kill what is left of the tree, take its last words, reap it; returns pids that survived (none, we hope)."""
        if self.pipe < 0:
            return []
        left = process_tree.kill_tree(self.pid, namespace=not self._guarded)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            left.append(self.pid)
        self.running  # noqa: B018 (notes the time)
        self.drain(4 << 20)
        for fd in (self.pipe, self.exit_fd, self._lifeline):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.pipe, self.exit_fd, self._lifeline = -1, None, -1
        return left


def _pidfd(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _size(number: float) -> str:
    return f"{number / 1024**3:.2f} GiB" if number >= 1024**3 else f"{number / 1024**2:.0f} MiB"
