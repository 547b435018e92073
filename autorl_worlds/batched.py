"""The worlds as N environments at once in torch: the same file on a CPU and on a GPU, for training.

    envs = CartDoublePendulum(4096, device="cuda", seed=1)
    obs = envs.reset()                                               # (N, obs_dim) on the device
    obs, reward, terminated, truncated, valid = envs.step(actions)   # (N, obs_dim), then (N,) each

Reward design is a subclass with one method; `terminated` may be overridden alike:

    class Faster(MountainCar):
        def reward_function(self, state, action, next_state):
            return super().reward_function(state, action, next_state) + 10 * next_state[1].abs()

The truth is envs.py: a score is measured there, by the registered reward, which `envs.true_reward`
holds here. What this file does not do: look at values. A step never waits for a GPU, so NaN and
discrete actions that do not exist are for the caller to find (here they act as the nearest bound).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autorl_worlds import worlds


class BatchedWorld(worlds.World):
    """N copies of one world, with NEXT_STEP autoreset.

    The step after an episode's end ignores that row's action, returns the first observation of the
    next episode with reward 0 and `valid == False`: a junk transition, to be left out of training.

    Args:
        num_envs, device, dtype: N; where everything lives; of state, observation and reward.
        seed: of the generator for initial states; another kind of device draws other numbers.

    Attributes:
        state: (S, N); may be read and set between steps.
        true_reward: (N,), the last step's reward by the registered world, whatever a subclass says.
        single_observation_space, single_action_space: those of the truth.

    Raises:
        ValueError: the shape of actions or rewards is wrong; discrete actions came as floats.
        RuntimeError: step before reset.
    """

    xp = torch
    state: Tensor

    def __init__(
        self, num_envs: int, device: str = "cpu", seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        self.num_envs, self.device, self.dtype = num_envs, torch.device(device), dtype
        self.single_observation_space, self.single_action_space = self.make_spaces()
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self) -> Tensor:
        """Begin N episodes, (N, obs_dim). The generator goes on; it is not seeded anew."""
        self.state = self.array(self.initial_state())
        self.true_reward = torch.zeros_like(self.state[0])
        self._age = torch.zeros_like(self.state[0], dtype=torch.int32)  # steps in the episode
        self._ended = torch.zeros_like(self.state[0], dtype=torch.bool)
        return torch.stack(tuple(self.observe(self.state)), 1)

    @torch.no_grad()
    def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """actions (N,) or (N, 1) -> obs (N, obs_dim), reward, terminated, truncated, valid (N,).

        Where an episode ends, `obs` is its true last observation. It is truncated when its time is
        over and it has not terminated: never both.
        """
        if not hasattr(self, "state"):
            raise RuntimeError(f"{self.env_id}: call reset() before step().")
        before, action, begins = self.state, self._within_bounds(actions), self._ended
        after = self.array(self.physics(before, action))
        reward = self.reward_function(before, action, after)
        came, due = tuple(getattr(reward, "shape", ())), (self.num_envs,)
        if came != due:
            raise ValueError(f"{self.env_id}: reward_function gave shape {came}, it must be {due}.")
        reward = self.true_reward = reward.masked_fill(begins, 0)
        registered = WORLDS.get(self.env_id, type(self)).reward_function
        if type(self).reward_function is not registered:
            self.true_reward = registered(self, before, action, after).masked_fill(begins, 0)
        self.state = torch.where(begins, self.array(self.initial_state()), after)
        self._age = torch.where(begins, 0, self._age + 1)
        terminated = self.terminated(self.state) & ~begins
        truncated = (self._age >= self.max_episode_steps) & ~terminated
        self._ended = terminated | truncated
        obs = torch.stack(tuple(self.observe(self.state)), 1)
        return obs, reward, terminated, truncated, ~begins

    def array(self, quantities: Sequence[Any]) -> Tensor:
        return torch.stack(tuple(quantities))

    def uniform(self, low: float, high: float) -> Tensor:
        empty = torch.empty(self.num_envs, dtype=self.dtype, device=self.device)
        return empty.uniform_(low, high, generator=self.generator)

    def normal(self, mean: float, std: float) -> Tensor:
        empty = torch.empty(self.num_envs, dtype=self.dtype, device=self.device)
        return empty.normal_(mean, std, generator=self.generator)

    def _within_bounds(self, actions: Any) -> Tensor:
        """Actions as (N,) of `dtype`, each within its bounds."""
        actions = torch.as_tensor(actions, device=self.device)
        if actions.shape not in ((self.num_envs,), (self.num_envs, 1)):
            shape = tuple(actions.shape)
            raise ValueError(f"{self.env_id}: actions {shape} for {self.num_envs} environments.")
        if self.num_actions and actions.is_floating_point():
            raise ValueError(f"{self.env_id}: actions are whole numbers, {actions.dtype} came.")
        high = self.num_actions - 1 if self.num_actions else self.max_action
        low = 0 if self.num_actions else -high
        return torch.clip(actions.reshape(-1).to(self.dtype), low, high)


class Pendulum(worlds.Pendulum, BatchedWorld):
    """The twin of autorl/Pendulum-v0."""


class PendulumRewardless(worlds.PendulumRewardless, BatchedWorld):
    """The twin of autorl/PendulumRewardless-v0."""


class MountainCar(worlds.MountainCar, BatchedWorld):
    """The twin of autorl/MountainCar-v0."""


class CartPole(worlds.CartPole, BatchedWorld):
    """The twin of autorl/CartPole-v0."""


class CartDoublePendulum(worlds.CartDoublePendulum, BatchedWorld):
    """The twin of autorl/CartDoublePendulum-v0."""


WORLDS: dict[str, type[BatchedWorld]] = {
    twin.env_id: twin
    for twin in (Pendulum, PendulumRewardless, MountainCar, CartPole, CartDoublePendulum)
}
