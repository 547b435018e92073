"""An evolution strategy on a linear policy: no gradient, no critic.

Expect 1,279 on HalfCheetah-v5 after 120 s (501,568 steps on one busy core).

    cp examples/algorithms/es.py train.py

Augmented random search (Mania et al., https://arxiv.org/abs/1803.07055, algorithm 2, V2-t):
directions are tried both ways, the best of them make the step, observations are normalised. Each
environment plays one episode with weights of its own, all at the same time.

What it does not do: learn from anything but whole episodes.
"""

import time

import numpy as np
import torch

import evaluate
from evaluate import evaluate_policy, log_metrics, make_vec_env, remaining, summary_block

NUM_DIRECTIONS = 16  # {4, 8, 16, 32, 64} two environments each
TOP_DIRECTIONS = 8  # {2, 4, 8, 16} the best of them make the step
STEP_SIZE = 0.03  # [0.003, 0.3] log
NOISE_STD = 0.05  # [0.005, 0.5] log
SURVIVAL_BONUS = 0.0  # [0.0, 2.0] the environment's, taken off the reward of each step
SPARE_SECONDS = 0.5  # fixed: kept for the hand-over


class Agent:
    """A linear policy on normalised observations; actions in half ranges, clipped to the bounds."""

    def __init__(self, obs_dim: int, low: np.ndarray, high: np.ndarray):
        self.weights = np.zeros((obs_dim, len(low)))
        self.obs_mean, self.obs_std = np.zeros(obs_dim), np.ones(obs_dim)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            self.mid = np.where(bounded, (high + low) / 2, 0)
            self.half = np.where(bounded, (high - low) / 2, 1)
        self.low, self.high = low, high

    def act(self, obs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """obs (N, obs_dim), weights (obs_dim, act_dim) or one for each (N, obs_dim, act_dim)."""
        scaled = (obs - self.obs_mean) / self.obs_std
        actions: np.ndarray = (scaled[:, None] @ weights)[:, 0] * self.half + self.mid
        return actions.clip(self.low, self.high).astype(np.float32)

    def get_action(self, obs: torch.Tensor) -> np.ndarray:
        """Harness contract: obs (N, obs_dim) -> actions (N, act_dim)."""
        return self.act(obs.cpu().numpy(), self.weights)


def main() -> None:
    """Search until the time is up, then hand the agent over."""
    rng = np.random.default_rng(evaluate.SEED)
    num_envs = 2 * NUM_DIRECTIONS
    envs = make_vec_env(num_envs)
    obs_dim, space = envs.single_observation_space.shape[0], envs.single_action_space
    agent = Agent(obs_dim, space.low, space.high)
    count, total, squares = 1e-4, np.zeros(obs_dim), np.full(obs_dim, 1e-4)
    steps = updates = 0
    out_of_time = False

    while updates == 0 or not out_of_time:
        # Every direction both ways, one episode each
        noise = rng.standard_normal((NUM_DIRECTIONS, *agent.weights.shape))
        weights = agent.weights + NOISE_STD * np.concatenate((noise, -noise))  # (N, obs, act)
        returns, lengths, running = np.zeros(num_envs), np.zeros(num_envs), np.ones(num_envs, bool)
        obs, start = envs.reset(), time.monotonic()
        while running.any() and not out_of_time:
            seen = obs[running].astype(np.float64)
            count, total, squares = (
                count + len(seen), total + seen.sum(0), squares + (seen**2).sum(0),
            )  # fmt: skip
            obs, rewards, terminated, truncated, _ = envs.step(agent.act(obs, weights))
            returns += (rewards - SURVIVAL_BONUS) * running
            lengths += running
            running &= ~(terminated | truncated)
            out_of_time = remaining() < SPARE_SECONDS
        steps += int(lengths.sum())

        # The step: best directions, in units of the spread of their returns. A generation that the
        # clock cut short is thrown away.
        plus, minus = returns[:NUM_DIRECTIONS], returns[NUM_DIRECTIONS:]
        best = np.argsort(-np.maximum(plus, minus))[:TOP_DIRECTIONS]
        spread = np.concatenate((plus[best], minus[best])).std() + 1e-8
        change = np.tensordot((plus - minus)[best], noise[best], 1) / (TOP_DIRECTIONS * spread)
        if not running.any():
            agent.weights = agent.weights + STEP_SIZE * change
        agent.obs_mean = total / count
        agent.obs_std = np.sqrt((squares / count - agent.obs_mean**2).clip(1e-8))

        updates += 1
        log_metrics(
            steps,
            num_updates=updates,
            sps=lengths.sum() / (time.monotonic() - start),
            episode_return=returns.mean(),
            episode_length=lengths.mean(),
            best_return=returns.max(),
            weight_norm=float(np.linalg.norm(agent.weights)),
        )

    result = evaluate_policy(agent)
    print(summary_block(**result, total_timesteps=steps, num_updates=updates))


if __name__ == "__main__":
    main()
