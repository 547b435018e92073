"""Returns beside other libraries' at equal wall-clock and cores.

    uv run --group bench python benchmarks/peers.py            # 5 peers x 2 environments x 3 seeds
    uv run --group bench python benchmarks/peers.py --peers train.py,tqc --envs HalfCheetah-v5
    uv run --group bench python benchmarks/peers.py --table    # only print what is there

    train.py   as it ships
    ppo zoo    Stable-Baselines3's PPO at RL Baselines3 Zoo's settings for the environment
               (https://github.com/DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml)
    ppo ours   Stable-Baselines3's PPO at train.py's constants: constant rates, learnt sigma
    tqc, sac   sbx (https://github.com/araffin/sbx, SB3 in JAX) at its own settings

One run at a time, in a process of its own, on all the cores that this one may use. The clock starts
with that process: imports and compilation count. A peer stops at the first environment step after
its time is up, so one that learns in long updates gets a little more than its budget; the table
says how much. The agents then play the same episodes, without noise, in Gymnasium's environments:
return, length, and torque, the sum of |action| within its bounds over all joints and steps.

A run is appended to the TSV when it has ended, and what the TSV has is not run again: stop it and
start it again as you like. What it does not do: confine, or tune anybody.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from pairs import Row, append, key, read

PEERS = ("train.py", "ppo zoo", "ppo ours", "tqc", "sac")
ENVS = ("BipedalWalker-v3", "HalfCheetah-v5")
OUT = ROOT / "results" / "benchmarks" / "peers.tsv"
COLUMNS = (
    "peer", "version", "env_id", "seed", "seconds", "cores", "avg_return", "min_return", "length",
    "torque", "steps", "trained_seconds", "ended",
)  # fmt: skip
ZOO: dict[str, dict[str, Any]] = {
    "BipedalWalker-v3": {
        "n_envs": 32, "n_steps": 2048, "batch_size": 64, "gae_lambda": 0.95, "gamma": 0.999,
        "n_epochs": 10, "ent_coef": 0.0, "learning_rate": 3e-4, "clip_range": 0.18,
    },
    "HalfCheetah-v5": {  # the settings of HalfCheetah-v3
        "n_envs": 1, "n_steps": 512, "batch_size": 64, "gae_lambda": 0.92, "gamma": 0.98,
        "n_epochs": 20, "ent_coef": 0.000401762, "learning_rate": 2.0633e-05, "clip_range": 0.1,
        "max_grad_norm": 0.8, "vf_coef": 0.58096,
        "policy_kwargs": {
            "log_std_init": -2, "ortho_init": False, "activation": "ReLU", "width": 256,
        },
    },
}  # fmt: skip

Act = Callable[[Any], Any]  # observations (N, obs_dim) -> actions (N, act_dim)


# -- The peers: each trains in this process until the time is up -> (how it acts, environment steps)


def train_ours(env_id: str, seed: int, seconds: float) -> tuple[Act, int]:
    """train.py in a process of its own, up to the hand-over."""
    import cloudpickle
    import torch

    with tempfile.TemporaryDirectory(prefix="autorl-") as folder:
        settings = {
            "ENV_ID": env_id, "SEED": seed, "RUN_DIR": folder, "HANDOVER": 1,
            "TIME_BUDGET": seconds - (time.monotonic() - STARTED),
        }  # fmt: skip
        variables = {f"AUTORL_{name}": str(value) for name, value in settings.items()}
        command = [sys.executable, str(ROOT / "train.py")]
        subprocess.run(command, env=os.environ | variables, check=True, stdout=subprocess.DEVNULL)
        with (Path(folder) / "policy.pkl").open("rb") as file:
            handed = cloudpickle.load(file)
        with (Path(folder) / "metrics.csv").open(newline="", encoding="utf-8") as file:
            steps = int(list(csv.DictReader(file))[-1]["step"])
    agent, device = handed["agent"], handed["device"]
    return lambda obs: agent.get_action(torch.as_tensor(obs).to(device)), steps


def learn(model: Any, seconds: float) -> int:
    """Run an SB3 or sbx model until the time is up; the environment steps it made."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Clock(BaseCallback):  # type: ignore[misc]
        def _on_step(self) -> bool:
            return time.monotonic() - STARTED < seconds

    model.learn(10**9, callback=Clock())
    return int(model.num_timesteps)


