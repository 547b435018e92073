"""What confinement costs: the start of a process, and the steps that train.py gets done in the same time.

    uv run python benchmarks/sandbox.py                       # start-up only and 3 pairs of 20 s of training
    uv run python benchmarks/sandbox.py --pairs 5 --budget 60

Runs outside and inside take turns, outside first in one pair and inside first in the next, so that a drift of the
machine touches both; the ratio is of the medians. What this file does not do: vary anything but the sandbox.
"""

import argparse
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
    from autorl import sandbox

    box = sandbox.probe("bwrap")
    seconds: dict[str, list[float]] = {"outside": [], "inside": []}
    for _ in range(times):
        for name, argv in (("outside", ["/bin/true"]), ("inside", sandbox.wrap(box, ["/bin/true"], env={}))):
            started = time.perf_counter()
            subprocess.run(argv, check=True)
            seconds[name].append(time.perf_counter() - started)
    return statistics.median(seconds["outside"]) * 1e3, statistics.median(seconds["inside"]) * 1e3


def steps_per_second(source: str, env_id: str, budget: float, mode: str) -> tuple[float, float]:
    """(environment steps of training over judge-clocked seconds, cores' worth of other load) of one measured run."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description="What the sandbox costs.")
    parser.add_argument("--env-id", default="BipedalWalker-v3")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of training a run (default: 20)")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    outside, inside = start_up()
    print(f"start of a process: {outside:.1f} ms outside, {inside:.1f} ms inside: {inside - outside:.1f} ms more")
    source = (ROOT / "train.py").read_text(encoding="utf-8")
    rates: dict[str, list[float]] = {"off": [], "bwrap": []}
    for pair in range(options.pairs):
        for mode in ("off", "bwrap") if pair % 2 == 0 else ("bwrap", "off"):
            rate, other = steps_per_second(source, options.env_id, options.budget, mode)
            rates[mode].append(rate)
            print(f"  {'inside' if mode == 'bwrap' else 'outside':<8}{rate:>10,.0f} steps/s   (other load {other:.2f} cores)", flush=True)
    a, b = statistics.median(rates["off"]), statistics.median(rates["bwrap"])
    print(f"{options.env_id}, {options.pairs} pairs of {options.budget:g} s: {a:,.0f} outside, {b:,.0f} inside, ratio {b / a:.3f}")


if __name__ == "__main__":
    main()
