"""`agent_loop.py doctor`: is everything here that a session needs? One line each.

    for check in checks(root): ...      # check.ok, check.needed, check.sentence

The sandbox is really started and really probed; whether a key is set is shown, never its value.
What this file does not do: repair anything.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autorl.errors import AutoRLError
from autorl.judge import sandbox
from autorl.records import GIB
from autorl.system.faults import effect
from autorl.system.hardware import affinity

MIN_FREE_BYTES = 5 * GIB
MODULES = "numpy gymnasium cloudpickle git optuna psutil rich matplotlib anthropic"

# What a confined program may find out or do; each answer must be False. It prints the names of what
# got through. Arguments: a file of the user, a port that listens.
PROBE = """
import json, os, socket, sys
found = []
def tries(name, act):
    try:
        if act():
            found.append(name)
    except Exception:
        pass
def capabilities():
    status = open("/proc/self/status")
    return int(next(line for line in status if line.startswith("CapEff")).split()[1], 16)
def network():
    with socket.socket() as s:
        s.settimeout(1)
        s.connect(("127.0.0.1", int(sys.argv[2])))
        return True
tries("reads the user's files", lambda: os.path.exists(sys.argv[1]))
tries("writes outside of its run directory", lambda: open("/usr/autorl-probe", "w"))
tries("sees other processes", lambda: sum(p.isdigit() for p in os.listdir("/proc")) > 8)
tries("has capabilities", capabilities)
tries("sees the environment", lambda: "AUTORL_DOCTOR_CANARY" in os.environ)
tries("reaches the network", network)
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `needed` ones that are not ok make the exit code 1."""

    name: str
    ok: bool
    sentence: str
    needed: bool = True


def checks(root: Path) -> Iterator[Check]:
    """Every check in turn, so that a slow one does not hold back the others' lines."""
    yield _python()
    yield _packages()
    yield _torch()
    yield _environment("box2d", "BipedalWalker-v3")
    yield _environment("mujoco", "Hopper-v5")
    yield _envpool()
    yield _sandbox()
    yield _git(root)
    yield _disk(root)
    yield _key()
    yield _modal()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    remedy = "" if ok else " is too old: 3.11 or newer is needed (uv python install 3.11)"
    return Check("python", ok, version + remedy)


def _packages() -> Check:
    missing = [module for module in MODULES.split() if importlib.util.find_spec(module) is None]
    if missing:
        return Check("packages", False, f"missing: {', '.join(missing)}; run `uv sync`")
    return Check("packages", True, "all there")


def _torch() -> Check:
    try:
        import torch
    except Exception as error:
        why = f"cannot be imported ({type(error).__name__}: {error}); run `uv sync`"
        return Check("torch", False, why)
    gpu = "no CUDA device, training runs on the CPU"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(0)
    return Check("torch", True, f"{torch.__version__}; {gpu}; {len(affinity())} cores")


def _environment(name: str, env_id: str) -> Check:
    try:
        import gymnasium as gym

        env = gym.make(env_id)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return Check(name, False, f"{env_id} does not work ({why}); run `uv sync`")
    return Check(name, True, f"{env_id} steps")


def _envpool() -> Check:
    try:
        version = importlib.metadata.version("envpool")
    except importlib.metadata.PackageNotFoundError:
        why = (
            "not here (it has wheels for Linux on x86-64 only): training uses Gymnasium's vector "
            "environments, which is several times slower"
        )
        return Check("envpool", False, why, needed=False)
    return Check("envpool", True, f"{version}: training environments step in C++ threads")


def _sandbox() -> Check:
    box = sandbox.probe("auto")
    if not box.confined:
        why = f"none: {box.why}; runs go on, labelled isolation=none"
        return Check("sandbox", False, why, needed=False)
    try:
        found = _escapes(box)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return Check("sandbox", False, f"bubblewrap starts, but probing it failed ({error})")
    if found:
        why = f"bubblewrap runs, but a program inside {'; '.join(found)}: do not trust it here"
        return Check("sandbox", False, why)
    kept_out = "no files of yours, no writing, no network, no other process, no capability"
    if not box.seccomp:
        kept_out += "; but there is no system-call filter for this machine (see SECURITY.md)"
    return Check("sandbox", True, f"bubblewrap confines: {kept_out}")


def _escapes(box: sandbox.Sandbox) -> list[str]:
    """What a program inside the sandbox could do and should not; [] when the sandbox holds."""
    home = Path.home() if os.access(Path.home(), os.W_OK) else None
    with (
        tempfile.NamedTemporaryFile(dir=home, prefix=".autorl-probe-") as canary,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        port = str(server.getsockname()[1])
        probe = [sys.executable, "-I", "-S", "-c", PROBE, canary.name, port]
        argv = sandbox.wrap(box, probe, env={})
        env = os.environ | {"AUTORL_DOCTOR_CANARY": "1"}
        done = effect(
            "child start",
            lambda: subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, cwd="/", env=env
            ),
        )
        return [str(name) for name in json.loads(done.stdout)]


def _git(root: Path) -> Check:
    from autorl.git.repository import Repository

    try:
        Repository(root)
    except AutoRLError as error:
        return Check("git", False, str(error))
    return Check("git", True, "a repository with commits, an identity, and a committed harness")


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    ok = free >= MIN_FREE_BYTES
    remedy = "" if ok else f"; a session needs at least {MIN_FREE_BYTES / GIB:.0f}"
    return Check("disk", ok, f"{free / GIB:.0f} GiB free{remedy}")


def _key() -> Check:
    names = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
    if there := [name for name in names if os.environ.get(name)]:
        means = f"{there[0]} is set: the researcher is Claude"
    else:
        means = f"neither {' nor '.join(names)} is set: the researcher is the embedded search"
    return Check("anthropic key", bool(there), means, needed=False)


def _modal() -> Check:
    if os.environ.get("MODAL_TOKEN_ID") or (Path.home() / ".modal.toml").is_file():
        return Check("modal", True, "an account is configured")
    why = "no account is configured (only for --runner modal): uv run modal setup"
    return Check("modal", False, why, needed=False)
