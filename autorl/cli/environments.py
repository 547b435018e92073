"""`environments`: what is offered, our own worlds first, with figures measured here and now."""

import json
import time
import warnings
from typing import Any

import click
import numpy as np

from autorl.environments import PLAUSIBLE, check_env, sanity_band
from autorl.errors import UserError

EPISODES = 3  # of doing nothing
SECONDS = 0.3  # of steps
NUM_ENVS, NUM_WORLDS = 64, 4096  # environments that step together; copies of one of our worlds
LINE = "{:<30}{:>5}  {:<10}{:<10}{:>12}{:>11}{:>11}{:>12}"
HEAD = ("environment", "obs", "actions", "backend", "nothing", "solved at", "at most", "steps/s")
NOTE = (
    f"nothing: mean return of zeros or choice 0, {EPISODES} episodes. steps/s: {SECONDS:g} s "
    f"of random actions in {NUM_ENVS} environments, {NUM_WORLDS:,} copies of a world, without a "
    "policy, on this machine as busy as it is."
)


def print_environments(as_json: bool, fast: bool) -> None:
    """The table, or a JSON list of its rows.

    Args:
        fast: nothing is measured.
    """
    rows = []
    if not as_json:
        click.echo(LINE.format(*HEAD))
    for env_id in PLAUSIBLE:
        row = look(env_id, fast)
        rows.append(row)
        if not as_json:
            cells = ["" if v is None else v for v in row.values()]
            cells = [f"{v:,.1f}".removesuffix(".0") if isinstance(v, float) else v for v in cells]
            click.echo(row.get("problem") or LINE.format(*cells))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif not fast:
        click.echo(NOTE)


def look(env_id: str, fast: bool) -> dict[str, Any]:
    """What is known of an environment, or can be measured in a second or two; None is not known."""
    from autorl_worlds.vector import VecEnv  # Gymnasium takes a moment to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            threshold = check_env(env_id)
            many = NUM_WORLDS if env_id.startswith("autorl/") else NUM_ENVS
            envs = VecEnv(1 if fast else many, env_id)
        except (UserError, SystemExit) as refusal:
            return {"env_id": env_id, "problem": str(refusal)}
        nothing = rate = None
        if not fast:
            band = sanity_band(env_id, episodes=EPISODES, policies=("nothing",))
            nothing, rate = band["nothing"]["mean"], steps_per_second(envs)
    space: Any = envs.single_action_space
    return {
        "env_id": env_id,
        "observations": envs.single_observation_space.shape[0],
        "actions": f"{space.n} choices" if hasattr(space, "n") else f"{space.shape[0]}",
        "backend": envs.backend,
        "nothing": nothing,
        "threshold": threshold,
        "plausible_maximum": PLAUSIBLE[env_id],
        "steps_per_second": rate,
    }


def steps_per_second(envs: Any) -> float:
    """Valid steps a second, of all environments together."""
    space = envs.single_action_space
    space.seed(0)
    actions = np.stack([space.sample() for _ in range(envs.num_envs)])  # (N,) or (N, act_dim)
    envs.reset()
    began, steps = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < SECONDS:
        steps += int(envs.step(actions)[4].sum())
    return round(steps / seconds, 0)
