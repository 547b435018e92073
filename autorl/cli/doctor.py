"""`agent_loop.py doctor`: is everything here that a night needs? One line each.

    for check in checks(root): ...      # check.ok, check.needed, check.sentence

The sandbox is really started and really probed; a key's presence is told, never its value. What this file does not do:
repair anything.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autorl.errors import AutoRLError
from autorl.judge import sandbox
from autorl.records import GIB
from autorl.system.faults import effect
from autorl.system.hardware import affinity

MIN_FREE_BYTES = 5 * GIB

# What a confined program may find out or do; each answer must be False. It prints the names of what got through.
PROBE = """
import json, os, socket, sys
found = []
def tries(name, act):
    try:
        if act():
            found.append(name)
    except Exception:
        pass
tries("reads the user's files", lambda: os.path.exists(sys.argv[1]))
tries("writes outside of its run directory", lambda: open("/usr/autorl-probe", "w"))
tries("sees other processes", lambda: sum(p.isdigit() for p in os.listdir("/proc")) > 8)
tries("has capabilities", lambda: int(next(l for l in open("/proc/self/status") if l.startswith("CapEff")).split()[1], 16))
tries("sees the environment", lambda: "AUTORL_DOCTOR_CANARY" in os.environ)
def net():
    with socket.socket() as s:
        s.settimeout(1)
        s.connect(("127.0.0.1", int(sys.argv[2])))
        return True
tries("reaches the network", net)
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `needed` ones that are not ok make the exit code 1."""

    name: str
    ok: bool
    needed: bool
    sentence: str


def checks(root: Path) -> Iterator[Check]:
    """Every check in turn, so that a slow one does not hold back the others' lines."""
    yield _python()
    yield from _packages()
    yield _torch()
    yield from _environments()
    yield _sandbox()
    yield _git(root)
    yield _disk(root)
    yield _key()
    yield _modal()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Check(
        "python",
        ok,
        True,
        version
        if ok
        else f"{version} is too old: 3.11 or newer is needed (uv python install 3.11)",
    )


def _packages() -> Iterator[Check]:
    missing = [
        m
        for m in (
            "numpy",
            "gymnasium",
            "cloudpickle",
            "git",
            "optuna",
            "psutil",
            "rich",
            "matplotlib",
            "anthropic",
        )
        if importlib.util.find_spec(m) is None
    ]
    yield Check(
        "packages",
        not missing,
        True,
        f"missing: {', '.join(missing)}; run `uv sync`" if missing else "all there",
    )


def _torch() -> Check:
    try:
        import torch
    except Exception as error:
        return Check(
            "torch",
            False,
            True,
            f"cannot be imported ({type(error).__name__}: {error}); run `uv sync`",
        )
    gpu = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else "no CUDA device, training runs on the CPU"
    )
    return Check(
        "torch",
        True,
        True,
        f"{torch.__version__}; {gpu}; {len(affinity())} cores",
    )


def _environments() -> Iterator[Check]:
    for name, env_id in (("box2d", "BipedalWalker-v3"), ("mujoco", "Hopper-v5")):
        yield Check(name, *_steps(env_id))
    try:
        version = importlib.metadata.version("envpool")
        yield Check("envpool", True, False, f"{version}: training environments step in C++ threads")
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "envpool",
            False,
            False,
            "not here (it has wheels for Linux on x86-64 only): training uses Gymnasium's vector environments, which is several times slower",
        )


def _steps(env_id: str) -> tuple[bool, bool, str]:
    try:
        import gymnasium as gym

        env = gym.make(env_id)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    except Exception as error:
        return (
            False,
            True,
            f"{env_id} does not work ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); run `uv sync`",
        )
    return True, True, f"{env_id} steps"


def _sandbox() -> Check:
    box = sandbox.probe("auto")
    if not box.confined:
        return Check(
            "sandbox", False, False, f"none: {box.why}; runs go on, labelled isolation=none"
        )
    import socket

    with (
        tempfile.NamedTemporaryFile(
            dir=Path.home() if os.access(Path.home(), os.W_OK) else None, prefix=".autorl-probe-"
        ) as canary,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        argv = sandbox.wrap(
            box,
            [sys.executable, "-I", "-S", "-c", PROBE, canary.name, str(server.getsockname()[1])],
            env={},
        )
        environment = os.environ | {"AUTORL_DOCTOR_CANARY": "1"}
        try:
            done = effect("child start", _run(argv, environment))
            found = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            return Check(
                "sandbox", False, True, f"bubblewrap started once and then failed ({error})"
            )
    if found:
        return Check(
            "sandbox",
            False,
            True,
            f"bubblewrap runs, but a program inside {'; '.join(found)}: do not trust it here",
        )
    return Check(
        "sandbox",
        True,
        False,
        "bubblewrap confines: no files of yours, no writing, no network, no other process, no capability",
    )


def _run(
    argv: list[str], environment: dict[str, str]
) -> Callable[[], "subprocess.CompletedProcess[bytes]"]:
    return lambda: subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, cwd="/", env=environment
    )


def _git(root: Path) -> Check:
    from autorl.git.repository import Repository

    try:
        Repository(root)
    except AutoRLError as error:
        return Check("git", False, True, str(error))
    return Check(
        "git", True, True, "a repository with commits, an identity, and a committed harness"
    )


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    ok = free >= MIN_FREE_BYTES
    return Check(
        "disk",
        ok,
        True,
        f"{free / GIB:.0f} GiB free"
        + ("" if ok else f"; at least {MIN_FREE_BYTES / GIB:.0f} are wanted for a night"),
    )


def _key() -> Check:
    there = bool(os.environ.get("ANTHROPIC_API_KEY"))
    return Check(
        "anthropic key",
        there,
        False,
        "ANTHROPIC_API_KEY is set: the researcher is Claude"
        if there
        else "ANTHROPIC_API_KEY is not set: the researcher is the embedded search",
    )


def _modal() -> Check:
    configured = bool(os.environ.get("MODAL_TOKEN_ID")) or (Path.home() / ".modal.toml").is_file()
    return Check(
        "modal",
        configured,
        False,
        "an account is configured"
        if configured
        else "no account is configured (only for --runner modal): uv run modal setup",
    )
