"""Soft actor-critic: off-policy, few steps and many updates.

Expect 1,000 on InvertedPendulum-v5 after 120 s (16,107 steps on one busy core).

    cp examples/algorithms/sac.py train.py

Haarnoja et al. (https://arxiv.org/abs/1812.05905): a squashed Gaussian policy, two critics and
their slowly moving targets, a temperature that holds the entropy at minus the number of actions.

What it does not do: keep pace with train.py's steps; where simulation is cheap that decides.
"""

import copy
import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import evaluate
from evaluate import evaluate_policy, log_metrics, make_vec_env, remaining, summary_block

NUM_ENVS = 4  # {1, 2, 4, 8, 16, 32}
UPDATES_PER_STEP = 2  # [1, 16] gradient steps for each step of all environments
BATCH_SIZE = 256  # {64, 128, 256, 512}
BUFFER_SIZE = 300_000  # fixed: transitions
LEARNING_STARTS = 1_000  # [500, 20000] log; random actions before
HIDDEN = 128  # {64, 128, 256}
LEARNING_RATE = 1e-3  # [1e-4, 3e-3] log; of critics and temperature
POLICY_LR = 3e-4  # [1e-4, 3e-3] log
GAMMA = 0.98  # [0.95, 0.999]
TAU = 0.02  # [0.001, 0.05] log; how fast the targets follow
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
LOG_EVERY = 100  # fixed: steps of all environments between two rows of the metrics
SPARE_SECONDS = 0.5  # fixed: kept for the hand-over


def mlp(in_dim: int, out_dim: int) -> nn.Sequential:
    """Two hidden ReLU layers."""
    return nn.Sequential(
        nn.Linear(in_dim, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, out_dim),
    )


