# NOTE FROM THE LEAD (04:05): by my mistake the UNCOMMITTED edits of this file made before 04:04:16 were reverted to its last commit. Please re-apply your last edits, then delete this line.
"""PPO for continuous control in one file: the file the research edits.

    uv run python train.py                           # train for evaluate.TIME_BUDGET seconds, evaluate, print the summary
    AUTORL_ENV_ID=Hopper-v5 uv run python train.py   # another environment

In the manner of CleanRL (https://github.com/vwxyzjn/cleanrl, ppo_continuous_action.py): a Gaussian policy with a
state-independent standard deviation, observation and reward normalisation, GAE, a clipped surrogate. The time limit of
an episode is no failure: its last value is bootstrapped. The learning rate falls with the share of the wall-clock used.

What this file does not do: score itself (the harness evaluates what `evaluate_policy` is given), choose its seed, or
know any environment by name.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

import evaluate
from evaluate import evaluate_policy, log_metrics, make_vec_env, remaining, summary_block

# ---------------------------------------------------------------------------
# Constants (edit freely; the comment after a value is the range that search may try)
# ---------------------------------------------------------------------------

NUM_ENVS = 64  # {16, 32, 64, 128}
NUM_STEPS = 256  # {64, 128, 256, 512} steps of each environment between two updates
HIDDEN = 64  # {32, 64, 128, 256} width of the two hidden layers of actor and critic
LEARNING_RATE = 5e-4  # [1e-5, 1e-2] log
FINAL_LR_SHARE = 0.0  # [0.0, 0.5] of LEARNING_RATE, reached when the time is up
GAMMA = 0.99  # [0.95, 0.999] discount
GAE_LAMBDA = 0.95  # [0.8, 1.0]
UPDATE_EPOCHS = 10  # [1, 20] passes over each rollout
MINIBATCH_SIZE = 2048  # {256, 512, 1024, 2048, 4096}
CLIP_COEF = 0.2  # [0.05, 0.5] of the probability ratio
ENT_COEF = 0.0  # [0.0, 0.02]
VF_COEF = 0.5  # [0.1, 2.0]
MAX_GRAD_NORM = 0.5  # [0.1, 5.0]
LOG_STD_INIT = -0.5  # [-2.0, 0.5] natural log, in units of half the action range
OBS_CLIP = 10.0  # [3.0, 20.0] standard deviations
REWARD_CLIP = 10.0  # [3.0, 20.0] standard deviations of the discounted return


# ---------------------------------------------------------------------------
# Agent (edit freely; `get_action` is the harness contract)
# ---------------------------------------------------------------------------


def mlp(in_dim: int, out_dim: int, out_gain: float) -> nn.Sequential:
    """Two hidden tanh layers, orthogonal initialisation (https://arxiv.org/abs/2006.05990)."""
    layers = [nn.Linear(in_dim, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, out_dim)]
    for layer, gain in ((layers[0], 2**0.5), (layers[2], 2**0.5), (layers[4], out_gain)):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class Agent(nn.Module):
    """Actor, critic, and the statistics that normalise what they see. Actions are in units of half the action range."""

    def __init__(self, obs_dim: int, action_low: np.ndarray, action_high: np.ndarray):
        super().__init__()
        self.actor = mlp(obs_dim, len(action_low), 0.01)
        self.critic = mlp(obs_dim, 1, 1.0)
        self.log_std = nn.Parameter(torch.full((len(action_low),), LOG_STD_INIT))
        self.register_buffer("obs_mean", torch.zeros(obs_dim))
        self.register_buffer("obs_std", torch.ones(obs_dim))
        bounded = np.isfinite(action_low) & np.isfinite(action_high)  # an unbounded action is used as it is
        low, high = np.where(bounded, action_low, -1.0), np.where(bounded, action_high, 1.0)
        self.register_buffer("action_mid", torch.tensor((high + low) / 2, dtype=torch.float32))
        self.register_buffer("action_half", torch.tensor((high - low) / 2, dtype=torch.float32))
        self.register_buffer("action_limit", torch.tensor(np.where(bounded, 1.0, np.inf), dtype=torch.float32))

    def normalize(self, obs: torch.Tensor) -> torch.Tensor:
        return ((obs - self.obs_mean) / self.obs_std).clamp(-OBS_CLIP, OBS_CLIP)

    def to_env(self, actions: torch.Tensor) -> torch.Tensor:
        """Clamp to the bounds and scale to the environment's units."""
        return torch.clamp(actions, -self.action_limit, self.action_limit) * self.action_half + self.action_mid

    @torch.no_grad()
    def get_action(self, obs: torch.Tensor) -> np.ndarray:
        """Harness contract: obs (N, obs_dim) float32 on the agent's device -> the mean actions, (N, act_dim), in bounds."""
        return self.to_env(self.actor(self.normalize(obs))).cpu().numpy()


def log_prob(actions: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """Of a diagonal Gaussian, summed over action dimensions: (B, act_dim) -> (B,)."""
    return (-0.5 * ((actions - mean) * (-log_std).exp()) ** 2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)


class RunningMoments:
    """Mean and variance of all rows seen so far, in float64 (Chan et al.'s parallel update)."""

    def __init__(self, dim: int):
        self.mean, self.var, self.count = np.zeros(dim), np.ones(dim), 1e-4

    def update(self, rows: np.ndarray) -> None:
        mean, var, count = rows.mean(0, dtype=np.float64), rows.var(0, dtype=np.float64), len(rows)
        delta, total = mean - self.mean, self.count + count
        self.var = (self.var * self.count + var * count + delta**2 * self.count * count / total) / total
        self.mean, self.count = self.mean + delta * count / total, total


def compute_gae(rewards: np.ndarray, values: np.ndarray, terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
    """Generalised advantage estimates (https://arxiv.org/abs/1506.02438, eq. 16) -> (T, N).

    Args:
        rewards, terminated, truncated: (T, N). values: (T + 1, N), of the observation before each step and after the last.
            After a step that ends an episode the next observation is that episode's true last one, so values[t + 1] is the
            bootstrap of a truncated episode; a terminated one has none. What follows is the reset step: no return flows over it.
    """
    advantages = np.zeros_like(rewards)
    last = np.zeros(rewards.shape[1], np.float32)
    deltas = rewards + GAMMA * values[1:] * ~terminated - values[:-1]
    carry = GAMMA * GAE_LAMBDA * ~(terminated | truncated)
    for t in reversed(range(len(rewards))):
        advantages[t] = last = deltas[t] + carry[t] * last
    return advantages


# ---------------------------------------------------------------------------
# Training (edit freely)
# ---------------------------------------------------------------------------


def main() -> None:
    np.random.seed(evaluate.SEED)  # the seed belongs to the harness
    torch.manual_seed(evaluate.SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    rng = np.random.default_rng(evaluate.SEED)

    envs = make_vec_env(NUM_ENVS)
    obs_dim, act_dim = envs.single_observation_space.shape[0], envs.single_action_space.shape[0]
    agent = Agent(obs_dim, envs.single_action_space.low, envs.single_action_space.high).to(device)
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5, fused=True)
    obs_moments, return_moments = RunningMoments(obs_dim), RunningMoments(1)

    T, N = NUM_STEPS, NUM_ENVS
    obs = np.zeros((T + 1, N, obs_dim), np.float32)
    actions = np.zeros((T, N, act_dim), np.float32)  # as sampled, before the clamp
    rewards = np.zeros((T, N), np.float32)
    terminated, truncated, valid = (np.zeros((T, N), bool) for _ in range(3))
    discounted, episode_return, episode_length = np.zeros(N), np.zeros(N), np.zeros(N, int)
    finished: list[tuple[float, int]] = []  # (return, length) of the latest episodes

    progress = Progress()
    total_timesteps = num_updates = 0
    longest, iteration_start = 0.0, time.monotonic()
    next_obs = envs.reset()
    while num_updates == 0 or remaining() > 1.2 * longest + 0.3:
        # -- collect NUM_STEPS steps of every environment
        noise = rng.standard_normal((T, N, act_dim), np.float32)
        with torch.no_grad():
            std = agent.log_std.exp()
            for t in range(T):
                obs[t] = next_obs
                mean = agent.actor(agent.normalize(torch.from_numpy(next_obs).to(device)))
                action = mean + std * torch.from_numpy(noise[t]).to(device)
                actions[t] = action.cpu().numpy()
                next_obs, rewards[t], terminated[t], truncated[t], valid[t] = envs.step(agent.to_env(action).cpu().numpy())
            obs[T] = next_obs
        total_timesteps += int(valid.sum())

        # -- episode statistics and the scale of rewards (the standard deviation of the discounted return)
        returns_seen = np.zeros((T, N), np.float32)
        for t in range(T):
            discounted = discounted * GAMMA + rewards[t]
            returns_seen[t] = discounted
            episode_return += rewards[t]
            episode_length += valid[t]
            if (ended := terminated[t] | truncated[t]).any():
                finished.extend(zip(episode_return[ended].tolist(), episode_length[ended].tolist(), strict=True))
                discounted[ended] = episode_return[ended] = episode_length[ended] = 0
        finished = finished[-100:]
        return_moments.update(returns_seen[valid][:, None])
        scaled_rewards = np.clip(rewards / np.sqrt(return_moments.var + 1e-8), -REWARD_CLIP, REWARD_CLIP).astype(np.float32)

        # -- advantages, with everything on the device in one go; the reset steps are left out of the batch
        with torch.no_grad():
            all_obs = agent.normalize(torch.from_numpy(obs).to(device))  # (T + 1, N, obs_dim)
            values = agent.critic(all_obs).squeeze(-1).cpu().numpy()  # (T + 1, N)
            advantages = compute_gae(scaled_rewards, values, terminated, truncated)
            keep = torch.from_numpy(np.flatnonzero(valid)).to(device)

            def batch(x: np.ndarray, keep: torch.Tensor = keep) -> torch.Tensor:
                return torch.from_numpy(x).to(device).flatten(0, 1)[keep]  # (B, ...)

            b_obs = all_obs[:T].flatten(0, 1)[keep]
            b_actions, b_advantages, b_values = batch(actions), batch(advantages), batch(values[:T])
            b_logprobs = log_prob(b_actions, b_actions - std * batch(noise), agent.log_std)
            b_returns = b_advantages + b_values

        # -- update
        lr_now = LEARNING_RATE * max(FINAL_LR_SHARE, min(1.0, remaining() / max(evaluate.TIME_BUDGET, 1e-9)))
        optimizer.param_groups[0]["lr"] = lr_now
        statistics = []
        for _ in range(UPDATE_EPOCHS):
            order = torch.randperm(len(b_obs), device=device)
            for start in range(0, len(order) - MINIBATCH_SIZE // 2, MINIBATCH_SIZE):
                mb_inds = order[start : start + MINIBATCH_SIZE]
                mb_advantages = b_advantages[mb_inds]
                mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
                logratio = log_prob(b_actions[mb_inds], agent.actor(b_obs[mb_inds]), agent.log_std) - b_logprobs[mb_inds]
                ratio = logratio.exp()
                pg_loss = torch.max(-mb_advantages * ratio, -mb_advantages * ratio.clamp(1 - CLIP_COEF, 1 + CLIP_COEF)).mean()
                v_loss = 0.5 * ((agent.critic(b_obs[mb_inds]).squeeze(-1) - b_returns[mb_inds]) ** 2).mean()
                entropy = (agent.log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()
                loss = pg_loss - ENT_COEF * entropy + VF_COEF * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRAD_NORM)
                optimizer.step()
            with torch.no_grad():  # of the epoch's last minibatch
                approx_kl = (ratio - 1 - logratio).mean()  # http://joschu.net/blog/kl-approx.html
                clipfrac = ((ratio - 1).abs() > CLIP_COEF).float().mean()
                statistics.append(torch.stack([pg_loss, v_loss, entropy, approx_kl, clipfrac]))

        # -- the statistics of observations move between iterations only, so ratios start at 1
        obs_moments.update(obs[:T][valid])
        agent.obs_mean.copy_(torch.from_numpy(obs_moments.mean))
        agent.obs_std.copy_(torch.from_numpy(np.sqrt(obs_moments.var + 1e-8)))

        # -- report
        num_updates += 1
        now = time.monotonic()
        longest, sps, iteration_start = max(longest * 0.9, now - iteration_start), valid.sum() / (now - iteration_start), now
        pg, vf, ent, kl, clip = torch.stack(statistics).mean(0).tolist()
        ep_return, ep_length = np.mean(finished, axis=0) if finished else (float("nan"), float("nan"))
        log_metrics(
            total_timesteps, num_updates=num_updates, sps=sps, episode_return=ep_return, episode_length=ep_length, policy_loss=pg, value_loss=vf,
            entropy=ent, approx_kl=kl, clipfrac=clip,
            explained_variance=1 - float((b_returns - b_values).var() / (b_returns.var() + 1e-8)),
            policy_mu=float(b_actions.mean()), policy_sigma=float(agent.log_std.detach().exp().mean()), learning_rate=lr_now,
        )  # fmt: skip
        progress.show(total_timesteps, sps, ep_return)

    # -----------------------------------------------------------------------
    # Harness contract: end with evaluate_policy (under the judge it does not return), then print the summary block
    # -----------------------------------------------------------------------
    progress.end()
    result = evaluate_policy(agent, device)
    print(summary_block(**result, total_timesteps=total_timesteps, num_updates=num_updates))


class Progress:
    """A bar on a terminal; in a log, one plain line every few seconds."""

    def __init__(self, every: float = 10.0):
        self.bar, self.every, self.last = sys.stdout.isatty(), every, 0.0  # seconds between lines in a log

    def show(self, step: int, sps: float, episode_return: float) -> None:
        share = min(1.0, evaluate.elapsed() / max(evaluate.TIME_BUDGET, 1e-9))
        text = f"{100 * share:3.0f}%  {max(0.0, remaining()):4.0f} s left  step {step:,}  {sps:,.0f} steps/s  return {episode_return:.1f}"
        if self.bar:
            print(f"\r{'█' * int(24 * share):░<24} {text}\x1b[K", end="", flush=True)
        elif time.monotonic() - self.last > self.every:
            print(text, flush=True)
            self.last = time.monotonic()

    def end(self) -> None:
        if self.bar:
            print()


if __name__ == "__main__":
    main()
