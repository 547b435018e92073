"""The fixed evaluation harness: constants, environments, evaluation. Research never edits it.

    uv run python evaluate.py   # one measured run of the train.py beside this file, by the judge

train.py imports what it needs from here and ends with `evaluate_policy(agent, device)`. Run by
hand, that call rolls the agent out and returns the statistics. Under the judge it hands the agent
over and ends the process: the judge then draws the evaluation seeds and steps the environments
itself, so nothing printed or patched in here can make a score.

The environments themselves are in autorl_worlds/, vector.py. What this file does not do: import
anything of autorl/ (but when run), choose seeds, or decide anything.
"""

if __name__ == "__main__":
    __import__("autorl").installed_first()

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from autorl_worlds.vector import VecEnv as VecEnv
from autorl_worlds.vector import checked_actions, make_env, steps_taken
from autorl_worlds.wrappers import endless, longest_episode

# ---------------------------------------------------------------------------
# Constants; the AUTORL_* variables exist so that this file need never change.
# ---------------------------------------------------------------------------


def _from_environment(name: str, usual: float) -> float:
    """A number from an AUTORL_* variable; one sentence if it is none."""
    try:
        if not abs(value := float(os.environ.get(name) or usual)) < float("inf"):
            raise ValueError
        return value
    except ValueError:
        raise SystemExit(
            f"{name}={os.environ[name]} is not a number; "
            f"set it to one (usually {usual:g}), or unset it."
        ) from None


# seconds, from process start to hand-over
TIME_BUDGET = _from_environment("AUTORL_TIME_BUDGET", 720)
# environment steps of all VecEnvs together, as they count themselves; 0 = no limit but the time
BUDGET_STEPS = int(_from_environment("AUTORL_BUDGET_STEPS", 0))
ENV_ID = os.environ.get("AUTORL_ENV_ID", "BipedalWalker-v3")
try:  # arguments of ENV_ID's constructor
    ENV_KWARGS: dict[str, Any] = {**json.loads(os.environ.get("AUTORL_ENV_KWARGS") or "{}")}
except (TypeError, ValueError):
    raise SystemExit(
        f"AUTORL_ENV_KWARGS={os.environ['AUTORL_ENV_KWARGS']} is not a JSON object; "
        'set it to one such as {"hardcore": true}, or unset it.'
    ) from None
NUM_EVAL_EPISODES = int(_from_environment("AUTORL_NUM_EVAL_EPISODES", 100))
if NUM_EVAL_EPISODES < 1:
    raise SystemExit(
        f"AUTORL_NUM_EVAL_EPISODES={NUM_EVAL_EPISODES}: at least one evaluation episode is needed; "
        "set it to one or more, or unset it."
    )
# the training seed belongs to the harness, never to train.py
SEED = int(_from_environment("AUTORL_SEED", 1))
_cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
THREADS = int(_from_environment("AUTORL_THREADS", 0)) or len(_cores)

# metrics.csv and, under the judge, policy.pkl
RUN_DIR = Path(os.environ.get("AUTORL_RUN_DIR", "."))
HANDOVER = os.environ.get("AUTORL_HANDOVER") == "1"  # set by the judge
# set by the judge for controls: updates in a budget
CLOCK_UPDATES = int(os.environ.get("AUTORL_CLOCK_UPDATES", 0))


# ---------------------------------------------------------------------------
# The clock: starts when the process starts, so imports and compilation count
# ---------------------------------------------------------------------------


def _process_start() -> float:
    """time.monotonic() at the start of this process: from the judge, else the kernel, else now."""
    if "AUTORL_START" in os.environ:
        return float(os.environ["AUTORL_START"])
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - max(0.0, age)
    except (OSError, ValueError, AttributeError):
        return time.monotonic()


_START = _process_start()


