"""The worlds: the truth against Gymnasium and mechanics, the batched form against the truth.

uv run pytest tests/unit/worlds/test_worlds.py
"""

import shutil
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import python
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from scipy.stats import ks_2samp

import autorl_worlds
from autorl_worlds import worlds
from autorl_worlds.batched import (
    WORLDS,
    BatchedWorld,
    CartDoublePendulum,
)
from autorl_worlds.envs import CartDoublePendulumEnv

IDS = sorted(WORLDS)
TWINS_IN_GYMNASIUM = {
    "autorl/Pendulum-v0": "Pendulum-v1",
    "autorl/MountainCar-v0": "MountainCar-v0",
    "autorl/CartPole-v0": "CartPole-v1",
}
ENDS = {  # which ends the episodes of `some_action` have: (terminated, truncated)
    "autorl/Pendulum-v0": (False, True),
    "autorl/PendulumRewardless-v0": (False, True),
    "autorl/MountainCar-v0": (True, False),
    "autorl/CartPole-v0": (True, True),
    "autorl/CartDoublePendulum-v0": (True, True),
}


def some_action(env: gym.Env[Any, Any], obs: NDArray[np.float32], rng: np.random.Generator) -> Any:
    """Random, but the car is mostly rocked and the pole balanced: episodes end in both ways."""
    if isinstance(env.action_space, gym.spaces.Box):
        return rng.normal(0, 0.6, 1) * env.action_space.high  # sometimes beyond the bounds
    if rng.random() < 0.2:
        return int(rng.integers(env.action_space.n))  # type: ignore[attr-defined]
    return int(obs[1] > 0) * 2 if env.action_space.n == 3 else int(obs[2] + obs[3] > 0)  # type: ignore[attr-defined]


