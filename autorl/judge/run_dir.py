"""Private run directories: fresh, locked while in use, then removed; dead judges' are swept."""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from autorl.environments import WORLDS
from autorl.judge.sandbox import FILTERS
from autorl.system.files import PROJECT
from autorl.system.locks import FileLock, holder

YOUNG_SECONDS = 60.0  # a directory without a lock file may still be in the making
KINDS = ("runs", "bytecode")


def runs_folder(root: Path = PROJECT) -> Path:
    """Where private run directories live: $AUTORL_HOME/runs, else <repository>/.autorl/runs."""
    home = os.environ.get("AUTORL_HOME")
    return Path(home).absolute() / "runs" if home else root / ".autorl" / "runs"


@contextlib.contextmanager
def private_directory(root: Path = PROJECT, what: str = "runs") -> Iterator[Path]:
    """A fresh directory of one of the KINDS, locked until the block ends and removed then."""
    home = runs_folder(root).with_name(what)
    home.mkdir(parents=True, exist_ok=True)
    if home.parent.name == ".autorl" and not (ignore := home.with_name(".gitignore")).exists():
        ignore.write_text("*\n", encoding="utf-8")  # git sees nothing of it
    path = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    lock = FileLock(path / "lock")
    try:
        while not lock.acquire(f"pid {os.getpid()}"):  # `is_dead` tries it for an instant
            time.sleep(0.01)
        yield path
    finally:
        remove(path)
        lock.release()


def put_harness(project: Path, folder: Path) -> None:
    """Copies, read-only, of what a run may import: evaluate.py, our worlds, the policy server.

    And the filter on system calls that the server loads.
    """
    worlds = folder / "autorl_worlds"
    worlds.mkdir(mode=0o700)
    server = Path(__file__).with_name("policy_server.py")
    filters = FILTERS.glob(f"{platform.machine()}.serve.bpf")
    for source in (project / "evaluate.py", server, *filters):
        shutil.copyfile(source, folder / source.name)
    for source in WORLDS.glob("*.py"):
        shutil.copyfile(source, worlds / source.name)
    for path in folder.rglob("*.*"):
        path.chmod(0o444)
    worlds.chmod(0o555)


def is_dead(path: Path) -> bool:
    """True when no living judge owns this private directory."""
    lock = path / "lock"
    if lock.is_file() and not lock.is_symlink():
        return not holder(lock)
    with contextlib.suppress(OSError):
        return time.time() - path.lstat().st_mtime > YOUNG_SECONDS
    return True


def sweep(root: Path = PROJECT) -> None:
    """Remove what dead judges and loops left behind.

    That is their private directories, and the (unconfined) processes that still run in them.
    """
    folders = [runs_folder(root).with_name(what) for what in KINDS]
    for path in (path for folder in folders for path in folder.glob("run-*")):
        if path.is_dir() and not path.is_symlink() and is_dead(path):
            _kill_processes_of(path)
            remove(path)


def _kill_processes_of(path: Path) -> None:
    """SIGKILL every process that has `path` for its run directory (Linux only).

    Its environment says so, or it is bubblewrap and binds it: then all inside ends with it.
    """
    mark = f"AUTORL_RUN_DIR={path}/".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            with open(entry / "environ", "rb") as file:
                unconfined = any(v.startswith(mark) for v in file.read(1 << 20).split(b"\0"))
            with open(entry / "cmdline", "rb") as file:
                argv = file.read(1 << 20).split(b"\0")
            confines = b"--die-with-parent" in argv and os.fsencode(path / "run") in argv
            if (unconfined or confines) and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)


def remove(path: Path) -> None:
    """Delete a directory, however deep, whatever modes a run left in it; links are not followed.

    By rm(1): shutil.rmtree recurses and holds a descriptor a level, and a run may nest endlessly.
    """
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        subprocess.run([*command, "--", path], stderr=subprocess.DEVNULL, check=False)
        if not path.exists():
            return
