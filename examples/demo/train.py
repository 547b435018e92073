"""A small PPO with a planted weakness, for the demonstration; it is no research.

    uv run python agent_loop.py run --demo

LEARNING_RATE is a hundred times too small and UPDATE_EPOCHS uses each batch once, so that hardly
anything is learnt in the time. The search may change the constants that have bounds; what it finds
is what any textbook says. Otherwise this is CleanRL's PPO (https://github.com/vwxyzjn/cleanrl) for
small environments with bounded observations, such as Pendulum-v1. What it does not do: anything
well; train.py is the file for research.
"""

import time

import numpy as np
import torch
from torch import nn

import evaluate
from evaluate import evaluate_policy, log_metrics, make_vec_env, remaining, summary_block

LEARNING_RATE = 1e-5  # [1e-6, 1e-2] log; the planted weakness: usual is 3e-4 to 1e-3
UPDATE_EPOCHS = 1  # [1, 10]; planted as well: usual is 10
GAMMA = 0.9  # [0.8, 0.99]
GAE_LAMBDA = 0.95  # fixed
NUM_ENVS = 64  # fixed
NUM_STEPS = 64  # fixed: of each environment between two updates
MINIBATCH_SIZE = 1024  # fixed
CLIP_COEF = 0.2  # fixed
MAX_GRAD_NORM = 0.5  # fixed
REWARD_SCALE = 0.1  # fixed
SPARE_SECONDS = 0.3  # fixed: kept for the hand-over


def mlp(in_dim: int, out_dim: int, gain: float) -> nn.Sequential:
    """Two hidden layers of 64; `gain` scales the weights of the last one."""
    last = nn.Linear(64, out_dim)
    nn.init.orthogonal_(last.weight, gain)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(in_dim, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), last)


class Agent(nn.Module):
    """Actor and critic; the actor is a Gaussian whose sigma does not depend on the state."""

    def __init__(self, obs_space, act_space):
        super().__init__()
        obs_dim, act_dim = obs_space.shape[0], act_space.shape[0]
        self.actor, self.critic = mlp(obs_dim, act_dim, 0.01), mlp(obs_dim, 1, 1.0)
        self.log_std = nn.Parameter(torch.zeros(act_dim))
        self.low, self.high = act_space.low, act_space.high
        bound = np.where(np.isfinite(obs_space.high), obs_space.high, 1.0)
        self.bound = torch.as_tensor(bound, dtype=torch.float32)

    def normalize(self, obs):
        """Raw observations (N, obs_dim) -> within -1..1."""
        return torch.as_tensor(obs, dtype=torch.float32) / self.bound

    def log_prob(self, obs, actions):
        """Observations (B, obs_dim), actions (B, act_dim) -> (B,), but for a constant."""
        z = (actions - self.actor(obs)) / self.log_std.exp()
        return -(z.square() / 2 + self.log_std).sum(-1)

    @torch.no_grad()
    def get_action(self, obs):
        """Harness contract: obs (N, obs_dim) -> the mean actions (N, act_dim)."""
        return self.actor(self.normalize(obs)).numpy().clip(self.low, self.high)


def main():
    """Train until the time is up, then hand the agent over."""
    torch.manual_seed(evaluate.SEED)
    torch.set_num_threads(1)  # the networks are small
    envs = make_vec_env(NUM_ENVS, threads=1)
    agent = Agent(envs.single_observation_space, envs.single_action_space)
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)

    obs = torch.zeros(NUM_STEPS + 1, NUM_ENVS, len(agent.bound))
    actions = torch.zeros(NUM_STEPS, NUM_ENVS, len(agent.low))
    rewards = torch.zeros(NUM_STEPS, NUM_ENVS)
    terminated, ended, valid = torch.zeros(3, NUM_STEPS, NUM_ENVS, dtype=torch.bool)
    episode_return, finished = np.zeros(NUM_ENVS), []
    obs[-1] = agent.normalize(envs.reset())
    step, update, longest = 0, 0, 0.0

    while update == 0 or remaining() > longest + SPARE_SECONDS:
        start = time.monotonic()
        share_left = max(0.0, remaining() / max(evaluate.TIME_BUDGET, 1e-9))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * share_left

        # Rollout: NUM_STEPS of each environment
        obs[0], std = obs[-1], agent.log_std.detach().exp()
        for t in range(NUM_STEPS):
            with torch.no_grad():
                actions[t] = agent.actor(obs[t]) + std * torch.randn_like(actions[t])
            clipped = actions[t].numpy().clip(agent.low, agent.high)
            raw_obs, reward, done, truncated, ok = envs.step(clipped)
            obs[t + 1], rewards[t] = agent.normalize(raw_obs), torch.as_tensor(reward)
            terminated[t], valid[t] = torch.as_tensor(done), torch.as_tensor(ok)
            over = done | truncated
            ended[t] = torch.as_tensor(over)
            episode_return += reward
            finished.extend(episode_return[over])
            episode_return[over] = 0

        # Advantages: GAE (https://arxiv.org/abs/1506.02438); a time limit is no failure
        with torch.no_grad():
            logprobs, values = agent.log_prob(obs[:-1], actions), agent.critic(obs).squeeze(-1)
        advantages = REWARD_SCALE * rewards + GAMMA * values[1:] * ~terminated - values[:-1]
        for t in reversed(range(NUM_STEPS - 1)):
            advantages[t] += GAMMA * GAE_LAMBDA * ~ended[t] * advantages[t + 1]
        returns = advantages + values[:-1]
        batch = [x[valid] for x in (obs[:-1], actions, logprobs, advantages, returns)]

        # Policy and value, together (https://arxiv.org/abs/1707.06347, eq. 9)
        for _ in range(UPDATE_EPOCHS):
            for mb in torch.randperm(len(batch[0])).split(MINIBATCH_SIZE):
                b_obs, b_actions, b_logprobs, adv, b_returns = (x[mb] for x in batch)
                ratio = (agent.log_prob(b_obs, b_actions) - b_logprobs).exp()
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                pg_loss = -torch.min(adv * ratio, adv * ratio.clamp(1 - CLIP_COEF, 1 + CLIP_COEF))
                v_loss = (agent.critic(b_obs).squeeze(-1) - b_returns).square()
                loss = pg_loss.mean() + 0.5 * v_loss.mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRAD_NORM)
                optimizer.step()

        # Log
        update, step, finished = update + 1, step + len(batch[0]), finished[-100:]
        seconds = time.monotonic() - start
        longest = max(longest, seconds)
        mean_return = np.mean(finished) if finished else np.nan
        sps = len(batch[0]) / seconds
        log_metrics(step, num_updates=update, sps=sps, episode_return=mean_return)

    result = evaluate_policy(agent)
    print(summary_block(**result, total_timesteps=step, num_updates=update))


if __name__ == "__main__":
    main()