def elapsed() -> float:
    """Seconds of the training budget that are spent.

    Those since the process started; with BUDGET_STEPS the same share of TIME_BUDGET as of the
    steps, when that is more; in a control run the clock counts `log_metrics` calls.
    """
    seconds = _seconds()
    if CLOCK_UPDATES:  # a program that logs nothing ends too
        return max(_updates_seen / CLOCK_UPDATES * TIME_BUDGET, seconds - 2 * TIME_BUDGET)
    if BUDGET_STEPS > 0:
        return max(seconds, steps_taken() / BUDGET_STEPS * TIME_BUDGET)
    return seconds


def _seconds() -> float:
    """Seconds since the process started."""
    return time.monotonic() - _START


def remaining() -> float:
    """Seconds of the training budget left; negative when it is spent."""
    return TIME_BUDGET - elapsed()


# ---------------------------------------------------------------------------
# Environments
# ---------------------------------------------------------------------------


def make_vec_env(
    num_envs: int,
    env_id: str = ENV_ID,
    seed: int = SEED,
    threads: int = THREADS,
    *,
    reward: Any = None,
    device: Any = None,
) -> VecEnv:
    """The fast way to train: our worlds in torch, EnvPool where it knows the env, else Gymnasium.

    Args:
        reward: the reward to train for, which is yours; the score is the registered one. None, or
            a function shaped(obs, action, next_obs, reward, terminated) -> (N,), or for one of our
            worlds a subclass of its class in autorl_worlds.batched. `envs.true_reward` is always
            the registered reward of the last step.
        device: None for numpy arrays; "cpu", "cuda" or "auto" for torch tensors there.

    Raises:
        SystemExit: there is no such environment, it cannot be trained, or `reward` does not fit.
    """
    kwargs = ENV_KWARGS if env_id == ENV_ID else {}
    return VecEnv(num_envs, env_id, seed, threads, reward=reward, device=device, kwargs=kwargs)


# ---------------------------------------------------------------------------
# What training says of itself
# ---------------------------------------------------------------------------

_metrics_columns: list[str] = []
_updates_seen = 0


def log_metrics(step: int, **scalars: float) -> None:
    """Append one row to metrics.csv for progress bars, plots and the researcher; never scored.

    Call it once per update: the clock of control runs counts the calls.

    Args:
        step: environment steps so far.
        scalars: any numbers; the first call fixes the columns. The report knows `num_updates`,
            `sps`, `episode_return`, `episode_length`, `approx_kl`, `clipfrac`,
            `explained_variance`, `entropy`.
    """
    global _updates_seen
    _updates_seen += 1
    row: dict[str, float] = {"seconds": round(_seconds(), 3), "step": int(step)}
    row |= {name: float(value) for name, value in scalars.items()}
    first = not _metrics_columns
    if first:
        _metrics_columns.extend(row)
    with open(RUN_DIR / "metrics.csv", "w" if first else "a", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, _metrics_columns, restval="", extrasaction="ignore", lineterminator="\n"
        )
        if first:
            writer.writeheader()
        writer.writerow(row)


# ---------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------


