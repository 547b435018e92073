"""Environment steps per second: train.py, the machine's limit, textbook PPO, Stable-Baselines3.

    uv run --group bench python benchmarks/throughput.py   # five environments, about 12 minutes
    uv run --group bench python benchmarks/throughput.py --envs Hopper-v5   # one of them; the table
                                                           # shows the others' last figures
    uv run python benchmarks/throughput.py --table         # only print what is there

    limit      EnvPool alone with random actions on all cores: the best of one pool, two pools
               and an asynchronous one
    train.py   as it stands, with the constants it ships with; rollouts, updates, metrics and all
    textbook   benchmarks/textbook.py, the better of 1 and 2 torch threads
    sb3        Stable-Baselines3's PPO with VecNormalize at train.py's settings, the better of
               1 and 2 torch threads

Every figure is the median of interleaved repeats, each in a fresh process, start-up and the first
update left out. Written to results/benchmarks/throughput.json. Give it the machine to itself. What
it does not do: look at what is learned.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

ENVS = ("BipedalWalker-v3", "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5")
OUT = ROOT / "results" / "benchmarks" / "throughput.json"
# name, torch threads
CONTESTANTS = (
    "limit",
    "train",
    "textbook 1",
    "textbook 2",
    "sb3 1",
    "sb3 2",
)


# -- The contestants; each runs in a process of its own and returns steps per second ---------------


def limit(env_id: str, seconds: float) -> float:
    """EnvPool with random actions, in the fastest of three arrangements."""
    import envpool
    import numpy as np

    cores = len(os.sched_getaffinity(0))

    def rate(pools: int, num_envs: int, batch: int, threads: int) -> float:
        envs = [
            envpool.make(
                env_id,
                env_type="gymnasium",
                num_envs=num_envs,
                batch_size=batch,
                num_threads=threads,
                seed=k,
            )
            for k in range(pools)
        ]
        space = envs[0].action_space
        actions = (
            np.random.default_rng(0)
            .uniform(space.low, space.high, (batch, *space.shape))
            .astype(space.dtype)
        )
        for env in envs:
            env.async_reset()
        steps, start = -1, 0.0
        while steps < 0 or time.perf_counter() - start < seconds / 3:
            if steps < 0:
                steps, start = 0, time.perf_counter()
            for env in envs:
                info = env.recv()[4]
                env.send(actions, info["env_id"])
                steps += batch
        return steps / (time.perf_counter() - start)

    return max(rate(1, 64, 64, cores), rate(2, 32, 32, max(1, cores // 2)), rate(1, 128, 64, cores))


def train(env_id: str, seconds: float) -> float:
    """train.py from its first to its last update."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            AUTORL_ENV_ID=env_id,
            AUTORL_RUN_DIR=folder,
            AUTORL_HANDOVER="1",
            AUTORL_TIME_BUDGET="100000",
        )
        pid = os.fork()  # the hand-over ends the process
        if pid == 0:
            import evaluate
            import train as ours

            evaluate.TIME_BUDGET = evaluate.elapsed() + seconds + 1.5
            ours.main()
        os.waitpid(pid, 0)
        with open(Path(folder) / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = [(float(row["seconds"]), float(row["step"])) for row in csv.DictReader(file)]
    return (rows[-1][1] - rows[0][1]) / (rows[-1][0] - rows[0][0])


def textbook(env_id: str, seconds: float, threads: int) -> float:
    import textbook as reference

    return reference.run(env_id, seconds, threads)


def sb3(env_id: str, seconds: float, threads: int) -> float:
    """Stable-Baselines3's PPO at train.py's settings, in its own DummyVecEnv."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    import train as ours

    torch.set_num_threads(threads)

    class Clock(BaseCallback):  # type: ignore[misc]
        """Remembers (time, steps) after each update and stops when the time is up."""

        def __init__(self) -> None:
            super().__init__()
            self.marks: list[tuple[float, int]] = []

        def _on_rollout_start(self) -> None:
            self.marks.append((time.perf_counter(), self.num_timesteps))

        def _on_step(self) -> bool:
            return len(self.marks) < 3 or time.perf_counter() - self.marks[1][0] < seconds

    envs = VecNormalize(make_vec_env(env_id, n_envs=ours.NUM_ENVS, seed=1), gamma=ours.GAMMA)
    model = PPO(
        "MlpPolicy",
        envs,
        learning_rate=ours.LEARNING_RATE,
        n_steps=ours.NUM_STEPS,
        batch_size=ours.MINIBATCH_SIZE,
        n_epochs=ours.UPDATE_EPOCHS,
        gamma=ours.GAMMA,
        gae_lambda=ours.GAE_LAMBDA,
        clip_range=ours.CLIP_COEF,
        max_grad_norm=ours.MAX_GRAD_NORM,
        policy_kwargs={
            "net_arch": {"pi": [ours.HIDDEN] * 2, "vf": [ours.HIDDEN] * 2},
            "activation_fn": torch.nn.SiLU,
        },
        seed=1,
        device="cpu",
    )
    clock = Clock()
    model.learn(10**9, callback=clock)
    (t0, n0), (t1, n1) = clock.marks[1], clock.marks[-1]
    return (n1 - n0) / (t1 - t0)


# -- The table -------------------------------------------------------------------------------------


def measure(env_id: str, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Interleaved: every contestant once, then again."""
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(repeats):
        for name in CONTESTANTS:
            command = [
                sys.executable,
                "-W",
                "ignore",
                __file__,
                "--one",
                name,
                "--envs",
                env_id,
                "--seconds",
                str(seconds),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{name} on {env_id} failed:\n{done.stderr[-2000:]}")
            rates[name].append(float(done.stdout.split()[-1]))
    return rates


def show(table: dict[str, dict[str, Any]]) -> str:
    head = (
        f"{'environment':<18}{'limit':>9}{'train.py':>10}{'textbook':>10}{'sb3':>8}"
        f"   {'of limit':>8}{'x textbook':>12}{'x sb3':>7}   measured"
    )
    lines = [head, "-" * len(head)]
    for env_id, row in table.items():
        limit_, ours = row["median"]["limit"], row["median"]["train"]
        text = max(row["median"]["textbook 1"], row["median"]["textbook 2"])
        peer = max(row["median"]["sb3 1"], row["median"]["sb3 2"])
        lines.append(
            f"{env_id:<18}{limit_:>9,.0f}{ours:>10,.0f}{text:>10,.0f}{peer:>8,.0f}"
            f"   {ours / limit_:>8.2f}{ours / text:>12.1f}{ours / peer:>7.1f}"
            f"   {row['date']} x{row['repeats']}"
        )
    return "\n".join(lines)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--envs", default=",".join(ENVS), help="comma-separated (default: %(default)s)")
    p.add_argument(
        "--repeats", type=int, default=3, help="of every contestant (default: %(default)s)"
    )
    p.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="of each repeat, after start-up (default: %(default)g)",
    )
    p.add_argument("--table", action="store_true", help="start nothing, print what is there")
    p.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.one:
        name, _, threads = options.one.partition(" ")
        contestants: dict[str, Callable[..., float]] = {
            "limit": limit,
            "train": train,
            "textbook": textbook,
            "sb3": sb3,
        }
        print(
            contestants[name](options.envs, options.seconds, *([int(threads)] if threads else []))
        )
        return 0
    table: dict[str, dict[str, Any]] = json.loads(OUT.read_text()) if OUT.exists() else {}
    for env_id in [] if options.table else options.envs.split(","):
        rates = measure(env_id, options.repeats, options.seconds)
        table[env_id] = {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "repeats": options.repeats,
            "seconds": options.seconds,
            "cores": len(os.sched_getaffinity(0)),
            "median": {name: statistics.median(values) for name, values in rates.items()},
            "rates": rates,
        }
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(table, indent=1) + "\n")
    print(show(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
