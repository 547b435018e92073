"""Some episodes of an environment before anything is made, in a process of their own.

    try_env("my_env:Good-v0", "auto")      # UserError: one sentence that names the fault

What this file does not do: vouch for an environment. What goes wrong later is told where it does.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from autorl.environments import env_module
from autorl.errors import UserError
from autorl.judge import isolated_python, sandbox
from autorl.judge.machine_share import ending
from autorl.records import SandboxMode
from autorl.system.faults import effect
from autorl.system.text import last_line, one_line

EPISODES = 20
ENOUGH_SECONDS, HANG_SECONDS = 5.0, 120.0  # after the first no further episode; for the first two
OURS = ("gymnasium", "autorl_worlds")  # tried by everybody, every day
MAKE = """import json, sys, gymnasium as gym
gym.make(sys.argv[1], **json.loads(sys.argv[2])).reset(seed=0)"""


def try_env(env_id: str, mode: SandboxMode, kwargs: Mapping[str, Any] | None = None) -> None:
    """Play an environment that came with neither Gymnasium nor us; see that a run can find it.

    Raises:
        UserError: it breaks Gymnasium's interface, fails, never ends, or is out of a run's sight.
    """
    import gymnasium as gym

    module = env_id.rpartition(":")[0] or str(gym.spec(env_id).entry_point)
    if module.partition(".")[0] in OURS:
        return
    task = {"env_id": env_id, "kwargs": dict(kwargs or {})}
    if fault := _fault_in_a_child(task) or _fault_inside(task, sandbox.probe(mode)):
        raise UserError(f"{env_id} cannot be used: {fault}.")


def _fault_in_a_child(task: dict[str, Any]) -> str:
    with tempfile.TemporaryFile() as errors:
        process = isolated_python.start(
            "from autorl.judge import trial; trial.main()",
            task,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
        )
        process.stdin = None  # it is closed
        try:
            said = process.communicate(timeout=HANG_SECONDS)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"two episodes of it did not end within {HANG_SECONDS:g} s"
        if process.returncode == 0:
            return one_line(said, 300)
        errors.seek(0)
        return f"its process {ending(process.returncode)}: {last_line(errors.read(), 200)}"


def _fault_inside(task: dict[str, Any], box: sandbox.Sandbox) -> str:
    """Why a confined run does not find a module that is found here; "" when it does."""
    module = env_module(task["env_id"])
    if module is None or not box.confined:
        return ""
    argv = sandbox.wrap(
        box,
        [sys.executable, "-P", "-c", MAKE, task["env_id"], json.dumps(task["kwargs"])],
        env={"PYTHONPATH": sandbox.MODULES},
        readable={module: f"{sandbox.MODULES}/{module.name}"},
    )
    done = effect(
        "child start",
        lambda: subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, cwd="/"),
    )
    if done.returncode == 0:
        return ""
    return (
        f"it is found here, in {module}, but a run in the sandbox lacks something of it "
        f"({last_line(done.stderr, 200)}): install it into this environment as a package"
    )


# ---------------------------------------------------------------------------
# In the child
# ---------------------------------------------------------------------------


def main() -> None:
    """Entry of the child: a task on standard input, the fault on standard output."""
    task = json.loads(sys.stdin.readline())
    with open(os.dup(1), "w", errors="replace") as answer:
        os.dup2(2, 1)  # what an environment prints is no answer
        answer.write(fault_of(**task))


def fault_of(env_id: str, kwargs: Mapping[str, Any] | None = None) -> str:
    """What is wrong with an environment, "" when nothing was seen."""
    from autorl_worlds.vector import make_env
    from autorl_worlds.wrappers import endless, longest_episode

    try:
        env: Any = make_env(env_id, {**(kwargs or {}), "disable_env_checker": True})
        env.action_space.seed(0)
    except Exception as error:
        return f"it cannot be made ({type(error).__name__}: {error})"
    began, limit = time.monotonic(), longest_episode(env)
    for episode in range(1, EPISODES + 1):
        if episode > 2 and time.monotonic() > began + ENOUGH_SECONDS:
            break
        try:
            start = env.reset(seed=episode)
        except TypeError as error:
            wanted = "Gymnasium's is reset(*, seed=None, options=None)"
            return f"reset(seed={episode}) failed ({error}); {wanted}"
        except Exception as error:
            return f"reset() failed ({type(error).__name__}: {error})"
        if not (isinstance(start, tuple) and len(start) == 2):
            return "reset() gives no pair; Gymnasium's gives (observation, info)"
        if fault := _odd_observation(env, start[0]):
            return f"reset() gives {fault}"
        over, step = False, 0
        while not over:
            step += 1
            if step > limit:
                return endless(limit)
            where, action = f"at step {step} of episode {episode}", env.action_space.sample()
            try:
                # wrappers unpack what they are given, and may make another observation of it
                values = (env.unwrapped if step == 1 else env).step(action)
            except Exception as error:
                return f"step() failed {where} ({type(error).__name__}: {error})"
            if not isinstance(values, tuple) or len(values) != 5:
                count = len(values) if isinstance(values, tuple) else "no tuple of"
                wanted = "(observation, reward, terminated, truncated, info)"
                return f"step() gives {count} values; Gymnasium's gives 5: {wanted}"
            odd = _odd_observation(env, values[0]) if step > 1 else ""
            if fault := odd or _odd_reward(values[1]):
                return f"step() gives {fault} {where}"
            over = bool(values[2] or values[3])
    return ""


def _odd_observation(env: Any, obs: Any) -> str:
    import numpy as np

    try:
        row = np.asarray(obs, np.float32)
    except (TypeError, ValueError):
        return f"an observation that is no array of numbers ({type(obs).__name__})"
    if (wanted := env.observation_space.shape) != row.shape:
        return f"an observation of shape {row.shape}, where its space has {wanted},"
    return "" if np.isfinite(row).all() else "an observation that is not finite"


def _odd_reward(reward: Any) -> str:
    import numpy as np

    if shape := np.shape(reward):
        return f"a reward of shape {shape}, where Gymnasium's is a number,"
    try:
        return "" if np.isfinite(float(reward)) else f"a reward of {float(reward)}"
    except (TypeError, ValueError):
        return f"a reward that is no number ({type(reward).__name__})"
