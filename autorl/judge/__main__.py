"""`python evaluate.py`: one measured run of the train.py beside it.

Exit code 0 when it was scored, 1 when it was not (the reason on standard error), 2 when it was not
started.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

import evaluate
from autorl.environments import check_env
from autorl.errors import AutoRLError, UserError
from autorl.judge import collect, launch, read_progress, run_dir, sandbox
from autorl.judge.trial import try_env
from autorl.records import Job, RunRecord, SandboxMode, to_json
from autorl.report.progress import Dashboard
from autorl.source.checks import MAX_BYTES, look
from autorl.system.bytecode import compile_packages
from autorl.system.files import read_regular
from autorl.system.text import any_terminal

PROJECT = Path(evaluate.__file__).resolve().parent


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--train",
    default=str(PROJECT / "train.py"),
    show_default="train.py",
    help="the file to train and score",
)
@click.option(
    "--env-id", default=evaluate.ENV_ID, help="a Gymnasium environment, or one of our worlds"
)
@click.option("--seed", default=evaluate.SEED, help="training seed")
@click.option("--budget", default=float(evaluate.TIME_BUDGET), help="seconds of training")
@click.option("--episodes", default=evaluate.NUM_EVAL_EPISODES, help="episodes of evaluation")
@click.option(
    "--sandbox",
    "mode",
    type=click.Choice(["auto", "bwrap", "off"]),
    default="auto",
    help="how train.py is confined",
)
@click.option(
    "--json", "as_json", is_flag=True, help="print the whole record instead of the summary block"
)
def main(as_json: bool, **options: Any) -> None:
    """One measured run of train.py: train under the judge's clock, hand over, score."""
    any_terminal()
    try:
        job = _job(**options)
        if line := sandbox.advice(job.sandbox):
            click.echo(line, err=True)
        record = run(job)
    except AutoRLError as error:
        click.echo(error, err=True)
        sys.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps(to_json(record), indent=1))
    if not record.scored:
        click.echo(record.reason, err=True)
        sys.exit(1)
    for flag in record.flags:
        click.echo(f"look at this: {flag}", err=True)
    if not as_json:
        figures = {name: getattr(record, name) for name in evaluate.SUMMARY}
        click.echo(evaluate.summary_block(**figures))


def _job(
    train: str, env_id: str, seed: int, budget: float, episodes: int, mode: SandboxMode
) -> Job:
    """The options as a job.

    Raises:
        UserError: one of them cannot be.
    """
    try:
        source = read_regular(Path(train).resolve(), MAX_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"Cannot read {train}: {error.strerror}; name the file to train with --train FILE."
        ) from None
    if why := look(source).why:
        raise UserError(f"{train} is not run: {why}")
    if not 0 < budget < float("inf"):
        raise UserError(
            f"--budget {budget:g} is no time to train in; give a number of seconds above 0."
        )
    if episodes < 1:
        raise UserError(f"--episodes {episodes} would score nothing; give a number of at least 1.")
    if not 0 <= seed < 2**31:
        raise UserError(f"--seed {seed} is out of range; give a number from 0 to {2**31 - 1}.")
    kwargs = evaluate.ENV_KWARGS if env_id == evaluate.ENV_ID else {}
    check_env(env_id, kwargs)
    try_env(env_id, mode, kwargs)
    steps = evaluate.BUDGET_STEPS
    return Job(source.decode(), env_id, seed, budget, episodes, kwargs, steps, sandbox=mode)


def run(job: Job) -> RunRecord:
    """Start a judge and wait for it, with a progress bar; Ctrl-C ends all that it started."""
    compile_packages()
    with (
        tempfile.TemporaryDirectory(prefix="autorl-", ignore_cleanup_errors=True) as scratch,
        Dashboard() as bars,
    ):
        folder, pycache = Path(scratch) / "run", Path(scratch) / "pycache"
        judge = launch(job, folder, pycache, PROJECT)
        try:
            while (record := collect(judge, folder, job)) is None:
                bars.progress([(job.env_id, read_progress(folder))])
                time.sleep(0.1)
        except KeyboardInterrupt:
            judge.terminate()
            with contextlib.suppress(Exception):
                judge.wait(5)
            raise AutoRLError("Stopped; nothing was scored.") from None
        finally:
            if judge.poll() is None:
                judge.kill()
                judge.wait()
                run_dir.sweep(PROJECT)
        return record


if __name__ == "__main__":
    main(prog_name="evaluate.py")