# -- The truth -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs"), TWINS_IN_GYMNASIUM.items())
def test_the_truth_is_gymnasiums_own_step_by_step(ours: str, theirs: str) -> None:
    a, b, rng = gym.make(ours), gym.make(theirs), np.random.default_rng(0)
    assert a.spec.max_episode_steps == b.spec.max_episode_steps
    assert a.spec.reward_threshold == b.spec.reward_threshold
    for seed in range(4):
        obs, _ = a.reset(seed=seed)
        np.testing.assert_allclose(obs, b.reset(seed=seed)[0], atol=1e-7)
        ended = False
        while not ended:
            action = some_action(a, obs, rng)
            (obs, *ours_say, _), (their_obs, *they_say, _) = a.step(action), b.step(action)
            np.testing.assert_allclose(obs, their_obs, atol=1e-6)  # float32
            np.testing.assert_allclose(a.unwrapped.state, b.unwrapped.state, atol=1e-11)
            assert ours_say[0] == pytest.approx(they_say[0], abs=1e-11)
            assert ours_say[1:] == they_say[1:]
            ended = ours_say[1] or ours_say[2]


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_has_nothing_to_say(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Pendulum's torque goes to 2, as in Gymnasium
        warnings.filterwarnings("ignore", ".*symmetric and normalized space")
        env = gym.make(env_id, render_mode="rgb_array")
        check_env(env.unwrapped)
    assert np.isfinite(env.observation_space.low).all()
    assert np.isfinite(env.observation_space.high).all()


def mechanics(
    world: worlds.CartDoublePendulum, state: NDArray[np.float64], force: float
) -> NDArray[np.float64]:
    """(x'', a'', b'') from the Jacobians of the bodies' positions and a linear solver.

    Newton and Euler for each body; no formula is shared with the package.
    """
    _, a, b, x_dot, a_dot, b_dot = state
    l1, l2, m1, m2 = world.lower_length, world.upper_length, world.lower_mass, world.upper_mass
    along_a, along_b = np.array([np.cos(a), -np.sin(a)]), np.array([np.cos(b), -np.sin(b)])
    pull_a = -(a_dot**2) * np.array([np.sin(a), np.cos(a)])  # acceleration of (sin a, cos a) when
    pull_b = -(b_dot**2) * np.array([np.sin(b), np.cos(b)])  # a'' = 0
    right, zero = np.array([1.0, 0.0]), np.zeros(2)
    cart = np.stack([right, zero, zero], 1)  # Jacobians (2, 3) of the centres of mass
    lower = np.stack([right, l1 / 2 * along_a, zero], 1)
    upper = np.stack([right, l1 * along_a, l2 / 2 * along_b], 1)
    bodies = [  # mass, moment of inertia, its coordinate, Jacobian, acceleration at constant rates
        (world.cart_mass, 0.0, 0, cart, zero),
        (m1, m1 * l1**2 / 12, 1, lower, l1 / 2 * pull_a),
        (m2, m2 * l2**2 / 12, 2, upper, l1 * pull_a + l2 / 2 * pull_b),
    ]
    joint = world.joint_friction * (b_dot - a_dot)
    rail = force - world.cart_friction * x_dot
    total = np.array([rail, joint - world.joint_friction * a_dot, -joint])
    matrix = np.zeros((3, 3))
    for mass, inertia, index, jacobian, bias in bodies:
        matrix += mass * jacobian.T @ jacobian
        matrix[index, index] += inertia
        total += mass * jacobian.T @ (np.array([0.0, -world.gravity]) - bias)
    return np.linalg.solve(matrix, total)


def test_the_double_pendulum_obeys_mechanics() -> None:
    class Uneven(CartDoublePendulumEnv):  # no two constants alike
        cart_mass, lower_mass, upper_mass, lower_length, upper_length = 1.3, 0.4, 0.7, 0.5, 0.8

    rng = np.random.default_rng(0)
    for env in (CartDoublePendulumEnv(), Uneven()):
        for _ in range(50):
            state, force = rng.normal(0, (1, 3, 3, 2, 8, 8)), rng.uniform(-20, 20)
            found = env.derivative(state, force)
            expected = np.concatenate([state[3:], mechanics(env, state, force)])
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_energy_is_conserved_without_friction_and_force() -> None:
    class Frictionless(CartDoublePendulum):
        cart_friction = joint_friction = 0.0

    def energy(state: torch.Tensor) -> torch.Tensor:
        """(N,) J above both rods hanging, from the speeds of the bodies."""
        _, a, b, x_dot, a_dot, b_dot = state
        l1, l2, m1, m2 = world.lower_length, world.upper_length, world.lower_mass, world.upper_mass
        v1, v1_up = x_dot + l1 / 2 * a_dot * a.cos(), -l1 / 2 * a_dot * a.sin()
        v2 = x_dot + l1 * a_dot * a.cos() + l2 / 2 * b_dot * b.cos()
        v2_up = -l1 * a_dot * a.sin() - l2 / 2 * b_dot * b.sin()
        turning = m1 * l1**2 / 12 * a_dot**2 + m2 * l2**2 / 12 * b_dot**2
        moving = world.cart_mass * x_dot**2 + m1 * (v1**2 + v1_up**2) + m2 * (v2**2 + v2_up**2)
        kinetic = (moving + turning) / 2
        height = m1 * l1 / 2 * (1 + a.cos()) + m2 * (l1 * (1 + a.cos()) + l2 / 2 * (1 + b.cos()))
        return kinetic + world.gravity * height

    world = Frictionless(128)
    world.reset()
    state = torch.zeros(6, 128)  # let go anywhere
    state[1:3].uniform_(-torch.pi, torch.pi, generator=torch.Generator().manual_seed(0))
    start, still = energy(state), torch.zeros(128)
    for _ in range(500):  # 10 s; the rail's ends are not part of the physics
        state = world.array(world.physics(state, still))
    drift = (energy(state) / start - 1).abs()
    assert drift.median() <= 0.001, f"median {drift.median():.3%}"
    assert (state[1:3].abs() > torch.pi).any()  # and some went over the top


def test_the_swing_ups_reward_is_one_at_the_goal_and_nothing_at_the_bottom() -> None:
    env = CartDoublePendulumEnv()
    up, down = np.zeros(6), np.array([0, np.pi, np.pi, 0, 0, 0])
    assert env.reward_function(up, 0.0, up) == 1
    assert env.reward_function(down, 0.0, down) == pytest.approx(0, abs=1e-12)
    # x = 1, action = -1, a' = 10: 0.9 of the effort's factor, exp(-0.1 - 0.001 * 100) of the rest
    moved = np.array([1.0, 0, 0, 0, 10.0, 0])
    assert env.reward_function(up, -1.0, moved) == pytest.approx(0.9 * np.exp(-0.2), rel=1e-12)
    for x in (-2.41, -2.39, 2.39, 2.41):
        assert env.terminated(np.array([x, 0, 0, 0, 0, 0])) == (abs(x) > 2.4)


@pytest.mark.parametrize(
    ("env_id", "action"),
    [
        ("autorl/Pendulum-v0", [np.nan]),
        ("autorl/Pendulum-v0", [0.0, 0.0]),
        ("autorl/CartPole-v0", 2),
        ("autorl/MountainCar-v0", 0.5),
    ],
)
def test_the_truth_refuses_what_is_no_action(env_id: str, action: Any) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action .* is not "):
        env.step(action)


# -- The batched form against the truth ------------------------------------------------------------


def side_by_side(
    env_id: str, episodes: int, dtype: torch.dtype
) -> tuple[list[gym.Env[Any, Any]], BatchedWorld, NDArray[np.float32]]:
    """Environments and their batched form in the same states; first observations (N, obs_dim)."""
    envs = [gym.make(env_id) for _ in range(episodes)]
    obs = np.stack([env.reset(seed=i)[0] for i, env in enumerate(envs)])
    batched = WORLDS[env_id](episodes, dtype=dtype)
    batched.reset()
    batched.state = torch.as_tensor(np.stack([env.unwrapped.state for env in envs], 1), dtype=dtype)
    return envs, batched, obs


def step_both(
    envs: list[gym.Env[Any, Any]],
    batched: BatchedWorld,
    obs: NDArray[np.float32],
    running: NDArray[np.bool_],
    rng: np.random.Generator,
    tolerance: float,
) -> NDArray[np.bool_]:
    """One step of all, compared where episodes run; renews obs and running.

    Returns:
        What the truths said, (N, 2): terminated, truncated.
    """
    actions = np.stack([some_action(env, o, rng) for env, o in zip(envs, obs, strict=True)])
    stepped = [x.numpy()[running] for x in batched.step(torch.as_tensor(actions))]
    batch_obs, batch_reward, terminated, truncated, _ = stepped
    states = batched.state.T.numpy()[running]
    rewards, ends = np.zeros(len(envs)), np.zeros((len(envs), 2), bool)
    for i in np.flatnonzero(running):
        obs[i], rewards[i], *ends[i], _ = envs[i].step(actions[i])
    ends[:, 1] &= ~ends[:, 0]  # the batched form says truncated only of what has not terminated
    truth = np.stack([env.unwrapped.state for env, runs in zip(envs, running, strict=True) if runs])
    np.testing.assert_allclose(states, truth, rtol=tolerance, atol=tolerance)
    float32 = max(tolerance, 1e-6)
    np.testing.assert_allclose(batch_obs, obs[running], rtol=float32, atol=float32)
    np.testing.assert_allclose(batch_reward, rewards[running], rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(np.stack([terminated, truncated], 1), ends[running])
    running &= ~ends.any(1)
    return ends


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("env_id", IDS)
def test_fifty_steps_agree(env_id: str, dtype: torch.dtype, tolerance: float) -> None:
    (envs, batched, obs), rng = side_by_side(env_id, 20, dtype), np.random.default_rng(1)
    running = np.ones(20, bool)
    for _ in range(50):
        step_both(envs, batched, obs, running, rng, tolerance)
    assert running.any()


@pytest.mark.parametrize("env_id", IDS)
def test_forty_episodes_agree_to_their_end(env_id: str) -> None:
    (envs, batched, obs), rng = side_by_side(env_id, 40, torch.float64), np.random.default_rng(2)
    running, ended = np.ones(40, bool), np.zeros((40, 2), bool)
    while running.any():
        # From the truth's state at every step: the swing-up is chaotic, a last bit would grow.
        batched.state = torch.as_tensor(np.stack([env.unwrapped.state for env in envs], 1))
        ended |= step_both(envs, batched, obs, running, rng, 1e-9)
        space = envs[0].observation_space
        assert ((space.low <= obs) & (obs <= space.high)).all()
    terminated, truncated = ended.sum(0)
    assert terminated + truncated == 40
    assert (terminated > 0, truncated > 0) == ENDS[env_id]


@pytest.mark.parametrize("env_id", IDS)
def test_episodes_begin_alike(env_id: str) -> None:
    env, batched = gym.make(env_id).unwrapped, WORLDS[env_id](2000, seed=3)
    first = [env.reset(seed=3)[0], *(env.reset()[0] for _ in range(499))]
    for ours, theirs in zip(np.stack(first).T, batched.reset().numpy().T, strict=True):
        assert ks_2samp(ours, theirs).pvalue > 0.001
    assert len(np.unique(np.stack(first), axis=0)) == 500


def test_speeds_beyond_the_bounds_are_observed_as_the_bounds() -> None:
    env, batched = CartDoublePendulumEnv(), CartDoublePendulum(1)
    state = np.array([0.5, 0.0, 0.0, -30.0, 140.0, -140.0])
    assert env.observe(state) == (0.5, -20, 1, 0, 1, 0, 50, -50)
    assert tuple(map(float, batched.observe(torch.tensor(state)[:, None]))) == env.observe(state)


# -- Pictures, and the package alone ---------------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_a_picture_shows_the_state(env_id: str) -> None:
    env = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    for _ in range(8):
        env.step(np.array([1.0], np.float32) if isinstance(env.action_space, gym.spaces.Box) else 1)
    second = env.render()
    assert first.shape == (400, 600, 3) and first.dtype == np.uint8
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 10  # smooth edges
    changed = (first != second).any(2).mean()
    assert 0.0005 < changed < 0.2
    assert gym.make(env_id).unwrapped.render() is None
    with pytest.raises(ValueError, match="use 'rgb_array'"):
        type(env.unwrapped)(render_mode="ansi")


def test_the_package_stands_alone(tmp_path: Path) -> None:
    shutil.copytree(Path(autorl_worlds.__file__).parent, tmp_path / "autorl_worlds")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import gymnasium
for env_id in ("autorl_worlds:autorl/Pendulum-v0", "autorl/CartDoublePendulum-v0"):
    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=0), env.step(env.action_space.sample())
assert not {"torch", "PIL", "autorl", "evaluate"} & set(sys.modules), "more than the truth needs"
sys.modules["PIL"] = None  # as if Pillow were not installed
try:
    env.render()
except gymnasium.error.DependencyNotInstalled as error:
    print(error)
import autorl_worlds.batched
assert not {"autorl", "evaluate"} & set(sys.modules)
"""
    done = python("-I", "-c", code, tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Pictures need Pillow: install pillow.\n"
