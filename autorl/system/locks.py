"""Who may work: one loop per tag, and one measured run per core of this machine.

    lock = lock_session(folder / "session.lock", "demo")   # UserError when another loop has it
    held, who = hold_cores((0, 1))   # (None, who) when another loop measures there

Locks are flock(2), so they die with their holder, however it dies.

The core slots are lock files in one folder per user and machine (`AUTORL_HOME` moves it), so loops
in any repository share them. A held lock is closed in forked children and never inherited by
started ones.

What it does not do: wait, queue, or lock anything against other users of the machine.
"""

import contextlib
import errno
import fcntl
import os
import platform
import pwd
import stat
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

from autorl.errors import Paused, UserError
from autorl.system.faults import effect, retry_when_full

_held: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


class FileLock:
    """One flock on one file, whose text names the holder."""

    def __init__(self, path: Path):
        self.path = path
        self._fd: int | None = None

    def acquire(self, note: str) -> bool:
        """Take it now or not at all. `note` is written into the file for whoever is refused."""
        if self._fd is not None:
            return True
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, note.encode(), 0)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                return False
            raise
        self._fd = fd
        _held.add(self)
        return True

    def release(self) -> None:
        """Empty the file and unlock it."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            self._close()
            _held.discard(self)

    def _close(self) -> None:
        """Closing the last descriptor unlocks; when a fork closes its copy, the parent keeps it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _close_all() -> None:
    for lock in list(_held):
        lock._close()


os.register_at_fork(after_in_child=_close_all)


def holder(path: Path) -> str:
    """What the holder of a lock file says of itself ("pid 123 …"); "" when nobody holds it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ""
    except OSError:
        return os.pread(fd, 4096, 0).decode(errors="replace").strip() or "an unnamed process"
    finally:
        os.close(fd)


def holder_pid(path: Path) -> int | None:
    """The pid of the loop that holds a lock file, or None."""
    words = holder(path).split()
    return int(words[1]) if len(words) > 1 and words[0] == "pid" and words[1].isdigit() else None


def lock_session(path: Path, tag: str) -> FileLock:
    """Take a session's lock: one loop per tag. It also goes when the process ends in any way.

    Args:
        path: the lock file; made when absent, never deleted (deleting would let two hold "the"
            lock).
        tag: for the message.

    Raises:
        UserError: another loop holds it; names its pid.
        Paused: the file cannot be made.
    """
    lock, note = FileLock(path), f"pid {os.getpid()} on {platform.node()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(3):  # `holder()` in another process tries the lock for an instant
            if retry_when_full(lambda: effect("lock", lambda: lock.acquire(note))):
                return lock
            time.sleep(0.05)
    except OSError as error:
        raise Paused(
            f"Cannot lock {path}: {error.strerror}; make its folder writable, "
            "then run the same command."
        ) from error
    who = holder(path) or "another loop"
    raise UserError(
        f"Tag {tag} is being worked on by {who} (stop it with the command `stop --tag {tag}`)."
    )


def hold_cores(
    cores: Iterable[int], folder: Path | None = None
) -> tuple[contextlib.ExitStack | None, str]:
    """Hold cores of this machine against all other loops of this user: all of them, or none.

    Args:
        folder: of the lock files; None: `slots_folder()`.

    Returns:
        What holds them until it is closed and "", or None and which core is held by whom.

    Raises:
        UserError: the folder cannot be used.
    """
    folder, held = folder or slots_folder(), contextlib.ExitStack()
    try:
        _own_folder(folder)
        for core in sorted(set(cores)):
            lock = FileLock(folder / f"slot-{core}.lock")
            if not lock.acquire(f"pid {os.getpid()} in {os.getcwd()}"):
                held.close()
                return None, f"core {core} is held by {holder(lock.path) or 'another loop'}"
            held.callback(lock.release)
    except OSError as error:
        held.close()
        raise UserError(
            f"Cannot use {folder} for the slots of this machine ({error.strerror}): "
            "set AUTORL_HOME to a writable folder."
        ) from error
    return held, ""


def slots_folder() -> Path:
    """The folder of the core slots: the same for every loop of this user on this machine.

    HOME, TMPDIR and XDG_RUNTIME_DIR differ between a terminal, cron and ssh, so none is asked: the
    account's home folder is, with the machine's name because homes may be shared; a private folder
    in /tmp when that cannot be written.
    """
    if moved := os.environ.get("AUTORL_HOME"):
        return Path(moved) / "slots"
    with contextlib.suppress(KeyError, OSError):
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        folder = home / ".cache" / "autorl" / f"slots-{platform.node() or 'local'}"
        _own_folder(folder)
        if os.access(folder, os.W_OK):
            return folder
    return Path("/tmp", f"autorl-{os.getuid()}", "slots")


def _own_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "not a folder of yours", str(folder))
