"""A toy train.py: evolution strategies on a linear policy, two seconds on InvertedPendulum-v5.

Salimans et al. 2017 (https://arxiv.org/abs/1703.03864), antithetic pairs, rank-free, tiny.
"""

import gymnasium as gym
import numpy as np

from evaluate import ENV_ID, SEED, evaluate_policy, log_metrics, remaining

LEARNING_RATE = 0.5  # [1e-6, 2.0] log
SIGMA = 0.5  # [0.01, 1.0] log
PAIRS = 4  # [1, 16]
UPDATES = 12  # [1, 100]


class Agent:
    def __init__(self, weights: np.ndarray):
        self.weights = weights  # (obs_dim, act_dim)

    def get_action(self, obs):
        return np.asarray(obs, np.float32) @ self.weights  # (N, act_dim)


def rollout(env: gym.Env, weights: np.ndarray, seed: int) -> tuple[float, int]:
    obs, _ = env.reset(seed=seed)
    total, steps, over = 0.0, 0, False
    while not over and steps < 100:
        obs, reward, terminated, truncated, _ = env.step(
            np.clip(obs @ weights, env.action_space.low, env.action_space.high)
        )
        total, steps, over = total + float(reward), steps + 1, terminated or truncated
    return total, steps


def main() -> None:
    rng = np.random.default_rng(SEED)
    env = gym.make(ENV_ID)
    weights = np.zeros((env.observation_space.shape[0], env.action_space.shape[0]))
    steps = 0
    for update in range(1, UPDATES + 1):
        gradient, mean = np.zeros_like(weights), 0.0
        for _ in range(PAIRS):
            noise, seed = rng.standard_normal(weights.shape), int(rng.integers(2**31))
            up, n1 = rollout(env, weights + SIGMA * noise, seed)
            down, n2 = rollout(env, weights - SIGMA * noise, seed)
            gradient += (up - down) / 200 * noise / PAIRS
            steps, mean = steps + n1 + n2, mean + (up + down) / 2 / PAIRS
        weights = weights + LEARNING_RATE * gradient / SIGMA
        log_metrics(steps, num_updates=update, episode_return=mean)
        if remaining() < 0.5:
            break
    evaluate_policy(Agent(weights))


if __name__ == "__main__":
    main()
