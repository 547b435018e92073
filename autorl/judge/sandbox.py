"""argv -> confined argv: bubblewrap on Linux, and never silently nothing.

    box = probe("auto")            # really starts one; Sandbox(name="bwrap" | "none", why=...)
    argv = wrap(box, ["python", "train.py"], env=..., writable={run_dir: RUN}, readable={...})
    advice()                       # one line: what is missing and how to get it, "" when nothing is

Inside there is an allow-list and nothing else: /usr and a few files of /etc, the Python
environment, what the caller binds, private and empty /tmp, /dev/shm and HOME, no network, no other
process, no capability, a cleared environment, a filter on system calls (seccomp/make.py), and every
mount but the private ones read-only. Bind mounts come after the empty /tmp, so an interpreter or a
clone that lives under /tmp or HOME is still there. Flags are tried at the start, strongest first,
never assumed.

What this file does not do: start the run, watch its limits, or fall back without saying so.
"""

import functools
import os
import platform
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autorl.errors import UserError
from autorl.records import GIB, SandboxMode
from autorl.system.faults import effect
from autorl.system.files import PROJECT, STARTER

RUN, HARNESS, HOME = "/autorl/run", "/autorl/harness", "/tmp/home"  # where things are inside
MODULES = "/autorl/modules"  # the module of the environment, where it is not installed
TMPFS_BYTES = 2 * GIB  # each of /tmp and /dev/shm, at most: they are memory

# From /etc only what loading libraries, time zones and user names needs.
ETC = (
    "alternatives", "fonts", "group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "nsswitch.conf", "os-release", "passwd", "timezone",
    "OpenCL", "vulkan", "glvnd", "nvidia",
)  # fmt: skip
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
GPU_NODES = ("nvidia*", "nvidia-caps/*", "dri/*", "kfd")
# CPU topology, for torch and OpenMP; all of /sys where there is a GPU, whose driver needs it.
SYS_CPU = ("/sys/devices/system/cpu", "/sys/devices/system/node")
# Never shown as a whole, whatever lies on sys.path.
FORBIDDEN = {"/", "/usr", "/home", "/root", "/tmp", "/etc", "/var"}

PLACES = ("/usr/bin", "/usr/local/bin", "/bin")  # of the program, besides PATH
STRICT = ("--unshare-all", "--unshare-user", "--disable-userns")
PLAIN = ("--unshare-all",)

# sh -c FEW N command...: no more than N processes and threads, in bash's and in dash's words
FEW = 'ulimit -u "$0" 2>/dev/null || ulimit -p "$0"; exec "$@"'
COUNTED_APART = (5, 14)  # since this Linux a user namespace counts its own processes (RLIMIT_NPROC)

