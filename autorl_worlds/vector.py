"""Any environment, as one (make_env) or as N at once (VecEnv): EnvPool, Gymnasium, or our worlds.

    env = make_env("PointMaze_UMaze-v3", {"max_episode_steps": 300})   # fresh, flat observations
    envs = VecEnv(64, "CartPole-v1", seed=1)                           # numpy, EnvPool's threads
    envs = VecEnv(4096, "autorl/CartPole-v0", device="cuda")           # torch, on the device

Training uses VecEnv, by way of evaluate.py; whoever scores a policy steps environments of make_env.
What cannot be used is a SystemExit with one sentence, since whoever calls this is a program whose
last line a person reads. What this file does not do: score, or know a time budget.
"""

import inspect
import os
import time
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from autorl_worlds.wrappers import Fresh, Watched, told_in_a_sentence

SLOW_STEP = 1e-3  # seconds; environments that take longer get a worker process each
MAX_WORKERS = 100  # processes of one VecEnv: a confined run may have 256 in all
LOOK_EVERY = 64  # steps between two looks at values on a GPU, since a look waits for it

# obs (N, obs_dim) float32, reward (N,) float32, terminated, truncated, valid (N,) bool
Transition = tuple[Any, Any, Any, Any, Any]

_steps: list[Any] = []  # valid steps, one count for each VecEnv of this process


def steps_taken() -> int:
    """Valid steps of all VecEnvs of this process so far."""
    return sum(int(count) for count in _steps)


# ---------------------------------------------------------------------------
# One environment
# ---------------------------------------------------------------------------


def make_env(env_id: str, kwargs: Mapping[str, Any] | None = None) -> "gym.Env[Any, Any]":
    """A fresh Gymnasium environment with observations (obs_dim,).

    Dict, Tuple, Discrete and other observations that are no 1-D Box are flattened by Gymnasium's
    own wrapper. `module:Env-v0` imports `module` first.

    Raises:
        SystemExit: its spaces cannot be trained.
        Exception: whatever Gymnasium or the constructor raises.
    """
    env: gym.Env[Any, Any] = gym.make(env_id, **(kwargs or {}))
    space = env.observation_space
    _check_spaces(env_id, space, env.action_space)
    flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    return env if flat else gym.wrappers.FlattenObservation(env)


def _check_spaces(env_id: str, obs_space: Any, act_space: Any) -> None:
    """Refuse what cannot be trained."""
    parts = [obs_space]
    for part in parts:  # grows: a Dict or Tuple is looked into at any depth
        inner = getattr(part, "spaces", ())
        parts.extend(inner.values() if isinstance(inner, dict) else inner)
    if any(isinstance(part, spaces.Box) and len(part.shape) > 1 for part in parts):
        raise SystemExit(
            f"{env_id} shows images or grids, {obs_space}: learning from pixels takes millions of "
            "steps and a convolutional network, too much for this budget; choose an environment "
            "that shows vectors."
        )
    if not obs_space.is_np_flattenable:
        raise SystemExit(
            f"{env_id} has observations of {obs_space}, which have no fixed size: choose an "
            "environment that shows vectors."
        )
    box = isinstance(act_space, spaces.Box) and np.issubdtype(act_space.dtype, np.floating)
    if not (box and len(act_space.shape) == 1) and not isinstance(act_space, spaces.Discrete):
        raise SystemExit(
            f"{env_id} has actions of {act_space}; they must be a 1-D Box of floats or Discrete: "
            "choose another environment, such as BipedalWalker-v3 or CartPole-v1, or wrap this one."
        )


def make_reusable(env_id: str, kwargs: Mapping[str, Any] | None = None) -> "gym.Env[Any, Any]":
    """An environment for many episodes: the same, or where it remembers (Box2D) a fresh one each.

    Raises:
        SystemExit, Exception: as make_env.
    """
    env = make_env(env_id, kwargs)
    if not any("box2d" in base.__module__ for base in type(env.unwrapped).__mro__):
        return env
    env.close()
    return Fresh(lambda: make_env(env_id, kwargs))


