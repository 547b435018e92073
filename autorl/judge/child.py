"""One confined child of the judge: started, read from, held to its limits, ended with its tree.

    child = Child(argv, env=..., run_dir=..., limits=..., log=...)
    while child.running and not child.breach:
        child.wait(0.1)
    child.end()

What this file does not do: confine (sandbox.py makes the argv), or know what the child is for.
"""

import contextlib
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autorl.judge import process_tree
from autorl.records import Limits, Status
from autorl.system import files
from autorl.system.faults import effect
from autorl.system.text import last_line, plain

SAMPLE_SECONDS = 0.15  # between two samples of the tree; a breach is noticed within 200 ms
HEAD_BYTES = TAIL_BYTES = 256 * 1024  # of the log that is kept
MAX_FILES = 20_000  # in the run directory
KEEP_FREE_BYTES = 256 * 1024 * 1024  # of the disk: the judge, too, has to write
GUARD = Path(__file__).with_name("subreaper.py")

# sh -c LAUNCH sh MAX_BLOCKS command...: no core files, no file larger than the disk limit, few
# descriptors (each is looked at), the first to be killed when memory is short
LAUNCH = """
ulimit -c 0 2>/dev/null; ulimit -f "$1" 2>/dev/null; ulimit -n 1024 2>/dev/null
{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null
shift; exec "$@"
"""


class Fault(Exception):
    """A run that cannot be scored: a rule and a sentence. There is no partial score."""

    def __init__(self, rule: str, reason: str, status: Status = "crash"):
        super().__init__(reason)
        self.rule, self.reason, self.status = rule, reason, status


class Log:
    """A child's output in constant memory: the head goes to a file at once, the tail at the end."""

    def __init__(self, path: Path):
        self.total = 0  # bytes
        self._tail = bytearray()  # the last TAIL_BYTES or more
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 (closed by close())

    def write(self, data: bytes) -> None:
        """Take what the child said; on a full disk only its end is kept."""
        if self.total < HEAD_BYTES:
            with contextlib.suppress(OSError):
                self._file.write(data[: HEAD_BYTES - self.total])
        self.total += len(data)
        self._tail += data
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def tail(self, at_most: int = 4096) -> str:
        """The last bytes as valid UTF-8, without control characters but newline and tab."""
        return plain(bytes(self._tail[-at_most:]).decode("utf-8", "replace"))

    def last_line(self) -> str:
        """The last line that is not blank, for a reason."""
        return last_line(self.tail())

    def close(self) -> None:
        """Write the tail, and how much lies between."""
        if self._file.closed:
            return
        unwritten = max(0, self.total - HEAD_BYTES)
        if (left_out := unwritten - TAIL_BYTES) > 0:
            self._file.write(f"\n[... {left_out} bytes left out ...]\n".encode())
        if unwritten:
            self._file.write(self._tail[-min(unwritten, TAIL_BYTES) :])
        self._file.close()


