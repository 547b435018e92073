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


def print_answer(answer: dict[str, Any], as_json: bool) -> None:
    """A block after `---`, a `name: value` on each line, several lines indented; or JSON. What is
    not known is left out of the block."""
    if as_json:
        return click.echo(json.dumps(answer, ensure_ascii=False))
    lines, width, other = ["---"], 2 + max(map(len, answer)), answer.get("beside")
    heading = "" if other is None else f"  (| experiment {other})"
    for name, value in answer.items():
        if value is None and name != "avg_return":  # a missing score is told
            continue
        if value and isinstance(value, dict):
            shown = (pair if heading else pair[:1] for pair in value.values())
            pairs = (" | ".join(map(_text, pair)) for pair in shown)
            rows = (f"  {n:<20} {p}" for n, p in zip(value, pairs, strict=True))
            lines += [f"{name}:{heading}", *rows]
        elif isinstance(value, str) and "\n" in value:
            lines += [f"{name}:", *(f"  {line}" for line in value.splitlines())]
        else:
            lines.append(f"{name + ':':<{width}}{_text(value)}".rstrip())
    click.echo("\n".join(lines))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join("-" if v is None else f"{v:.4g}" for v in value)
    return "" if value in (None, {}) else str(value)


SETTINGS = options.together(
    click.option("--tag", help="which session  [default: the newest unfinished, else a new one]"),
    *options.SESSION,
    *options.MACHINE,
    click.option("--runner", type=click.Choice(["local", "modal", "scripted"]), hidden=True),
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="machine-readable")
ID = click.argument("id_", metavar="ID")
OF_SESSION = click.option("--tag", help="of the session, where several have that number")


@click.command()
@SETTINGS
@AS_JSON
@click.pass_obj
def begin(root: Path, /, as_json: bool, **o: Any) -> None:
    """Make a session and measure its baseline, in the background.

    The ideas are yours: see `try`. A session that exists goes on.
    """
    from autorl.cli.experiment import begin

    print_answer(begin(root, o), as_json)


@click.command("try")
@click.option("-m", "--message", help="what was changed and why; the first line is the title")
@click.option(
    "--check", "only_check", is_flag=True, help="only see, in seconds, that the file runs at all"
)
@SETTINGS
@AS_JSON
@click.pass_obj
def try_(root: Path, /, as_json: bool, only_check: bool, **o: Any) -> None:
    """Measure and decide ./train.py as it now stands. Returns at once with an id for `wait`.

    Without a session it makes one, with the settings given.

    With --check two updates, the hand-over and two episodes, now, of no session: exit code 0 when
    they work, 1 when something breaks.
    """
    if only_check:
        from autorl.cli.check import check

        seen = check(root, o)
        print_answer(seen, as_json)
        sys.exit(0 if seen["state"] == "fine" else 1)
    if not o["message"]:
        raise UserError('`try` needs -m "title: what and why", or --check.')
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
    """Wait for an experiment's verdict.

    ID is what `try` printed, a number, or baseline.

    A loop that was killed is started again. Exit code 0: decided; 4: still running; 1: nobody works
    on it, and `reason` says why; 2: there is no such id.

    In the answer avg_return is the mean of so many `runs` and stderr its standard error; a reason
    compares with an estimate, which allows for the luck of a few runs. first_update (seconds),
    updates and cpu_share are of the last run; metrics are what train.py logged at the shares of the
    budget in metrics_at, its own | those of the experiment `beside`; line and code are where it
    broke. `show ID` tells more.
    """
    from autorl.cli.experiment import wait_for

    answer, code = wait_for(root, id_, timeout, tag)
    print_answer(answer, as_json)
    sys.exit(code)


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@OF_SESSION
@AS_JSON
@click.pass_obj
def cancel(root: Path, ids: tuple[str, ...], tag: str | None, as_json: bool) -> None:
    """Take experiments back that have no verdict yet. Their runs stop, the next one begins."""
    from autorl.cli.experiment import cancel

    for id_ in reversed(ids):  # the next one first: it must not begin in between
        print_answer(cancel(root, id_, tag), as_json)


@click.command()
@click.argument("what", default="best", metavar="[N|ID|best|baseline]")
@click.argument("beside", required=False, metavar="[M]")
@click.option("--tag", help="which session  [default: the newest]")
@AS_JSON
@click.pass_obj
def show(root: Path, what: str, beside: str | None, tag: str | None, as_json: bool) -> None:
    """An experiment in full, beside the incumbent or M, in 12 kB.

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
    """The same commands as tools for an MCP client. On standard input and output."""
    from autorl.cli.mcp import serve

    serve(root, runner)


COMMANDS = (begin, try_, wait, cancel, show, mcp_)
