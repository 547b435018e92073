"""argv -> confined argv: bubblewrap on Linux, nothing silently.

    box = probe("auto")                     # really starts one; Sandbox(name="bwrap" | "none", why=...)
    argv = wrap(box, ["python", "train.py"], env=..., writable={run_dir: RUN}, readable={harness: HARNESS})
    advice()                                # one line: what is missing and how to get it, "" when nothing is

Inside there is an allow-list and nothing else: /usr and a few files of /etc, the Python environment, what the caller
binds, private and empty /tmp, /dev/shm and HOME, no network, no other process, no capability, a cleared environment,
and every mount but the private ones read-only. Bind mounts come after the empty /tmp, so an interpreter or a clone that
lives under /tmp or HOME is still there. Flags are tried at the start, strongest first, never assumed.

What this file does not do: start the run, watch its limits, or fall back without saying so.
"""

import functools
import os
import platform
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autorl.errors import UserError
from autorl.records import GIB
from autorl.system.faults import effect
from autorl.system.files import PROJECT, STARTER

Mode = Literal["auto", "bwrap", "off"]

RUN, HARNESS, HOME = "/autorl/run", "/autorl/harness", "/tmp/home"  # where things are inside
TMPFS_BYTES = 2 * GIB  # each of /tmp and /dev/shm, at most: they are memory

# From /etc only what loading libraries, time zones and user names needs.
ETC = ("alternatives", "fonts", "group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "os-release",
       "passwd", "timezone", "OpenCL", "vulkan", "glvnd", "nvidia")  # fmt: skip
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
GPU_NODES = ("nvidia*", "nvidia-caps/*", "dri/*", "kfd")
# CPU topology, which torch and OpenMP read; all of /sys where there is a GPU, whose driver needs it.
SYS_CPU = ("/sys/devices/system/cpu", "/sys/devices/system/node")

