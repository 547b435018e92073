"""PPO with textbook settings, a starting point for replications.

Expect 1,000 on InvertedPendulum-v5 after 120 s (40,216 steps on one busy core).

    cp examples/algorithms/ppo_cleanrl.py train.py

In the manner of CleanRL's ppo_continuous_action.py (https://github.com/vwxyzjn/cleanrl), with the
settings of its paper: one environment, 2,048 steps an update, 10 epochs of 32 minibatches, tanh,
one Adam for both networks, a learnt state-independent sigma. Two things differ: the learning rate
falls with the share of the wall-clock, and a time limit is bootstrapped, not taken for a failure.

What it does not do: use the machine well. train.py makes several times as many steps.
"""

import time

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

import evaluate
from evaluate import evaluate_policy, log_metrics, make_vec_env, remaining, summary_block

NUM_ENVS = 1  # {1, 2, 4, 8, 16}
NUM_STEPS = 2048  # {256, 512, 1024, 2048} of each environment between two updates
LEARNING_RATE = 3e-4  # [1e-5, 1e-2] log; falls to 0 when the time is up
ADAM_EPS = 1e-5  # [1e-8, 1e-3] log
GAMMA = 0.99  # [0.9, 0.999]
GAE_LAMBDA = 0.95  # [0.8, 1.0]
NUM_MINIBATCHES = 32  # {4, 8, 16, 32, 64}
UPDATE_EPOCHS = 10  # [1, 20]
CLIP_COEF = 0.2  # [0.05, 0.5]
ENT_COEF = 0.0  # [0.0, 0.02]
VF_COEF = 0.5  # [0.1, 2.0]
MAX_GRAD_NORM = 0.5  # [0.1, 5.0]
CLIP = 10.0  # [3.0, 20.0] standard deviations, of observations and of rewards
SPARE_SECONDS = 0.5  # fixed: kept for the hand-over


def layer(in_dim: int, out_dim: int, gain: float = 2**0.5) -> nn.Linear:
    """A linear layer with orthogonal weights."""
    linear = nn.Linear(in_dim, out_dim)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


class Agent(nn.Module):
    """Actor, critic, and the mean and standard deviation of observations."""

    def __init__(self, obs_dim: int, act_dim: int, low: np.ndarray, high: np.ndarray):
        super().__init__()
        self.critic = nn.Sequential(
            layer(obs_dim, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0)
        )
        self.actor_mean = nn.Sequential(
            layer(obs_dim, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, act_dim, 0.01)
        )
        self.actor_logstd = nn.Parameter(torch.zeros(act_dim))
        self.obs_mean, self.obs_std = np.zeros(obs_dim), np.ones(obs_dim)
        self.low, self.high = low, high

    def normalize(self, obs: np.ndarray) -> torch.Tensor:
        """Raw observations (N, obs_dim) -> in standard deviations, clipped."""
        scaled = ((obs - self.obs_mean) / self.obs_std).clip(-CLIP, CLIP)
        return torch.as_tensor(scaled, dtype=torch.float32)

    def policy(self, obs: torch.Tensor) -> Normal:
        """Normalised observations (B, obs_dim) -> a Gaussian over actions (B, act_dim)."""
        return Normal(self.actor_mean(obs), self.actor_logstd.exp())

    @torch.no_grad()
    def get_action(self, obs: torch.Tensor) -> np.ndarray:
        """Harness contract: obs (N, obs_dim) -> the mean actions (N, act_dim)."""
        mean: np.ndarray = self.actor_mean(self.normalize(obs.cpu().numpy())).numpy()
        return mean.clip(self.low, self.high)


class RunningMoments:
    """Mean and variance of all rows so far (Chan et al.'s parallel update)."""

    def __init__(self, dim: int):
        self.mean, self.var, self.count = np.zeros(dim), np.ones(dim), 1e-4

    def update(self, rows: np.ndarray) -> None:
        """Take in rows (n, dim)."""
        delta, total = rows.mean(0) - self.mean, self.count + len(rows)
        m2 = self.var * self.count + rows.var(0) * len(rows)
        m2 = m2 + delta**2 * self.count * len(rows) / total
        self.mean, self.var, self.count = self.mean + delta * len(rows) / total, m2 / total, total

    @property
    def std(self) -> np.ndarray:
        """(dim,), never 0."""
        return np.asarray(np.sqrt(self.var + 1e-8))


