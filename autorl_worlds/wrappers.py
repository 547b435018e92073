"""What is put around one environment: a fresh one for each episode, and faults told as its own.

    env = Watched(Fresh(lambda: gym.make("BipedalWalker-v3")))

What this file does not do: change observations, rewards, or the end of an episode.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np

EPISODE_STEPS = 20_000  # an episode of more is taken for endless, where none are registered


class EnvironmentFault(RuntimeError):
    """What an environment did wrong, with step and episode, in a sentence."""


@contextlib.contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """An EnvironmentFault ends the program, with nothing but its sentence."""
    try:
        yield
    except EnvironmentFault as fault:
        raise SystemExit(str(fault)) from None


def longest_episode(env: "gym.Env[Any, Any]") -> int:
    """Steps after which an episode is taken for endless."""
    return max(EPISODE_STEPS, (env.spec and env.spec.max_episode_steps) or 0)


def endless(steps: int) -> str:
    """What is said of an episode that does not end."""
    return f"no episode of it ended in {steps:,} steps: register it with max_episode_steps"


class Fresh(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that is made anew at each reset, as whoever scores does it.

    Gymnasium's Box2D environments keep their physics world over resets, and behave differently when
    they are used again.
    """

    def __init__(self, make: Callable[[], "gym.Env[Any, Any]"]) -> None:
        super().__init__(make())
        self._make = make

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode in a new environment; without a seed its random numbers go on."""
        generator = self.unwrapped.np_random
        self.env.close()
        self.env = self._make()
        self.unwrapped.np_random = generator
        return self.env.reset(seed=seed, options=options)


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose faults are its own: else train.py would be blamed for them.

    Raises:
        EnvironmentFault: it raised, or gave a number that is not finite.
    """

    episode = taken = 0  # taken: steps of this episode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        self.episode, self.taken = self.episode + 1, 0
        try:
            return self.env.reset(seed=seed, options=options)
        except Exception as error:
            self._blame("in reset()", error)

    def step(self, action: Any) -> Any:
        """Take a step."""
        self.taken += 1
        try:
            result = self.env.step(action)
            if not math.isfinite(result[1]):
                raise ArithmeticError(f"a reward of {float(result[1])}")
            if not np.isfinite(result[0]).all():
                raise ArithmeticError("an observation that is not finite")
            return result
        except Exception as error:
            self._blame(f"at step {self.taken}", error)

    def _blame(self, where: str, error: Exception) -> NoReturn:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        failed = f"the environment failed {where} of episode {self.episode}"
        raise EnvironmentFault(f"{failed} ({what})") from None
