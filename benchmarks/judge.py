"""How close the judge's evaluation comes to what the cores allow.

    uv run python benchmarks/judge.py       # HalfCheetah-v5 and Pendulum-v1, 100 episodes
    uv run python benchmarks/judge.py Swimmer-v5 --episodes 20
    uv run python benchmarks/judge.py HalfCheetah-v5 BipedalWalker-v3 --pairs 10   # recording

The ratio is the judge's steps per second over the ceiling, cores / (t_env + t_inference). The
ceiling comes from one process on one core in the same run: t_env is one step of the environment,
t_inference one row's share of one batch as the judge asks for it. Start-up (imports, making
environments) is given apart. What this file does not do: train. The policy is a fresh 64x64
network; environments whose episodes it ends early would not be full-length, so choose ones that
only end by their time limit.

With --pairs, instead: CPU seconds of whole evaluations (start-up, policy and choice of episodes
included) with and without the recording of episodes, in turn; returns must be bit-equal.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from autorl.judge.episodes import Played

POLICY = """
import cloudpickle, sys, torch
from torch import nn
obs_dim, act_dim, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
            nn.Linear(64, act_dim), nn.Tanh(),
        )
    def get_action(self, obs):
        return self.net(obs)
open(path, "wb").write(cloudpickle.dumps({"agent": Agent(), "device": "cpu"}))
"""
ONE_CORE = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import cloudpickle, gymnasium as gym, numpy as np, torch, evaluate
torch.set_num_threads(1)
env_id, rows, path, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
env = gym.make(env_id)
handed = cloudpickle.load(open(path, "rb"))
act = evaluate.actor(handed["agent"], handed["device"])
obs = np.repeat(np.asarray(env.reset(seed=1)[0], np.float32)[None], rows, 0)
mask = np.zeros(rows, bool)
low, high = env.action_space.low, env.action_space.high
for _ in range(50): act(obs, mask)
n, t = 0, time.perf_counter()
while time.perf_counter() - t < seconds / 2:
    act(obs, mask); n += 1
t_inference = (time.perf_counter() - t) / n / rows
n, spent, one = 0, 0.0, np.zeros(1, bool)
total = time.perf_counter()
# the policy's own episodes: a step's cost depends on the state
while time.perf_counter() - total < 2 * seconds:
    now, done = env.reset(seed=1000 + n)[0], False
    while not done:
        action = np.clip(act(np.asarray(now, np.float32)[None], one), low, high)[0]
        t = time.perf_counter()
        now, _, a, b, _ = env.step(action)
        spent += time.perf_counter() - t
        n += 1
        done = a or b
print(spent / n, t_inference)
"""


def one_core(env_id: str, rows: int, policy: Path, seconds: float) -> tuple[float, float]:
    """(t_env, t_inference per row) in seconds, each alone on one core."""
    said = subprocess.run(
        [sys.executable, "-c", ONE_CORE, env_id, str(rows), str(policy), str(seconds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    t_env, t_inference = map(float, said.stdout.split())
    return t_env, t_inference


def judged(
    env_id: str, episodes: int, folder: Path, record: bool = False
) -> tuple["Played", float, float]:
    """(what was played, seconds of start-up, CPU seconds) of the judge's own evaluation."""
    from autorl.judge import recording
    from autorl.judge.episodes import THINKING_SECONDS, Episodes
    from autorl.system import hardware

    seeds = list(range(1000, 1000 + episodes))
    started, before = time.monotonic(), sum(os.times()[:4])
    cores = len(hardware.affinity())
    with Episodes(env_id, seeds, cores, folder, THINKING_SECONDS, record=record) as envs:
        environment = dict(
            os.environ, AUTORL_RUN_DIR=str(folder), PYTHONPATH=f"{ROOT}:{ROOT}/autorl/judge"
        )
        server = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                f"import policy_server; policy_server.serve({envs.policy_fds})",
            ],
            pass_fds=envs.policy_fds,
            env=environment,
            cwd=folder,
        )
        try:
            played = envs.play(lambda: None)
        finally:
            server.kill()
            server.wait()
    started_up = time.monotonic() - started - played.seconds
    if record:
        recording.write(folder, envs.recordings, env_id, played.returns, played.lengths)
    return played, started_up, sum(os.times()[:4]) - before


def recording_share(env_id: str, episodes: int, pairs: int, folder: Path) -> tuple[float, float]:
    """(median share of CPU seconds that recording adds, median CPU seconds without)."""
    without, shares = [], []
    for pair in range(pairs):
        order = (False, True) if pair % 2 else (True, False)
        done = {record: judged(env_id, episodes, folder, record) for record in order}
        assert done[False][0].returns == done[True][0].returns
        without.append(done[False][2])
        shares.append(done[True][2] / done[False][2] - 1)
        print(f"  {env_id}: {done[False][2]:.2f} s, recorded {done[True][2]:.2f} s", flush=True)
    return statistics.median(shares), statistics.median(without)


def main() -> None:
    parser = argparse.ArgumentParser(description="The judge's evaluation rate over its ceiling.")
    parser.add_argument("env_ids", nargs="*", default=["HalfCheetah-v5", "Pendulum-v1"])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="for each half of the ceiling (default: 3)"
    )
    parser.add_argument(
        "--pairs", type=int, default=0, help="of evaluations, for recording's share"
    )
    options = parser.parse_args()
    import gymnasium as gym

    from autorl.judge import machine_share
    from autorl.system import hardware

    cores = len(hardware.affinity())
    print(f"{cores} cores, {options.episodes} episodes")
    if not options.pairs:
        print(
            f"{'environment':<18}{'t_env us':>10}{'t_inf us':>10}{'ceiling/s':>11}{'judge/s':>10}"
            f"{'ratio':>8}{'start s':>9}{'others':>8}"
        )
    for env_id in options.env_ids:
        env = gym.make(env_id)
        obs_shape, act_shape = env.observation_space.shape, env.action_space.shape
        assert obs_shape and act_shape
        dims = obs_shape[0], act_shape[0]
        env.close()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            subprocess.run(
                [sys.executable, "-c", POLICY, *map(str, dims), str(folder / "policy.pkl")],
                check=True,
            )
            if options.pairs:
                share, cpu = recording_share(env_id, options.episodes, options.pairs, folder)
                print(f"{env_id:<18}recording adds {share:.2%} to {cpu:.2f} CPU s", flush=True)
                continue
            rows = -(-options.episodes // cores)
            before = one_core(env_id, rows, folder / "policy.pkl", options.seconds)
            machine = machine_share.Share(hardware.affinity())
            played, start, cpu = judged(env_id, options.episodes, folder)
            other = machine.end(cpu, 0).other_load
            after = one_core(env_id, rows, folder / "policy.pkl", options.seconds)
        t_env, t_inference = ((a + b) / 2 for a, b in zip(before, after, strict=True))
        ceiling, rate = cores / (t_env + t_inference), sum(played.lengths) / played.seconds
        print(
            f"{env_id:<18}{t_env * 1e6:>10.1f}{t_inference * 1e6:>10.2f}{ceiling:>11,.0f}"
            f"{rate:>10,.0f}{rate / ceiling:>8.2f}{start:>9.1f}{other:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