def train_ppo(env_id: str, seed: int, seconds: float, settings: dict[str, Any]) -> tuple[Act, int]:
    """Stable-Baselines3's PPO with VecNormalize."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize
    from torch import nn

    settings = dict(settings)
    policy = dict(settings.pop("policy_kwargs", {}))
    if "activation" in policy:
        policy["activation_fn"] = getattr(nn, policy.pop("activation"))
    if "width" in policy:
        policy["net_arch"] = [policy.pop("width")] * 2
    envs = make_vec_env(env_id, n_envs=settings.pop("n_envs"), seed=seed)
    envs = VecNormalize(envs, gamma=settings["gamma"])
    model = PPO("MlpPolicy", envs, policy_kwargs=policy, seed=seed, device="cpu", **settings)
    steps = learn(model, seconds)
    return lambda obs: model.predict(envs.normalize_obs(obs), deterministic=True)[0], steps


def our_constants() -> dict[str, Any]:
    """train.py's settings in SB3's words."""
    import train as ours

    return {
        "n_envs": ours.NUM_ENVS, "n_steps": ours.NUM_STEPS, "batch_size": ours.MINIBATCH_SIZE,
        "n_epochs": ours.UPDATE_EPOCHS, "gamma": ours.GAMMA, "gae_lambda": ours.GAE_LAMBDA,
        "learning_rate": ours.LEARNING_RATE, "clip_range": ours.CLIP_COEF,
        "max_grad_norm": ours.MAX_GRAD_NORM,
        "policy_kwargs": {
            "activation": "SiLU", "width": ours.HIDDEN, "log_std_init": ours.LOG_STD_INIT,
        },
    }  # fmt: skip


def train_sbx(name: str, env_id: str, seed: int, seconds: float) -> tuple[Act, int]:
    """TQC or SAC of sbx: one environment, an update a step."""
    import gymnasium as gym
    import sbx

    model = getattr(sbx, name.upper())("MlpPolicy", gym.make(env_id), seed=seed)
    steps = learn(model, seconds)
    return lambda obs: model.predict(obs, deterministic=True)[0], steps


def evaluate_agent(act: Act, env_id: str, episodes: int) -> dict[str, float]:
    """Play the episodes of seeds 10,000, 10,001, ... in lockstep."""
    import gymnasium as gym
    import numpy as np

    envs = [gym.make(env_id) for _ in range(episodes)]
    low, high = envs[0].action_space.low, envs[0].action_space.high  # type: ignore[attr-defined]
    obs = np.stack([env.reset(seed=10_000 + k)[0] for k, env in enumerate(envs)])
    returns, lengths, torques = (np.zeros(episodes) for _ in range(3))
    running = list(range(episodes))
    while running:
        actions = np.clip(act(obs.astype(np.float32)), low, high)
        for k in list(running):
            obs[k], reward, terminated, truncated, _ = envs[k].step(actions[k])
            returns[k] += float(reward)
            lengths[k] += 1
            torques[k] += np.abs(actions[k]).sum()
            if terminated or truncated:
                running.remove(k)
    means = {"avg_return": returns, "length": lengths, "torque": torques}
    return {"min_return": returns.min(), **{name: x.mean() for name, x in means.items()}}


def one(peer: str, env_id: str, seed: int, seconds: float, episodes: int) -> dict[str, float]:
    """Train a peer and evaluate it: a run, in this process."""
    if peer == "train.py":
        act, steps = train_ours(env_id, seed, seconds)
    elif peer == "ppo zoo":
        act, steps = train_ppo(env_id, seed, seconds, ZOO[env_id])
    elif peer == "ppo ours":
        act, steps = train_ppo(env_id, seed, seconds, our_constants())
    else:
        act, steps = train_sbx(peer, env_id, seed, seconds)
    trained = time.monotonic() - STARTED
    result = evaluate_agent(act, env_id, episodes)
    return {**result, "steps": steps, "trained_seconds": trained}


# -- The table -------------------------------------------------------------------------------------


def version(peer: str) -> str:
    """What names the code of a peer: train.py's hash, or a library's version."""
    from importlib.metadata import version as installed

    if peer == "train.py":
        return key((ROOT / "train.py").read_text(encoding="utf-8"))
    if peer == "ppo ours":  # its constants are train.py's
        return f"{installed('stable-baselines3')} {version('train.py')}"
    return installed("stable-baselines3" if peer == "ppo zoo" else "sbx-rl")


def show(rows: list[Row]) -> str:
    """The table: a peer, an environment and a budget a line."""
    head = f"{'environment':<18}{'peer':<10}{'version':<20}{'s':>5}{'cores':>6}{'mean':>10}"
    head += f"{'lowest ep.':>12}{'length':>8}{'torque':>9}{'steps':>12}{'trained s':>11}  runs"
    lines = [head, "-" * len(head)]
    names = ("env_id", "peer", "version", "seconds", "cores")
    for group in sorted({tuple(r[name] for name in names) for r in rows}):
        runs = [r for r in rows if tuple(r[name] for name in names) == group]
        env_id, peer, code, seconds, cores = group

        def mean(name: str, runs: list[Row] = runs) -> float:
            return statistics.fmean(float(r[name]) for r in runs)

        lines.append(
            f"{env_id:<18}{peer:<10}{code:<20}{seconds:>5}{cores:>6}{mean('avg_return'):>10.1f}"
            f"{min(float(r['min_return']) for r in runs):>12.1f}{mean('length'):>8.0f}"
            f"{mean('torque'):>9.0f}{mean('steps'):>12,.0f}{mean('trained_seconds'):>11.1f}"
            f"  {', '.join(format(float(r['avg_return']), '.1f') for r in runs)}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run what is missing, print the table."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument(
        "--peers", default=",".join(PEERS), help="comma-separated (default: %(default)s)"
    )
    p.add_argument("--envs", default=",".join(ENVS), help="comma-separated (default: %(default)s)")
    p.add_argument("--seeds", default="1,2,3", help="comma-separated (default: %(default)s)")
    p.add_argument(
        "--seconds", type=float, default=240.0, help="of training (default: %(default)g)"
    )
    p.add_argument("--episodes", type=int, default=20, help="of evaluation (default: %(default)s)")
    p.add_argument("--out", type=Path, default=OUT, help="the TSV (default: %(default)s)")
    p.add_argument("--table", action="store_true", help="start nothing, print what is there")
    p.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.one:
        print(json.dumps(one(o.peers, o.envs, int(o.seeds), o.seconds, o.episodes)))
        return 0
    cores = str(len(os.sched_getaffinity(0)))
    names = ("peer", "version", "env_id", "seed", "seconds", "cores")
    done = {tuple(r[name] for name in names) for r in read(o.out)}
    wanted = [
        (p, e, s) for s in o.seeds.split(",") for e in o.envs.split(",") for p in o.peers.split(",")
    ]
    for peer, env_id, seed in [] if o.table else wanted:
        values = (peer, version(peer), env_id, seed, f"{o.seconds:g}", cores)
        if values in done or (peer == "ppo zoo" and env_id not in ZOO):
            continue
        command = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "--one",
            "--peers",
            peer,
            "--envs",
            env_id,
        ]
        command += ["--seeds", seed, "--seconds", str(o.seconds), "--episodes", str(o.episodes)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            print(f"{peer}, {env_id}, seed {seed} failed:\n{run.stderr[-2000:]}", flush=True)
            continue
        result = json.loads(run.stdout.splitlines()[-1])
        ended = time.strftime("%Y-%m-%dT%H:%M:%S")
        row = {**dict(zip(names, values, strict=True)), **result, "ended": ended}
        append(o.out, COLUMNS, [row])
        print(
            f"{ended[11:]}  {peer}, {env_id}, seed {seed}: {result['avg_return']:.1f}", flush=True
        )
    print(show(read(o.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
