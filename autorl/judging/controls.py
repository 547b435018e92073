"""Controls: is a score something that the file trained for? And: what is a plausible score at all?

    sanity_band(env_id)                       what doing nothing and acting at random score
    band_verdict(kind, record, band)          (passed, why) of a control run
    plausible_maximum(env_id)                 above it a person should look

Zero budget: time for imports and one update only. A score far above the band means that weights or a ready-made
controller are in the file. Seed: two short runs of equally many updates on different harness seeds must hand over
different policies, else the file ignores the seed and its replicates are one run. A file that recognises a control
and behaves gets past both: they are bounded, and SECURITY.md says so.
"""

import math
from typing import Any

from autorl.errors import UserError
from autorl.records import RunRecord

# Where an environment's definition bounds the return, the bound; else well above the best figure known to us.
PLAUSIBLE = {
    "Pendulum-v1": 0.0,  # every reward is <= 0
    "MountainCarContinuous-v0": 100.0,  # +100 once, minus the cost of actions
    "Reacher-v5": 0.0, "Pusher-v5": 0.0,  # every reward is <= 0
    "InvertedPendulum-v5": 1000.0,  # 1 a step, 1,000 steps
    "InvertedDoublePendulum-v5": 10_000.0,  # at most 10 a step, 1,000 steps
    "BipedalWalker-v3": 335.0, "BipedalWalkerHardcore-v3": 335.0,  # the public leaderboard's record of any algorithm is 334.7
    "LunarLanderContinuous-v3": 340.0, "LunarLander-v3": 340.0,
    "Swimmer-v5": 400.0, "Hopper-v5": 6_000.0, "Walker2d-v5": 10_000.0, "HalfCheetah-v5": 20_000.0, "Ant-v5": 12_000.0, "Humanoid-v5": 15_000.0,
}  # fmt: skip


def plausible_maximum(env_id: str) -> float | None:
    """The mean return above which a score is flagged for a person; None where nothing is known."""
    best = PLAUSIBLE.get(env_id.rpartition(":")[2])
    return None if best is None else best + 1e-6 * max(1.0, abs(best))


def check_env(env_id: str) -> None:
    """Refuse what cannot be trained or scored.

    Raises:
        UserError: one sentence.
    """
    import gymnasium as gym

    try:
        env = gym.make(env_id)
    except Exception as error:
        raise UserError(f"Gymnasium cannot make {env_id!r} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
                        "give an environment such as BipedalWalker-v3, or my_module:MyEnv-v0 from an installed module.") from None  # fmt: skip
    spaces = (("observations", env.observation_space), ("actions", env.action_space))
    env.close()
    for what, space in spaces:
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise UserError(
                f"{env_id} has {what} of {space}; autoRL needs 1-D Box {what}: choose a continuous-control environment such as BipedalWalker-v3."
            )


def sanity_band(env_id: str, episodes: int = 20, seed: int = 0) -> dict[str, Any]:
    """What the two policies that learnt nothing score: zeros (as near as the bounds allow) and uniformly random actions.

    Returns:
        {"nothing": {mean, std, min, max}, "random": {...}, "episodes": n, "upper": the higher of the two maxima}
    """
    import gymnasium as gym
    import numpy as np

    env = gym.make(env_id)
    space = env.action_space
    if not isinstance(space, gym.spaces.Box):
        raise UserError(f"{env_id} has actions of {space}; autoRL needs 1-D Box actions.")
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
        band[name] = {"mean": float(values.mean()), "std": float(values.std()), "min": float(values.min()), "max": float(values.max())}
    env.close()
    return band | {"upper": max(band["nothing"]["max"], band["random"]["max"])}


def band_verdict(kind: str, record: RunRecord, band: dict[str, Any] | None, trained: float | None = None) -> tuple[bool, str]:
    """Whether a control run speaks for its file, and why (or why not).

    Args:
        band: `sanity_band` of the environment; without it the zero-budget control passes unexamined and says so.
        trained: the file's mean score after training, where known: the scale of "far above".
    """
    if record.status != "ok":
        return False, f"the control run failed: {record.reason}"
    if kind == "seed_control":
        actions, updates = record.control.get("actions", []), record.control.get("updates", [])
        if len(actions) != 2:
            return False, "the control run did not tell both policies"
        if actions[0] == actions[1]:
            return (
                False,
                "two different training seeds handed over the same policy: the file ignores the harness's seed, so its replicates are one run",
            )
        if updates[0] != updates[1]:
            return True, f"different seeds gave different policies, though after {updates[0]} and {updates[1]} updates"
        return True, f"different seeds gave different policies after {updates[0]} updates each"
    if not band:
        return True, "no sanity band is known for this environment, so the zero-budget score was not examined"
    score = record.avg_return
    if score is None or not math.isfinite(score):
        return False, "the control run has no score"
    upper = float(band["upper"])
    spread = max(float(band[name]["std"]) for name in ("nothing", "random"))
    reference = trained if trained is not None else plausible_maximum(record.env_id)
    margin = max(3 * spread, 0.5 * (reference - upper) if reference is not None and math.isfinite(reference) else 0.0, 1e-9)
    if score > upper + margin:
        return False, (f"with time for one update only it scores {score:.1f}, where doing nothing and acting at random reach {upper:.1f} at best: "
                       "what it scores with was not trained (weights or a ready-made controller in the file; or log_metrics is not called every update)")  # fmt: skip
    return True, f"with time for one update only it scores {score:.1f}; doing nothing and acting at random reach {upper:.1f} at best"
