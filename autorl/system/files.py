"""Files: read what somebody else may have left there, write what a reader never sees half.

Reading takes regular files only, follows no link, never blocks and is bounded: a confined child may
leave a symlink, a FIFO, a device or a sparse terabyte under any name we know. Writing is atomic and
durable.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from autorl.errors import Paused
from autorl.system.faults import effect, retry_when_full

# the folder that holds autorl/: a checkout, or site-packages
PROJECT = Path(__file__).resolve().parent.parent.parent
# evaluate.py, train.py, program.md inside a wheel; a checkout has its own
STARTER = PROJECT / "autorl" / "starter"
SOCKET_BYTES = 2 * 212_992  # that wait in a socket at most: Linux's usual wmem_max, doubled


def open_regular(path: Path | str, dir_fd: int | None = None) -> int:
    """A descriptor of a regular file; no link is followed, nothing blocks.

    Raises:
        OSError: there is none, or it is something else; `strerror` says which.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return fd


def read_regular(
    path: Path | str, at_most: int, tail: bool = False, dir_fd: int | None = None
) -> bytes:
    """The first (or last) `at_most` bytes of a regular file; OSError as of `open_regular`."""
    with open(open_regular(path, dir_fd), "rb") as file:
        if tail:
            file.seek(max(0, os.fstat(file.fileno()).st_size - at_most))
        return file.read(at_most)


def read_text(path: Path | str, at_most: int, tail: bool = False) -> str:
    """The same as valid UTF-8; "" when there is no such file."""
    try:
        return read_regular(path, at_most, tail).decode("utf-8", "replace")
    except OSError:
        return ""


def disk_usage(folder: Path, at_most_entries: int = 20_000) -> tuple[int, int]:
    """(bytes on disk, entries) below `folder`; stops counting after `at_most_entries`.

    Links are not followed. A folder that cannot be looked into (too deep for a path, or closed to
    us) counts as too many entries.
    """
    total = entries = 0
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > at_most_entries:
                        return total, entries
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    total += info.st_blocks * 512
                    if stat.S_ISDIR(info.st_mode):
                        folders.append(entry.path)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM):
                return total, at_most_entries + 1
    return total, entries


def nameless_usage(pids: Sequence[int], device: int) -> tuple[int, int]:
    """(bytes on `device`, bytes elsewhere) in nameless regular files that `pids` hold open.

    Elsewhere is memory: memfd, /dev/shm, and what the buffers of sockets may hold. None of it
    belongs to a process's resident memory until it is mapped. More than 50,000 descriptors are more
    than can be looked at: they count as endless.
    """
    seen: dict[tuple[int, int], int] = {}
    sockets: set[int] = set()
    looked = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                looked += 1
                if looked > 50_000:
                    return 1 << 62, 0
                with contextlib.suppress(OSError):
                    info = os.stat(f"/proc/{pid}/fd/{fd}")
                    if stat.S_ISSOCK(info.st_mode):
                        sockets.add(info.st_ino)  # a child has its parent's
                    if stat.S_ISREG(info.st_mode) and info.st_nlink == 0:
                        seen[info.st_dev, info.st_ino] = info.st_blocks * 512
    ours = sum(size for (dev, _), size in seen.items() if dev == device)
    return ours, sum(seen.values()) - ours + len(sockets) * SOCKET_BYTES


def mapped_usage(pids: Sequence[int], device: int) -> tuple[int, bool]:
    """(bytes on `device` in deleted files that `pids` map, whether there may be more).

    There may where descriptors are on their way through a socket, or where a mapped file cannot be
    looked at (only root can).
    """
    seen: dict[int, int] = {}
    more = False
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/maps", errors="replace") as maps:
                deleted = [line.split() for line in maps if line.endswith("(deleted)\n")]
            for area, *_, path, _ in deleted:
                first, last = (int(end, 16) for end in area.split("-"))
                try:
                    info = os.stat(f"/proc/{pid}/map_files/{first:x}-{last:x}")
                    if info.st_dev == device:
                        seen[info.st_ino] = info.st_blocks * 512
                except PermissionError:
                    more |= not path.startswith(("/memfd:", "/dev/", "/SYSV", "/tmp/"))
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}") as lines:
                    more |= any(x.startswith("scm_fds:") and x.split()[1] != "0" for x in lines)
    return sum(seen.values()), more


def atomic_write(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace a file whole: temporary file, fsync, rename, fsync of the folder.

    Args:
        durable: False leaves the fsyncs out, for what may be lost in a power cut.

    Raises:
        Paused: the disk is full (after two more tries), failing or read-only; the old file is as it
        was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def write() -> None:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(temporary, flags, mode), "wb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fchmod(file.fileno(), mode)
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if durable:
            fsync_folder(path.parent)

    try:
        make_folder(path.parent)
        _remove_leftovers(path)
        retry_when_full(lambda: effect("file write", write))
    except OSError as error:
        raise Paused(disk_trouble(error, path)) from error


def _remove_leftovers(path: Path) -> None:
    """Temporary files of writers that were killed between writing and renaming."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        pid = leftover.name.split(".")[-2]
        if pid.isdigit() and int(pid) != os.getpid() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                leftover.unlink()


def disk_trouble(error: OSError, path: Path) -> str:
    """One sentence about a failed write, with what to do."""
    what = {
        errno.ENOSPC: "the disk is full: free some space",
        errno.EDQUOT: "your disk quota is used up: free some space",
        errno.EROFS: "the file system is read-only: make it writable",
        errno.EACCES: "permission denied: make it writable",
        errno.EPERM: "permission denied: make it writable",
        errno.EIO: "the disk reports an I/O error: check it",
    }.get(error.errno or 0, f"{error.strerror or error}: fix that")
    return f"Cannot write {path}: {what}, then run the same command; everything up to here is kept."


def make_folder(folder: Path) -> None:
    """mkdir -p, durable: the parent of each new folder is fsynced."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        fsync_folder(new.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames and creations in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
