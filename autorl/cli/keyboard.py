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

SETTINGS = options.together(
    click.option("--tag", help="which session  [default: the newest unfinished, else a new one]"),
    *options.SESSION,
    *options.MACHINE,
    click.option("--runner", type=click.Choice(["local", "modal", "scripted"]), hidden=True),
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="machine-readable")
ID = click.argument("id_", metavar="ID")
OF_SESSION = click.option("--tag", help="of the session, where several have that number")


def print_answer(answer: dict[str, Any], as_json: bool) -> None:
    """One block after `---`, a `name: value` on each line, or JSON."""
    lines = (f"{k + ':':<18}{'' if v is None else v}".rstrip() for k, v in answer.items())
    click.echo(json.dumps(answer) if as_json else "\n".join(["---", *lines]))


@click.command()
@SETTINGS
@AS_JSON
@click.pass_obj
def begin(root: Path, /, as_json: bool, **o: Any) -> None:
    """Make a session with its settings and measure its baseline, in the background.

    The ideas are yours: see `try`. A session that exists goes on.
    """
    from autorl.cli.experiment import begin

    print_answer(begin(root, o), as_json)


@click.command("try")
@click.option(
    "-m", "--message", required=True, help="what was changed and why; the first line is the title"
)
@SETTINGS
@AS_JSON
@click.pass_obj
def try_(root: Path, /, as_json: bool, **o: Any) -> None:
    """Measure and decide ./train.py as it now stands. Returns at once with an id for `wait`.

    Without a session it makes one, with the settings given.
    """
    from autorl.cli.experiment import submit

    print_answer(submit(root, o), as_json)


@click.command()
@ID
@OF_SESSION
@click.option(
    "--timeout", type=Number(0.0), default=540.0, show_default=True, help="seconds to wait"
)
@AS_JSON
@click.pass_obj
def wait(root: Path, id_: str, tag: str | None, timeout: float, as_json: bool) -> None:
    """Wait for an experiment: an id that `try` printed, a number, or baseline.

    Exit code 0: decided; 4: still running; 1: nobody is working on it.
    """
    from autorl.cli.experiment import wait_for

    answer, code = wait_for(root, id_, timeout, tag)
    print_answer(answer, as_json)
    sys.exit(code)


@click.command()
@ID
@OF_SESSION
@AS_JSON
@click.pass_obj
def cancel(root: Path, id_: str, tag: str | None, as_json: bool) -> None:
    """Take an experiment back that has no verdict yet: its runs stop, the next one begins."""
    from autorl.cli.experiment import cancel

    print_answer(cancel(root, id_, tag), as_json)


COMMANDS = (begin, try_, wait, cancel)
