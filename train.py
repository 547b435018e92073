"""PPO for Box and Discrete actions on one page: the file that the research edits.

    uv run python train.py                           # train for evaluate.TIME_BUDGET, then evaluate
    AUTORL_ENV_ID=Hopper-v5 uv run python train.py   # another environment

After CleanRL's ppo_continuous_action.py (https://github.com/vwxyzjn/cleanrl), in the order of an
iteration: rollout, advantages, policy update, value update, log. `main` is the iteration.

What it does not do: score itself, choose its seed, or know any environment by name.
"""

import collections
import copy
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import evaluate
from evaluate import VecEnv, evaluate_policy, log_metrics, make_vec_env, remaining, summary_block

# -- Constants (edit freely; the comment after a value is the range that search may try) -----------

NUM_ENVS = 64  # {16, 32, 64, 128}
NUM_STEPS = 64  # {32, 64, 128, 256} steps of each environment between two updates
HIDDEN = 64  # {32, 64, 128, 256} width of the two hidden layers of actor and critic
ACTOR_GAIN = 0.01  # [0.001, 1.0] log; of the actor's last layer: the first mean is near 0
OBS_CLIP = 10.0  # [3.0, 20.0] standard deviations
REWARD_CLIP = 10.0  # [3.0, 20.0] standard deviations of the discounted return
LOG_STD_INIT = -0.7  # [-2.0, 0.5] log sigma at the start, in units of half the action range
LOG_STD_FINAL = -2.3  # [-4.0, 0.5] when the time is up; a line between them
ENT_COEF = 0.01  # [0.0001, 0.1] log; of the entropy, of a categorical policy or a learnt sigma

LEARNING_RATE = 1e-3  # [1e-5, 1e-2] log
FINAL_LR_SHARE = 0.0  # [0.0, 0.5] of LEARNING_RATE, reached when the time is up
ADAM_BETA1 = 0.9  # [0.5, 0.99] of the mean of gradients
ADAM_BETA2 = 0.999  # [0.9, 0.9999] of their square
ADAM_EPS = 1e-5  # [1e-8, 1e-3] log
MAX_GRAD_NORM = 0.5  # [0.1, 5.0]
UPDATE_EPOCHS = 5  # [1, 20] passes over each rollout
MINIBATCH_SIZE = 1024  # {256, 512, 1024, 2048}
CLIP_COEF = 0.2  # [0.05, 0.5] of the probability ratio
TARGET_KL = 0.02  # [0.003, 0.1] log; the actor's learning rate follows it
FINAL_KL_SHARE = 0.2  # [0.05, 1.0] of TARGET_KL, reached when the time is up
LR_SCALE_RATE = 0.1  # [0.0, 0.5] by this share the actor's learning rate moves an update
MIN_LR_SCALE = 0.1  # [0.01, 1.0] log; of LEARNING_RATE
MAX_LR_SCALE = 2.0  # [1.0, 10.0] log; 10 threw the mean far out of bounds early on

GAE_LAMBDA = 0.95  # [0.8, 1.0]
GAMMA = 0.99  # [0.95, 0.995] discount where the critic explains little of the returns
MAX_GAMMA = 0.9975  # [0.995, 0.999] where it explains much
HORIZON_RATE = 1.005  # [1.0, 1.05] factor on the horizon, 1 / (1 - gamma) steps, an update
EV_HIGH = 0.9  # [0.5, 1.0] explained variance above which the horizon grows
EV_LOW = 0.7  # [0.0, 0.9] below which it shrinks
EV_EMA = 0.98  # [0.9, 0.999] its moving average

EPISODE = ("episode_return", "training_return", "episode_length")  # fixed: what the log holds
EPISODE_WINDOW = 100  # fixed: the latest episodes that the log speaks of
PRINT_EVERY = 10.0  # fixed: seconds between two printed lines
SAFETY = 1.2  # fixed: the next iteration may take this many times the longest of late
DECAY = 0.9  # fixed: what the longest counts for one iteration later
HANDOVER_SECONDS = 0.3  # fixed: kept for handing the agent over


# -- Agent (edit freely; `get_action` is the harness contract) -------------------------------------


def mlp(in_dim: int, out_dim: int, out_gain: float) -> nn.Sequential:
    """Two hidden SiLU layers (a fifth of tanh's time on a CPU); gains: arXiv:2006.05990, 3.2."""
    first, second = nn.Linear(in_dim, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
    last = nn.Linear(HIDDEN, out_dim)
    for layer, gain in ((first, 2**0.5), (second, 2**0.5), (last, out_gain)):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), last)


