"""What the judge's tests share: an agent that does nothing, episodes one by one, processes."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

# a train.py that has such an agent and has not handed it over yet
NOTHING = """
import numpy as np
from evaluate import evaluate_policy, log_metrics
class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)
"""


def sequential(env_id: str, seed: int, act: Callable[[int, Any], Any], **kwargs: Any) -> float:
    """Return of one episode, played alone; act(step, obs) -> action."""
    env = gym.make(env_id, **kwargs)
    obs, _ = env.reset(seed=seed)
    total, step, over = 0.0, 0, False
    while not over:
        step += 1
        action = act(step, obs)
        if isinstance(env.action_space, gym.spaces.Box):
            action = np.clip(action, env.action_space.low, env.action_space.high)
        obs, reward, terminated, truncated, _ = env.step(action)
        total, over = total + float(reward), terminated or truncated
    env.close()
    return total


def command_lines() -> dict[int, str]:
    """Process number -> its command line, of all processes."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            found[int(entry.name)] = words.decode("utf-8", "replace")
    return found
