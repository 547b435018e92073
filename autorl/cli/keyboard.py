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
from autorl.errors import UserError


def block(answer: dict[str, Any]) -> str:
    """After `---` a `name: value` a line; what has several lines is indented under its name."""
    lines, width = ["---"], 2 + max(map(len, answer))
    for name, value in answer.items():
        if value and isinstance(value, dict):
            pairs = (" | ".join(map(_text, pair)) for pair in value.values())
            lines += [f"{name}:", *(f"  {n:<20} {p}" for n, p in zip(value, pairs, strict=True))]
        elif isinstance(value, str) and "\n" in value:
            lines += [f"{name}:", *(f"  {line}" for line in value.splitlines())]
        else:
            lines.append(f"{name + ':':<{width}}{_text(value)}".rstrip())
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join("-" if v is None else f"{v:.4g}" for v in value)
    return "" if value in (None, {}) else str(value)


def _print(answer: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(answer, ensure_ascii=False) if as_json else block(answer))


@click.command("try")
@click.option("-m", "--message", help="what was changed and why; the first line is the title")
@click.option(
    "--check", "only_check", is_flag=True, help="only see, in seconds, that the file runs at all"
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
def try_(root: Path, /, as_json: bool, only_check: bool, **o: Any) -> None:
    """Measure and decide ./train.py as it now stands. Returns at once with an id for `wait`.

    With --check two updates, the hand-over and two episodes, now, of no session: exit code 0 when
    they work, 1 when something breaks.
    """
    if only_check:
        from autorl.cli.check import check

        seen = check(root, o)
        _print(seen, as_json)
        sys.exit(0 if seen["state"] == "fine" else 1)
    if not o["message"]:
        raise UserError('`try` needs -m "title: what and why", or --check.')
    from autorl.cli.experiment import submit

    _print(submit(root, o), as_json)


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
    _print(answer, as_json)
    sys.exit(code)


@click.command()
@click.argument("what", default="best", metavar="[N|ID|best|baseline]")
@click.argument("beside", required=False, metavar="[M]")
@click.option("--tag", help="which session  [default: the newest]")
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
@click.pass_obj
def show(root: Path, what: str, beside: str | None, tag: str | None, as_json: bool) -> None:
    """An experiment in full, in at most 12 kB, beside the incumbent or M.

    Its runs, what train.py logged at 25, 50, 75 and 100 % of the budget, the line where it broke,
    the end of the log, the diff against its parent.
    """
    from autorl.cli.show import look_up, show_data, show_text

    seen = look_up(root, what, beside, tag)
    click.echo(json.dumps(show_data(seen), ensure_ascii=False) if as_json else show_text(seen))


@click.command("mcp")
@click.option(
    "--runner", type=click.Choice(["local", "modal", "scripted"]), default=None, hidden=True
)
@click.pass_obj
def mcp_(root: Path, runner: str | None) -> None:
    """The same commands as tools for an MCP client, on standard input and output."""
    from autorl.cli.mcp import serve

    serve(root, runner)


COMMANDS = (try_, wait, show, mcp_)
