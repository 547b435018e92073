"""What is known of an environment: can it be trained, what is a bad, what an impossible score?

check_env(env_id)            refuses what cannot be trained; the return that counts as solved
sanity_band(env_id)          what doing nothing and acting at random score
plausible_maximum(env_id)    above it a person should look
"""

import difflib
import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from autorl.errors import UserError
from autorl.system.files import PROJECT
from autorl.system.text import output_aside

# The bound of the return where an environment's definition has one; else well above the best figure
# known to us.
PLAUSIBLE = {
    "Pendulum-v1": 0.0,  # every reward is <= 0
    "MountainCarContinuous-v0": 100.0,  # +100 once, minus the cost of actions
    "Reacher-v5": 0.0, "Pusher-v5": 0.0,  # every reward is <= 0
    "InvertedPendulum-v5": 1000.0,  # 1 a step, 1,000 steps
    "InvertedDoublePendulum-v5": 10_000.0,  # at most 10 a step, 1,000 steps
    # the public leaderboard's record of any algorithm is 334.7
    "BipedalWalker-v3": 335.0, "BipedalWalkerHardcore-v3": 335.0,
    "LunarLanderContinuous-v3": 340.0, "LunarLander-v3": 340.0,
    "Swimmer-v5": 400.0, "Hopper-v5": 6_000.0, "Walker2d-v5": 10_000.0,
    "HalfCheetah-v5": 20_000.0, "Ant-v5": 12_000.0, "Humanoid-v5": 15_000.0,
}  # fmt: skip


def plausible_maximum(env_id: str) -> float | None:
    """The mean return above which a score is flagged for a person; None where nothing is known."""
    best = PLAUSIBLE.get(env_id.rpartition(":")[2])
    return None if best is None else best + 1e-6 * max(1.0, abs(best))


@functools.cache
def load_harness(root: Path) -> ModuleType:
    """The evaluate.py of the project in `root`, by its path: other packages have that name too.

    Raises:
        UserError: there is none.
    """
    path = root / "evaluate.py"
    there = sys.modules.get("evaluate")
    if there is not None and there.__file__ and Path(there.__file__).resolve() == path.resolve():
        return there
    spec = importlib.util.spec_from_file_location("evaluate", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(
            f"There is no evaluate.py in {root}: start in the folder of a project, "
            "or make one with `autorl init`."
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def env_module(env_id: str) -> Path | None:
    """The file or folder of the module in `module:Env-v0`, wherever it really lies.

    None: the id names none, there is none, or it is installed where every run finds it.
    """
    name = env_id.rpartition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(name) if name else None
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin)
    if spec.submodule_search_locations:
        path = path.parent
    installed = any(path.is_relative_to(base) for base in (sys.prefix, sys.base_prefix, "/usr"))
    return None if installed else path.resolve()


@output_aside()
def check_env(env_id: str, root: Path = PROJECT) -> float | None:
    """Refuse an environment that cannot be trained.

    Returns:
        The return at which Gymnasium calls it solved; None where it does not say.

    Raises:
        UserError: it is unknown, needs a module that is not installed, or has spaces that
            evaluate.py cannot train.
    """
    import gymnasium as gym

    harness = load_harness(root)
    try:
        env = gym.make(env_id)
    except ModuleNotFoundError as error:
        module = error.name or env_id.partition(":")[0]
        raise UserError(
            f"{env_id} needs the module {module!r}, which is not installed here: "
            "install it into this environment, or choose another --env-id."
        ) from None
    except Exception as error:
        near = difflib.get_close_matches(env_id, list(gym.registry), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"Gymnasium cannot make {env_id} ({why}).{hint}") from None
    try:
        harness.check_spaces(env, env_id)
    except SystemExit as refusal:
        raise UserError(str(refusal)) from None
    finally:
        env.close()
    threshold = env.spec.reward_threshold if env.spec else None
    return float(threshold) if threshold is not None else None


@output_aside()
def sanity_band(env_id: str, episodes: int = 20, seed: int = 0) -> dict[str, Any]:
    """What two policies that learnt nothing score: zeros (within bounds) and random actions.

    Returns:
        {"nothing": {mean, std, min, max}, "random": {...}, "episodes": n, "upper": the higher of
        the two maxima}
    """
    import gymnasium as gym
    import numpy as np

    env = gym.make(env_id)
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    rng = np.random.default_rng(seed)
    low, high = np.maximum(space.low, -1e3), np.minimum(space.high, 1e3)
    zeros = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    band: dict[str, Any] = {"episodes": episodes}
    for name in ("nothing", "random"):
        returns = []
        for episode in range(episodes):
            env.reset(seed=seed + episode)
            total, over, steps = 0.0, False, 0
            while not over and steps < 10_000:
                action = zeros if name == "nothing" else rng.uniform(low, high).astype(space.dtype)
                _, reward, terminated, truncated, _ = env.step(action)
                total, over, steps = total + float(reward), terminated or truncated, steps + 1
            returns.append(total)
        values = np.array(returns)
        band[name] = {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
        }
    env.close()
    return band | {"upper": max(band["nothing"]["max"], band["random"]["max"])}
