"""A small PPO with a planted weakness, for the demonstration; it is no research.

    uv run python agent_loop.py run --demo

GAMMA is far too small: what happens three steps later hardly counts, where swinging a pendulum up
takes fifty. The search may change what is not marked `fixed`, and finds what every textbook says.
Otherwise this is PPO in the manner of CleanRL (https://github.com/vwxyzjn/cleanrl), for small
environments. What it does not do: anything well; train.py is the file for research.
"""

import time

import numpy as np
import torch
from torch import nn

import evaluate
from evaluate import evaluate_policy, log_metrics, make_vec_env, remaining, summary_block

GAMMA = 0.5  # [0.5, 0.99]; the planted weakness: 0.95 is usual here
LEARNING_RATE = 3e-3  # fixed
UPDATE_EPOCHS = 5  # fixed
GAE_LAMBDA = 0.95  # fixed
NUM_ENVS = 32  # fixed
NUM_STEPS = 64  # fixed: of each environment between two updates
MINIBATCH_SIZE = 512  # fixed
CLIP_COEF = 0.2  # fixed
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
        self.low, self.high = act_space.low, act_space.high  # (act_dim,)
        obs_dim, act_dim = len(obs_space.high), len(self.high)
        self.actor, self.critic = mlp(obs_dim, act_dim, 0.01), mlp(obs_dim, 1, 1.0)
        self.log_std = nn.Parameter(torch.zeros(act_dim))
        bound = np.where(np.isfinite(obs_space.high), obs_space.high, 1.0)
        self.bound = torch.as_tensor(bound, dtype=torch.float32)

    def normalize(self, obs):
        """Raw observations (N, obs_dim) -> within -1..1."""
        return torch.as_tensor(obs, dtype=torch.float32) / self.bound

    def log_prob(self, obs, actions):
        """Observations (B, obs_dim), actions (B, act_dim) -> (B,), but for a constant."""
        z = (actions - self.actor(obs)) / self.log_std.exp()
        return -(z.square() / 2 + self.log_std).sum(-1)

    def flatten(self):
        """All weights and their gradients as one vector each, (num_weights,)."""
        weights = nn.utils.parameters_to_vector(self.parameters()).detach()
        gradients, at = torch.zeros_like(weights), 0
        for p in self.parameters():
            here = slice(at, at := at + p.numel())
            p.data, p.grad = weights[here].view_as(p), gradients[here].view_as(p)
        return weights, gradients

    @torch.no_grad()
    def get_action(self, obs):
        """Harness contract: obs (N, obs_dim) -> the mean actions (N, act_dim)."""
        return self.actor(self.normalize(obs)).numpy().clip(self.low, self.high)


def main():
    """Train until the time is up, then hand the agent over."""
    torch.manual_seed(evaluate.SEED)
    torch.set_num_threads(1)
    envs = make_vec_env(NUM_ENVS, threads=1)
    agent = Agent(envs.single_observation_space, envs.single_action_space)
    weights, gradients = agent.flatten()
    mean, square, k = torch.zeros_like(weights), torch.zeros_like(weights), 0  # Adam's

    obs = torch.zeros(NUM_STEPS + 1, NUM_ENVS, len(agent.bound))
    actions = torch.zeros(NUM_STEPS, NUM_ENVS, len(agent.low))
    rewards = np.zeros((NUM_STEPS, NUM_ENVS), np.float32)
    terminated, truncated, ended, valid = np.zeros((4, NUM_STEPS, NUM_ENVS), bool)
    episode_return, finished = np.zeros(NUM_ENVS), []
    obs[-1] = agent.normalize(envs.reset())
    step, update, longest = 0, 0, 0.0

    while update == 0 or remaining() > longest + SPARE_SECONDS:
        start = time.monotonic()
        rate = LEARNING_RATE * max(0.0, remaining() / max(evaluate.TIME_BUDGET, 1e-9))
        # Rollout
        obs[0], std = obs[-1], agent.log_std.detach().exp()
        for t in range(NUM_STEPS):
            with torch.no_grad():
                actions[t] = agent.actor(obs[t]) + std * torch.randn_like(actions[t])
            clipped = actions[t].numpy().clip(agent.low, agent.high)
            raw_obs, rewards[t], terminated[t], truncated[t], valid[t] = envs.step(clipped)
            obs[t + 1] = agent.normalize(raw_obs)
            ended[t] = terminated[t] | truncated[t]
            episode_return += rewards[t]
            finished.extend(episode_return[ended[t]])
            episode_return[ended[t]] = 0

        # Advantages: GAE (https://arxiv.org/abs/1506.02438); a time limit is no failure
        with torch.no_grad():
            logprobs, values = agent.log_prob(obs[:-1], actions), agent.critic(obs).squeeze(-1)
        going_on, same_episode = torch.as_tensor(~terminated), torch.as_tensor(~ended)
        scaled = torch.as_tensor(REWARD_SCALE * rewards)
        advantages = scaled + GAMMA * values[1:] * going_on - values[:-1]
        for t in reversed(range(NUM_STEPS - 1)):
            advantages[t] += GAMMA * GAE_LAMBDA * same_episode[t] * advantages[t + 1]
        returns, mask = advantages + values[:-1], torch.as_tensor(valid)  # resets are left out
        batch = [x[mask] for x in (obs[:-1], actions, logprobs, advantages, returns)]

        # Policy and value, together (https://arxiv.org/abs/1707.06347, eq. 9)
        for _ in range(UPDATE_EPOCHS):
            for mb in torch.randperm(len(batch[0])).split(MINIBATCH_SIZE):
                b_obs, b_actions, b_logprobs, adv, b_returns = (x[mb] for x in batch)
                ratio = (agent.log_prob(b_obs, b_actions) - b_logprobs).exp()
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                pg_loss = -torch.min(adv * ratio, adv * ratio.clamp(1 - CLIP_COEF, 1 + CLIP_COEF))
                v_loss = (agent.critic(b_obs).squeeze(-1) - b_returns).square()
                loss = pg_loss.mean() + 0.5 * v_loss.mean()
                gradients.zero_()
                loss.backward()
                gradients *= 0.5 / gradients.norm().clamp(min=0.5)  # clipped
                # Adam (https://arxiv.org/abs/1412.6980); torch.optim takes a second to import
                k += 1
                mean.lerp_(gradients, 0.1)
                square.lerp_(gradients.square(), 0.001)
                rms = (square / (1 - 0.999**k)).sqrt() + 1e-5
                weights -= rate / (1 - 0.9**k) * mean / rms

        # Log
        update, step, finished = update + 1, step + len(batch[0]), finished[-100:]
        longest = max(longest, seconds := time.monotonic() - start)
        known = {"sps": len(batch[0]) / seconds, "num_updates": update}
        log_metrics(step, episode_return=np.mean(finished) if finished else np.nan, **known)

    result = evaluate_policy(agent)
    print(summary_block(**result, total_timesteps=step, num_updates=update))


if __name__ == "__main__":
    main()
