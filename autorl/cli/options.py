"""What flags take beyond click's own types, and flags that belong together."""

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click


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


env_kwargs = click.option(
    "--env-kwargs",
    type=JsonObject(),
    help="""arguments of the environment, such as '{"hardcore": true}'""",
)
budget_steps = click.option(
    "--budget-steps",
    type=click.IntRange(1),
    metavar="N",
    help="environment steps per run, as make_vec_env counts them; --budget stays the cap",
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


def researcher(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of `run` that say who has the ideas."""
    return reduce(lambda made, option: option(made), reversed(RESEARCHER), command)
