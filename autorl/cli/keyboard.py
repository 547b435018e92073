"""The commands of a person or a coding agent at the keyboard; experiment.py does the work.

What this file does not do: anything but flags, printing and exit codes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from autorl.cli import options
from autorl.cli.options import Number


@click.command("try")
@click.option(
    "-m", "--message", required=True, help="what was changed and why; the first line is the title"
)
@click.option("--tag", help="which session  [default: the newest unfinished one, else a new one]")
@click.option("--env-id", help="environment of a new session  [default: ENV_ID of evaluate.py]")
@click.option(
    "--budget", "time_budget", type=float, help="seconds of training per run, for a new session"
)
@click.option(
    "--episodes",
    "num_eval_episodes",
    type=int,
    help="evaluation episodes per run, for a new session",
)
@options.env_kwargs
@options.budget_steps
@click.option(
    "--sandbox", type=click.Choice(["auto", "bwrap", "off"]), default=None, help="for a new session"
)
@click.option(
    "--runner", type=click.Choice(["local", "modal", "scripted"]), default=None, hidden=True
)
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
@click.pass_obj
def try_(root: Path, /, as_json: bool, **o: Any) -> None:
    """Measure and decide ./train.py as it now stands. Returns at once with an id for `wait`."""
    from autorl.cli.experiment import submit

    answer = submit(root, o)
    click.echo(
        json.dumps(answer)
        if as_json
        else "\n".join(["---", *(f"{k + ':':<10}{v}" for k, v in answer.items())])
    )


@click.command()
@click.argument("id_")
@click.option(
    "--timeout", type=Number(0.0), default=540.0, show_default=True, help="seconds to wait"
)
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
@click.pass_obj
def wait(root: Path, id_: str, timeout: float, as_json: bool) -> None:
    """Wait for an experiment.

    Exit code 0: decided; 4: still running; 1: nobody is working on it.
    """
    from autorl.cli.experiment import wait_for

    answer, code = wait_for(root, id_, timeout)
    click.echo(
        json.dumps(answer)
        if as_json
        else "\n".join(
            ["---", *(f"{k + ':':<18}{'' if v is None else v}".rstrip() for k, v in answer.items())]
        )
    )
    sys.exit(code)


COMMANDS = (try_, wait)
