"""Process trees: who is in one, what it uses, and ending all of it.

Linux reads /proc directly (a sample of a small tree costs well under a millisecond); elsewhere psutil does.
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
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree holds at one moment."""

    pids: tuple[int, ...]
    threads: int
    rss_bytes: int  # shared pages counted once per process
    cpu_seconds: float  # of the living and of the dead they have waited for


def prctl(option: int, value: int) -> bool:
    """One process attribute (Linux); False where there is no such thing."""
    if not LINUX:
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0


def new_session_keyring() -> bool:
    """Leave the kernel keyring that the login gave this thread for an empty one; children inherit it (keyctl(2)).

    A namespace does not: through an inherited one a run could reach the user's keys, and leave a file for the next run.
    """
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine) if LINUX else None
    return (
        number is not None and ctypes.CDLL(None, use_errno=True).syscall(number, 1, None) >= 0
    )  # KEYCTL_JOIN_SESSION_KEYRING


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
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for tid in tids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{tid}/children", "rb") as file:
            found.extend(map(int, file.read().split()))
    return found


def descendants(root: int, at_most: int = 100_000) -> list[int]:
    """`root` and all below it, parents first; stops looking once `at_most` are found."""
    if not LINUX:
        return _psutil_descendants(root)
    pids, seen = [root], {root}
    for pid in pids:
        for child in children(pid):
            if child not in seen:
                seen.add(child)
                pids.append(child)
        if len(pids) > at_most:
            break
    return pids


def _psutil_descendants(root: int) -> list[int]:
    import psutil

    try:
        return [root, *(p.pid for p in psutil.Process(root).children(recursive=True))]
    except psutil.Error:
        return []


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

    threads = rss = 0
    cpu = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                threads, rss = threads + process.num_threads(), rss + process.memory_info().rss
                cpu += times.user + times.system + times.children_user + times.children_system
    return Usage(tuple(pids), threads, rss, cpu)


def pss_bytes(pids: tuple[int, ...]) -> int | None:
    """Proportional memory of some processes: shared pages shared out. Slower than RSS; None where not told."""
    total, told = 0, False
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                for line in file:
                    if line.startswith(b"Pss:"):
                        total, told = total + int(line.split()[1]) * 1024, True
                        break
        except PermissionError:
            return None  # one that hides makes the sum unknown
        except OSError:
            continue
    return total if told else None


def shared_memory_bytes() -> int:
    """Of the whole machine: tmpfs, memfd, System V segments, whoever holds them; 0 where not told."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(
                (int(line.split()[1]) * 1024 for line in file if line.startswith("Shmem:")), 0
            )
    except (OSError, ValueError):
        return 0


def alive(pid: int) -> bool:
    """Running: not gone, not a zombie."""
    if LINUX:
        fields = stat_fields(pid)
        return fields is not None and fields[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def kill_tree(root: int, namespace: bool = False, patience: float = 10.0) -> list[int]:
    """SIGKILL `root` and everything below it until nothing of it lives; what does after `patience` is returned.

    A process that was reparented to us (we may be a subreaper) is waited for, so no zombie stays. The caller waits for
    `root` itself. Each round looks again, since a tree may fork while it is being killed; it is stopped first.
    """
    if namespace:  # the first child is process 1 of a PID namespace: with it all others end at once, fork bomb or not
        for pid in children(root):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return _kill(root, True, patience)


def kill_below(root: int, patience: float = 10.0) -> list[int]:
    """The same for everything below `root`, which itself lives on: strays that were reparented to us."""
    return _kill(root, False, patience)


def _kill(root: int, itself: bool, patience: float) -> list[int]:
    known: set[int] = set()
    deadline = time.monotonic() + patience
    while True:
        found = [pid for pid in descendants(root) if pid != root or (itself and alive(root))]
        known.update(found)
        for sent in (signal.SIGSTOP, signal.SIGKILL):
            for pid in known if sent == signal.SIGKILL else found:
                if alive(pid):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, sent)
        for pid in known - {root}:
            with contextlib.suppress(ChildProcessError, OSError):
                os.waitpid(pid, os.WNOHANG)
        left = [pid for pid in known if alive(pid)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.005)