def checked_actions(actions: Any, space: Any, num_envs: int) -> Any:
    """What a policy answered, numpy or torch: (N, act_dim), or whole numbers 0 .. n - 1 as (N,).

    Raises:
        SystemExit: another shape, or a number that is no action of the Discrete space. (On a GPU
            numbers are not looked at, since a look waits for it: there the nearest bound acts.)
    """
    shape, discrete = tuple(actions.shape), isinstance(space, spaces.Discrete)
    due = [(num_envs,), (num_envs, 1)] if discrete else [(num_envs, *space.shape)]
    if shape not in due:
        wanted = " or ".join(str(s) for s in due)
        raise SystemExit(f"Actions of shape {shape} came; the contract is {wanted}.")
    if not discrete:
        return actions
    actions = actions.reshape(num_envs)
    if getattr(actions, "is_cuda", False):
        return actions
    with np.errstate(invalid="ignore"):  # infinity
        wrong = (actions % 1 != 0) | (actions < 0) | (actions >= int(space.n))
    if wrong.any():
        row = int(wrong.nonzero()[0][0])
        raise SystemExit(
            f"Actions of shape {shape} came with {actions[row].item():g} in row {row}; the "
            f"contract is whole numbers in 0 .. {space.n - 1}."
        )
    return actions.astype(np.int64) if isinstance(actions, np.ndarray) else actions.long()


# ---------------------------------------------------------------------------
# N environments
# ---------------------------------------------------------------------------