PLACES = ("/usr/bin", "/usr/local/bin", "/bin")  # of the program, besides PATH
STRICT = ("--unshare-all", "--unshare-user", "--disable-userns")
PLAIN = ("--unshare-all",)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What confinement there is on this machine, for this mode."""

    name: Literal["bwrap", "none"]
    why: str = ""  # one line: why it is "none"
    program: str = ""
    flags: tuple[str, ...] = ()

    @property
    def confined(self) -> bool:
        return self.name != "none"


def probe(mode: Mode = "auto") -> Sandbox:
    """Try it: start a confined Python and see that it runs.

    Raises:
        UserError: mode is "bwrap" and it does not work here.
    """
    if mode == "off":
        return Sandbox("none", "the sandbox is switched off (--sandbox off)")
    box = _try(os.environ.get("PATH", ""))
    if mode == "bwrap" and not box.confined:
        raise UserError(f"--sandbox bwrap does not work here: {box.why}")
    return box


@functools.cache
def _try(path: str) -> Sandbox:
    if sys.platform != "linux":
        return Sandbox(
            "none",
            f"there is no sandbox for {platform.system()}: use Linux, or Modal, for confined runs",
        )
    program = shutil.which("bwrap", path=os.pathsep.join((path, *PLACES)))
    if program is None:
        return Sandbox(
            "none",
            "bubblewrap is not installed: sudo apt-get install bubblewrap (Fedora: dnf, Arch: pacman -S, same package name)",
        )
    complaint = ""
    for flags in (STRICT, PLAIN):
        box = Sandbox("bwrap", "", program, flags)
        argv = wrap(
            box, [sys.executable, "-I", "-S", "-c", "import os; print(os.getpid())"], env={}
        )
        try:
            start: Any = functools.partial(
                subprocess.run,
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                cwd="/",
            )
            tried: subprocess.CompletedProcess[bytes] = effect("child start", start)
        except (OSError, subprocess.TimeoutExpired) as error:
            complaint = str(error)
            continue
        if (
            tried.returncode == 0 and tried.stdout.strip().isdigit() and int(tried.stdout) < 10
        ):  # in a PID namespace of its own
            return box
        complaint = (
            tried.stderr.decode("utf-8", "replace").strip().splitlines()[-1][:200]
            if tried.stderr.strip()
            else f"exit code {tried.returncode}"
        )
    return Sandbox("none", _remedy(complaint))


def _remedy(complaint: str) -> str:
    """Why an installed bubblewrap does not work, and what to do."""

    def says(path: str, value: str) -> bool:
        try:
            return Path(path).read_text().strip() == value
        except OSError:
            return False

    if says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
        how = "AppArmor keeps user namespaces from it: add a profile for /usr/bin/bwrap that has the line `userns,` (see SECURITY.md)"
    elif says("/proc/sys/kernel/unprivileged_userns_clone", "0") or says(
        "/proc/sys/user/max_user_namespaces", "0"
    ):
        how = "the kernel forbids user namespaces: sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000"
    elif Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        how = "this container forbids namespaces: start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
    else:
        how = "see SECURITY.md"
    return f"bubblewrap is installed but does not work ({complaint}); {how}"


def advice(mode: Mode = "auto") -> str:
    """One line about what is missing and how to get it; "" when nothing is."""
    box = probe(mode)
    return "" if box.confined else f"Runs are not confined (isolation=none): {box.why}."


# ---------------------------------------------------------------------------
# The argv
# ---------------------------------------------------------------------------


def wrap(box: Sandbox, argv: Sequence[str], *, env: Mapping[str, str], writable: Mapping[Path, str] | None = None,
         readable: Mapping[Path, str] | None = None, tmpfs_bytes: int = TMPFS_BYTES, chdir: str = "/") -> list[str]:  # fmt: skip
    """The argv that runs `argv` confined; unconfined it is returned as it is.

    Args:
        env: the whole environment inside; HOME and TMPDIR are set here.
        writable, readable: outside path -> path inside.
    """
    if not box.confined:
        return list(argv)
    size = ["--size", str(tmpfs_bytes)]
    # What bubblewrap itself is started with can be read inside, in /proc/1/environ: so that is nothing.
    out = [
        "/usr/bin/env",
        "-i",
        box.program,
        *box.flags,
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--hostname",
        "autorl",
        "--clearenv",
    ]
    for name, value in (dict(env) | {"HOME": HOME, "TMPDIR": "/tmp"}).items():
        out += ["--setenv", name, value]
    out += [
        *size,
        "--perms",
        "1777",
        "--tmpfs",
        "/tmp",
        "--dir",
        HOME,
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        *size,
        "--perms",
        "1777",
        "--tmpfs",
        "/dev/shm",
    ]
    if os.path.exists(
        "/proc/keys"
    ):  # the numbers of the user's kernel keyrings, and what an earlier run could have noted there
        out += ["--ro-bind", "/dev/null", "/proc/keys"]
    nodes = gpu_nodes()
    for node in nodes:
        out += ["--dev-bind", node, node]
    for path in [
        "/usr",
        *(f"/etc/{name}" for name in ETC),
        *(["/sys"] if nodes else SYS_CPU),
        *python_paths(),
    ]:
        if os.path.exists(path):
            out += ["--ro-bind", path, path]
    for name in LINKS:
        link = Path("/", name)
        if link.is_symlink():
            out += ["--symlink", os.readlink(link), str(link)]
        elif link.is_dir():
            out += ["--ro-bind", str(link), str(link)]
    for source, target in (readable or {}).items():
        out += ["--ro-bind", str(source), target]
    for source, target in (writable or {}).items():
        out += ["--bind", str(source), target]
    # /proc too: root owns /proc/sys/kernel/core_pattern even without a capability, and that would be a way out.
    return [
        *out,
        "--remount-ro",
        "/proc",
        "--remount-ro",
        "/dev",
        "--remount-ro",
        "/",
        "--chdir",
        chdir,
        "--",
        *argv,
    ]


def gpu_nodes() -> list[str]:
    """Device nodes of graphics cards: without them a confined process quietly computes on the CPU."""
    return (
        sorted(
            str(p)
            for pattern in GPU_NODES
            for p in Path("/dev").glob(pattern)
            if p.is_char_device()
        )
        if _has_gpu()
        else []
    )


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()


def python_paths() -> list[str]:
    """What this interpreter and its packages are made of, beyond /usr; never a user's HOME or this repository as a whole."""
    found = [
        sys.prefix,
        sys.exec_prefix,
        sys.base_prefix,
        sys.base_exec_prefix,
        *site.getsitepackages(),
    ]
    hop = Path(sys.executable)
    for _ in range(10):  # .venv/bin/python -> .../bin/python3 -> .../bin/python3.11
        found.append(str(hop.parent.parent))
        if not hop.is_symlink():
            break
        hop = Path(os.path.normpath(hop.parent / os.readlink(hop)))
    found += [os.path.realpath(p) for p in found]
    checkout = (
        "" if STARTER.is_dir() else str(PROJECT)
    )  # an installed autoRL lies among the packages
    for entry in sys.path:  # packages installed in place (.pth files); this repository and the current folder are not packages
        if (
            entry
            and os.path.isdir(entry)
            and not (checkout and (_within(checkout, entry) or _within(entry, checkout)))
        ):
            found.append(entry)
    found += [
        p for p in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if p and os.path.isdir(p)
    ]
    forbidden = {
        "/",
        "/usr",
        "/home",
        "/root",
        "/tmp",
        "/etc",
        "/var",
        checkout,
        os.path.realpath(os.path.expanduser("~")),
    }
    kept: list[str] = []
    for path in sorted({os.path.abspath(p) for p in found}, key=len):
        if (
            path not in forbidden
            and not _within(path, "/usr")
            and not any(_within(path, k) for k in kept)
        ):
            kept.append(path)
    return kept


def _within(path: str | Path, folder: str) -> bool:
    path = str(path)
    return path == folder or path.startswith(folder.rstrip("/") + "/")
