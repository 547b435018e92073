"""The fixed evaluation harness: constants, environment factory, evaluation. The research never edits this file.

    uv run python evaluate.py            # one measured run of the train.py beside this file, scored by the judge

train.py imports what it needs from here and ends with `evaluate_policy(agent, device)`. Run by hand, that call rolls
the agent out and returns the statistics. Under the judge it hands the agent over and ends the process: the judge then
draws the evaluation seeds and steps the environments itself, so nothing printed or patched in here can make a score.

What this file does not do: import anything of autoRL (but for `main`), choose seeds, or decide anything.
"""

import csv
import io
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

# ---------------------------------------------------------------------------
# Constants. To a reader these are constants; the AUTORL_* variables exist so that this file need never change.
# ---------------------------------------------------------------------------

TIME_BUDGET = float(os.environ.get("AUTORL_TIME_BUDGET", 720))  # seconds, from process start to hand-over
ENV_ID = os.environ.get("AUTORL_ENV_ID", "BipedalWalker-v3")
NUM_EVAL_EPISODES = int(os.environ.get("AUTORL_NUM_EVAL_EPISODES", 100))
SEED = int(os.environ.get("AUTORL_SEED", 1))  # the training seed belongs to the harness, never to train.py
THREADS = int(os.environ.get("AUTORL_THREADS", 0)) or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))  # fmt: skip

RUN_DIR = Path(os.environ.get("AUTORL_RUN_DIR", "."))  # metrics.csv and, under the judge, policy.pkl
HANDOVER = os.environ.get("AUTORL_HANDOVER") == "1"  # set by the judge


# ---------------------------------------------------------------------------
# The clock: starts when the process starts, so imports and compilation count
# ---------------------------------------------------------------------------


def _process_start() -> float:
    """time.monotonic() at the start of this process: the judge's word for it, else the kernel's, else now."""
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
    """Seconds since the process started (monotonic)."""
    return time.monotonic() - _START


def remaining() -> float:
    """Seconds of the training budget left; negative when it is spent."""
    return TIME_BUDGET - elapsed()


# ---------------------------------------------------------------------------
# Environments
# ---------------------------------------------------------------------------


def check_spaces(env: gym.Env | gym.vector.VectorEnv | Any, env_id: str = ENV_ID) -> None:
    """Refuse, in one sentence, what this harness cannot train: only 1-D Box observations and 1-D Box actions."""
    obs_space = getattr(env, "single_observation_space", None) or env.observation_space
    act_space = getattr(env, "single_action_space", None) or env.action_space
    for what, space in (("observations", obs_space), ("actions", act_space)):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise SystemExit(f"{env_id} has {what} of {space}; autoRL needs 1-D Box {what}: choose a continuous-control environment such as BipedalWalker-v3.")


def make_env(env_id: str, idx: int = 0, seed: int = SEED) -> Callable[[], gym.Env]:
    """A thunk that makes one Gymnasium environment, as CleanRL has it; `module:Env-v0` imports `module` first."""

    def thunk() -> gym.Env:
        env = gym.make(env_id)
        env = gym.wrappers.RecordEpisodeStatistics(env)
        env.action_space.seed(seed + idx)
        return env

    return thunk


def make_vec_env(num_envs: int, env_id: str = ENV_ID, seed: int = SEED, threads: int = THREADS) -> "VecEnv":
    """The fast way to train: EnvPool where it knows the env and has a wheel, Gymnasium's own otherwise."""
    return VecEnv(num_envs, env_id, seed, threads)


