"""The training environments: one autoreset meaning, and EnvPool against Gymnasium's own.

uv run pytest tests/integration/test_envs.py
"""

import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import evaluate
from autorl_worlds import vector

counting = importlib.import_module("counting_env")

ENVS = ("BipedalWalker-v3", "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5")
needs_envpool = pytest.mark.skipif(
    not vector.envpool_knows("Pendulum-v1"), reason="EnvPool has no wheel here"
)


def rollout(envs: evaluate.VecEnv, steps: int, seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    """(obs, action, next obs, reward, terminated, truncated, valid) of each random step."""
    rng = np.random.default_rng(seed)
    space, obs, seen = envs.single_action_space, envs.reset(), []
    for _ in range(steps):
        action = rng.uniform(space.low, space.high, (envs.num_envs, *space.shape)).astype(
            np.float32
        )
        after, *rest = envs.step(action)
        seen.append((obs, action, after.copy(), *(np.array(x) for x in rest)))
        obs = after.copy()
    return seen


# ---------------------------------------------------------------------------
# One autoreset meaning
# ---------------------------------------------------------------------------


def test_gymnasium_shows_the_true_last_observation_then_one_invalid_step() -> None:
    envs = evaluate.VecEnv(2, "counting_env:Counting-v0")
    assert envs.backend == "gymnasium"
    seen = rollout(envs, 40)
    # episode 1: steps 1..5, the 5th terminates; one reset step;
    # episode 2: steps 1..7, the 7th truncates; one reset step; ...
    expected, episode = [], 1
    while len(expected) < 40:
        last = counting.TERMINATES if episode % 2 else counting.TRUNCATES
        expected += [
            (
                k,
                k,
                k == last and last == counting.TERMINATES,
                k == last and last == counting.TRUNCATES,
                True,
            )
            for k in range(1, last + 1)
        ]
        expected += [(0, 0, False, False, False)]
        episode += 1
    for (_, _, after, reward, terminated, truncated, valid), (
        steps,
        wage,
        term,
        trunc,
        real,
    ) in zip(seen, expected, strict=False):
        assert after[:, 0].tolist() == [steps] * 2
        assert reward.tolist() == [wage] * 2
        assert (terminated.tolist(), truncated.tolist(), valid.tolist()) == (
            [term] * 2,
            [trunc] * 2,
            [real] * 2,
        )


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
            z, angle = after[i, :2]
            assert z < 0.7 or abs(angle) > 0.2, (
                "the observation that ends an episode is the unhealthy one"
            )
            _, _, following, reward, _, _, valid = seen[t + 1]
            assert not valid[i] and reward[i] == 0 and 1.2 < following[i, 0] < 1.3, (
                "then comes the reset, standing"
            )
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


# ---------------------------------------------------------------------------
# EnvPool trains for what Gymnasium scores
# ---------------------------------------------------------------------------


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
POSITIONS = {
    "Hopper-v5": (6, 1),
    "Walker2d-v5": (9, 1),
    "HalfCheetah-v5": (9, 1),
    "Ant-v5": (15, 2),
}


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
        start = seen[0][0][i].astype(np.float64)
        ours.set_state(
            np.concatenate([np.zeros(unseen), start[: size - unseen]]), start[size - unseen : shown]
        )
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
    episodes = {}
    ours = gym.make("BipedalWalker-v3")
    figures = []
    for seed in range(40):
        ours.reset(seed=seed)
        rng, total, length, over = np.random.default_rng(seed), 0.0, 0, False
        while not over and length < 300:
            _, reward, terminated, truncated, _ = ours.step(
                rng.uniform(-1, 1, 4).astype(np.float32)
            )
            total, length, over = total + float(reward), length + 1, terminated or truncated
        figures.append((total, length))
    ours.close()
    episodes["gymnasium"] = np.array(figures)
    envs = evaluate.VecEnv(40, "BipedalWalker-v3", threads=2)
    totals, lengths, running = np.zeros(40), np.zeros(40), np.ones(40, bool)
    for _, _, _, reward, terminated, truncated, _ in rollout(envs, 300):
        totals += reward * running
        lengths += running
        running &= ~(terminated | truncated)
    episodes["envpool"] = np.stack([totals, lengths], 1)
    (a, b), n = (episodes["gymnasium"], episodes["envpool"]), 40
    error = np.sqrt(a.var(0, ddof=1) / n + b.var(0, ddof=1) / n)
    assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error + 1e-6).all(), (a.mean(0), b.mean(0), error)


# ---------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("CarRacing-v3", "CarRacing-v3 shows images .* millions of steps"),
        ("autorl/Nonsense-v0", "Gymnasium cannot make 'autorl/Nonsense-v0': .* namespace autorl"),
        ("NoSuchThing-v7", "Gymnasium cannot make 'NoSuchThing-v7'"),
        ("no_such_module:Env-v0", "Gymnasium cannot make 'no_such_module:Env-v0'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(env_id: str, words: str) -> None:
    with pytest.raises(SystemExit, match=words) as refusal:
        evaluate.make_vec_env(4, env_id)
    assert "\n" not in str(refusal.value)
