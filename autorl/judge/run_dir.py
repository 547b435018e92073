"""Private run directories: fresh, ours while we hold the lock in them, gone afterwards; dead ones are swept.

What this file does not do: put anything into them.
"""

import contextlib
import fcntl
import os
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from autorl.system.files import PROJECT

YOUNG_SECONDS = 60.0  # a directory without a lock file may still be in the making


def runs_folder(root: Path = PROJECT) -> Path:
    """Where private run directories live: $AUTORL_HOME/runs, else <repository>/.autorl/runs."""
    home = os.environ.get("AUTORL_HOME")
    return Path(home).absolute() / "runs" if home else root / ".autorl" / "runs"


@contextlib.contextmanager
def private_directory(root: Path = PROJECT, what: str = "runs") -> Iterator[Path]:
    """A fresh directory among others of its kind ("runs", "bytecode"), locked until the block ends and removed then."""
    home = runs_folder(root).with_name(what)
    home.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        remove(path)
        os.close(lock)


def is_dead(path: Path) -> bool:
    """True when no living judge owns this private directory."""
    try:
        fd = os.open(path / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        with contextlib.suppress(OSError):
            return time.time() - path.lstat().st_mtime > YOUNG_SECONDS
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def sweep(root: Path = PROJECT) -> list[Path]:
    """Remove what dead judges and loops left: their private directories, and processes that still run in them (unconfined ones)."""
    swept = []
    for path in sorted(
        p for what in ("runs", "bytecode") for p in runs_folder(root).with_name(what).glob("run-*")
    ):
        if path.is_dir() and not path.is_symlink() and is_dead(path):
            kill_tenants(path)
            remove(path)
            swept.append(path)
    return swept


def kill_tenants(path: Path) -> int:
    """SIGKILL every process whose environment names `path` as its run directory; returns how many (Linux only)."""
    mark = f"AUTORL_RUN_DIR={path}/".encode()
    count = 0
    for entry in os.scandir("/proc") if os.path.isdir("/proc/self") else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{entry.name}/environ", "rb") as file:
                if any(item.startswith(mark) for item in file.read(1 << 20).split(b"\0")):
                    os.kill(int(entry.name), signal.SIGKILL)
                    count += 1
    return count


def remove(path: Path) -> None:
    """Delete a directory, however deep and whatever modes its tenant left in it; links are removed, not followed.

    Walks with one descriptor, down by name and up by `..`: no recursion, no path that grows too long.
    """
    with contextlib.suppress(OSError):
        here = _open_folder(path)
        try:
            way = [
                (path.name, os.fstat(here).st_ino, _unlink_files(here))
            ]  # (name, inode, folders left in it)
            while True:
                name, _, folders = way[-1]
                if folders:
                    child = folders.pop()
                    with contextlib.suppress(OSError):
                        os.chmod(child, 0o700, dir_fd=here)
                        below = _open_folder(child, here)
                        os.close(here)
                        here = below
                        way.append((child, os.fstat(here).st_ino, _unlink_files(here)))
                    continue
                way.pop()
                if not way:
                    break
                above = _open_folder("..", here)
                os.close(here)
                here = above
                if os.fstat(here).st_ino != way[-1][1]:
                    return  # somebody moved it under our feet
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=here)
        finally:
            os.close(here)
        os.rmdir(path)


def _open_folder(name: str | Path, inside: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)


def _unlink_files(folder: int) -> list[str]:
    """Remove what is no folder; returns the names of the folders."""
    folders = []
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                folders.append(name)
            else:
                os.unlink(name, dir_fd=folder)
    return folders
