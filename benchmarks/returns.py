"""Returns of full measured runs: seeds of one train.py over a list of environments.

    uv run python benchmarks/returns.py --envs BipedalWalker-v3,Hopper-v5 --seeds 2   # 720 s a run
    uv run python benchmarks/returns.py --table                 # only print what is there

The judge scores each run; its record is appended to results/benchmarks/returns.jsonl as soon as it
ends; a pair of environment and seed that this very train.py (by hash, at this budget) has already
run is skipped, so the command may be stopped and started again. The table goes to standard output
and, as data, to results/benchmarks/returns.json. Its column overhead is the share of a run that was
neither training nor evaluation.

Runs go one after another. What it does not do: make the machine quiet: give it the cores to itself.
"""

import argparse
import hashlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from autorl.confirm import stats
from autorl.judge.measure import measure
from autorl.records import Job, from_json, to_json
from autorl.records import RunRecord as Record

ENVS = ("BipedalWalker-v3", "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5")
FOLDER = ROOT / "results" / "benchmarks"


def key(source: str) -> str:
    """The hash that names a train.py."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of returns.jsonl, oldest first; a torn last line is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each train.py, budget and environment.

    Mean over seeds with its 95 % t interval, and the IQM over all episodes.
    """
    groups: dict[tuple[str, float, str], list[Record]] = {}
    for row in rows:
        groups.setdefault(
            (row["train"], row["record"]["time_budget"], row["record"]["env_id"]), []
        ).append(from_json(Record, row["record"]))
    table = []
    for (train, budget, env_id), records in groups.items():
        scored = [r for r in records if r.avg_return is not None]
        means = [r.avg_return for r in scored if r.avg_return is not None]
        half = None
        if len(means) > 1:
            half = stats.t_quantile(0.975, len(means) - 1) * math.sqrt(
                stats.variance(means) / len(means)
            )
        steps = [r.total_timesteps for r in scored if r.total_timesteps]
        rates = [
            r.total_timesteps / r.training_seconds
            for r in scored
            if r.total_timesteps and r.training_seconds
        ]
        memory = [r.peak_memory_bytes for r in scored if r.peak_memory_bytes]
        outside = [
            1 - (r.training_seconds + r.evaluation_seconds) / r.total_seconds
            for r in scored
            if r.training_seconds and r.evaluation_seconds and r.total_seconds
        ]
        table.append(
            {
                "train": train,
                "time_budget": budget,
                "env_id": env_id,
                "runs": len(records),
                "scored": len(scored),
                "means": means,
                "mean": stats.mean(means) if means else None,
                "iqm": stats.iqm([x for r in scored for x in r.returns]) if scored else None,
                "low": None if half is None else stats.mean(means) - half,
                "high": None if half is None else stats.mean(means) + half,
                "worst_episode": min(
                    (r.min_return for r in scored if r.min_return is not None), default=None
                ),
                "steps": stats.mean(steps) if steps else None,
                "steps_per_second": stats.mean(rates) if rates else None,
                "peak_memory_bytes": max(memory, default=None),
                "outside_share": max(outside, default=None),
                "cpu_share": min(
                    (r.machine.cpu_share for r in scored if r.machine.cpu_share is not None),
                    default=None,
                ),
                "crashes": [r.reason for r in records if r.avg_return is None],
            }
        )
    return table


def show(table: list[dict[str, Any]]) -> str:
    """The table as text."""

    def cell(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    head = (
        f"{'train.py':<13}{'budget':>7}  {'environment':<18}{'runs':>5}{'mean':>10}{'IQM':>10}"
        f"  {'95 % interval':<20}{'worst ep.':>10}{'steps':>13}{'steps/s':>9}{'memory':>9}"
        f"{'overhead':>9}{'cpu share':>10}"
    )
    lines = [head, "-" * len(head)]
    for row in table:
        interval = "" if row["low"] is None else f"[{row['low']:.1f}, {row['high']:.1f}]"
        memory = None if row["peak_memory_bytes"] is None else row["peak_memory_bytes"] / 2**20
        lines.append(
            f"{row['train']:<13}{row['time_budget']:>7g}  {row['env_id']:<18}"
            f"{row['scored']:>3}/{row['runs']}"
            f"{cell(row['mean'], '10.1f'):>10}{cell(row['iqm'], '10.1f'):>10}  "
            f"{interval:<20}{cell(row['worst_episode'], '10.1f'):>10}"
            f"{cell(row['steps'], '13,.0f'):>13}{cell(row['steps_per_second'], '9,.0f'):>9}"
            f"{cell(memory, '.0f'):>5} MiB{cell(row['outside_share'], '.2%'):>9}"
            f"{cell(row['cpu_share'], '.2f'):>10}"
        )
        lines.extend(f"{'':<22}no score: {reason}" for reason in row["crashes"])
    return "\n".join(lines)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--envs", default=",".join(ENVS), help="comma-separated (default: %(default)s)")
    p.add_argument(
        "--seeds", type=int, default=1, help="training seeds 1 .. N (default: %(default)s)"
    )
    p.add_argument(
        "--first-seed", type=int, default=1, help="the first of them (default: %(default)s)"
    )
    p.add_argument(
        "--budget", type=float, default=720.0, help="seconds of training (default: %(default)g)"
    )
    p.add_argument("--episodes", type=int, default=100, help="of evaluation (default: %(default)s)")
    p.add_argument(
        "--train",
        type=Path,
        default=ROOT / "train.py",
        help="the file to measure (default: train.py)",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=FOLDER,
        help="folder of returns.jsonl and returns.json (default: results/benchmarks)",
    )
    p.add_argument("--table", action="store_true", help="start nothing, print what is there")
    options = p.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "returns.jsonl"
    # read once: an edit under way does not reach a later run
    source = options.train.read_text(encoding="utf-8")
    wanted = [
        (env_id, seed)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for env_id in options.envs.split(",")
    ]
    for env_id, seed in [] if options.table else wanted:
        done = {
            (r["train"], r["record"]["env_id"], r["record"]["seed"], r["record"]["time_budget"])
            for r in read(log)
            if r["record"]["status"] != "interrupted"
        }
        if (key(source), env_id, seed, options.budget) in done:
            continue
        print(
            f"{time.strftime('%H:%M:%S')}  {env_id} seed {seed}, train.py {key(source)}, "
            f"{options.budget:g} s ...",
            flush=True,
        )
        with tempfile.TemporaryDirectory(prefix="autorl-", ignore_cleanup_errors=True) as folder:
            record = measure(
                Job(source, env_id, seed, options.budget, options.episodes), Path(folder) / "run"
            )
        row = {
            "train": key(source),
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "record": to_json(record),
        }
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        rate = (record.total_timesteps or 0) / (record.training_seconds or math.inf)
        outcome = (
            f"{record.avg_return:.1f}"
            if record.avg_return is not None
            else f"no score: {record.reason}"
        )
        print(
            f"{time.strftime('%H:%M:%S')}  {env_id} seed {seed}: {outcome} "
            f"({record.total_timesteps or 0:,} steps, {rate:,.0f}/s)",
            flush=True,
        )
    table = summary(read(log))
    (options.out / "returns.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(show(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
