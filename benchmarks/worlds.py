"""Steps per CPU-second of the batched worlds, one thread, random actions.

    uv run python benchmarks/worlds.py                 # 4,096 environments, about 30 seconds
    uv run python benchmarks/worlds.py --num-envs 256

Each figure is the median of five repeats of a second of this process's CPU time, resets included;
other work on the machine disturbs it less than wall-clock time would, but it does disturb it. What
it does not do: act by a policy, or measure a GPU.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from autorl_worlds.batched import WORLDS, BatchedWorld

REPEATS, SECONDS = 5, 1.0  # CPU seconds a repeat


def steps_per_second(envs: BatchedWorld, seconds: float) -> float:
    """Environment steps per CPU-second over about `seconds` of them."""
    if envs.num_actions:
        actions = torch.randint(envs.num_actions, (envs.num_envs,))
    else:
        actions = (torch.rand(envs.num_envs) * 2 - 1) * envs.max_action
    steps, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        envs.step(actions)
        steps += envs.num_envs
    return steps / (time.process_time() - start)


def main() -> None:
    """Measure all worlds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--num-envs", type=int, default=4096)
    num_envs = parser.parse_args().num_envs
    torch.set_num_threads(1)
    print(f"{num_envs:,} environments, torch {torch.__version__}: million steps per CPU-second")
    for env_id, world in WORLDS.items():
        envs = world(num_envs)
        envs.reset()
        steps_per_second(envs, SECONDS / 4)  # warm up
        rates = sorted(steps_per_second(envs, SECONDS) / 1e6 for _ in range(REPEATS))
        print(f"{env_id:<30} {statistics.median(rates):6.2f}  ({rates[0]:.2f} .. {rates[-1]:.2f})")


if __name__ == "__main__":
    main()
