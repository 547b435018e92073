"""The training environments: one autoreset meaning, and EnvPool against Gymnasium's own.

uv run pytest tests/integration/test_envs.py
"""

import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from played_alone import sequential

import evaluate
from autorl.environments import sanity_band
from autorl_worlds import batched, vector

counting = importlib.import_module("counting_env")
various = importlib.import_module("various_env")

ENVS = ("BipedalWalker-v3", "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5")
needs_envpool = pytest.mark.skipif(
    not vector.envpool_knows("Pendulum-v1"), reason="EnvPool has no wheel here"
)


def rollout(envs: evaluate.VecEnv, steps: int, seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    """(obs, action, next obs, reward, terminated, truncated, valid) of each random step."""
    rng = np.random.default_rng(seed)
    space, obs, seen = envs.single_action_space, envs.reset(), []
    for _ in range(steps):
        action = rng.uniform(space.low, space.high, (envs.num_envs, *space.shape))
        action = action.astype(np.float32)
        after, *rest = envs.step(action)
        seen.append((obs, action, after.copy(), *(np.array(x) for x in rest)))
        obs = after.copy()
    return seen


# -- One autoreset meaning -------------------------------------------------------------------------


def test_gymnasium_shows_the_true_last_observation_then_one_invalid_step() -> None:
    envs = evaluate.VecEnv(2, "counting_env:Counting-v0")
    assert envs.backend == "gymnasium"
    seen = rollout(envs, 40)
    # episode 1: steps 1..5, the 5th terminates; one reset step;
    # episode 2: steps 1..7, the 7th truncates; one reset step; ...
    expected, episode = [], 1
    while len(expected) < 40:
        odd = episode % 2 == 1
        last = counting.TERMINATES if odd else counting.TRUNCATES
        expected += [
            (k, k, odd and k == last, not odd and k == last, True) for k in range(1, last + 1)
        ]
        expected += [(0, 0, False, False, False)]
        episode += 1
    for (_, _, after, *told), wanted in zip(seen, expected, strict=False):
        # the steps in the observation, then reward, terminated, truncated, valid: alike in both
        assert [column.tolist() for column in (after[:, 0], *told)] == [[x, x] for x in wanted]


@needs_envpool
def test_envpool_truncates_without_terminating_and_resets_on_the_next_step() -> None:
    envs = evaluate.VecEnv(3, "Pendulum-v1", threads=1)  # 200 steps an episode, never terminates
    assert envs.backend == "envpool"
    seen = rollout(envs, 402)
    for t, (_, _, after, reward, terminated, truncated, valid) in enumerate(seen):
        assert not terminated.any()
        assert truncated.all() == (t in (199, 400))
        assert valid.all() == (t not in (200, 401)) and valid.any() == valid.all()
        if t in (200, 401):
            assert (reward == 0).all()
            assert not np.allclose(after, seen[t - 1][2])  # a new episode, not one step on


@needs_envpool
def test_envpool_terminates_without_truncating_and_shows_the_fallen_body() -> None:
    seen = rollout(evaluate.VecEnv(8, "Hopper-v5", threads=1), 200)
    ends = 0
    for t, (_, _, after, _, terminated, truncated, _) in enumerate(seen[:-1]):
        assert not truncated.any()
        for i in np.flatnonzero(terminated):
            z, angle = after[i, :2]  # the observation that ends an episode is the unhealthy one
            assert z < 0.7 or abs(angle) > 0.2
            _, _, following, reward, _, _, valid = seen[t + 1]  # then comes the reset, standing
            assert not valid[i] and reward[i] == 0 and 1.2 < following[i, 0] < 1.3
            ends += 1
    assert ends > 20


def test_every_step_is_valid_but_the_one_after_an_end() -> None:
    for env_id in ("counting_env:Counting-v0", "Hopper-v5"):
        ended = np.zeros(4, bool)
        for *_, terminated, truncated, valid in rollout(evaluate.VecEnv(4, env_id, threads=2), 120):
            assert (valid == ~ended).all()
            ended = terminated | truncated


def test_sending_and_receiving_is_stepping() -> None:
    for env_id in ("counting_env:Counting-v0", "Hopper-v5"):
        one, two = (evaluate.VecEnv(4, env_id, seed=5, threads=2) for _ in range(2))
        seen = rollout(one, 60)
        assert np.array_equal(two.reset(), seen[0][0])
        for _, action, *expected in seen:
            two.send(action)
            for got, wanted in zip(two.recv(), expected, strict=True):
                assert np.array_equal(got, wanted)


def test_a_seed_fixes_the_episodes_and_neighbouring_seeds_share_none() -> None:
    for env_id in ("counting_env:Counting-v0", "Pendulum-v1"):
        first, again, other = (evaluate.VecEnv(16, env_id, seed=seed).reset() for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        rows = {tuple(row) for row in np.concatenate([first, other]).tolist()}
        assert len(rows) == 32


# -- EnvPool trains for what Gymnasium scores ------------------------------------------------------


@needs_envpool
@pytest.mark.parametrize("env_id", ENVS)
def test_backends_agree_on_spaces_and_limits(env_id: str) -> None:
    envs, ours = evaluate.VecEnv(1, env_id, threads=1), gym.make(env_id)
    assert envs.backend == "envpool"
    assert envs.single_observation_space.shape == ours.observation_space.shape
    assert isinstance(ours.action_space, gym.spaces.Box)
    assert np.array_equal(envs.single_action_space.low, ours.action_space.low)
    assert np.array_equal(envs.single_action_space.high, ours.action_space.high)
    assert ours.spec is not None
    assert envs._envs.spec.config.max_episode_steps == ours.spec.max_episode_steps
    ours.close()


# qpos size, leading ones unseen
POSITIONS = {"Hopper-v5": (6, 1), "Walker2d-v5": (9, 1), "HalfCheetah-v5": (9, 1)}
POSITIONS["Ant-v5"] = (15, 2)


@needs_envpool
@pytest.mark.parametrize("env_id", POSITIONS)
def test_backends_agree_on_dynamics_and_rewards(env_id: str) -> None:
    """From EnvPool's first states, the same actions in Gymnasium's model: the same every step."""
    size, unseen = POSITIONS[env_id]
    ours: Any = gym.make(env_id).unwrapped
    ours.reset(seed=0)
    # positions and velocities; what may follow are contact forces
    shown = size - unseen + ours.model.nv
    seen = rollout(evaluate.VecEnv(6, env_id, threads=1), 12)
    for i in range(6):
        start = np.concatenate([np.zeros(unseen), seen[0][0][i].astype(np.float64)])
        ours.set_state(start[:size], start[size : shown + unseen])
        for _, action, after, reward, terminated, _, _ in seen:
            obs, ours_reward, ours_terminated, _, _ = ours.step(action[i].astype(np.float64))
            # from float32 states: the physics, not the bits
            assert np.allclose(obs[:shown], after[i, :shown], rtol=1e-3, atol=1e-3)
            assert ours_reward == pytest.approx(reward[i], abs=1e-3)
            assert ours_terminated == terminated[i]
            if ours_terminated:
                break
    ours.close()


@needs_envpool
def test_backends_agree_on_bipedal_walker() -> None:
    """Box2D's state cannot be set from an observation: the same mean length and return instead."""
    figures = []
    for seed in range(40):
        ours = vector.make_env("BipedalWalker-v3")  # as the judge: a used one behaves differently
        ours.reset(seed=seed)
        rng, total, length, over = np.random.default_rng(seed), 0.0, 0, False
        while not over and length < 300:
            action = rng.uniform(-1, 1, 4).astype(np.float32)
            _, reward, terminated, truncated, _ = ours.step(action)
            total, length, over = total + float(reward), length + 1, terminated or truncated
        figures.append((total, length))
        ours.close()
    envs = evaluate.VecEnv(40, "BipedalWalker-v3", threads=2)
    totals, lengths, running = np.zeros(40), np.zeros(40), np.ones(40, bool)
    for _, _, _, reward, terminated, truncated, _ in rollout(envs, 300):
        totals += reward * running
        lengths += running
        running &= ~(terminated | truncated)
    a, b, n = np.array(figures), np.stack([totals, lengths], 1), 40
    error = np.sqrt(a.var(0, ddof=1) / n + b.var(0, ddof=1) / n)
    assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error + 1e-6).all(), (a.mean(0), b.mean(0), error)


# -- Fresh environments ----------------------------------------------------------------------------


def test_training_on_gymnasiums_box2d_is_in_fresh_environments() -> None:
    """Bit-equal with a new environment for each episode, which a used one is not."""

    def walk(renew: bool, steps: int = 95) -> list[list[float]]:
        env, seen, over = gym.make("various_env:Walker-v0"), [], False
        env.reset(seed=envs._seed)
        for action in actions[:steps]:
            if over:
                generator = env.unwrapped.np_random
                env = gym.make("various_env:Walker-v0") if renew else env
                env.unwrapped.np_random = generator
                obs, over = env.reset()[0], False
            else:
                obs, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
            seen.append(obs.tolist())
        return seen

    envs = evaluate.VecEnv(1, "various_env:Walker-v0")
    assert envs.backend == "gymnasium"
    seen = rollout(envs, 95)
    actions = [action[0] for _, action, *_ in seen]
    ours = [after[0].tolist() for _, _, after, *_ in seen]
    assert ours == walk(renew=True) and ours != walk(renew=False)


def test_the_sanity_band_is_of_fresh_environments() -> None:
    env_id, nothing = "various_env:Walker-v0", np.zeros(4, np.float32)
    returns = [sequential(env_id, seed, lambda *_: nothing) for seed in range(3)]
    band = sanity_band(env_id, episodes=3, policies=("nothing",))
    assert band["nothing"]["mean"] == pytest.approx(np.mean(returns), abs=1e-12)


# -- Spaces, arguments, worker processes -----------------------------------------------------------


def test_nested_observations_are_flat_and_choices_begin_at_the_spaces_start() -> None:
    envs = evaluate.VecEnv(2, "various_env:Various-v0")
    assert envs.single_observation_space.shape == (6,) and envs.single_action_space.n == 3
    envs.reset()
    for actions in (np.array([0, 2]), np.array([[0], [2]]), np.array([0.0, 2.0])):
        obs, reward, *_ = envs.step(actions)
        assert reward.tolist() == [5.0, 7.0]
    raw = gym.make("various_env:Various-v0")
    raw.reset(seed=envs._seed)
    for _ in range(3):
        last = raw.step(np.int64(5))[0]
    assert np.array_equal(obs[0], gym.spaces.flatten(raw.observation_space, last))
    assert sanity_band("various_env:Various-v0", {"steps": 6}, 2)["nothing"]["mean"] == 30.0


@needs_envpool
def test_arguments_that_envpool_does_not_know_are_gymnasiums() -> None:
    for kwargs, backend in ({"max_episode_steps": 9}, "envpool"), ({"g": 3.0}, "gymnasium"):
        envs = evaluate.VecEnv(2, "Pendulum-v1", kwargs=kwargs)
        assert envs.backend == backend
        ends = [step[5].all() for step in rollout(envs, 9)]
        assert ends == [False] * 8 + ["max_episode_steps" in kwargs]


def test_slow_environments_have_worker_processes_and_fare_alike() -> None:
    pauses, env_id = ({"pause": 0.002}, {"pause": 0.0}), "various_env:Various-v0"
    slow, quick = (evaluate.VecEnv(3, env_id, kwargs=kwargs) for kwargs in pauses)
    assert isinstance(slow._envs, gym.vector.AsyncVectorEnv)
    assert isinstance(quick._envs, gym.vector.SyncVectorEnv)
    assert np.array_equal(slow.reset(), quick.reset())
    for _ in range(7):
        both = [envs.step(np.array([0, 1, 2])) for envs in (slow, quick)]
        for ours, expected in zip(*both, strict=True):
            assert np.array_equal(ours, expected)
    slow._envs.close()


# -- Our worlds, devices, the reward that training is given ----------------------------------------

IDS = ["autorl/MountainCar-v0", "CartPole-v1", "various_env:Various-v0"]


@pytest.mark.parametrize("env_id", [*IDS, "autorl/CartDoublePendulum-v0"])
def test_tensors_of_a_device_are_the_arrays_without_one(env_id: str) -> None:
    arrays, tensors = (evaluate.make_vec_env(3, env_id, device=d) for d in (None, "cpu"))
    assert arrays.backend == tensors.backend and arrays.device is None
    assert (arrays.backend == "worlds") == env_id.startswith("autorl/")
    obs, same = arrays.reset(), tensors.reset()
    assert isinstance(obs, np.ndarray) and np.array_equal(obs, same.numpy())
    for t in range(230):  # beyond an episode
        action = np.full((3, 1), t % 2)
        if isinstance(arrays.single_action_space, gym.spaces.Box):
            action = action.astype(np.float32) - 0.5
        with torch.inference_mode(t % 3 > 0):  # a program may act in it, or not
            given = tensors.step(torch.from_numpy(action))
        for x, y in zip(arrays.step(action), given, strict=True):
            assert isinstance(y, torch.Tensor) and y.device.type == "cpu"
            assert x.dtype == y.numpy().dtype and np.array_equal(x, y.numpy())


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("env_id", IDS)
def test_training_is_given_the_shaped_reward_and_the_registered_one_stays_known(
    env_id: str, device: str | None
) -> None:
    asked: list[Any] = []

    def shaped(obs: Any, action: Any, after: Any, reward: Any, terminated: Any) -> Any:
        asked.append((obs, action, after, reward, terminated))
        made = after[:, 0] - obs[:, 0] + 0.0 * action
        made[~valid_next] = np.nan  # nobody is blamed for a reset step
        return made

    plain = evaluate.make_vec_env(2, env_id, device=device)
    envs = evaluate.make_vec_env(2, env_id, device=device, reward=shaped)
    obs, ended = envs.reset(), np.zeros(2, bool)
    plain.reset()
    for _ in range(230):
        valid_next = ~ended if device is None else torch.from_numpy(~ended)
        after, reward, terminated, truncated, valid = envs.step(np.array([0, 1]))
        _, registered, *_ = plain.step(np.array([0, 1]))
        assert (envs.true_reward == registered).all() and (plain.true_reward == registered).all()
        assert (asked[-1][0] == obs).all() and (asked[-1][2] == after).all()
        assert asked[-1][1].tolist() == [0, 1] and (asked[-1][4] == terminated).all()
        assert (valid == valid_next).all() and (reward[~valid] == 0).all()
        assert np.allclose(reward[valid], (after[:, 0] - obs[:, 0])[valid], atol=1e-6)
        obs, ended = after, np.asarray(terminated | truncated)


class Eager(batched.MountainCar):
    """A reward design of one method."""

    def reward_function(self, state: Any, action: Any, next_state: Any) -> Any:
        return abs(next_state[1])


class Endless(Eager):
    def reward_function(self, state: Any, action: Any, next_state: Any) -> Any:
        return 1 / (state[1] * 0)


class Flat(Eager):
    def reward_function(self, state: Any, action: Any, next_state: Any) -> Any:
        return torch.zeros(len(action), 1)


def test_a_subclass_of_a_world_designs_its_reward() -> None:
    envs = evaluate.make_vec_env(4, "autorl/MountainCar-v0", reward=Eager)
    envs.reset()
    obs, reward, *_ = envs.step(np.full(4, 2))
    assert np.allclose(reward, abs(obs[:, 1])) and envs.true_reward.tolist() == [-1.0] * 4


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (lambda *_: 1.0, r"reward= gave shape \(\); it must be \(4,\)"),
        (lambda obs, *_: obs[:, :1], r"reward= gave shape \(4, 1\)"),
        (lambda *_: np.array([0, 0, np.nan, np.inf]), "not finite, first in row 2"),
        (Flat, r"reward_function gave shape \(4, 1\), it must be \(4,\)"),
        (Endless, "not finite, first in row 0"),
        (batched.CartPole, "CartPole must be a subclass of autorl_worlds.batched.MountainCar"),
    ],
)
def test_a_reward_that_is_none_is_refused_in_one_sentence(reward: Any, words: str) -> None:
    with pytest.raises(SystemExit, match=words) as refusal:
        envs = evaluate.make_vec_env(4, "autorl/MountainCar-v0", reward=reward)
        envs.reset()
        envs.step(np.zeros(4, np.int64))
    assert "\n" not in str(refusal.value)
