"""Two runs at once on disjoint cores against one run alone on one core; and the noise of real runs.

    uv run python benchmarks/slots.py           # 12 seeds x 2 files in slots, 6 alone: 45 minutes
    uv run python benchmarks/slots.py --table   # only print what is there
    uv run python benchmarks/decision.py noise results/benchmarks/slots.json   # their noise

The runs, 120 s each, are those of `agent_loop.py run --slots N`: the judge in its sandbox, each run
bound to its own cores. The two files are train.py and train.py with half its learning rate; side by
side run the two files on one seed. Alone: train.py, one run at a time, the other cores idle. Each
record is in results/benchmarks/slots.json as soon as the run ends, and what is there is not
measured again while train.py stays the same. Give it the machine to itself.
"""

import argparse
import hashlib
import json
import math
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from autorl.confirm import stats
from autorl.records import Job
from autorl.runners.local import LocalRunner
from autorl.system.hardware import partition

OUT = ROOT / "results" / "benchmarks" / "slots.json"


def sources() -> dict[str, str]:
    """The two files; they differ in one constant."""
    train = (ROOT / "train.py").read_text(encoding="utf-8")
    other, count = re.subn(
        r"^(LEARNING_RATE = )(\S+)",
        lambda m: f"{m[1]}{float(m[2]) / 2:g}",
        train,
        count=1,
        flags=re.M,
    )
    assert count == 1
    return {"train.py": train, "half the learning rate": other}


def measure(jobs: list[tuple[str, str, Job]], rows: list[dict[str, Any]], out: Path) -> None:
    """Run `jobs`, (file, where, job), side by side until all are done; a row each."""
    runner, flights = LocalRunner(places=len(jobs)), {}
    with tempfile.TemporaryDirectory(prefix="autorl-") as folder:
        for k, (file, where, job) in enumerate(jobs):
            flights[runner.start(job, Path(folder) / str(k))] = (file, where, job)
        while flights:
            time.sleep(0.5)
            for handle, (file, where, job) in list(flights.items()):
                if (r := runner.poll(handle)) is None:
                    continue
                del flights[handle]
                rate = (
                    r.total_timesteps / r.training_seconds
                    if r.total_timesteps and r.training_seconds
                    else None
                )
                rows.append(
                    {
                        "train": hashlib.sha256(job.train_source.encode()).hexdigest()[:12],
                        "env_id": job.env_id,
                        "budget": job.time_budget,
                        "file": file,
                        "where": where,
                        "seed": job.seed,
                        "avg_return": r.avg_return,
                        "std_return": r.std_return,
                        "episodes": len(r.returns),
                        "steps": r.total_timesteps,
                        "steps_per_second": rate,
                        "cpu_share": r.machine.cpu_share,
                        "status": r.status,
                        "reason": r.reason,
                    }
                )
                out.write_text(json.dumps(rows, indent=1) + "\n")
                print(
                    f"{time.strftime('%H:%M:%S')}  {where:<6} {file:<24} seed {job.seed:>3}: "
                    f"{r.avg_return}  {rate or 0:,.0f} steps/s  {r.reason}",
                    flush=True,
                )
    runner.close()


def table(rows: list[dict[str, Any]]) -> str:
    """The runs of train.py in slots beside those alone."""
    lines = [
        f"{'where':<8}{'file':<26}{'runs':>5}{'steps/s':>9}{'spread':>8}"
        f"{'return':>10}{'s':>9}{'cpu share':>11}"
    ]
    for where, file in sorted({(r["where"], r["file"]) for r in rows}):
        chosen = [
            r
            for r in rows
            if (r["where"], r["file"]) == (where, file) and r["avg_return"] is not None
        ]
        rates, scores = [r["steps_per_second"] for r in chosen], [r["avg_return"] for r in chosen]
        if len(chosen) < 2:
            continue
        share = stats.mean([r["cpu_share"] for r in chosen if r["cpu_share"] is not None])
        lines.append(
            f"{where:<8}{file:<26}{len(chosen):>5}{stats.mean(rates):>9,.0f}{math.sqrt(stats.variance(rates)):>8,.0f}"
            f"{stats.mean(scores):>10.2f}{math.sqrt(stats.variance(scores)):>9.2f}{share:>11.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--env-id", default="BipedalWalker-v3")
    p.add_argument(
        "--budget", type=float, default=120.0, help="seconds of training (default: %(default)g)"
    )
    p.add_argument("--episodes", type=int, default=100)
    p.add_argument(
        "--seeds", type=int, default=12, help="in slots, for each file (default: %(default)s)"
    )
    p.add_argument(
        "--alone", type=int, default=6, help="runs alone on one core (default: %(default)s)"
    )
    p.add_argument("--out", type=Path, default=OUT)
    p.add_argument("--table", action="store_true", help="start nothing, print what is there")
    o = p.parse_args()
    files, groups = sources(), partition((), 2)
    keys = {hashlib.sha256(s.encode()).hexdigest()[:12] for s in files.values()}
    rows = [
        r
        for r in (json.loads(o.out.read_text()) if o.out.is_file() else [])
        if o.table or r["train"] in keys
    ]
    rows = [r for r in rows if r["status"] != "interrupted"]
    done = {
        (r["where"], r["file"], r["seed"])
        for r in rows
        if (r["env_id"], r["budget"]) == (o.env_id, o.budget)
    }
    o.out.parent.mkdir(parents=True, exist_ok=True)

    def job(file: str, seed: int, place: int) -> Job:
        cores = groups[place]
        return Job(files[file], o.env_id, seed, o.budget, o.episodes, cores=cores[:1], threads=1)

    for k in range(0 if o.table else max(o.seeds, o.alone)):
        pair = [
            (file, "slots", job(file, 1 + k, (place + k) % 2)) for place, file in enumerate(files)
        ]
        if k < o.seeds and (pair := [x for x in pair if (x[1], x[0], x[2].seed) not in done]):
            measure(pair, rows, o.out)
        if k < o.alone and ("alone", "train.py", 1 + k) not in done:
            measure([("train.py", "alone", job("train.py", 1 + k, k % 2))], rows, o.out)
    print(table([r for r in rows if (r["env_id"], r["budget"]) == (o.env_id, o.budget)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