class Child:
    """A process group of its own with one pipe for all its output.

    Args:
        run_dir: its current folder, the one whose size is limited.
        cores: threads found outside of these are put back; () = not looked at.
        guarded: not in a PID namespace, so a guard process keeps its tree together (subreaper.py).

    Attributes:
        breach: "" or the name of the limit it broke ("memory", "processes", "disk", "log").
        reason: the sentence that goes with it.
        peak_memory_bytes, cpu_seconds: of the whole tree, sampled.
        processes: in the tree, when last sampled.
        max_gap_seconds: longest hole between two samples.
        widened: it took cores that were not its own.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        run_dir: Path,
        limits: Limits,
        log: Log,
        pass_fds: Sequence[int] = (),
        cores: Sequence[int] = (),
        guarded: bool = False,
    ):
        self.run_dir, self.limits, self.log, self.cores = run_dir, limits, log, tuple(cores)
        self.breach = self.reason = ""
        self.peak_memory_bytes = self.processes = 0
        self.cpu_seconds = self.max_gap_seconds = 0.0
        self.widened = False
        self.ended_at: float | None = None
        self._guarded, self._device = guarded, os.stat(run_dir).st_dev
        self._shared_before = process_tree.shared_memory_bytes()
        self._free_before = shutil.disk_usage(run_dir).free
        lifeline: tuple[int, ...] = ()  # the guard ends the tree when our end of this pipe closes
        guard: list[str] = []
        self._lifeline = -1
        if guarded and process_tree.LINUX:
            read, self._lifeline = os.pipe()
            lifeline = (read,)
            guard = [sys.executable, "-I", "-S", str(GUARD), str(read), "--"]
        blocks = str(max(1, limits.disk_bytes // 512))
        command = ["/bin/sh", "-c", LAUNCH, "sh", blocks, *guard, *argv]
        try:
            self.process: subprocess.Popen[bytes] = effect(
                "child start",
                lambda: subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    env=dict(env),
                    cwd=run_dir,
                    pass_fds=(*pass_fds, *lifeline),
                    start_new_session=True,
                ),
            )
        finally:
            for fd in lifeline:
                os.close(fd)
        assert self.process.stdout is not None
        self._output, self.pid = self.process.stdout, self.process.pid
        os.set_blocking(self._output.fileno(), False)
        self._silent = False  # it closed its end of the pipe
        self._exit_fd = _pidfd(self.pid)
        self._last_sample = self._next_sample = time.monotonic()
        self._last_pss = self._next_disk = 0.0

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
        """Take output and samples for at most `timeout` seconds.

        Returns early when the child ends or says something.
        """
        timeout = max(0.0, min(timeout, self._next_sample - time.monotonic()))
        fds = [] if self._silent else [self._output.fileno()]
        if self._exit_fd is None:
            timeout = min(timeout, 0.05)
        else:
            fds.append(self._exit_fd)
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
        if self.log.total > (limit := self.limits.log_bytes):
            self._break("log", f"it wrote more than {_size(limit)} of output")
        if self.running and time.monotonic() >= self._next_sample:
            self.sample()

    def drain(self, at_most: int) -> None:
        """Read what the pipe holds, up to `at_most` bytes."""
        while at_most > 0 and (data := self._output.read(65_536)) is not None:
            if not data:
                self._silent = True
                return
            self.log.write(data)
            at_most -= len(data)

    def sample(self) -> None:
        """Look at the tree and the run directory; name the first limit that is broken."""
        now = time.monotonic()
        self.max_gap_seconds = max(self.max_gap_seconds, now - self._last_sample)
        self._next_sample = now + SAMPLE_SECONDS
        limits = self.limits
        used = process_tree.usage(self.pid, at_most=limits.processes + 8)
        self.cpu_seconds, self.processes = max(self.cpu_seconds, used.cpu_seconds), len(used.pids)
        if (many := max(used.threads, len(used.pids))) > limits.processes:
            more = f"{many} or more processes and threads; the limit is {limits.processes}"
            self._break("processes", f"it ran {more}")
        else:
            self._check_memory(used, now)
            if now >= self._next_disk:
                self._check_files(used, now)
            if self.cores:
                self._pin(used.pids)
        # the time that sampling took is no gap: only a stopped judge has one
        self._last_sample = time.monotonic()

    def _check_memory(self, used: process_tree.Usage, now: float) -> None:
        memory, limit = used.rss_bytes, self.limits.memory_bytes
        if memory > min(self.peak_memory_bytes, limit) and (
            memory > limit or now - self._last_pss > 1
        ):
            memory, self._last_pss = process_tree.pss_bytes(used.pids) or memory, now
            self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        # memory that no process shows (a descriptor closed or sent away, System V segments) is in
        # the machine's own sum
        hidden = process_tree.shared_memory_bytes() - self._shared_before
        if hidden > 2 * limit:
            grew = "the machine's shared memory grew by {} meanwhile"
            self._too_large("memory", grew, hidden, limit)
        if memory > limit:
            self._too_large("memory", "it held {} of memory", memory, limit)

    def _check_files(self, used: process_tree.Usage, now: float) -> None:
        limit = self.limits.disk_bytes
        disk, entries = files.disk_usage(self.run_dir, MAX_FILES)
        nameless, elsewhere = files.nameless_usage(used.pids, self._device)
        wrote, more = disk + nameless, False
        free = shutil.disk_usage(self.run_dir).free
        if self._free_before - free - wrote > limit:  # of whoever it was
            mapped, more = files.mapped_usage(used.pids, self._device)
            wrote += mapped
        lost = self._free_before - free - wrote
        # a folder of many files is walked less often
        self._next_disk = now + 20 * (time.monotonic() - now)
        if wrote > limit:
            self._too_large("disk", "it wrote {} into its run directory", wrote, limit)
        elif more and lost > 2 * limit:
            hid = "the disk lost {} while it held files that cannot be seen"
            self._too_large("disk", hid, lost, limit)
        elif free < min(KEEP_FREE_BYTES, self._free_before // 2):
            left = f"the disk has {_size(free)} left, and {_size(wrote)} are the run's"
            self._break("disk", f"{left}: free some space, or let it write less")
        elif entries > MAX_FILES:
            many = f"more than {MAX_FILES} files in its run directory"
            self._break("disk", f"it made {many}, or folders (closed, too deep) that hide them")
        # not added to the resident bytes: what is mapped is in both
        if elsewhere > self.limits.memory_bytes:
            held = "it held {} in files without a name and in sockets"
            self._too_large("memory", held, elsewhere, self.limits.memory_bytes)

    def _pin(self, pids: Sequence[int]) -> None:
        """Put threads that widened their affinity back on the cores of the slot."""
        allowed = set(self.cores)
        for pid in pids:
            try:
                for tid in map(int, os.listdir(f"/proc/{pid}/task")):
                    if not os.sched_getaffinity(tid) <= allowed:
                        self.widened = True
                        os.sched_setaffinity(tid, allowed)
            except OSError:
                continue

    def _too_large(self, rule: str, what: str, size: int, limit: int) -> None:
        self._break(rule, f"{what.format(_size(size))}; the limit is {_size(limit)}")

    def _break(self, rule: str, reason: str) -> None:
        if not self.breach:
            self.breach, self.reason = rule, reason

    def end(self) -> None:
        """Kill what is left of the tree, take its last output, reap it."""
        if self._output.closed:
            return
        process_tree.kill_tree(self.pid, namespace=not self._guarded)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=process_tree.PATIENCE)
        self.running  # noqa: B018 (notes the time)
        self.drain(4 << 20)
        self._output.close()
        for fd in (self._exit_fd, self._lifeline):
            if fd is not None and fd >= 0:
                os.close(fd)


def _pidfd(pid: int) -> int | None:
    """A descriptor that is readable once the process has ended; None where the kernel has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _size(number: float) -> str:
    return f"{number / 1024**3:.2f} GiB" if number >= 1024**3 else f"{number / 1024**2:.0f} MiB"
