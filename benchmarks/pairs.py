"""Two train.py files side by side: old and new at once on the same seed, one core each.

    uv run python benchmarks/pairs.py OLD NEW            # 3 seeds x 5 environments: 70 minutes
    uv run python benchmarks/pairs.py OLD NEW --envs Hopper-v5 --seeds 1 --seconds 60
    uv run python benchmarks/pairs.py OLD NEW --table    # only print what is there
    uv run python benchmarks/pairs.py OLD NEW --speed 5 --envs BipedalWalker-v3   # 5 x 20 s each

Both files of a pair run through the judge in its sandbox and change cores from seed to seed.
A pair is appended to the TSV when both have ended, and one whose two scores the TSV has (same files
by hash, environment, seed and seconds) is not run again: stop it and start it again as you like.

With --speed nothing is scored or kept: the files take turns on all cores, medians of their steps
a second are printed, and start-up is left out.

The table divides the difference of the means by the environment's standard deviation: that of one
run, pooled from the seeds of both files.

What it does not do: make the machine quiet, or say whether a difference is significant.
"""

import argparse
import csv
import hashlib
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from autorl.records import Job, RunRecord
from autorl.runners.local import LocalRunner
from autorl.system.hardware import partition

ENVS = ("BipedalWalker-v3", "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5")
OUT = ROOT / "results" / "benchmarks" / "pairs.tsv"
COLUMNS = (
    "old", "new", "env_id", "seed", "seconds", "side", "avg_return", "min_return", "steps", "core",
    "cpu_share", "status", "reason", "ended", "hardware",
)  # fmt: skip

Row = dict[str, str]


def key(source: str) -> str:
    """The hash that names a train.py."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def read(path: Path) -> list[Row]:
    """The rows of the TSV, oldest first."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def append(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows, with the header where the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def measure(jobs: list[Job], runner: LocalRunner, folder: Path) -> list[RunRecord]:
    """Run the jobs at once; their records in order. Each leaves its files in folder/0, 1, ..."""
    handles = [runner.start(job, folder / str(k)) for k, job in enumerate(jobs)]
    records: dict[str, RunRecord] = {}
    while len(records) < len(handles):
        time.sleep(0.5)
        for handle in handles:
            if handle not in records and (record := runner.poll(handle)) is not None:
                records[handle] = record
    return [records[handle] for handle in handles]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for the files of runs, gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="autorl-", ignore_cleanup_errors=True)


