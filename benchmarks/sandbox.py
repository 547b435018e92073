"""What confinement costs: the start of a process, and the steps of train.py in the same time.

    uv run python benchmarks/sandbox.py    # start-up, fixed work, 3 pairs of 20 s of training
    uv run python benchmarks/sandbox.py --pairs 5 --budget 60
    uv run python benchmarks/sandbox.py --filter-pairs 9   # only the filter on system calls

On a machine with other work on it, steps per second say little; so the CPU seconds of a fixed piece
of work (EnvPool steps, network updates, plain Python) are compared first. Runs outside and inside
take turns, outside first in one pair and inside first in the next, so that a drift of the machine
touches both; the ratio is of the medians. What this file does not do: vary anything but the
sandbox, or the filter.
"""

import argparse
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def start_up(times: int = 30) -> tuple[float, float]:
    """Median milliseconds to start and end /bin/true, (outside, inside)."""
    from autorl.judge import sandbox

    box = sandbox.probe("bwrap")
    seconds: dict[str, list[float]] = {"outside": [], "inside": []}
    for _ in range(times):
        for name, argv in (
            ("outside", ["/bin/true"]),
            ("inside", sandbox.wrap(box, ["/bin/true"], env={})),
        ):
            started = time.perf_counter()
            subprocess.run(argv, check=True)
            seconds[name].append(time.perf_counter() - started)
    return statistics.median(seconds["outside"]) * 1e3, statistics.median(seconds["inside"]) * 1e3


WORK = """
import os, warnings
import envpool, numpy as np, torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
envs = envpool.make("HalfCheetah-v5", env_type="gymnasium", num_envs=16, seed=1, num_threads=2)
envs.reset()
net = torch.nn.Sequential(torch.nn.Linear(17, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64))
optimizer = torch.optim.Adam(net.parameters())
x, actions = torch.randn(2048, 17), np.zeros((16, 6), np.float32)
before = sum(os.times()[:2])
for _ in range(1500):
    envs.step(actions)
for _ in range(300):
    optimizer.zero_grad()
    net(x).pow(2).mean().backward()
    optimizer.step()
sum(i for i in range(2_000_000))
print(sum(os.times()[:2]) - before)
"""


def fixed_work(pairs: int) -> tuple[float, float]:
    """Median CPU seconds of the same work, (outside, inside)."""
    from autorl.judge import sandbox

    box, env = sandbox.probe("bwrap"), {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for pair in range(pairs):
        for inside in (False, True) if pair % 2 == 0 else (True, False):
            argv = [sys.executable, "-P", "-c", WORK]
            argv = sandbox.wrap(box, argv, env=env) if inside else argv
            seconds[inside].append(
                float(
                    subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout
                )
            )
    return statistics.median(seconds[False]), statistics.median(seconds[True])


def steps_per_second(source: str, env_id: str, budget: float, mode: str) -> tuple[float, float]:
    """Of one measured run: training steps a second by the judge's clock; other load in cores."""
    from autorl.judge import collect, launch
    from autorl.records import Job

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        job = Job(source, env_id, 1, budget, num_eval_episodes=2, sandbox=mode)  # type: ignore[arg-type]
        process = launch(job, folder, Path(scratch) / "bytecode")
        while (record := collect(process, folder, job)) is None:
            time.sleep(0.1)
    if record.status != "ok" or not record.total_timesteps or not record.training_seconds:
        raise SystemExit(f"{mode}: {record.reason}")
    return record.total_timesteps / record.training_seconds, record.machine.other_load or 0.0


def filtered(pairs: int, source: str, env_id: str, steps: int) -> None:
    """Print what train.py takes for so many steps, confined, with and without the filter."""
    from autorl.judge import sandbox
    from autorl.judge.run_dir import put_harness

    box = sandbox.probe("bwrap")
    boxes = {"without": dataclasses.replace(box, seccomp=""), "with": box}
    taken: dict[str, list[float]] = {name: [] for name in boxes}
    for pair in range(pairs):
        for name in list(boxes) if pair % 2 == 0 else list(boxes)[::-1]:
            with tempfile.TemporaryDirectory() as scratch:
                run, harness = Path(scratch) / "run", Path(scratch) / "harness"
                run.mkdir()
                harness.mkdir()
                put_harness(ROOT, harness)
                (run / "train.py").write_text(source, encoding="utf-8")
                env = {
                    "PATH": "/usr/bin:/bin",
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": sandbox.HARNESS,
                    "AUTORL_RUN_DIR": sandbox.RUN,
                    "AUTORL_HANDOVER": "1",
                    "AUTORL_ENV_ID": env_id,
                    "AUTORL_TIME_BUDGET": "600",
                    "AUTORL_BUDGET_STEPS": str(steps),
                }
                argv = sandbox.wrap(
                    boxes[name],
                    [sys.executable, "-P", "train.py"],
                    env=env,
                    writable={run: sandbox.RUN},
                    readable={harness: sandbox.HARNESS},
                    chdir=sandbox.RUN,
                )
                began = time.monotonic()
                subprocess.run(argv, check=True, capture_output=True)
                taken[name].append(time.monotonic() - began)
        a, b = taken["without"][-1], taken["with"][-1]
        print(f"  without the filter {a:.2f} s, with it {b:.2f} s: ratio {a / b:.3f}", flush=True)
    ratios = [a / b for a, b in zip(taken["without"], taken["with"], strict=True)]
    print(
        f"{env_id}, {steps:,} steps, {pairs} pairs, throughput with the filter to without: "
        f"median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What the sandbox costs.")
    parser.add_argument("--env-id", default="BipedalWalker-v3")
    parser.add_argument(
        "--budget", type=float, default=20.0, help="seconds of training a run (default: 20)"
    )
    parser.add_argument(
        "--pairs", type=int, default=3, help="of training runs (default: 3; 0 leaves them out)"
    )
    parser.add_argument("--work-pairs", type=int, default=5, help="of fixed work (default: 5)")
    parser.add_argument(
        "--filter-pairs", type=int, default=0, help="of runs with and without the filter alone"
    )
    parser.add_argument(
        "--steps", type=int, default=150_000, help="of such a run (default: 150,000)"
    )
    options = parser.parse_args()
    source = (ROOT / "train.py").read_text(encoding="utf-8")
    if options.filter_pairs:
        return filtered(options.filter_pairs, source, options.env_id, options.steps)
    outside, inside = start_up()
    print(
        f"start of a process: {outside:.1f} ms outside, {inside:.1f} ms inside: "
        f"{inside - outside:.1f} ms more"
    )
    outside, inside = fixed_work(options.work_pairs)
    print(
        f"fixed work: {outside:.2f} CPU s outside, {inside:.2f} inside, "
        f"ratio {outside / inside:.3f}",
        flush=True,
    )
    if not options.pairs:
        return
    rates: dict[str, list[float]] = {"off": [], "bwrap": []}
    for pair in range(options.pairs):
        for mode in ("off", "bwrap") if pair % 2 == 0 else ("bwrap", "off"):
            rate, other = steps_per_second(source, options.env_id, options.budget, mode)
            rates[mode].append(rate)
            print(
                f"  {'inside' if mode == 'bwrap' else 'outside':<8}{rate:>10,.0f} steps/s"
                f"   (other load {other:.2f} cores)",
                flush=True,
            )
    a, b = statistics.median(rates["off"]), statistics.median(rates["bwrap"])
    print(
        f"{options.env_id}, {options.pairs} pairs of {options.budget:g} s: "
        f"{a:,.0f} outside, {b:,.0f} inside, ratio {b / a:.3f}"
    )


if __name__ == "__main__":
    main()