FILTERS = Path(__file__).with_name("seccomp")
FILTER_FD = 9  # the highest that a plain sh can open; what is inherited must lie above it


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What confinement there is on this machine, for this mode."""

    name: Literal["bwrap", "none"]
    why: str = ""  # one line: why it is "none"
    program: str = ""
    flags: tuple[str, ...] = ()
    seccomp: str = ""  # the file of the system-call filter; "" where there is none

    @property
    def confined(self) -> bool:
        return self.name != "none"


def probe(mode: SandboxMode = "auto") -> Sandbox:
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
        why = f"there is no sandbox for {platform.system()}: use Linux, or Modal, for confined runs"
        return Sandbox("none", why)
    program = shutil.which("bwrap", path=os.pathsep.join((path, *PLACES)))
    if program is None:
        return Sandbox(
            "none",
            "bubblewrap is not installed: sudo apt-get install bubblewrap "
            "(Fedora: dnf, Arch: pacman -S, same package name)",
        )
    complaint, ours = "", FILTERS / f"{platform.machine()}.bpf"
    for seccomp in (str(ours), "") if ours.is_file() else ("",):
        for flags in (STRICT, PLAIN):
            box = Sandbox("bwrap", "", program, flags, seccomp)
            if not (complaint := _complaint(box)):
                return box
    return Sandbox("none", _remedy(complaint))


def _complaint(box: Sandbox) -> str:
    """Why a Python confined in it does not run; "" when it does."""
    argv = [sys.executable, "-I", "-S", "-c", "import os; print(os.getpid())"]
    argv = wrap(box, argv, env={})
    try:
        tried = effect(
            "child start",
            lambda: subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, cwd="/"
            ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    pid = tried.stdout.strip()
    if tried.returncode == 0 and pid.isdigit() and int(pid) < 10:  # a PID namespace of its own
        return ""
    errors = tried.stderr.decode("utf-8", "replace").strip()
    return errors.splitlines()[-1][:200] if errors else f"exit code {tried.returncode}"


def _remedy(complaint: str) -> str:
    """Why an installed bubblewrap does not work, and what to do."""

    def says(path: str, value: str) -> bool:
        try:
            return Path(path).read_text().strip() == value
        except OSError:
            return False

    if says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
        how = (
            "AppArmor keeps user namespaces from it: add a profile for /usr/bin/bwrap that has "
            "the line `userns,` (see SECURITY.md)"
        )
    elif says("/proc/sys/kernel/unprivileged_userns_clone", "0") or says(
        "/proc/sys/user/max_user_namespaces", "0"
    ):
        how = (
            "the kernel forbids user namespaces: "
            "sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000"
        )
    elif Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        how = (
            "this container forbids namespaces: start it with --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined --security-opt systempaths=unconfined"
        )
    else:
        how = "see SECURITY.md"
    return f"bubblewrap is installed but does not work ({complaint}); {how}"


def advice(mode: SandboxMode = "auto") -> str:
    """One line about what is missing and how to get it; "" when nothing is."""
    box = probe(mode)
    return "" if box.confined else f"Runs are not confined (isolation=none): {box.why}."


# -- The argv --------------------------------------------------------------------------------------


def wrap(
    box: Sandbox,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    writable: Mapping[Path, str] | None = None,
    readable: Mapping[Path, str] | None = None,
    tmpfs_bytes: int = TMPFS_BYTES,
    processes: int = 0,
    chdir: str = "/",
) -> list[str]:
    """The argv that runs `argv` confined; unconfined it is returned as it is.

    A descriptor that it is to inherit has a number above FILTER_FD.

    Args:
        env: the whole environment inside; HOME and TMPDIR are set here.
        writable, readable: outside path -> path inside.
        processes: the kernel allows no more (and threads); 0: any number. It does not bind root.
    """
    if not box.confined:
        return list(argv)
    # What bubblewrap itself is started with can be read inside, in /proc/1/environ: so nothing.
    out = ["/usr/bin/env", "-i", box.program, *box.flags]
    if box.seccomp:
        opened = f'exec "$@" {FILTER_FD}<"$0"'
        out = ["/bin/sh", "-c", opened, box.seccomp, *out, "--seccomp", str(FILTER_FD)]
    out += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    out += ["--hostname", "autorl", "--clearenv"]
    for name, value in (dict(env) | {"HOME": HOME, "TMPDIR": "/tmp"}).items():
        out += ["--setenv", name, value]
    tmpfs = ["--size", str(tmpfs_bytes), "--perms", "1777", "--tmpfs"]
    out += [*tmpfs, "/tmp", "--dir", HOME, "--proc", "/proc", "--dev", "/dev", *tmpfs, "/dev/shm"]
    if os.path.exists("/proc/keys"):  # numbers of the user's kernel keyrings, and any run's notes
        out += ["--ro-bind", "/dev/null", "/proc/keys"]
    nodes = gpu_nodes()
    for node in nodes:
        out += ["--dev-bind", node, node]
    etc = (f"/etc/{name}" for name in ETC)
    for path in ("/usr", *etc, *(["/sys"] if nodes else SYS_CPU), *python_paths()):
        if os.path.exists(path):
            out += ["--ro-bind", path, path]
    for link in (Path("/", name) for name in LINKS):
        if link.is_symlink():
            out += ["--symlink", os.readlink(link), str(link)]
        elif link.is_dir():
            out += ["--ro-bind", str(link), str(link)]
    for lock in _locks():
        out += ["--ro-bind", "/dev/null", lock]
    for source, target in (readable or {}).items():
        out += ["--ro-bind", str(source), target]
    for source, target in (writable or {}).items():
        out += ["--bind", str(source), target]
    # /proc too: root owns /proc/sys/kernel/core_pattern even without a capability, and that would
    # be a way out.
    for path in ("/proc", "/dev", "/"):
        out += ["--remount-ro", path]
    return [*out, "--chdir", chdir, "--", *_inside(argv, processes)]


def _inside(argv: Sequence[str], processes: int) -> list[str]:
    """What bubblewrap starts."""
    program, *rest = argv
    if os.sep in program:  # ../.venv/bin/python leads through a folder that is not there
        program = os.path.abspath(program)
    release = [int(number) for number in re.findall(r"\d+", platform.release())[:2]]
    counted = bool(processes) and os.geteuid() != 0 and tuple(release) >= COUNTED_APART
    few = ["/bin/sh", "-c", FEW, str(processes)] if counted else []
    return [*few, program, *rest]


def gpu_nodes() -> list[str]:
    """Device nodes of graphics cards: without them a run would silently compute on the CPU."""
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()):
        return []
    nodes = (path for pattern in GPU_NODES for path in Path("/dev").glob(pattern))
    return sorted(str(path) for path in nodes if path.is_char_device())


def python_paths() -> list[str]:
    """What this interpreter and its packages are made of, beyond /usr.

    Never a user's HOME or this repository as a whole.
    """
    # an installed autoRL lies among the packages
    checkout = "" if STARTER.is_dir() else str(PROJECT)
    forbidden = FORBIDDEN | {checkout, os.path.realpath(os.path.expanduser("~"))}
    kept: list[str] = []
    for path in sorted({os.path.abspath(p) for p in _python_paths(checkout)}, key=len):
        if path not in forbidden and not any(_within(path, k) for k in ("/usr", *kept)):
            kept.append(path)
    return kept


def _python_paths(checkout: str) -> Iterator[str]:
    roots = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    roots += site.getsitepackages()
    hop = Path(sys.executable)
    for _ in range(10):  # .venv/bin/python -> .../bin/python3 -> .../bin/python3.11
        roots.append(str(hop.parent.parent))
        if not hop.is_symlink():
            break
        hop = Path(os.path.normpath(hop.parent / os.readlink(hop)))
    yield from roots
    yield from map(os.path.realpath, roots)
    # packages installed in place (.pth files); this repository and the current folder are none
    for entry in filter(os.path.isdir, sys.path):
        if not (checkout and (_within(checkout, entry) or _within(entry, checkout))):
            yield entry
    yield from filter(os.path.isdir, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))


def _locks() -> list[str]:
    """uv's locks on what a run can see: one that it held would make the user's `uv run` wait."""
    folders = (*python_paths(), os.path.realpath(sys.prefix))
    return list(filter(os.path.isfile, (os.path.join(folder, ".lock") for folder in folders)))


def _within(path: str | Path, folder: str) -> bool:
    path = str(path)
    return path == folder or path.startswith(folder.rstrip("/") + "/")
