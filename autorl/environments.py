"""What is known of an environment: can it be trained, what is a bad, what an impossible score?

check_env(env_id, kwargs)      refuses what cannot be trained; the return that counts as solved
sanity_band(env_id, kwargs)    what doing nothing and acting at random score
plausible_maximum(env_id)      above it a person should look
load_harness(root)             the evaluate.py of a project; harness_sha256(root) says which it is
"""

import difflib
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from autorl.errors import UserError
from autorl.system.files import PROJECT
from autorl.system.text import output_aside

WORLDS = PROJECT / "autorl_worlds"  # ours, beside autorl
# The bound of the return where an environment's definition has one; else well above the best figure
# known to us.
PLAUSIBLE = {
    "autorl/Pendulum-v0": 0.0, "autorl/PendulumRewardless-v0": 0.0,  # every reward is <= 0, or 0
    "autorl/CartPole-v0": 500.0, "autorl/CartDoublePendulum-v0": 500.0,  # at most 1 a step, 500
    # -1 a step; from the best start full force, reversed up to three times, takes 83 steps
    "autorl/MountainCar-v0": -83.0, "MountainCar-v0": -83.0,
    "CartPole-v1": 500.0,  # 1 a step, 500 steps
    "Acrobot-v1": 0.0,  # every reward is <= 0
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
    "HumanoidStandup-v5": 500_000.0,  # height / 0.003 s a step: 1.5 m in each of 1,000 steps
}  # fmt: skip


def plausible_maximum(env_id: str, kwargs: Mapping[str, Any] | None = None) -> float | None:
    """The mean return above which a score is flagged for a person.

    None where nothing is known: `kwargs` of the environment may change its rewards.
    """
    best = None if kwargs else PLAUSIBLE.get(env_id.rpartition(":")[2])
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


def harness_sha256(root: Path) -> str:
    """Which harness measures: evaluate.py of `root` with autorl_worlds; "" without evaluate.py."""
    try:
        parts = [(root / "evaluate.py").read_bytes()]
    except OSError:
        return ""
    parts += [path.read_bytes() for path in sorted(WORLDS.glob("*.py"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


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
def check_env(env_id: str, kwargs: Mapping[str, Any] | None = None) -> float | None:
    """Refuse an environment that cannot be trained.

    Returns:
        The return at which Gymnasium calls it solved; None where it does not say.

    Raises:
        UserError: it is unknown, needs a module that is not installed, does not take these
            arguments, or has spaces that cannot be trained.
    """
    import gymnasium as gym

    from autorl_worlds.vector import make_env

    try:
        env = make_env(env_id, kwargs)
    except SystemExit as refusal:
        raise UserError(str(refusal)) from None
    except ModuleNotFoundError as error:
        module = error.name or env_id.partition(":")[0]
        raise UserError(
            f"{env_id} needs the module {module!r}, which is not installed here: "
            "install it into this environment, or choose another --env-id."
        ) from None
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        if kwargs and env_id.rpartition(":")[2] in gym.registry:
            raise UserError(
                f"{env_id} cannot be made with --env-kwargs {json.dumps(kwargs)}: {why}."
            ) from None
        near = difflib.get_close_matches(env_id, list(gym.registry), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"Gymnasium cannot make {env_id} ({why}).{hint}") from None
    env.close()
    threshold = env.spec.reward_threshold if env.spec else None
    return float(threshold) if threshold is not None else None


@output_aside()
def sanity_band(
    env_id: str,
    kwargs: Mapping[str, Any] | None = None,
    episodes: int = 20,
    seed: int = 0,
    policies: Sequence[str] = ("nothing", "random"),
) -> dict[str, Any]:
    """What policies that learnt nothing score: zeros (within bounds, or choice 0), random actions.

    Returns:
        {"nothing": {mean, std, min, max}, "random": {...}, "episodes": n, "upper": the higher of
        the two maxima}

    Raises:
        EnvironmentFault: it failed; and whatever making it raises.
    """
    import numpy as np

    from autorl_worlds.vector import make_reusable
    from autorl_worlds.wrappers import Watched

    env = Watched(make_reusable(env_id, kwargs))
    space: Any = env.action_space  # a 1-D Box or a Discrete
    rng = np.random.default_rng(seed)
    choices = getattr(space, "n", 0)
    if not choices:
        low, high = np.maximum(space.low, -1e3), np.minimum(space.high, 1e3)
        zeros = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)

    def act(name: str) -> Any:
        if choices:
            return space.start + (rng.integers(choices) if name == "random" else 0)
        return rng.uniform(low, high).astype(space.dtype) if name == "random" else zeros

    band: dict[str, Any] = {"episodes": episodes}
    for name in policies:
        returns = []
        for episode in range(episodes):
            env.reset(seed=seed + episode)
            total, over, steps = 0.0, False, 0
            while not over and steps < 10_000:
                _, reward, terminated, truncated, _ = env.step(act(name))
                total, over, steps = total + float(reward), terminated or truncated, steps + 1
            returns.append(total)
        measures = ("mean", "std", "min", "max")
        band[name] = {word: float(getattr(np, word)(returns)) for word in measures}
    env.close()
    return band | {"upper": max(band[name]["max"] for name in policies)}
