"""Process trees: who is in one, what it uses, and ending all of it.

Linux reads /proc directly (a sample of a small tree costs well under a millisecond); elsewhere
psutil does.
What this file does not do: start anything, or decide what is too much.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass

LINUX = sys.platform == "linux"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 10.0  # seconds that killed processes are given to be gone

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KEYCTL = {"x86_64": 250, "aarch64": 219}  # number of the system call, by machine
KEYCTL_JOIN_SESSION_KEYRING = 1


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree holds at one moment."""

    pids: tuple[int, ...]
    threads: int
    rss_bytes: int  # shared pages counted once per process
    cpu_seconds: float  # of the living and of the dead they have waited for


def prctl(option: int, value: int) -> bool:
    """One process attribute (Linux); False where there is no such thing."""
    return LINUX and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def new_session_keyring() -> None:
    """Leave the kernel keyring that the login gave this thread for an empty one (keyctl(2)).

    Children inherit it, and a namespace does not change that: through an inherited one a run could
    reach the user's keys, and leave a file for the next run.
    """
    if LINUX and (number := KEYCTL.get(os.uname().machine)):
        ctypes.CDLL(None).syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def stat_fields(pid: int) -> list[str] | None:
    """/proc/PID/stat from field 3 (state) on, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii", "replace").split()
    except OSError:
        return None


def children(pid: int) -> list[int]:
    """Direct children of every thread of `pid`."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task"):
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{pid}/task/{tid}/children", "rb") as file,
            ):
                found.extend(map(int, file.read().split()))
    return found


def descendants(root: int, at_most: int = 100_000) -> list[int]:
    """`root` and all below it, parents first; stops looking once `at_most` are found."""
    if not LINUX:
        import psutil

        try:
            return [root, *(p.pid for p in psutil.Process(root).children(recursive=True))]
        except psutil.Error:
            return []
    pids, seen = [root], {root}
    for pid in pids:
        new = [child for child in children(pid) if child not in seen]
        pids += new
        seen.update(new)
        if len(pids) > at_most:
            break
    return pids


def usage(root: int, at_most: int = 100_000) -> Usage:
    """One sample of the tree under `root`."""
    pids = descendants(root, at_most)
    if not LINUX:
        return _psutil_usage(pids)
    threads = rss = ticks = 0
    for pid in pids:
        if fields := stat_fields(pid):
            ticks += sum(map(int, fields[11:15]))  # utime stime cutime cstime
            threads += int(fields[17])
            rss += int(fields[21]) * PAGE
    return Usage(tuple(pids), threads, rss, ticks / TICK)


def _psutil_usage(pids: list[int]) -> Usage:
    import psutil

    threads, rss, cpu = 0, 0, 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                threads, rss = threads + process.num_threads(), rss + process.memory_info().rss
                cpu += sum(process.cpu_times()[:4])  # user system children_user children_system
    return Usage(tuple(pids), threads, rss, cpu)


def pss_bytes(pids: tuple[int, ...]) -> int | None:
    """Proportional memory of some processes: shared pages shared out.

    Slower than RSS; None where the kernel does not say.
    """
    total, known = 0, False
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                for line in file:
                    if line.startswith(b"Pss:"):
                        total, known = total + int(line.split()[1]) * 1024, True
                        break
        except PermissionError:
            return None  # one that hides makes the sum unknown
        except OSError:
            continue
    return total if known else None


def shared_memory_bytes() -> int:
    """Of the whole machine: tmpfs, memfd, System V segments, whoever holds them; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("Shmem:"):
                return int(line.split()[1]) * 1024
    return 0


def alive(pid: int) -> bool:
    """Running: not gone, not a zombie."""
    if LINUX:
        fields = stat_fields(pid)
        return fields is not None and fields[0] not in "ZX"
    import psutil

    return bool(psutil.pid_exists(pid))


def kill_tree(root: int, *, itself: bool = True, namespace: bool = False) -> None:
    """SIGKILL `root` and everything below it, until nothing of it lives or PATIENCE is over.

    Each round looks again, since a tree may fork while it is being killed; it is stopped first. A
    process that was reparented to us (we may be a subreaper) is waited for, so no zombie stays; for
    `root` the caller waits.

    Args:
        itself: False spares `root`.
        namespace: its first child is process 1 of a PID namespace: with it all others end at once,
        fork bomb or not.
    """
    if namespace:
        for pid in children(root):
            _send(pid, signal.SIGKILL)
    known: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [pid for pid in descendants(root) if pid != root or (itself and alive(root))]
        known.update(found)
        for pid in found:
            if alive(pid):
                _send(pid, signal.SIGSTOP)
        for pid in known:
            if alive(pid):
                _send(pid, signal.SIGKILL)
        for pid in known - {root}:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
        if not any(map(alive, known)) or time.monotonic() > deadline:
            return
        time.sleep(0.005)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
