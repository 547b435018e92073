"""The worlds as plain Gymnasium environments: numpy, float64, one at a time. These are the truth.

    env = gymnasium.make("autorl/Pendulum-v0", render_mode="rgb_array")

What this file does not do: end an episode by time (Gymnasium's TimeLimit does), or import torch.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from autorl_worlds import worlds


class WorldEnv(worlds.World, gym.Env[Any, Any]):
    """One environment. `state`, (S,) float64, may be read and set between steps.

    Raises:
        ValueError: an unknown render mode, or an action that is not in the action space.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (declared so by Gymnasium)
    xp = np
    state: NDArray[np.float64]

    def __init__(self, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is not offered: use 'rgb_array'.")
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.render_fps}
        self.observation_space, self.action_space = self.make_spaces()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; the first observation. No options are known."""
        super().reset(seed=seed)
        self.state = self.array(self.initial_state())
        return np.array(self.observe(self.state), np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; a continuous action beyond its bounds acts as the bound."""
        before, number = self.state, self._number(action)
        self.state = self.array(self.physics(before, number))
        reward = float(self.reward_function(before, number, self.state))
        obs = np.array(self.observe(self.state), np.float32)
        return obs, reward, bool(self.terminated(self.state)), False, {}

    def render(self) -> NDArray[np.uint8] | None:
        """A picture of `state`, (400, 600, 3); None without a render mode."""
        from autorl_worlds import drawing  # needs Pillow

        return None if self.render_mode is None else drawing.draw(self.env_id, self.state)

    def array(self, quantities: Sequence[Any]) -> NDArray[np.float64]:
        return np.array(quantities, np.float64)

    def uniform(self, low: float, high: float) -> float:
        return self.np_random.uniform(low, high)

    def normal(self, mean: float, std: float) -> float:
        return self.np_random.normal(mean, std)

    def _number(self, action: Any) -> float:
        """The one number of an action, within bounds."""
        if self.num_actions:
            if not self.action_space.contains(action):
                raise ValueError(f"action {action!r} is not in {self.action_space}.")
            return int(action)
        if np.shape(action) != (1,) or not np.isfinite(action[0]):
            raise ValueError(f"action {action!r} is not one finite number in an array (1,).")
        return min(max(float(action[0]), -self.max_action), self.max_action)


class PendulumEnv(worlds.Pendulum, WorldEnv):
    """autorl/Pendulum-v0."""


class PendulumRewardlessEnv(worlds.PendulumRewardless, WorldEnv):
    """autorl/PendulumRewardless-v0."""


class MountainCarEnv(worlds.MountainCar, WorldEnv):
    """autorl/MountainCar-v0."""


class CartPoleEnv(worlds.CartPole, WorldEnv):
    """autorl/CartPole-v0."""


class CartDoublePendulumEnv(worlds.CartDoublePendulum, WorldEnv):
    """autorl/CartDoublePendulum-v0."""