class Agent(nn.Module):
    """A Gaussian whose samples tanh squashes into the bounds (low, high), which must be finite."""

    def __init__(self, obs_dim: int, low: np.ndarray, high: np.ndarray):
        super().__init__()
        self.net = mlp(obs_dim, 2 * len(low))
        self.action_mid = nn.Buffer(torch.as_tensor((high + low) / 2))
        self.action_half = nn.Buffer(torch.as_tensor((high - low) / 2))

    def sample(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """obs (B, obs_dim) -> actions in -1 .. 1 (B, act_dim), their log-probabilities (B,)."""
        mean, log_std = self.net(obs).chunk(2, -1)
        log_std = LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * (log_std.tanh() + 1) / 2
        normal = torch.distributions.Normal(mean, log_std.exp())
        u = normal.rsample()
        # log of tanh's slope, 1 - tanh(u)^2, in a form that does not underflow
        log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
        return u.tanh(), (normal.log_prob(u) - log_slope).sum(-1)

    def to_env(self, actions: torch.Tensor) -> np.ndarray:
        """-1 .. 1 -> the environment's units."""
        return (actions * self.action_half + self.action_mid).numpy()

    @torch.no_grad()
    def get_action(self, obs: torch.Tensor) -> np.ndarray:
        """Harness contract: obs (N, obs_dim) -> the squashed means (N, act_dim)."""
        return self.to_env(self.net(obs).chunk(2, -1)[0].tanh())


class Critics(nn.Module):
    """Two action values; the smaller one is believed."""

    def __init__(self, obs_dim: int, act_dim: int):
        super().__init__()
        self.one, self.two = mlp(obs_dim + act_dim, 1), mlp(obs_dim + act_dim, 1)

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """-> (2, B)."""
        x = torch.cat((obs, actions), -1)
        return torch.stack((self.one(x), self.two(x))).squeeze(-1)


class ReplayBuffer:
    """The latest BUFFER_SIZE transitions."""

    def __init__(self, obs_dim: int, act_dim: int):
        widths = (obs_dim, act_dim, 1, obs_dim, 1)  # obs, action, reward, next obs, terminated
        self.columns = [np.zeros((BUFFER_SIZE, width), np.float32) for width in widths]
        self.size = self.at = 0

    def add(self, *rows: np.ndarray) -> None:
        """Rows of each column, (n, width)."""
        places = (self.at + np.arange(len(rows[0]))) % BUFFER_SIZE
        for column, new in zip(self.columns, rows, strict=True):
            column[places] = new
        self.at = (self.at + len(places)) % BUFFER_SIZE
        self.size = min(BUFFER_SIZE, self.size + len(places))

    def sample(self, rng: np.random.Generator) -> list[torch.Tensor]:
        """BATCH_SIZE random rows of each column."""
        rows = rng.integers(self.size, size=BATCH_SIZE)
        return [torch.from_numpy(column[rows]) for column in self.columns]


def main() -> None:
    """Train until the time is up, then hand the agent over."""
    torch.manual_seed(evaluate.SEED)
    torch.set_num_threads(evaluate.THREADS)
    rng = np.random.default_rng(evaluate.SEED)
    envs = make_vec_env(NUM_ENVS)
    obs_dim, space = envs.single_observation_space.shape[0], envs.single_action_space
    act_dim = space.shape[0]
    agent, critics = Agent(obs_dim, space.low, space.high), Critics(obs_dim, act_dim)
    targets = copy.deepcopy(critics).requires_grad_(False)
    log_alpha = torch.zeros(1, requires_grad=True)  # temperature
    policy_optimizer = torch.optim.Adam(agent.parameters(), lr=POLICY_LR, fused=True)
    critic_optimizer = torch.optim.Adam(critics.parameters(), lr=LEARNING_RATE, fused=True)
    alpha_optimizer = torch.optim.Adam([log_alpha], lr=LEARNING_RATE)
    buffer = ReplayBuffer(obs_dim, act_dim)
    episode_return, episode_length = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS)
    finished: list[tuple[float, float]] = []
    obs, loops, steps, updates, rows, start = envs.reset(), 0, 0, 0, 0, time.monotonic()
    stats: dict[str, float] = dict.fromkeys(
        ("value_loss", "policy_loss", "alpha", "entropy"), np.nan
    )

    while rows == 0 or remaining() > SPARE_SECONDS:
        # Act
        with torch.no_grad():
            action = agent.sample(torch.from_numpy(obs))[0]
        if buffer.size < LEARNING_STARTS:
            action = torch.from_numpy(rng.uniform(-1, 1, (NUM_ENVS, act_dim)).astype(np.float32))
        next_obs, reward, terminated, truncated, valid = envs.step(agent.to_env(action))
        columns = obs, action.numpy(), reward[:, None], next_obs, terminated[:, None]
        buffer.add(*(column[valid] for column in columns))  # a reset step is no transition
        obs, loops, steps = next_obs, loops + 1, steps + int(valid.sum())
        episode_return += reward
        episode_length += valid
        over = terminated | truncated
        finished.extend(zip(episode_return[over], episode_length[over], strict=True))
        episode_return[over] = episode_length[over] = 0

        # Learn
        for _ in range(UPDATES_PER_STEP if buffer.size >= LEARNING_STARTS else 0):
            b_obs, b_actions, b_rewards, b_next_obs, b_terminated = buffer.sample(rng)
            alpha = log_alpha.exp().item()
            with torch.no_grad():
                next_actions, next_logprobs = agent.sample(b_next_obs)
                next_values = targets(b_next_obs, next_actions).amin(0) - alpha * next_logprobs
                wanted = b_rewards[:, 0] + GAMMA * (1 - b_terminated[:, 0]) * next_values
            value_loss = 0.5 * (critics(b_obs, b_actions) - wanted).square().mean(-1).sum()
            critic_optimizer.zero_grad()
            value_loss.backward()
            critic_optimizer.step()

            new_actions, logprobs = agent.sample(b_obs)
            policy_loss = (alpha * logprobs - critics(b_obs, new_actions).amin(0)).mean()
            policy_optimizer.zero_grad()
            policy_loss.backward(inputs=list(agent.parameters()))
            policy_optimizer.step()

            entropy_gap = -logprobs.detach().mean() + act_dim  # entropy less its target, -act_dim
            alpha_optimizer.zero_grad()
            (log_alpha.exp() * entropy_gap).backward()
            alpha_optimizer.step()

            with torch.no_grad():
                torch._foreach_lerp_(list(targets.parameters()), list(critics.parameters()), TAU)
            updates += 1

        # Log
        if loops % LOG_EVERY == 0:
            if updates:
                stats = {"value_loss": value_loss.item(), "policy_loss": policy_loss.item()}
                stats |= {"alpha": alpha, "entropy": -logprobs.mean().item()}
            finished, now = finished[-100:], time.monotonic()
            mean_return, mean_length = np.mean(finished, axis=0) if finished else (np.nan, np.nan)
            stats |= {"episode_return": mean_return, "episode_length": mean_length}
            log_metrics(
                steps, num_updates=updates, sps=LOG_EVERY * NUM_ENVS / (now - start), **stats
            )
            rows, start = rows + 1, now

    result = evaluate_policy(agent)
    print(summary_block(**result, total_timesteps=steps, num_updates=updates))


if __name__ == "__main__":
    main()
