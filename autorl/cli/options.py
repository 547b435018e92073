"""What flags take beyond click's own types, and the flags that two commands share."""

import json
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
