"""The recording: what was seen is what happened, and what was measured is as if nobody had seen."""

import hashlib
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from autorl.judge.episodes import Played, roll
from autorl.judge.recording import NAME, Recorder, write
from autorl.records import Recording, from_json
from autorl.system.arrays import pack, unpack

ENVS = ["Hopper-v5", "BipedalWalkerHardcore-v3", "LunarLanderContinuous-v3", "Pendulum-v1"]


class RandomPolicy:
    """The policy's end of the wire, without a process: the same actions each time."""

    def __init__(self) -> None:
        self.rng, self.digest = np.random.default_rng(0), hashlib.sha256()

    def hello(self, num: int, obs_dim: int, act_dim: int, choices: int) -> None:
        self.shape = num, act_dim

    def __call__(self, mask: Any, obs: Any) -> Any:
        return self.rng.uniform(-1, 1, self.shape).astype(np.float32)


def recorded(folder: Path) -> Recording:
    data = (folder / NAME).read_bytes()
    assert len(data) < 200_000 * 4 / 3
    recording: Recording = from_json(Recording, json.loads(data))
    return recording


def test_packed_numbers_come_back_within_a_step_of_their_range() -> None:
    numbers = np.random.default_rng(0).normal(size=(200, 3)) * (1, 1e-6, 1e6)
    numbers[:, 1] = 7.0  # a column that does not move
    back = unpack(pack(numbers))
    assert (np.abs(back - numbers) <= np.ptp(numbers, 0) / 131_000 + 1e-12).all()
    assert unpack(pack(np.array([[np.nan, 1.0]]))).tolist() == [[0.0, 1.0]]
    with pytest.raises(ValueError, match="damaged"):
        unpack(from_json(type(pack(numbers)), {"low": [0], "span": [1], "data": "AAAA"}))


@pytest.mark.parametrize("env_id", ENVS)
def test_returns_are_bit_equal_with_and_without(env_id: str, tmp_path: Path) -> None:
    policy: Any = RandomPolicy
    without = roll(env_id, {}, (3, 4, 5), policy())
    seen = roll(env_id, {}, (3, 4, 5), policy(), tmp_path / "seen.npz")
    assert (without.returns, without.lengths) == (seen.returns, seen.lengths)
    write(tmp_path, [tmp_path / "seen.npz"], env_id, seen.returns, seen.lengths)
    recording, order = recorded(tmp_path), sorted(seen.returns)
    assert recording.num_episodes == 3
    assert [e.episode_return for e in recording.episodes] == order
    for episode in recording.episodes:
        so_far = unpack(episode.states)[:, -1]
        assert so_far[0] == pytest.approx(0.0, abs=1e-3 * np.ptp(so_far))
        assert so_far[-1] == pytest.approx(episode.episode_return, abs=1e-4 * np.ptp(so_far))


def test_the_states_are_those_of_the_environment(tmp_path: Path) -> None:
    """Two episodes of unequal length in two workers' files, against what the test itself saw."""
    saved, returns, lengths, qpos = [], [], [], []
    for seed, worker in ((1, 0), (2, 1)):
        env = gym.make("Hopper-v5")
        env.reset(seed=seed)
        env.action_space.seed(seed)
        model: Any = env.unwrapped
        recorder, total, step, over = Recorder([env]), 0.0, 0, False
        seen = [model.data.qpos.copy()]
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, step, over = total + float(reward), step + 1, terminated or truncated
            recorder.take(step, [0], [0] if over else [], [total])
            if over or step % 4 == 0:  # .008 s a step, 1/30 s a frame
                seen.append(model.data.qpos.copy())
        saved.append(tmp_path / f"{worker}.npz")
        recorder.save(saved[-1])
        returns.append(total)
        lengths.append(step)
        qpos.append(np.array(seen))
    write(tmp_path, saved, "Hopper-v5", returns, lengths)
    recording = recorded(tmp_path)
    assert (recording.kind, recording.median) == ("mujoco", 0)
    for episode, row in zip(recording.episodes, np.argsort(returns), strict=True):
        states = unpack(episode.states)[:, :-1]
        assert states.shape == qpos[row].shape
        assert np.abs(states - qpos[row]).max() <= np.ptp(qpos[row], 0).max() / 131_000
        assert (episode.length, episode.seconds_per_frame) == (lengths[row], 0.032)


class Body:
    """One that can be looked at three times."""

    type, angle, fixtures, color1, looks = 2, 0.0, (), (0, 0, 0), 0

    @property
    def position(self) -> Any:
        self.looks += 1
        if self.looks > 3:
            raise RuntimeError("not to be seen")
        return Place()


class Place:
    x = y = 0.0


class Unseen(PendulumEnv):
    drawlist, sky_polys = [Body()], [[(0, 0), (1, 0)]]
    helipad_x1 = helipad_x2 = helipad_y = 0.0


def test_an_episode_that_cannot_be_recorded_is_scored_all_the_same(tmp_path: Path) -> None:
    gym.register("Unseen-v0", Unseen, max_episode_steps=200)
    policy: Any = RandomPolicy
    played: Played = roll("Unseen-v0", {}, (3,), policy(), tmp_path / "seen.npz")
    assert Unseen.drawlist[0].looks == 4
    assert played.returns == roll("Pendulum-v1", {}, (3,), policy()).returns
    assert not (tmp_path / "seen.npz").exists()
    write(tmp_path, [tmp_path / "seen.npz"], "Pendulum-v1", played.returns, played.lengths)
    assert not (tmp_path / NAME).exists()
