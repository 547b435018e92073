"""`python evaluate.py`: one measured run of the train.py beside it.

Exit code 0 when it was scored, 1 when it was not (the reason on standard error), 2 when it was not started.
"""

import argparse
import contextlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autorl.errors import AutoRLError, UserError
from autorl.judging import launch, private
from autorl.records import Job, RunRecord, to_json

MINUTES = 60


def parser() -> argparse.ArgumentParser:
    """The options; their defaults are the constants of evaluate.py."""
    import evaluate

    p = argparse.ArgumentParser(
        prog="evaluate.py", description="One measured run of train.py: train under the judge's clock, hand over, score."
    )
    p.add_argument(
        "--train", default=str(private.ROOT / "train.py"), metavar="FILE", help="the file to train and score (default: train.py)"
    )
    p.add_argument(
        "--env-id", default=evaluate.ENV_ID, metavar="ID", help="a Gymnasium environment with 1-D Box spaces (default: %(default)s)"
    )
    p.add_argument("--seed", type=int, default=evaluate.SEED, help="training seed (default: %(default)s)")
    p.add_argument("--budget", type=float, default=evaluate.TIME_BUDGET, metavar="SECONDS", help="of training (default: %(default)g)")
    p.add_argument("--episodes", type=int, default=evaluate.NUM_EVAL_EPISODES, metavar="N", help="of evaluation (default: %(default)s)")
    p.add_argument("--sandbox", choices=("auto", "bwrap", "off"), default="auto", help="confinement (default: %(default)s)")
    p.add_argument("--json", action="store_true", help="print the whole record instead of the summary block")
    return p


def job_from(options: argparse.Namespace) -> Job:
    """The options as a job.

    Raises:
        UserError: one of them cannot be.
    """
    from autorl.source.checks import vet

    try:
        source = Path(options.train).read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {options.train}: {error.strerror}; name the file to train with --train FILE.") from None
    if why := vet(source):
        raise UserError(f"{options.train} is not run: {why}")
    if not (math.isfinite(options.budget) and options.budget > 0):
        raise UserError(f"--budget {options.budget:g} is no time to train in; give a number of seconds above 0.")
    if options.episodes < 1:
        raise UserError(f"--episodes {options.episodes} would score nothing; give a number of at least 1.")
    if not 0 <= options.seed < 2**31:
        raise UserError(f"--seed {options.seed} is out of range; give a number from 0 to {2**31 - 1}.")
    from autorl.judging.controls import check_env

    check_env(options.env_id)
    return Job(source.decode(), options.env_id, options.seed, options.budget, options.episodes, sandbox=options.sandbox)


def main(argv: list[str]) -> int:
    """Run it and print the summary block."""
    import evaluate
    from autorl import sandbox

    options = parser().parse_args(argv)
    try:
        job = job_from(options)
        if line := sandbox.advice(job.sandbox):
            print(line, file=sys.stderr)
        record = run(job)
    except AutoRLError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps(to_json(record), indent=1))
    if not record.scored:
        print(record.reason, file=sys.stderr)
        return 1
    for flag in record.flags:
        print(f"look at this: {flag}", file=sys.stderr)
    if not options.json:
        print(evaluate.summary_block(record.avg_return, record.std_return, record.min_return, record.max_return, record.total_timesteps,
                                     record.training_seconds, record.total_seconds, record.num_updates))  # fmt: skip
    return 0


def run(job: Job) -> RunRecord:
    """Start a judge and wait for it, with a bar on a terminal; Ctrl-C ends the run and everything below it."""
    with tempfile.TemporaryDirectory(prefix="autorl-", ignore_cleanup_errors=True) as scratch, _bar(job) as show:
        folder, pycache = Path(scratch) / "run", Path(scratch) / "pycache"
        process = launch.launch(job, folder, pycache)
        try:
            while (record := launch.collect(process, folder, job)) is None:
                show(launch.read_progress(folder))
                time.sleep(0.1)
        except KeyboardInterrupt:
            process.terminate()
            with contextlib.suppress(Exception):
                process.wait(5)
            raise AutoRLError("Stopped; nothing was scored.") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
                private.sweep()
        return record


@contextlib.contextmanager
def _bar(job: Job) -> Iterator[Any]:
    """A progress bar with time left, return and steps per second; a plain line a minute where there is no terminal."""
    if not sys.stderr.isatty():
        last = [time.monotonic()]

        def line(progress: Any) -> None:
            if progress and time.monotonic() - last[0] >= MINUTES:
                last[0] = time.monotonic()
                print(
                    f"{progress.phase}: {progress.elapsed:.0f} of {job.time_budget:.0f} s, {_figures(progress)}",
                    file=sys.stderr,
                    flush=True,
                )

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=job.time_budget, figures="")

        def show(progress: Any) -> None:
            if progress:
                bar.update(task, description=progress.phase, completed=min(progress.elapsed, job.time_budget), figures=_figures(progress))

        yield show


def _figures(progress: Any) -> str:
    parts = []
    if progress.episode_return is not None:
        parts.append(f"return {progress.episode_return:.1f}")
    if progress.step is not None:
        parts.append(f"{progress.step:,} steps")
    if progress.steps_per_second is not None:
        parts.append(f"{progress.steps_per_second:,.0f} steps/s")
    return "  ".join(parts)
