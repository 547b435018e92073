"""The worlds as batches: episodes' ends, designed rewards, seeds, what is refused.

uv run pytest tests/unit/worlds/test_batches.py
"""

from typing import Any

import pytest
import torch

from autorl_worlds.batched import WORLDS, CartPole, MountainCar, Pendulum

IDS = sorted(WORLDS)


def test_time_truncates_and_the_next_step_begins_anew() -> None:
    envs = Pendulum(5, seed=1)
    first = envs.reset()
    for t in range(1, 403):
        before = envs.state
        obs, reward, terminated, truncated, valid = envs.step(torch.full((5, 1), 2.0))
        assert not terminated.any()
        assert truncated.tolist() == [t in (200, 401)] * 5
        assert valid.tolist() == [t not in (201, 402)] * 5
        if valid.all():  # one step of the physics, the last one of an episode too
            assert torch.equal(envs.state, envs.array(envs.physics(before, torch.full((5,), 2.0))))
            assert (reward < 0).all()
        else:
            assert (reward == 0).all() and (envs.true_reward == 0).all()
            assert (envs.state[0].abs() <= torch.pi).all() and (envs.state[1].abs() <= 1).all()
            assert not torch.equal(obs, first)


def test_an_end_shows_its_last_observation_and_rows_are_independent() -> None:
    envs = CartPole(64, seed=1)
    envs.reset()
    ended = torch.zeros(64, dtype=torch.bool)
    ends = 0
    for _ in range(60):  # each falls over in about 10 steps
        obs, reward, terminated, truncated, valid = envs.step(torch.ones(64, dtype=torch.int64))
        assert torch.equal(valid, ~ended)
        assert torch.equal(reward, valid.float())
        assert not truncated.any()
        beyond = (obs[:, 0].abs() > 2.4) | (obs[:, 2].abs() > 12 * torch.pi / 180)
        assert torch.equal(beyond, terminated)
        assert (obs[ended].abs() <= 0.05).all()  # a first observation
        ended, ends = terminated, ends + int(terminated.sum())
    assert ends > 200 and ended.any() != ended.all()


def test_an_episode_that_falls_in_its_last_step_has_terminated_not_been_truncated() -> None:
    class Short(CartPole):
        max_episode_steps = 3

    envs = Short(2)
    envs.reset()
    envs.step(torch.tensor([0, 1])), envs.step(torch.tensor([1, 0]))
    envs.state[2] = torch.tensor([0.0, 0.5])  # the second one has fallen
    _, _, terminated, truncated, _ = envs.step(torch.tensor([0, 1]))
    assert (terminated.tolist(), truncated.tolist()) == ([False, True], [True, False])


def test_a_subclass_designs_the_reward_and_the_true_one_stays() -> None:
    class Shaped(MountainCar):
        """r + phi(s') - phi(s), phi = 0 after termination: Ng, Harada, Russell, ICML 1999."""

        def reward_function(self, state: Any, action: Any, next_state: Any) -> Any:
            after = torch.where(self.terminated(next_state), 0, self.potential(next_state))
            true = super().reward_function(state, action, next_state)
            return true + after - self.potential(state)

        def potential(self, state: Any) -> Any:
            return 300 * (0.0025 / 3 * torch.sin(3 * state[0]) + state[1] ** 2 / 2)  # its energy

    envs = Shaped(8, seed=0)
    obs = envs.reset()
    shaped, true, start = torch.zeros(8), torch.zeros(8), envs.potential(envs.state)
    for _ in range(200):
        # push the way it goes: it arrives
        obs, reward, terminated, _, valid = envs.step((obs[:, 1] > 0).long() * 2)
        shaped, true = shaped + reward, true + envs.true_reward
        assert torch.equal(envs.true_reward, -valid.float())
        if terminated[0]:
            break
    # Over an episode all potentials cancel but the first: the optimal policy stays the true one's.
    assert terminated[0] and float(shaped[0]) == pytest.approx(float(true[0] - start[0]), abs=1e-3)