class VecEnv:
    """N environments with ONE autoreset meaning, NEXT_STEP: when an episode ends, `obs` is its true last observation;
    the following step ignores that env's action, returns the first observation of the next episode with reward 0, and
    is marked `valid == False`: a junk transition, to be left out of training.

    Attributes:
        single_observation_space, single_action_space: 1-D Boxes.   backend: "envpool" or "gymnasium".
    """

    def __init__(self, num_envs: int, env_id: str, seed: int, threads: int):
        self.num_envs = num_envs
        self._ended = np.zeros(num_envs, bool)
        try:
            import envpool

            known = env_id in envpool.list_all_envs()
        except ImportError:
            known = False
        if known:
            self.backend = "envpool"
            self._envs = envpool.make(env_id, env_type="gymnasium", num_envs=num_envs, seed=seed, num_threads=threads)
            self.single_observation_space, self.single_action_space = self._envs.observation_space, self._envs.action_space
        else:
            self.backend = "gymnasium"
            self._envs = gym.vector.SyncVectorEnv([make_env(env_id, i, seed) for i in range(num_envs)])
            self.single_observation_space, self.single_action_space = self._envs.single_observation_space, self._envs.single_action_space
        check_spaces(self, env_id)
        self._seed = seed

    def reset(self) -> np.ndarray:
        """First observations, float32 (N, obs_dim)."""
        obs, _ = self._envs.reset() if self.backend == "envpool" else self._envs.reset(seed=self._seed)
        return np.asarray(obs, np.float32)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """actions (N, act_dim) within bounds -> obs (N, obs_dim) float32, rewards (N,), terminated, truncated, valid (N,) bool."""
        obs, rewards, terminated, truncated, _ = self._envs.step(actions)
        terminated, truncated = np.asarray(terminated, bool), np.asarray(truncated, bool)
        valid = ~self._ended
        self._ended = terminated | truncated
        return np.asarray(obs, np.float32), np.asarray(rewards, np.float32), terminated, truncated, valid


# ---------------------------------------------------------------------------
# What training says of itself
# ---------------------------------------------------------------------------

_metrics_columns: list[str] = []


def log_metrics(step: int, **scalars: float) -> None:
    """Append one row to metrics.csv for progress bars, plots and the researcher. Never trusted, never scored.

    Args:
        step: environment steps so far.
        scalars: any numbers; the first call fixes the columns. `num_updates`, `sps`, `episode_return`,
            `episode_length`, `approx_kl`, `clipfrac`, `explained_variance`, `entropy` are known to the report.
    """
    row = {"seconds": round(elapsed(), 3), "step": int(step), **{k: float(v) for k, v in scalars.items()}}
    first = not _metrics_columns
    if first:
        _metrics_columns.extend(row)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _metrics_columns, restval="", extrasaction="ignore", lineterminator="\n")
    if first:
        writer.writeheader()
    writer.writerow(row)
    with open(RUN_DIR / "metrics.csv", "w" if first else "a", encoding="utf-8") as file:
        file.write(buffer.getvalue())


# ---------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------


def evaluate_policy(agent: Any, device: Any = "cpu", num_episodes: int = NUM_EVAL_EPISODES, env_id: str = ENV_ID) -> dict[str, float]:
    """The last line of train.py. Under the judge: hand the agent over and end the process (never returns).

    The agent's contract: `agent.get_action(obs)` takes a float32 tensor (N, obs_dim) on `device` and returns an
    array (N, act_dim); N is any number >= 1 and rows are independent episodes. A memoryless policy needs nothing
    else; one with memory has `agent.reset(done_mask)`, called with a bool array (N,) before the first step and after
    every step, True where an episode begins or is over.

    Returns:
        avg_return, std_return, min_return, max_return over `num_episodes` episodes in Gymnasium's own environments.
    """
    if HANDOVER:
        _hand_over(agent, device)
    act = _actor(agent, device)
    training_seconds = elapsed()
    envs = [gym.make(env_id) for _ in range(num_episodes)]  # one fresh env per episode, stepped in lockstep
    seeds = np.random.SeedSequence(entropy=[SEED, 0x5EED]).generate_state(num_episodes)
    obs = np.stack([np.asarray(env.reset(seed=int(s))[0], np.float32) for env, s in zip(envs, seeds, strict=True)])
    low, high = envs[0].action_space.low, envs[0].action_space.high  # type: ignore[attr-defined]
    returns, running = [0.0] * num_episodes, np.ones(num_episodes, bool)
    done = ~running  # (N,) finished on the last step or before
    begin = np.ones(num_episodes, bool)
    while running.any():
        actions = act(obs, begin | done)  # (N, act_dim)
        begin[:] = False
        for i in np.flatnonzero(running):
            o, reward, terminated, truncated, _ = envs[i].step(np.clip(actions[i], low, high))
            obs[i] = o
            returns[i] += float(reward)  # Python floats: no float32 accumulation
            running[i] = not (terminated or truncated)
        done = ~running
    for env in envs:
        env.close()
    array = np.array(returns)
    return {
        "avg_return": float(array.mean()),
        "std_return": float(array.std()),
        "min_return": float(array.min()),
        "max_return": float(array.max()),
        "training_seconds": training_seconds,
        "total_seconds": elapsed(),
    }