def main() -> None:
    """Train until the time is up, then hand the agent over."""
    torch.manual_seed(evaluate.SEED)
    torch.set_num_threads(1)  # the networks are small
    rng = np.random.default_rng(evaluate.SEED)
    envs = make_vec_env(NUM_ENVS)
    obs_dim, space = envs.single_observation_space.shape[0], envs.single_action_space
    agent = Agent(obs_dim, space.shape[0], space.low, space.high)
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=ADAM_EPS)
    obs_moments, return_moments = RunningMoments(obs_dim), RunningMoments(1)

    # Storage; a step after the end of an episode only resets, and is not valid
    obs = torch.zeros(NUM_STEPS + 1, NUM_ENVS, obs_dim)
    actions = torch.zeros(NUM_STEPS, NUM_ENVS, space.shape[0])
    logprobs, rewards = torch.zeros(NUM_STEPS, NUM_ENVS), torch.zeros(NUM_STEPS, NUM_ENVS)
    terminated, ended, valid = torch.zeros(3, NUM_STEPS, NUM_ENVS, dtype=torch.bool)
    discounted, episode_return, episode_length = (np.zeros(NUM_ENVS) for _ in range(3))
    finished: list[tuple[float, float]] = []
    raw_obs, step, update, longest = envs.reset(), 0, 0, 0.0
    obs_moments.update(raw_obs)
    obs[-1] = agent.normalize(raw_obs)

    while update == 0 or remaining() > longest + SPARE_SECONDS:
        start = time.monotonic()
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * max(
            0.0, remaining() / max(evaluate.TIME_BUDGET, 1e-9)
        )
        # Rollout: observations and rewards are normalised by what was seen up to their step
        obs[0] = obs[-1]
        for t in range(NUM_STEPS):
            with torch.no_grad():
                policy = agent.policy(obs[t])
                actions[t] = policy.sample()
                logprobs[t] = policy.log_prob(actions[t]).sum(-1)
            action = actions[t].numpy().clip(space.low, space.high)
            raw_obs, reward, done, truncated, ok = envs.step(action)
            obs_moments.update(raw_obs)
            agent.obs_mean, agent.obs_std = obs_moments.mean, obs_moments.std
            discounted = discounted * GAMMA + reward
            return_moments.update(discounted[:, None])
            obs[t + 1] = agent.normalize(raw_obs)
            rewards[t] = torch.as_tensor((reward / return_moments.std).clip(-CLIP, CLIP))
            over = done | truncated
            terminated[t], ended[t] = torch.as_tensor(done), torch.as_tensor(over)
            valid[t] = torch.as_tensor(ok)
            episode_return += reward
            episode_length += ok
            finished.extend(zip(episode_return[over], episode_length[over], strict=True))
            discounted[over] = episode_return[over] = episode_length[over] = 0

        # Advantages: GAE (https://arxiv.org/abs/1506.02438)
        with torch.no_grad():
            values = agent.critic(obs).squeeze(-1)  # (T + 1, N)
        advantages = rewards + GAMMA * values[1:] * ~terminated - values[:-1]
        for t in reversed(range(NUM_STEPS - 1)):
            advantages[t] += GAMMA * GAE_LAMBDA * ~ended[t] * advantages[t + 1]
        returns = advantages + values[:-1]
        batch = [x[valid] for x in (obs[:-1], actions, logprobs, advantages, returns, values[:-1])]
        b_obs, b_actions, b_logprobs, b_advantages, b_returns, b_values = batch

        # Policy and value update, together (https://arxiv.org/abs/1707.06347, eq. 9)
        for _ in range(UPDATE_EPOCHS):
            for mb in np.array_split(rng.permutation(len(b_obs)), NUM_MINIBATCHES):
                policy = agent.policy(b_obs[mb])
                logratio = policy.log_prob(b_actions[mb]).sum(-1) - b_logprobs[mb]
                ratio = logratio.exp()
                adv = (b_advantages[mb] - b_advantages[mb].mean()) / (b_advantages[mb].std() + 1e-8)
                clipped = ratio.clamp(1 - CLIP_COEF, 1 + CLIP_COEF)
                pg_loss = -torch.min(adv * ratio, adv * clipped).mean()
                value = agent.critic(b_obs[mb]).squeeze(-1)
                moved = (value - b_values[mb]).clamp(-CLIP_COEF, CLIP_COEF)
                errors = (value - b_returns[mb]).square()
                clipped_errors = (b_values[mb] + moved - b_returns[mb]).square()
                v_loss = 0.5 * torch.max(errors, clipped_errors).mean()
                entropy = policy.entropy().sum(-1).mean()
                loss = pg_loss - ENT_COEF * entropy + VF_COEF * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRAD_NORM)
                optimizer.step()

        # Log
        update, step, finished = update + 1, step + len(b_obs), finished[-100:]
        seconds = time.monotonic() - start
        longest = max(longest, seconds)
        mean_return, mean_length = np.mean(finished, axis=0) if finished else (np.nan, np.nan)
        residual = (b_returns - b_values).var() / (b_returns.var() + 1e-8)
        log_metrics(
            step,
            num_updates=update,
            sps=len(b_obs) / seconds,
            episode_return=mean_return,
            episode_length=mean_length,
            policy_loss=pg_loss.item(),
            value_loss=v_loss.item(),
            entropy=entropy.item(),
            approx_kl=(ratio - 1 - logratio).mean().item(),
            clipfrac=((ratio - 1).abs() > CLIP_COEF).float().mean().item(),
            explained_variance=1 - residual.item(),
            policy_sigma=agent.actor_logstd.exp().mean().item(),
        )

    result = evaluate_policy(agent)
    print(summary_block(**result, total_timesteps=step, num_updates=update))


if __name__ == "__main__":
    main()