class Agent(nn.Module):
    """A policy, a critic, and the statistics that normalise what they see.

    The policy is a Gaussian for a Box: its actions are in units of half the action range (-1 and 1
    are the bounds), in a dimension without two bounds in the environment's own. For a Discrete
    space it is categorical: its actions are one-hot, act_dim is their number.
    """

    def __init__(self, obs_dim: int, space: Any):
        super().__init__()
        self.discrete = isinstance(space, gym.spaces.Discrete)
        bounds = (np.zeros(space.n), np.ones(space.n)) if self.discrete else (space.low, space.high)
        low, high = (torch.tensor(bound, dtype=torch.float32) for bound in bounds)  # (act_dim,)
        self.actor = mlp(obs_dim, len(low), ACTOR_GAIN)  # the mean, or the logits
        self.critic = mlp(obs_dim, 1, 1.0)
        # Not learnt, it falls on a line (main): learnt (make it an nn.Parameter), exploration was
        # gone after .3 M steps of Hopper-v5, or sigma stayed at .6 on BipedalWalker-v3 (LOG.md).
        self.log_std = nn.Buffer(torch.full_like(low, LOG_STD_INIT))
        self.obs_mean = nn.Buffer(torch.zeros(obs_dim))
        self.obs_std = nn.Buffer(torch.ones(obs_dim))
        bounded = (high - low).isfinite()
        self.action_low, self.action_high = nn.Buffer(low), nn.Buffer(high)
        self.action_mid = nn.Buffer(torch.where(bounded, (high + low) / 2, 0.0))
        self.action_half = nn.Buffer(torch.where(bounded, (high - low) / 2, 1.0))

    def normalize(self, obs: torch.Tensor) -> torch.Tensor:
        """Raw observations (..., obs_dim) -> what actor and critic see."""
        return ((obs - self.obs_mean) / self.obs_std).clamp(-OBS_CLIP, OBS_CLIP)

    def to_env(self, actions: torch.Tensor) -> torch.Tensor:
        """The policy's actions (..., act_dim) -> the environment's: in bounds, or (...) choices."""
        if self.discrete:
            return actions.argmax(-1)
        actions = actions * self.action_half + self.action_mid
        return actions.clamp(self.action_low, self.action_high)

    @torch.no_grad()
    def get_action(self, obs: torch.Tensor) -> np.ndarray:
        """Harness contract: obs (N, obs_dim) float32 on the device -> (N, act_dim), or (N,)."""
        return self.to_env(self.actor(self.normalize(obs))).cpu().numpy()

    # What follows takes the actor's output `out` (..., act_dim) and sums over action dimensions.

    def sample(self, out: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """An action, (..., act_dim), from noise: sigma's, or Gumbel's (arXiv:1611.01144, eq. 1)."""
        if self.discrete:
            return nn.functional.one_hot((out + noise).argmax(-1), out.shape[-1]).float()
        return out + noise

    def log_prob(self, actions: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """(..., act_dim) -> (...)."""
        if self.discrete:
            return (out.log_softmax(-1) * actions).sum(-1)
        z = (actions - out) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, out: torch.Tensor) -> torch.Tensor:
        """In nats, the mean over the batch: a number."""
        if self.discrete:
            return -(out.softmax(-1) * out.log_softmax(-1)).sum(-1).mean()
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()


class RunningMoments:
    """Mean and variance of all rows so far, in float64 (Chan, Golub and LeVeque, 1979)."""

    def __init__(self, dim: int):
        self.mean, self.var, self.count = np.zeros(dim), np.ones(dim), 1e-4

    def update(self, rows: np.ndarray) -> None:
        """Take in rows (n, dim)."""
        mean, var, count = rows.mean(0, dtype=np.float64), rows.var(0, dtype=np.float64), len(rows)
        delta, total = mean - self.mean, self.count + count
        m2 = self.var * self.count + var * count + delta**2 * self.count * count / total
        self.mean, self.var, self.count = self.mean + delta * count / total, m2 / total, total


# -- Rollout, losses, updates (edit freely) --------------------------------------------------------


class Rollout:
    """T steps of N environments, on the CPU. Row t: what was seen before step t, what came of it.

    The row after the end of an episode is a reset step, not `valid`; its `obs` is that episode's
    true last observation.
    """

    def __init__(self, num_envs: int, obs_dim: int, act_dim: int):
        shape = NUM_STEPS, num_envs
        self.obs = np.zeros((NUM_STEPS + 1, num_envs, obs_dim), np.float32)
        self.noise = np.zeros((*shape, act_dim), np.float32)  # drawn beforehand
        self.actions = np.zeros((*shape, act_dim), np.float32)  # the policy's, before the clamp
        self.rewards, self.true_rewards = (np.zeros(shape, np.float32) for _ in range(2))
        self.terminated, self.truncated, self.valid = (np.zeros(shape, bool) for _ in range(3))

    @torch.inference_mode()
    def collect(self, envs: VecEnv, rows: slice, agent: Agent) -> None:
        """NUM_STEPS steps of one group of environments, to which `rows` of the N belong."""
        for t in range(NUM_STEPS):
            obs = agent.normalize(torch.from_numpy(self.obs[t, rows]))
            action = agent.sample(agent.actor(obs), torch.from_numpy(self.noise[t, rows]))
            self.actions[t, rows] = action.numpy()
            env_action = agent.to_env(action).numpy()
            self.obs[t + 1, rows], self.rewards[t, rows], *flags = envs.step(env_action)
            self.true_rewards[t, rows] = envs.true_reward
            self.terminated[t, rows], self.truncated[t, rows], self.valid[t, rows] = flags


class Batch(NamedTuple):
    """The valid steps of a rollout, or a minibatch of them, on the device."""

    obs: torch.Tensor  # (B, obs_dim), normalised
    actions: torch.Tensor  # (B, act_dim)
    logprobs: torch.Tensor  # (B,), under the policy that acted
    advantages: torch.Tensor  # (B,)
    returns: torch.Tensor  # (B,)


Loss = Callable[[Agent, Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]]


def policy_loss(agent: Agent, mb: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """PPO's clipped surrogate (https://arxiv.org/abs/1707.06347, eq. 7), and diagnostics."""
    out = agent.actor(mb.obs)
    logratio = agent.log_prob(mb.actions, out) - mb.logprobs
    ratio = logratio.exp()
    advantages = (mb.advantages - mb.advantages.mean()) / (mb.advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - CLIP_COEF, 1 + CLIP_COEF)
    entropy = agent.entropy(out)  # a constant where sigma is not learnt
    loss = -torch.min(advantages * ratio, advantages * clipped).mean() - ENT_COEF * entropy
    with torch.no_grad():
        approx_kl = (ratio - 1 - logratio).mean()  # http://joschu.net/blog/kl-approx.html
        clipfrac = ((ratio - 1).abs() > CLIP_COEF).float().mean()
    stats = {"policy_loss": loss, "entropy": entropy, "approx_kl": approx_kl, "clipfrac": clipfrac}
    return loss, stats


def value_loss(agent: Agent, mb: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Squared error against the lambda-returns."""
    loss = 0.5 * (agent.critic(mb.obs).squeeze(-1) - mb.returns).square().mean()
    return loss, {"value_loss": loss}


class Adam:
    """Adam (https://arxiv.org/abs/1412.6980) on clipped gradients, for one flat vector.

    With networks this small torch.optim.Adam takes a fifth of an update for its bookkeeping.
    """

    def __init__(self, parameters: list[nn.Parameter]):
        self.flat = torch.cat([p.detach().flatten() for p in parameters])
        self.grad, self.m, self.v = (torch.zeros_like(self.flat) for _ in range(3))
        self.steps, sizes = 0, [p.numel() for p in parameters]
        vectors = (torch.split(vector, sizes) for vector in (self.flat, self.grad))
        for p, value, grad in zip(parameters, *vectors, strict=True):  # now views of the vector
            p.data, p.grad = value.view_as(p), grad.view_as(p)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move by the gradients that have gathered in `grad`."""
        self.grad.mul_((MAX_GRAD_NORM / (self.grad.norm() + 1e-8)).clamp(max=1.0))
        self.steps += 1
        self.m.lerp_(self.grad, 1 - ADAM_BETA1)
        self.v.lerp_(self.grad.square(), 1 - ADAM_BETA2)
        rms = (self.v / (1 - ADAM_BETA2**self.steps)).sqrt_().add_(ADAM_EPS)
        self.flat.sub_((self.m / rms).mul_(lr / (1 - ADAM_BETA1**self.steps)))


def update(
    agent: Agent, losses: list[Loss], adam: Adam, batch: Batch, perms: list[np.ndarray], lr: float
) -> dict[str, float]:
    """A pass over the batch in the order of each of `perms`; the statistics of the last step."""
    for perm in perms:
        inds = torch.from_numpy(perm).to(batch.obs.device)
        pieces = max(1, round(len(perm) / MINIBATCH_SIZE))
        for mb in zip(*(x[inds].tensor_split(pieces) for x in batch), strict=True):
            results = [loss(agent, Batch(*mb)) for loss in losses]
            adam.grad.zero_()
            torch.autograd.backward([loss for loss, _ in results])
            adam.step(lr)
    return {name: x.item() for _, stats in results for name, x in stats.items()}


def learners(agent: Agent, losses: list[Loss], batch: Batch) -> list[tuple[list[Loss], Adam]]:
    """Each loss with an Adam of its own, or all with one where they share a parameter.

    They learn at the same time, so no parameter may have two. Autograd tells what a loss moves.
    """
    parameters = [p for p in agent.parameters() if p.requires_grad]
    moved = []
    for loss in losses:
        grads = torch.autograd.grad(loss(agent, batch)[0], parameters, allow_unused=True)
        moved.append([p for p, grad in zip(parameters, grads, strict=True) if grad is not None])
    union = list(dict.fromkeys(p for own in moved for p in own))
    shared = len(union) < sum(len(own) for own in moved)
    groups = [(losses, union)] if shared else [([x], p) for x, p in zip(losses, moved, strict=True)]
    return [(group, Adam(own)) for group, own in groups]


# -- Training (edit freely) ------------------------------------------------------------------------


def main() -> None:
    """Train until the time is up, then hand the agent over. One iteration, from top to bottom."""
    torch.manual_seed(evaluate.SEED)  # the seed belongs to the harness
    rng = np.random.default_rng(evaluate.SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)  # the nets are small: two learners of one thread beat one of two
    threads = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))

    # Two groups of environments with a thread each that acts: neither waits for the other
    half, seeds = NUM_ENVS // 2, (2 * evaluate.SEED, 2 * evaluate.SEED + 1)
    env_threads = max(1, evaluate.THREADS // 2)
    env_groups = [make_vec_env(half, seed=seed, threads=env_threads) for seed in seeds]
    row_groups = [slice(0, half), slice(half, 2 * half)]
    obs_dim = env_groups[0].single_observation_space.shape[0]
    agent = Agent(obs_dim, env_groups[0].single_action_space).to(device)
    acting = copy.deepcopy(agent).cpu()  # beside the environments: no step crosses to a GPU
    rollout = Rollout(2 * half, obs_dim, len(agent.log_std))
    for envs, rows in zip(env_groups, row_groups, strict=True):
        rollout.obs[-1, rows] = envs.reset()

    groups: list[tuple[list[Loss], Adam]] = []
    obs_moments, return_moments = RunningMoments(obs_dim), RunningMoments(1)
    discounted, episode = np.zeros(2 * half), np.zeros((2 * half, 3))  # as EPISODE says, so far
    finished: collections.deque[np.ndarray] = collections.deque(maxlen=EPISODE_WINDOW)
    frac, lr_scale = 1.0, 1.0  # of the time budget that is left; on the actor's learning rate
    horizon, ev_ema = 1 / (1 - GAMMA), 0.0  # steps; explained variance of late
    total_timesteps = num_updates = 0
    longest, printed, start = 0.0, 0.0, time.monotonic()  # seconds
    while num_updates == 0 or remaining() > SAFETY * longest + HANDOVER_SECONDS:
        # -- rollout
        acting.load_state_dict(agent.state_dict())
        if agent.discrete:
            rollout.noise[:] = rng.gumbel(size=rollout.noise.shape)
        else:
            rng.standard_normal(out=rollout.noise, dtype=np.float32)
            rollout.noise *= acting.log_std.detach().exp().numpy()
        rollout.obs[0] = rollout.obs[-1]
        list(threads.map(rollout.collect, env_groups, row_groups, (acting, acting)))

        # -- rewards, in standard deviations of the discounted return
        returns = np.zeros((NUM_STEPS, 2 * half))
        for t, ended in enumerate(rollout.terminated | rollout.truncated):
            returns[t] = discounted = discounted * GAMMA + rollout.rewards[t]
            columns = rollout.true_rewards[t], rollout.rewards[t], rollout.valid[t]
            episode += np.stack(columns, axis=1)
            finished.extend(episode[ended])
            discounted[ended], episode[ended] = 0, 0
        return_moments.update(returns[rollout.valid][:, None])
        rewards = rollout.rewards / np.sqrt(return_moments.var + 1e-8)
        rewards = rewards.clip(-REWARD_CLIP, REWARD_CLIP).astype(np.float32)  # (T, N)

        # -- advantages: GAE (https://arxiv.org/abs/1506.02438, eq. 16)
        with torch.no_grad():
            obs = agent.normalize(torch.from_numpy(rollout.obs).to(device))  # (T + 1, N, obs_dim)
            actions = torch.from_numpy(rollout.actions).to(device)  # (T, N, act_dim)
            logprobs = agent.log_prob(actions, agent.actor(obs[:-1]))  # (T, N)
            b_values = agent.critic(obs).squeeze(-1)  # (T + 1, N)
        gamma, values = 1 - 1 / horizon, b_values.cpu().numpy()
        # Only a terminated episode has no value after it: a truncated one is bootstrapped from its
        # true last observation. No return flows over the reset step that follows either.
        advantages = rewards + gamma * values[1:] * ~rollout.terminated - values[:-1]
        carry = gamma * GAE_LAMBDA * ~(rollout.terminated | rollout.truncated)
        for t in reversed(range(NUM_STEPS - 1)):
            advantages[t] += carry[t] * advantages[t + 1]
        b_advantages = torch.from_numpy(advantages).to(device)  # (T, N)
        valid = torch.from_numpy(rollout.valid).to(device)
        steps = obs[:-1], actions, logprobs, b_advantages, b_advantages + b_values[:-1]
        batch = Batch(*(x[valid] for x in steps))

        # -- policy update, value update: at once, on a thread each
        groups = groups or learners(agent, [policy_loss, value_loss], batch)
        last_frac, frac = frac, max(0.0, min(1.0, remaining() / max(evaluate.TIME_BUDGET, 1e-9)))
        rates = [LEARNING_RATE * max(FINAL_LR_SHARE, frac) * scale for scale in (lr_scale, 1.0)]
        perms = [rng.permutation(len(batch.obs)) for _ in range(UPDATE_EPOCHS)]
        learn = zip(groups, rates, strict=False)  # a shared trunk has one group, at the first rate
        updates = [threads.submit(update, agent, *group, batch, perms, lr) for group, lr in learn]
        stats = {name: x for done in updates for name, x in done.result().items()}

        # -- what adapts: sigma; the actor's rate, by KL (https://github.com/leggedrobotics/rsl_rl);
        agent.log_std.data -= (LOG_STD_INIT - LOG_STD_FINAL) * (last_frac - frac)
        target_kl = TARGET_KL * (FINAL_KL_SHARE + (1 - FINAL_KL_SHARE) * frac)
        lr_scale *= 1 + LR_SCALE_RATE * (-1 if stats["approx_kl"] > target_kl else 1)
        lr_scale = min(MAX_LR_SCALE, max(MIN_LR_SCALE, lr_scale))
        # the discount (https://arxiv.org/abs/1512.02011): higher while the critic explains returns;
        explained = 1 - (batch.advantages.var() / (batch.returns.var() + 1e-8)).item()
        ev_ema = EV_EMA * ev_ema + (1 - EV_EMA) * max(0.0, explained)
        if not EV_LOW <= ev_ema <= EV_HIGH:
            horizon *= HORIZON_RATE if ev_ema > EV_HIGH else 1 / HORIZON_RATE
            horizon = min(1 / (1 - MAX_GAMMA), max(1 / (1 - GAMMA), horizon))
        # the statistics of observations, between iterations only, so that ratios start at 1
        obs_moments.update(rollout.obs[:-1][rollout.valid])
        agent.obs_mean.copy_(torch.from_numpy(obs_moments.mean))
        agent.obs_std.copy_(torch.from_numpy(np.sqrt(obs_moments.var + 1e-8)))

        # -- log
        num_updates, total_timesteps = num_updates + 1, total_timesteps + len(batch.obs)
        now = time.monotonic()
        longest, sps, start = max(DECAY * longest, now - start), len(batch.obs) / (now - start), now
        means = np.mean(finished, axis=0) if finished else np.full(3, np.nan)
        stats |= {"num_updates": num_updates, "sps": sps, "gamma": gamma, "learning_rate": rates[0]}
        stats |= {"explained_variance": explained, "policy_mu": batch.actions.mean().item()}
        stats |= zip(EPISODE, means.tolist(), strict=True)
        stats["policy_sigma"] = agent.log_std.exp().mean().item()
        log_metrics(total_timesteps, **stats)
        if now - printed > PRINT_EVERY:
            printed = now
            print(f"step {total_timesteps:,}, {sps:,.0f}/s, return {means[0]:.1f}", flush=True)

    # -- harness contract: end with evaluate_policy (under the judge it does not return)
    result = evaluate_policy(agent, device)
    print(summary_block(**result, total_timesteps=total_timesteps, num_updates=num_updates))


if __name__ == "__main__":
    main()