class VecEnv:
    """N environments with one autoreset meaning, NEXT_STEP.

    When an episode ends, `obs` is its true last observation; the following step ignores that env's
    action, returns the first observation of the next episode with reward 0, and is marked
    `valid == False`: a junk transition, to be left out of training.

    `step` may be cut in two, `send` and `recv`: EnvPool's environments, and those in worker
    processes, run in between, so that two VecEnvs can take turns.

    Args:
        seed, threads: of the episodes; of EnvPool, 0 = as many as cores.
        reward: what training is for, where that is not the registered reward: a function
            shaped(obs, action, next_obs, reward, terminated) -> (N,), or for one of our worlds a
            subclass of its class in batched.py. Rows that are not valid get 0, whatever it says.
        device: None gives numpy arrays; "cpu", "cuda" or "auto" torch tensors there.
        kwargs: of the environment's constructor.

    Attributes:
        single_observation_space, single_action_space: a 1-D Box; a 1-D Box or a Discrete.
        backend: "worlds", "envpool" or "gymnasium".
        device: the torch device, or None.
        true_reward: (N,), the registered reward of the last step.

    Raises:
        SystemExit: there is no such environment, it cannot be trained, or `reward` does not fit.
    """

    def __init__(
        self,
        num_envs: int,
        env_id: str,
        seed: int = 1,
        threads: int = 0,
        *,
        reward: Any = None,
        device: Any = None,
        kwargs: Mapping[str, Any] | None = None,
    ):
        self.num_envs, self.device, self._shaped = num_envs, device, reward
        if device is not None:
            import torch

            name = "cuda" if torch.cuda.is_available() else "cpu"
            self.device = torch.device(name if device == "auto" else device)
        # so that seeds 1 and 2 share no env
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        self._envs: Any = self._envpool(env_id, threads or os.cpu_count() or 1, kwargs or {})
        self.backend = "envpool"
        if self._envs is None:
            try:
                probe = make_env(env_id, kwargs)
            except Exception as error:
                why = (str(error) or type(error).__name__).splitlines()[0]
                raise SystemExit(f"Gymnasium cannot make {env_id!r}: {why}") from None
            world = env_id.rpartition(":")[2].startswith("autorl/")
            self.backend = "worlds" if world else "gymnasium"
            self._envs = self._world(probe) if world else self._gymnasium(env_id, probe, kwargs)
            probe.close()
        if inspect.isclass(reward) and self.backend != "worlds":
            raise SystemExit(
                f"reward={reward.__name__} is a class, which only our worlds take: give a function "
                "of (obs, action, next_obs, reward, terminated)."
            )
        self.single_observation_space = self._envs.single_observation_space
        self.single_action_space = self._envs.single_action_space
        self._action: Any = None
        self._bad: Any = False  # (N,) rows in which `reward` was not finite
        self._looks, self._slot = 0, len(_steps)
        _steps.append(0)

    def _envpool(self, env_id: str, threads: int, kwargs: Mapping[str, Any]) -> Any:
        """EnvPool's environments.

        None where EnvPool is missing, does not know the id or one of the arguments, or shows what
        would have to be flattened.
        """
        if not envpool_knows(env_id):
            return None
        import envpool

        options = {"num_envs": self.num_envs, "seed": self._seed}
        options["num_threads"] = min(threads, self.num_envs)
        with warnings.catch_warnings():  # Gymnasium warns that float64 bounds become float32
            warnings.simplefilter("ignore", UserWarning)
            try:
                envs: Any = envpool.make(env_id, env_type="gymnasium", **options, **kwargs)
                space = envs.single_observation_space
            except TypeError:  # an argument that it does not know
                return None
        return envs if isinstance(space, spaces.Box) and len(space.shape) == 1 else None

    def _world(self, probe: "gym.Env[Any, Any]") -> Any:
        """The batched twin of one of our worlds, or the subclass that designs its reward."""
        from autorl_worlds.batched import WORLDS

        assert probe.spec is not None
        cls: Any = WORLDS[probe.spec.id]
        if inspect.isclass(self._shaped):
            if not issubclass(
                self._shaped, cls.__bases__[0]
            ):  # the world; a reward-less form is one
                raise SystemExit(
                    f"reward={self._shaped.__name__} must be a subclass of autorl_worlds.batched."
                    f"{cls.__name__}, the class of {probe.spec.id}."
                )
            cls = type(self._shaped.__name__, (self._shaped,), {"env_id": cls.env_id})
        envs = cls(self.num_envs, self.device or "cpu", self._seed)
        envs.max_episode_steps = probe.spec.max_episode_steps  # an argument may have changed it
        return envs

    @told_in_a_sentence()
    def _gymnasium(
        self, env_id: str, probe: "gym.Env[Any, Any]", kwargs: Mapping[str, Any] | None
    ) -> Any:
        """Gymnasium's own: one after the other, or where a step is slow in worker processes."""
        thunks = [lambda: Watched(make_reusable(env_id, kwargs))] * self.num_envs
        if 1 < self.num_envs <= MAX_WORKERS and step_seconds(Watched(probe)) > SLOW_STEP:
            return gym.vector.AsyncVectorEnv(thunks)
        return gym.vector.SyncVectorEnv(thunks)

    @told_in_a_sentence()
    def reset(self) -> Any:
        """First observations, (N, obs_dim) float32."""
        if self.backend == "gymnasium":
            obs, _ = self._envs.reset(seed=self._seed)
        else:  # the random numbers of EnvPool and of worlds go on
            obs = self._envs.reset()
            obs = obs[0] if self.backend == "envpool" else obs
        self.true_reward = self._out(np.zeros(self.num_envs), np.float32)
        self._ended = self._out(np.zeros(self.num_envs), bool)
        return self._remember(self._out(obs, np.float32))

    def step(self, actions: Any) -> Transition:
        """actions (N, act_dim), clipped to the bounds, or (N,) or (N, 1) whole numbers from 0.

        Returns:
            obs, reward, terminated, truncated, valid: a Transition.

        Raises:
            SystemExit: the actions, or what `reward` gave, are not what they must be; an
                environment failed.
        """
        self.send(actions)
        return self.recv()

    def send(self, actions: Any) -> None:
        """Set off one step of every environment."""
        space = self.single_action_space
        if self.backend == "worlds":
            import torch

            actions = torch.as_tensor(actions, device=self._envs.device)
        else:
            actions = np.asarray(actions.detach().cpu() if hasattr(actions, "cpu") else actions)
        self._action = actions = checked_actions(actions, space, self.num_envs)
        if isinstance(space, spaces.Discrete):
            actions = actions + int(space.start)
        elif self.backend != "worlds":  # which clip themselves
            if (wrong := np.isnan(actions)).any():
                row = int(wrong.nonzero()[0][0])
                raise SystemExit(f"Actions came with NaN in row {row}: train.py has diverged.")
            actions = np.clip(actions, space.low, space.high)  # as whoever scores does
        if self.backend == "envpool":
            self._envs.send(np.asarray(actions, space.dtype))
        elif isinstance(self._envs, gym.vector.AsyncVectorEnv):
            self._envs.step_async(actions)
        else:
            self._sent = actions

    @told_in_a_sentence()
    def recv(self) -> Transition:
        """Wait for that step; what it returned, as `step` does."""
        if self.backend == "envpool":
            obs, reward, *ends, _ = self._envs.recv()
        elif isinstance(self._envs, gym.vector.AsyncVectorEnv):
            obs, reward, *ends, _ = self._envs.step_wait()
        elif self.backend == "worlds":
            try:
                obs, reward, *ends, _ = self._envs.step(self._sent)
            except ValueError as error:  # of a subclass's reward_function
                raise SystemExit(str(error)) from None
        else:
            obs, reward, *ends, _ = self._envs.step(self._sent)
        obs, reward = (self._out(x, np.float32) for x in (obs, reward))
        terminated, truncated = (self._out(end, bool) for end in ends)
        valid, self._ended = ~self._ended, terminated | truncated
        self.true_reward = reward
        if inspect.isclass(self._shaped):
            self.true_reward = self._out(self._envs.true_reward, np.float32)
            self._look_at(reward, valid)
        elif self._shaped is not None:
            made = self._shaped(self._obs, self._out(self._action), obs, reward, terminated)
            reward = self._look_at(made, valid)
        _steps[self._slot] = _steps[self._slot] + valid.sum()  # of a GPU: not waited for
        return self._remember(obs), reward, terminated, truncated, valid

    def _look_at(self, made: Any, valid: Any) -> Any:
        """The reward that training is given: `made` with 0 where a row is not valid.

        Raises:
            SystemExit: it is not (N,), or a valid row of it is not finite.
        """
        shape = tuple(np.shape(made))
        if shape != (self.num_envs,):
            raise SystemExit(f"reward= gave shape {shape}; it must be {(self.num_envs,)}.")
        made = self._out(made, np.float32)
        self._bad = self._bad | (~(abs(made) < np.inf) & valid)
        self._looks += 1
        due = not getattr(made, "is_cuda", False) or self._looks % LOOK_EVERY == 0
        if due and self._bad.any():
            row = int(self._bad.nonzero()[0][0])
            raise SystemExit(f"reward= gave a number that is not finite, first in row {row}.")
        if self.device is None:
            return np.where(valid, made, np.float32(0))
        return made.masked_fill(~valid, 0)

    def _remember(self, obs: Any) -> Any:
        """`obs`, of which a reward function is shown a copy at the next step."""
        if self._shaped is not None and not inspect.isclass(self._shaped):
            self._obs = obs.copy() if self.device is None else obs.clone()
        return obs

    def _out(self, x: Any, dtype: Any = None) -> Any:
        """An array or a tensor as it is handed out; on a CPU its memory is shared."""
        if self.device is None:
            return np.asarray(x, dtype)
        import torch

        name = None if dtype is None else getattr(torch, np.dtype(dtype).name)
        return torch.as_tensor(x, dtype=name, device=self.device)


def envpool_knows(env_id: str) -> bool:
    """EnvPool is installed and has an environment of this name."""
    try:
        import envpool
    except ImportError:
        return False
    return env_id in envpool.list_all_envs()


def step_seconds(env: "gym.Env[Any, Any]") -> float:
    """How long a random step takes: the median of a few, of which a reset is no part."""
    env.action_space.seed(0)
    env.reset(seed=0)
    seconds: list[float] = []
    while len(seconds) < 9 and sum(seconds) < 1.0:
        began = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seconds.append(time.perf_counter() - began)
        if terminated or truncated:
            env.reset()
    return float(np.median(seconds))
