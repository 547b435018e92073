"""What flags take beyond click's own types, and flags that belong together."""

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from autorl.errors import UserError
from autorl.system.hardware import affinity


class Number(click.FloatRange):
    """A finite number in a range; nan is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number != number or abs(number) == float("inf"):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object without nan or infinity, as a dictionary."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return {**json.loads(value, parse_constant=int)}  # int("NaN") is a ValueError
        except (TypeError, ValueError):
            self.fail(f"""{value} is not a JSON object, such as '{{"hardcore": true}}'.""")


SESSION = (
    click.option(
        "--env-id", help="Gymnasium id, or my_module:MyEnv-v0  [default: ENV_ID of evaluate.py]"
    ),
    click.option(
        "--budget",
        "time_budget",
        type=float,
        help="seconds of training per run  [default: TIME_BUDGET of evaluate.py, 720]",
    ),
    click.option(
        "--episodes",
        "num_eval_episodes",
        type=int,
        help="evaluation episodes per run  [default: 100]",
    ),
    click.option(
        "--env-kwargs",
        type=JsonObject(),
        help="""arguments of the environment, such as '{"hardcore": true}'""",
    ),
    click.option(
        "--budget-steps",
        type=click.IntRange(1),
        metavar="N",
        help="environment steps per run, as make_vec_env counts them; --budget stays the cap",
    ),
)
MACHINE = (
    click.option(
        "--slots", type=click.IntRange(1), help="runs at once, on disjoint cores  [default: 1]"
    ),
    click.option("--cores", help="CPU cores to use, e.g. 0,1  [default: all]"),
    click.option(
        "--sandbox",
        type=click.Choice(["auto", "bwrap", "off"]),
        help="how train.py is confined  [default: auto]",
    ),
)

RESEARCHER = (
    click.option(
        "--proposer",
        type=click.Choice(["auto", "claude", "search", "command", "replay"]),
        default="auto",
        show_default=True,
        help="who has the ideas; auto: claude when ANTHROPIC_API_KEY or _AUTH_TOKEN is set, else "
        "search",
    ),
    click.option("--model", help="model of the claude researcher; A,B: B where A refuses"),
    click.option(
        "--effort",
        type=click.Choice(["low", "medium", "high", "max"]),
        default="high",
        show_default=True,
        help="how much that model thinks",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(256),
        help="of one reply  [default: 16000 to 64000, by effort]",
    ),
    click.option("--command", help="a coding agent's command line, such as 'claude -p'"),
    click.option(
        "--command-timeout",
        type=Number(0.0, min_open=True),
        default=1800.0,
        hidden=True,
        help="seconds the command may take",
    ),
    click.option(
        "--pass-env",
        multiple=True,
        metavar="NAME",
        help="environment variable to hand to --command (repeatable)",
    ),
    click.option(
        "--replay",
        "replay_file",
        type=click.Path(path_type=Path),
        hidden=True,
        help="file of proposals",
    ),
    click.option(
        "--hybrid",
        type=Number(0, 1),
        metavar="SHARE",
        help="share of the experiments given to search, beside claude or command",
    ),
)


Command = Callable[..., Any]


def together(*flags: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Flags that belong together, as one decorator."""
    return lambda command: reduce(lambda made, flag: flag(made), reversed(flags), command)


def cores(text: str) -> tuple[int, ...]:
    """The numbers of --cores.

    Raises:
        UserError: it is no list of cores that this process may use.
    """
    here = affinity()
    try:
        chosen = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"--cores {text} is not a list of core numbers; write it as 0,1.") from None
    if missing := [c for c in chosen if c not in here]:
        has = ",".join(map(str, sorted(here)))
        raise UserError(f"This process may not use core {missing[0]}; it has {has}.")
    return chosen
