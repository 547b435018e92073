"""Textbook PPO, without tricks: the reference that benchmarks/throughput.py measures against.

    uv run python benchmarks/textbook.py --env-id BipedalWalker-v3 --seconds 20

The settings people start from: 4 synchronous Gymnasium environments, rollouts of 128 steps,
minibatches of 128, 4 epochs, two hidden tanh layers of 64, one Adam. Prints steps per second after
the first update.

What it does not do: evaluate, save, or anneal anything; its one output is a rate.
"""

import argparse
import time

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal


def make_env(env_id: str) -> gym.Env:
    env: gym.Env = gym.make(env_id)
    env = gym.wrappers.ClipAction(env)
    env = gym.wrappers.NormalizeObservation(env)
    env = gym.wrappers.TransformObservation(
        env, lambda obs: np.clip(obs, -10, 10), env.observation_space
    )
    env = gym.wrappers.NormalizeReward(env)
    return gym.wrappers.TransformReward(env, lambda reward: min(10.0, max(-10.0, float(reward))))


class Agent(nn.Module):
    def __init__(self, obs_dim: int, act_dim: int):
        super().__init__()
        self.critic = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
        )
        self.actor = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, act_dim)
        )
        self.log_std = nn.Parameter(torch.zeros(1, act_dim))

    def forward(
        self, obs: torch.Tensor, action: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """obs (B, obs_dim) -> action (B, act_dim); log-probability, entropy, value: each (B,)."""
        mean = self.actor(obs)
        policy = Normal(mean, self.log_std.expand_as(mean).exp())
        action = policy.sample() if action is None else action
        return (
            action,
            policy.log_prob(action).sum(1),
            policy.entropy().sum(1),
            self.critic(obs).squeeze(1),
        )


def run(
    env_id: str,
    seconds: float,
    threads: int,
    num_envs: int = 4,
    num_steps: int = 128,
    minibatch: int = 128,
    epochs: int = 4,
) -> float:
    """Environment steps per second of `seconds` of training, without the first iteration."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    envs = gym.vector.SyncVectorEnv([lambda: make_env(env_id) for _ in range(num_envs)])
    obs_dim, act_dim = envs.single_observation_space.shape[0], envs.single_action_space.shape[0]  # type: ignore[index]
    agent = Agent(obs_dim, act_dim)
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-4, eps=1e-5)
    obs, actions = (
        torch.zeros(num_steps, num_envs, obs_dim),
        torch.zeros(num_steps, num_envs, act_dim),
    )
    logprobs, rewards, dones, values = (torch.zeros(num_steps, num_envs) for _ in range(4))
    next_obs, next_done = (
        torch.as_tensor(envs.reset(seed=1)[0], dtype=torch.float32),
        torch.zeros(num_envs),
    )
    steps, start = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - start < seconds:
        for t in range(num_steps):
            obs[t], dones[t] = next_obs, next_done
            with torch.no_grad():
                actions[t], logprobs[t], _, values[t] = agent(next_obs)
            step_obs, reward, terminated, truncated, _ = envs.step(actions[t].numpy())
            rewards[t] = torch.as_tensor(reward)
            next_obs, next_done = (
                torch.as_tensor(step_obs, dtype=torch.float32),
                torch.as_tensor(terminated | truncated).float(),
            )
        with torch.no_grad():
            next_value, advantages, last = (
                agent(next_obs)[3],
                torch.zeros_like(rewards),
                torch.zeros(num_envs),
            )
            for t in reversed(range(num_steps)):
                alive = 1 - (next_done if t == num_steps - 1 else dones[t + 1])
                following = next_value if t == num_steps - 1 else values[t + 1]
                advantages[t] = last = (
                    rewards[t] + 0.99 * following * alive - values[t] + 0.99 * 0.95 * alive * last
                )
        b_obs, b_actions, b_logprobs = obs.flatten(0, 1), actions.flatten(0, 1), logprobs.flatten()
        b_advantages, b_returns = advantages.flatten(), (advantages + values).flatten()
        for _ in range(epochs):
            for mb in torch.randperm(num_steps * num_envs).split(minibatch):
                _, logprob, entropy, value = agent(b_obs[mb], b_actions[mb])
                ratio, adv = (logprob - b_logprobs[mb]).exp(), b_advantages[mb]
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                pg_loss = torch.max(-adv * ratio, -adv * ratio.clamp(0.8, 1.2)).mean()
                loss = pg_loss + 0.25 * ((value - b_returns[mb]) ** 2).mean() - 0.0 * entropy.mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        if steps == 0:
            start, warm = time.perf_counter(), num_steps * num_envs
        steps += num_steps * num_envs
    envs.close()
    return (steps - warm) / (time.perf_counter() - start)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--env-id", default="BipedalWalker-v3")
    p.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="of training after the first update (default: %(default)g)",
    )
    p.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    options = p.parse_args()
    print(f"{options.env_id}: {run(options.env_id, options.seconds, options.threads):,.0f} steps/s")
