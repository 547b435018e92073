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

import copy
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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

    def mean(self, obs: torch.Tensor) -> torch.Tensor:
        """Raw observations (N, obs_dim) -> the mean of the Gaussian, (N, act_dim)."""
        return self.actor(self.normalize(obs))

    def to_env(self, actions: torch.Tensor) -> torch.Tensor:
        """Clamp to the bounds and scale to the environment's units."""
        return actions.clamp(-self.action_limit, self.action_limit) * self.action_half + self.action_mid

    @torch.no_grad()
    def get_action(self, obs: torch.Tensor) -> np.ndarray:
        """Harness contract: obs (N, obs_dim) float32 on the agent's device -> the mean actions, (N, act_dim), in bounds."""
        return self.to_env(self.mean(obs)).cpu().numpy()


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


def optimize(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], MAX_GRAD_NORM)
    optimizer.step()


def minibatches(order: np.ndarray, *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Rows gathered once in the given order, then cut into contiguous pieces of nearly MINIBATCH_SIZE."""
    inds = torch.from_numpy(order).to(tensors[0].device)
    return zip(*(x[inds].tensor_split(max(1, round(len(order) / MINIBATCH_SIZE))) for x in tensors), strict=True)


def update_policy(agent: "Agent", optimizer: torch.optim.Optimizer, orders: list[np.ndarray], obs: torch.Tensor, actions: torch.Tensor, logprobs: torch.Tensor, advantages: torch.Tensor) -> dict[str, float]:  # fmt: skip
    """PPO's clipped surrogate (https://arxiv.org/abs/1707.06347, eq. 7), one pass over the batch for each of `orders`."""
    for order in orders:
        for mb_obs, mb_actions, mb_logprobs, mb_advantages in minibatches(order, obs, actions, logprobs, advantages):
            mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
            logratio = log_prob(mb_actions, agent.actor(mb_obs), agent.log_std) - mb_logprobs
            ratio = logratio.exp()
            pg_loss = -torch.min(mb_advantages * ratio, mb_advantages * ratio.clamp(1 - CLIP_COEF, 1 + CLIP_COEF)).mean()
            entropy = (agent.log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()
            optimize(pg_loss - ENT_COEF * entropy, optimizer)
    with torch.no_grad():  # of the last minibatch, the furthest from the behaviour policy
        approx_kl = (ratio - 1 - logratio).mean()  # http://joschu.net/blog/kl-approx.html
        clipfrac = ((ratio - 1).abs() > CLIP_COEF).float().mean()
        return {"policy_loss": pg_loss.item(), "entropy": entropy.item(), "approx_kl": approx_kl.item(), "clipfrac": clipfrac.item()}


def update_critic(agent: "Agent", optimizer: torch.optim.Optimizer, orders: list[np.ndarray], obs: torch.Tensor, returns: torch.Tensor) -> dict[str, float]:  # fmt: skip
    """Squared error against the lambda-returns."""
    for order in orders:
        for mb_obs, mb_returns in minibatches(order, obs, returns):
            v_loss = 0.5 * ((agent.critic(mb_obs).squeeze(-1) - mb_returns) ** 2).mean()
            optimize(v_loss, optimizer)
    return {"value_loss": v_loss.item()}


# ---------------------------------------------------------------------------
# Training (edit freely)
# ---------------------------------------------------------------------------


def main() -> None:
    torch.manual_seed(evaluate.SEED)  # the seed belongs to the harness
    rng = np.random.default_rng(evaluate.SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # Two halves take turns: the policy acts for one while the other moves.
    half = NUM_ENVS // 2
    halves = [
        (make_vec_env(half, seed=2 * evaluate.SEED + k, threads=max(1, evaluate.THREADS // 2)), slice(k * half, (k + 1) * half))
        for k in (0, 1)
    ]
    action_space = halves[0][0].single_action_space
    T, N, obs_dim, act_dim = NUM_STEPS, 2 * half, halves[0][0].single_observation_space.shape[0], action_space.shape[0]
    agent = Agent(obs_dim, action_space.low, action_space.high).to(device)
    actor = copy.deepcopy(agent).cpu() if device.type == "cuda" else agent  # acts on the CPU, where the environments are
    actor_optimizer = torch.optim.Adam([*agent.actor.parameters(), agent.log_std], eps=1e-5, fused=True)
    critic_optimizer = torch.optim.Adam(agent.critic.parameters(), eps=1e-5, fused=True)
    torch.set_num_threads(1)  # the nets are small: two learners of one thread each beat one of two
    learners = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
    obs_moments, return_moments = RunningMoments(obs_dim), RunningMoments(1)

    obs = np.zeros((T + 1, N, obs_dim), np.float32)
    actions = np.zeros((T, N, act_dim), np.float32)  # as sampled, before the clamp
    rewards = np.zeros((T, N), np.float32)
    terminated, truncated, valid = (np.zeros((T, N), bool) for _ in range(3))
    discounted, episode_return, episode_length = np.zeros(N), np.zeros(N), np.zeros(N, int)
    finished: list[tuple[float, int]] = []  # (return, length) of the latest episodes
    for envs, rows in halves:
        obs[T, rows] = envs.reset()

    progress = Progress()
    total_timesteps = num_updates = 0
    longest, iteration_start = 0.0, time.monotonic()
    while num_updates == 0 or remaining() > 1.2 * longest + 0.3:  # seconds; the next iteration has to fit
        # -- collect NUM_STEPS steps of every environment
        noise = rng.standard_normal((T, N, act_dim), np.float32)
        obs[0] = obs[T]
        with torch.inference_mode():
            actor.load_state_dict(agent.state_dict())
            sampled = noise * actor.log_std.exp().numpy()  # what exploration adds to the mean
            for t in range(T + 1):
                for envs, rows in halves:
                    if t > 0:
                        obs[t, rows], rewards[t - 1, rows], terminated[t - 1, rows], truncated[t - 1, rows], valid[t - 1, rows] = (
                            envs.recv()
                        )
                    if t < T:
                        actions[t, rows] = actor.mean(torch.from_numpy(obs[t, rows])).numpy() + sampled[t, rows]
                        envs.send(actor.to_env(torch.from_numpy(actions[t, rows])).numpy())
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
        scaled_rewards = (rewards / np.sqrt(return_moments.var + 1e-8)).clip(-REWARD_CLIP, REWARD_CLIP).astype(np.float32)

        # -- advantages, with everything on the device in one go; the reset steps are left out of the batch
        with torch.no_grad():
            all_obs = agent.normalize(torch.from_numpy(obs).to(device))  # (T + 1, N, obs_dim)
            values = agent.critic(all_obs).squeeze(-1).cpu().numpy()  # (T + 1, N)
            advantages = compute_gae(scaled_rewards, values, terminated, truncated)
            b_obs = all_obs[:T].flatten(0, 1)[torch.from_numpy(valid).to(device).flatten()]  # (B, obs_dim), and so on
            b_actions, b_noise, b_advantages, b_values = (
                torch.from_numpy(x[valid]).to(device) for x in (actions, noise, advantages, values[:T])
            )
            b_logprobs = log_prob(b_noise, torch.zeros_like(agent.log_std), torch.zeros_like(agent.log_std)) - agent.log_std.sum()
            b_returns = b_advantages + b_values

        # -- update: actor and critic share nothing, so each learns on its own thread
        learning_rate = LEARNING_RATE * max(FINAL_LR_SHARE, min(1.0, remaining() / max(evaluate.TIME_BUDGET, 1e-9)))
        for optimizer in (actor_optimizer, critic_optimizer):
            optimizer.param_groups[0]["lr"] = learning_rate
        orders = [rng.permutation(len(b_obs)) for _ in range(UPDATE_EPOCHS)]
        critic_learned = learners.submit(update_critic, agent, critic_optimizer, orders, b_obs, b_returns)
        policy_stats = update_policy(agent, actor_optimizer, orders, b_obs, b_actions, b_logprobs, b_advantages)
        value_stats = critic_learned.result()

        # -- the statistics of observations move between iterations only, so ratios start at 1
        obs_moments.update(obs[:T][valid])
        agent.obs_mean.copy_(torch.from_numpy(obs_moments.mean))
        agent.obs_std.copy_(torch.from_numpy(np.sqrt(obs_moments.var + 1e-8)))

        # -- report
        num_updates += 1
        now = time.monotonic()
        longest, sps, iteration_start = max(longest * 0.9, now - iteration_start), valid.sum() / (now - iteration_start), now
        ep_return, ep_length = np.mean(finished, axis=0) if finished else (float("nan"), float("nan"))
        log_metrics(
            total_timesteps, num_updates=num_updates, sps=sps, episode_return=ep_return, episode_length=ep_length, **policy_stats, **value_stats,
            explained_variance=1 - float((b_returns - b_values).var() / (b_returns.var() + 1e-8)),
            policy_mu=float(b_actions.mean()), policy_sigma=float(agent.log_std.detach().exp().mean()), learning_rate=learning_rate,
        )  # fmt: skip
        progress.show(total_timesteps, sps, ep_return)
    progress.end()

    # -----------------------------------------------------------------------
    # Harness contract: end with evaluate_policy (under the judge it does not return), then print the summary block
    # -----------------------------------------------------------------------
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
