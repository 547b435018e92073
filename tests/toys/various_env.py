"""A user's environment with nested observations, actions 5 .. 7 and arguments; a walker of Box2D.

`various_env:Various-v0`: the reward is the action, an episode has `steps` steps that take `pause`
seconds each. `various_env:Walker-v0`: BipedalWalker-v3, 30 steps an episode.
"""

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.box2d import BipedalWalker


class Various(gym.Env[dict[str, Any], np.int64]):
    observation_space = spaces.Dict(
        {
            "where": spaces.Box(-9.0, 9.0, (2,), np.float64),
            "more": spaces.Tuple((spaces.Discrete(3), spaces.Box(0.0, 1.0, (1,), np.float32))),
        }
    )
    action_space = spaces.Discrete(3, start=5)

    def __init__(self, steps: int = 4, pause: float = 0.0) -> None:
        self.steps, self.pause = steps, pause

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.taken, self.drawn = 0, self.np_random.random(1, np.float32)
        return self._obs(), {}

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"action {action} is none"
        if self.pause:  # a sleep of 0 s gives the core away, which takes long on a busy one
            time.sleep(self.pause)
        self.taken += 1
        return self._obs(), float(action), False, self.taken >= self.steps, {}

    def _obs(self) -> dict[str, Any]:
        return {"where": np.array([self.taken, -1.0]), "more": (self.taken % 3, self.drawn.copy())}


class Parts(gym.Env[np.ndarray, np.ndarray]):
    """What is refused: an action of two parts; observations as asked for."""

    action_space = spaces.MultiDiscrete([2, 3])

    def __init__(self, shows: str = "vector") -> None:
        image = spaces.Box(0.0, 1.0, (8, 8), np.float32)
        vector = spaces.Box(0.0, 1.0, (3,), np.float32)
        self.observation_space = {
            "vector": vector,
            "image": spaces.Dict({"camera": image, "joints": vector}),
            "list": spaces.Sequence(vector),
        }[shows]


gym.register("Various-v0", Various)
gym.register("Parts-v0", Parts)
gym.register("Walker-v0", BipedalWalker, max_episode_steps=30)