def evaluate_policy(
    agent: Any, device: Any = "cpu", num_episodes: int = NUM_EVAL_EPISODES, env_id: str = ENV_ID
) -> dict[str, float]:
    """The last line of train.py. Under the judge it hands the agent over and ends the process.

    What follows is for runs by hand: an edit of it (a median, say) changes no score of the judge,
    which is the mean of episodes of its own.

    The agent's contract: `agent.get_action(obs)` takes a float32 tensor (N, obs_dim) on `device`
    and returns an array (N, act_dim), or for a Discrete space (N,) or (N, 1) whole numbers from 0;
    N is any number >= 1 and rows are independent episodes. A memoryless policy needs nothing else;
    one with memory has `agent.reset(done_mask)`, called with a bool array (N,) before the first
    step and after every step, True where an episode begins or is over.

    Returns:
        avg_return, std_return, min_return, max_return over `num_episodes` episodes in Gymnasium's
        own environments; training_seconds, total_seconds.
    """
    if HANDOVER:
        _hand_over(agent, device)
    act = actor(agent, device)
    training_seconds = _seconds()
    # one fresh env per episode, stepped in lockstep
    kwargs = ENV_KWARGS if env_id == ENV_ID else {}
    envs = [make_env(env_id, kwargs) for _ in range(num_episodes)]
    seeds = np.random.SeedSequence(entropy=[SEED, 0x5EED]).generate_state(num_episodes)
    first = [env.reset(seed=int(seed))[0] for env, seed in zip(envs, seeds, strict=True)]
    obs = np.stack([np.asarray(row, np.float32) for row in first])  # (N, obs_dim)
    space = envs[0].action_space
    returns, running = [0.0] * num_episodes, np.ones(num_episodes, bool)
    mask = np.ones(num_episodes, bool)  # True where an episode begins or is over
    steps, limit = 0, longest_episode(envs[0])
    while running.any():
        if (steps := steps + 1) > limit:
            raise SystemExit(f"{env_id} cannot be scored: {endless(limit)}.")
        actions = checked_actions(act(obs, mask), space, num_episodes)  # (N, act_dim) or (N,)
        if isinstance(space, gym.spaces.Discrete):
            actions += space.start
        elif isinstance(space, gym.spaces.Box):
            actions = np.clip(actions, space.low, space.high)
        for i in np.flatnonzero(running):
            obs[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
            returns[i] += float(reward)  # Python floats: no float32 accumulation
            running[i] = not (terminated or truncated)
        mask = ~running
    for env in envs:
        env.close()
    return {
        "avg_return": float(np.mean(returns)),
        "std_return": float(np.std(returns)),
        "min_return": min(returns),
        "max_return": max(returns),
        "training_seconds": training_seconds,
        "total_seconds": _seconds(),
    }


SUMMARY = {  # what the block at the end of a run holds: name -> digits after the point
    "avg_return": 6, "std_return": 6, "min_return": 6, "max_return": 6,
    "total_timesteps": 0, "training_seconds": 1, "total_seconds": 1, "num_updates": 0,
}  # fmt: skip


def summary_block(**values: float | None) -> str:
    """The stable, greppable block that ends a run: the values of SUMMARY, a missing one empty."""
    lines = ["---"]
    for name, digits in SUMMARY.items():
        value = values.get(name)
        lines.append(f"{name + ':':<18}{'' if value is None else f'{value:.{digits}f}'}".rstrip())
    return "\n".join(lines)


def actor(agent: Any, device: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The agent as (obs (N, obs_dim) float32, reset mask (N,) bool) -> actions (N, act_dim)."""
    import torch

    reset = getattr(agent, "reset", None)

    def act(obs: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            if reset is not None and mask.any():
                reset(mask)
            actions = agent.get_action(torch.as_tensor(obs, dtype=torch.float32).to(device))
        if isinstance(actions, tuple):
            raise TypeError("get_action returned a tuple; the contract is one array (N, act_dim)")
        if isinstance(actions, torch.Tensor):
            actions = actions.detach().cpu().numpy()
        return np.asarray(actions)

    return act


# ---------------------------------------------------------------------------
# Harness contract: hand over
# ---------------------------------------------------------------------------


def _hand_over(agent: Any, device: Any) -> None:
    """Write the agent by value into the run directory and end the process at once."""
    import cloudpickle

    try:
        blob = cloudpickle.dumps({"agent": agent, "device": str(device)})
    except Exception as error:
        attributes = getattr(agent, "__dict__", {}).items()
        unfit = [f"attribute {name!r}" for name, value in attributes if not _picklable(value)]
        where = f"{(unfit or ['it'])[0]} cannot be pickled ({type(error).__name__}: {error})"
        sys.stdout.flush()
        print(
            f"HANDOVER: the agent cannot be handed over: {where}. "
            "Keep environments, compiled functions, locks and files out of the agent.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(3)
    temporary = RUN_DIR / "policy.tmp"
    with open(temporary, "wb") as file:
        file.write(blob)
    os.replace(temporary, RUN_DIR / "policy.pkl")
    (RUN_DIR / "policy.device").write_text(str(device))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _picklable(value: Any) -> bool:
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception:
        return False
    return True


if __name__ == "__main__":
    import runpy

    runpy.run_module("autorl.judge", run_name="__main__", alter_sys=True)
