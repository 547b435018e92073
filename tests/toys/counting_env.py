"""A user's own environment, and one whose every number is known.

obs = [steps into the episode, episode, seed], reward = steps. Odd episodes terminate at step 5,
even ones are truncated at step 7. `counting_env:Counting-v0` once this folder is importable.
"""

from typing import Any

import gymnasium as gym
import numpy as np

TERMINATES, TRUNCATES = 5, 7  # steps


class Counting(gym.Env[np.ndarray, np.ndarray]):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Box(-2.0, 4.0, (1,), np.float32)

    def __init__(self) -> None:
        self.steps, self.episode, self.drawn = 0, 0, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.episode, self.drawn = 0, self.episode + 1, float(self.np_random.random())
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"action {action} is out of bounds"
        self.steps += 1
        odd, k = self.episode % 2 == 1, self.steps
        terminated, truncated = odd and k == TERMINATES, not odd and k == TRUNCATES
        return self._obs(), float(k), terminated, truncated, {}

    def _obs(self) -> np.ndarray:
        return np.array([self.steps, self.episode, self.drawn])


gym.register("Counting-v0", Counting)