def summary_block(avg_return: float | None, std_return: float | None, min_return: float | None, max_return: float | None,
                  total_timesteps: int | None, training_seconds: float | None, total_seconds: float | None, num_updates: int | None) -> str:  # fmt: skip
    """The stable, greppable block that ends a run; a missing value is left empty."""

    def show(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    rows = [
        ("avg_return", show(avg_return, 6)), ("std_return", show(std_return, 6)), ("min_return", show(min_return, 6)),
        ("max_return", show(max_return, 6)), ("total_timesteps", show(total_timesteps, 0)),
        ("training_seconds", show(training_seconds, 1)), ("total_seconds", show(total_seconds, 1)), ("num_updates", show(num_updates, 0)),
    ]  # fmt: skip
    return "\n".join(["---", *(f"{name + ':':<18}{value}".rstrip() for name, value in rows)])


def _actor(agent: Any, device: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(obs (N, obs_dim) float32, reset mask (N,) bool) -> actions (N, act_dim) float32, as the contract says."""
    import torch

    reset = getattr(agent, "reset", None)

    def act(obs: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            if reset is not None and mask.any():
                reset(mask)
            actions = agent.get_action(torch.as_tensor(obs, dtype=torch.float32).to(device))
        if isinstance(actions, torch.Tensor):
            actions = actions.detach().cpu().numpy()
        return np.asarray(actions)

    return act


# ---------------------------------------------------------------------------
# Harness contract: hand over, serve. Called by the judge only.
# ---------------------------------------------------------------------------


def _hand_over(agent: Any, device: Any) -> None:
    """Write the agent by value into the run directory and end the process at once."""
    import cloudpickle

    try:
        blob = cloudpickle.dumps({"agent": agent, "device": str(device)})
    except Exception as error:
        culprit = next((name for name, value in vars(agent).items() if not _picklable(value)), None) if hasattr(agent, "__dict__") else None
        where = f"attribute {culprit!r}" if culprit else "it"
        sys.stdout.flush()
        print(f"HANDOVER: the agent cannot be handed over: {where} cannot be pickled ({type(error).__name__}: {error}). "
              "Keep environments, compiled functions, locks and files out of the agent.", file=sys.stderr, flush=True)  # fmt: skip
        os._exit(3)
    temporary = RUN_DIR / "policy.tmp"
    with open(temporary, "wb") as file:
        file.write(blob)
    os.replace(temporary, RUN_DIR / "policy.pkl")
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


def _serve(fd: int) -> None:
    """Answer action requests over an inherited socket, in fixed-size raw frames, until it closes.

    Judge -> server: header `<II` (N, obs_dim) once; then per step N bytes of reset mask + N*obs_dim float32.
    Server -> judge: per step `<II` (N, act_dim) + N*act_dim float32. The judge checks everything it reads.
    """
    import cloudpickle
    import torch

    torch.set_num_threads(max(1, THREADS))
    with open(fd, "rb", closefd=False, buffering=1 << 20) as source:
        with open(RUN_DIR / "policy.pkl", "rb") as file:
            handed = cloudpickle.load(file)
        act = _actor(handed["agent"], handed["device"])
        num, obs_dim = struct.unpack("<II", source.read(8))
        size = num + num * obs_dim * 4
        while len(frame := source.read(size)) == size:
            mask = np.frombuffer(frame, bool, num)
            obs = np.frombuffer(frame, np.float32, num * obs_dim, offset=num).reshape(num, obs_dim).copy()
            actions = np.asarray(act(obs, mask))
            if actions.ndim != 2 or actions.dtype.kind not in "fiu":
                raise SystemExit(f"get_action returned dtype {actions.dtype} of shape {actions.shape}; the contract is numbers of shape (N, act_dim).")
            answer = struct.pack("<II", *actions.shape) + np.ascontiguousarray(actions, np.float32).tobytes()
            view = memoryview(answer)
            while view:
                view = view[os.write(fd, view):]  # fmt: skip


def main() -> int:
    """One measured run of the train.py beside this file."""
    from autorl.judge import main as judge_main  # the one import of ours

    return judge_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