def test_a_subclass_designs_the_end() -> None:
    class Strict(CartPole):
        def terminated(self, state: Any) -> Any:
            return super().terminated(state) | (abs(state[0]) > 0.1)

    envs = Strict(16)
    envs.reset()
    for _ in range(30):
        obs, _, terminated, *_ = envs.step(torch.ones(16, dtype=torch.int64))
        fallen = obs[:, 2].abs() > 12 * torch.pi / 180
        assert torch.equal(terminated, (obs[:, 0].abs() > 0.1) | fallen)


def test_the_rewardless_pendulum_is_the_pendulum() -> None:
    one, other = Pendulum(4, seed=2), WORLDS["autorl/PendulumRewardless-v0"](4, seed=2)
    assert torch.equal(one.reset(), other.reset())
    seen, nothing = one.step(torch.ones(4)), other.step(torch.ones(4))
    assert torch.equal(seen[0], nothing[0]) and (nothing[1] == 0).all() and (seen[1] < 0).all()


@pytest.mark.parametrize("env_id", IDS)
def test_a_seed_is_a_sequence_of_episodes(env_id: str) -> None:
    def begin(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(len(draws))  # the global generator plays no part
        envs = WORLDS[env_id](3, seed=seed)
        draws.append([envs.reset(), envs.reset()])
        return draws[-1]

    draws: list[list[torch.Tensor]] = []
    one, again, other = begin(1), begin(1), begin(2)
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[0], one[1]) and not torch.equal(one[0], other[0])


def test_what_is_wrong_is_said_in_one_sentence() -> None:
    class Wide(Pendulum):
        def reward_function(self, state: Any, action: Any, next_state: Any) -> Any:
            return torch.zeros(4, 1)

    class Single(Pendulum):
        def reward_function(self, state: Any, action: Any, next_state: Any) -> Any:
            return -1.0

    envs = Pendulum(4)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        envs.step(torch.zeros(4))
    envs.reset()
    with pytest.raises(ValueError, match=r"actions \(4, 2\) for 4 environments"):
        envs.step(torch.zeros(4, 2))
    poles, wide, single = CartPole(4), Wide(4), Single(4)
    poles.reset(), wide.reset(), single.reset()
    with pytest.raises(ValueError, match=r"whole numbers, torch.float32 came"):
        poles.step(torch.zeros(4))
    with pytest.raises(ValueError, match=r"reward_function gave shape \(4, 1\), it must be \(4,\)"):
        wide.step(torch.zeros(4))
    with pytest.raises(ValueError, match=r"reward_function gave shape \(\), it must be \(4,\)"):
        single.step(torch.zeros(4))


@pytest.mark.parametrize("env_id", IDS)
def test_a_step_never_looks_at_values(env_id: str) -> None:
    class Shapes(WORLDS[env_id]):  # type: ignore[misc]  # meta tensors have none: a look raises
        def uniform(self, *_: float) -> torch.Tensor:
            return torch.empty(self.num_envs, device="meta")

        normal = uniform

    envs = Shapes(4)
    envs.device = torch.device("meta")
    first = envs.reset()
    actions = torch.zeros(4, dtype=torch.int64 if envs.num_actions else torch.float32)
    obs, *rest = envs.step(actions.to("meta"))
    assert obs.is_meta and obs.shape == first.shape == (4, *envs.single_observation_space.shape)
    assert [x.shape for x in rest] == [(4,)] * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("env_id", IDS)
def test_a_gpu_steps_as_the_cpu(env_id: str) -> None:
    host, device = WORLDS[env_id](64), WORLDS[env_id](64, device="cuda")
    host.reset(), device.reset()
    device.state = host.state.cuda()
    for _ in range(50):
        actions = torch.zeros(64, dtype=torch.int64 if host.num_actions else torch.float32)
        for ours, theirs in zip(host.step(actions), device.step(actions.cuda()), strict=True):
            assert theirs.is_cuda
            torch.testing.assert_close(ours, theirs.cpu(), rtol=1e-4, atol=1e-4)