def rate(source: str, env_id: str, seconds: float, runner: LocalRunner) -> float:
    """Steps a second of one run on all cores, from its second update to its last."""
    with scratch() as folder:
        [record] = measure([Job(source, env_id, 1, seconds, 1)], runner, Path(folder))
        with (Path(folder) / "0" / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[1:]
    if len(rows) < 2:
        raise SystemExit(f"{env_id}: fewer than 3 updates in {seconds:g} s. {record.reason}")
    first, *_, last = rows
    steps = float(last["step"]) - float(first["step"])
    return steps / (float(last["seconds"]) - float(first["seconds"]))


def speed(sources: dict[str, str], env_id: str, repeats: int, runner: LocalRunner) -> str:
    """Medians of the files' steps a second, taken in turns of 20 s."""
    rates: dict[str, list[float]] = {side: [] for side in sources}
    for _ in range(repeats):
        for side, source in sources.items():
            rates[side].append(rate(source, env_id, 20.0, runner))
    old, new = (statistics.median(of_side) for of_side in rates.values())
    every = "; ".join(f"{side} {', '.join(f'{x:,.0f}' for x in xs)}" for side, xs in rates.items())
    return f"{env_id}: old {old:,.0f}, new {new:,.0f} steps/s, ratio {new / old:.3f} ({every})"


def row(record: RunRecord, core: int) -> Row:
    """What the TSV keeps of a run; a missing value is empty."""
    values = {
        "avg_return": record.avg_return, "min_return": record.min_return,
        "steps": record.total_timesteps, "core": core, "cpu_share": record.machine.cpu_share,
        "status": record.status, "reason": " ".join(record.reason.split()),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%S"), "hardware": record.hardware,
    }  # fmt: skip
    return {name: "" if value is None else str(value) for name, value in values.items()}


def show(rows: list[Row]) -> str:
    """The table: an environment a line, then the mean of the differences in standard deviations."""
    head = f"{'environment':<18}{'pairs':>6}{'old':>10}{'new':>10}{'lowest old':>12}"
    head += f"{'difference':>12}{'sd':>9}{'in sd':>8}{'steps':>7}"
    lines, scaled, below = [head, "-" * len(head)], [], []
    for env_id in dict.fromkeys(r["env_id"] for r in rows):
        runs = {
            s: [r for r in rows if (r["env_id"], r["side"]) == (env_id, s)] for s in ("old", "new")
        }
        scores = {
            s: [float(r["avg_return"]) for r in rs if r["avg_return"]] for s, rs in runs.items()
        }
        lost = [r for rs in runs.values() for r in rs if not r["avg_return"]]
        if all(scores.values()):
            old, new = (statistics.fmean(scores[side]) for side in ("old", "new"))
            spreads = [statistics.variance(x) for x in scores.values() if len(x) > 1]
            sd = math.sqrt(statistics.fmean(spreads)) if spreads else 0.0
            if sd > 0:
                scaled.append((new - old) / sd)
            if new < min(scores["old"]):
                below.append(env_id)
            steps = [sum(float(r["steps"] or 0) for r in rs) for rs in runs.values()]
            cells = f"{sd:>9.1f}{(new - old) / sd:>8.2f}" if sd > 0 else f"{'':>17}"
            cells += f"{steps[1] / steps[0]:>7.2f}" if all(steps) else ""
            lines.append(
                f"{env_id:<18}{min(map(len, scores.values())):>6}{old:>10.1f}{new:>10.1f}"
                f"{min(scores['old']):>12.1f}{new - old:>12.1f}{cells}"
            )
        lines += [
            f"  {env_id} seed {r['seed']}, {r['side']}: no score: {r['reason']}" for r in lost
        ]
    if scaled:
        lines.append(
            f"\nmean difference: {statistics.fmean(scaled):+.2f} sd over {len(scaled)} environments"
        )
    lines.append(f"new mean below the old one's lowest run: {', '.join(below) or 'nowhere'}")
    return "\n".join(lines)


def main() -> int:
    """Run what is missing, print the table."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("old", type=Path, help="a train.py")
    p.add_argument("new", type=Path, help="another")
    p.add_argument("--envs", default=",".join(ENVS), help="comma-separated (default: %(default)s)")
    p.add_argument("--seeds", default="1,2,3", help="comma-separated (default: %(default)s)")
    p.add_argument(
        "--seconds", type=float, default=240.0, help="of training (default: %(default)g)"
    )
    p.add_argument("--episodes", type=int, default=100, help="of evaluation (default: %(default)s)")
    p.add_argument("--out", type=Path, default=OUT, help="the TSV (default: %(default)s)")
    p.add_argument(
        "--speed", type=int, default=0, metavar="N", help="only compare steps/s, N times"
    )
    p.add_argument("--table", action="store_true", help="start nothing, print what is there")
    o = p.parse_args()
    sources = {side: getattr(o, side).read_text(encoding="utf-8") for side in ("old", "new")}
    shared = {"old": key(sources["old"]), "new": key(sources["new"]), "seconds": f"{o.seconds:g}"}

    def kept() -> list[Row]:
        """The latest run of each environment, seed and side."""
        rows = [r for r in read(o.out) if all(r[name] == value for name, value in shared.items())]
        return list({(r["env_id"], r["seed"], r["side"]): r for r in rows}.values())

    unscored = {(r["env_id"], r["seed"]) for r in kept() if not r["avg_return"]}
    done = {(r["env_id"], r["seed"]) for r in kept()} - unscored
    wanted = [(env_id, seed) for seed in o.seeds.split(",") for env_id in o.envs.split(",")]
    todo = [] if o.table else [pair for pair in wanted if pair not in done]
    cores = [group[0] for group in partition((), 2)]
    if todo and len(set(cores)) < 2:
        raise SystemExit("A pair needs two cores; this process may use one: widen its affinity.")
    runner = LocalRunner(places=2)
    if o.speed:
        for env_id in o.envs.split(","):
            print(speed(sources, env_id, o.speed, runner), flush=True)
        runner.close()
        return 0
    for env_id, seed in todo:
        places = cores if int(seed) % 2 else cores[::-1]
        jobs = [
            Job(source, env_id, int(seed), o.seconds, o.episodes, cores=(core,), threads=1)
            for source, core in zip(sources.values(), places, strict=True)
        ]
        with scratch() as folder:
            records = measure(jobs, runner, Path(folder))
        if any(record.status == "interrupted" for record in records):
            print(f"{env_id} seed {seed}: interrupted, not counted; start again.", flush=True)
            continue
        common = {**shared, "env_id": env_id, "seed": seed}
        sides = zip(sources, records, places, strict=True)
        rows = [{**common, "side": side, **row(record, core)} for side, record, core in sides]
        append(o.out, COLUMNS, rows)
        scores = ", ".join(f"{r['side']} {r['avg_return'] or r['reason']}" for r in rows)
        print(f"{time.strftime('%H:%M:%S')}  {env_id} seed {seed}: {scores}", flush=True)
    runner.close()
    print(show(kept()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
