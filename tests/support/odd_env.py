"""Environments with one bad habit each: `--env-id odd_env:NanReward-v0`, found on PYTHONPATH."""

import os
import time

import gymnasium as gym
import numpy as np

print("odd_env says hello when it is imported", flush=True)
os.write(1, b"and so does a C library\n")


class Good(gym.Env):
    observation_space = gym.spaces.Box(-10, 10, (4,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, pause=0.0):
        self.pause = pause  # seconds of a step

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.pause:  # a sleep of 0 s gives the core away, which takes long on a busy one
            time.sleep(self.pause)
        if self.t == 3:
            print("step", self.t)
        return np.zeros(4, np.float32), 1.0, False, self.t >= 25, {}


class NanReward(Good):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, float("nan") if self.t == 17 else reward, *rest


class NanObservation(Good):
    def step(self, action):
        obs, *rest = super().step(action)
        return obs * (np.nan if self.t == 9 else 1), *rest


class Diverging(Good):
    def step(self, action):
        if self.t == 5:
            raise RuntimeError("joint velocity 1e9")
        return super().step(action)


class DivergesLater(Good):
    """Beyond the episodes that are played at the start."""

    episodes = 0

    def reset(self, *, seed=None, options=None):
        self.episodes += 1
        return super().reset(seed=seed)

    def step(self, action):
        if self.episodes == 22 and self.t == 5:
            raise RuntimeError("joint velocity 1e9")
        return super().step(action)


class ResetFails(Good):
    def reset(self, *, seed=None, options=None):
        raise OSError("no robot here")


class OldStep(Good):
    def step(self, action):
        obs, reward, _, over, info = super().step(action)
        return obs, reward, over, info


class OldReset(Good):
    def reset(self):
        self.t = 0
        return np.zeros(4, np.float32), {}


class OldResetResult(Good):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class ArrayReward(Good):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, np.array([reward]), *rest


class OtherShape(Good):
    def step(self, action):
        _, *rest = super().step(action)
        return np.zeros((1, 4), np.float32), *rest


class Endless(Good):
    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs, reward, False, False, {}


class HalfInfiniteAction(Good):
    action_space = gym.spaces.Box(0, np.inf, (2,), np.float32)

    def step(self, action):
        assert (action >= 0).all(), action
        return super().step(action)


class IntAction(Good):
    action_space = gym.spaces.Box(0, 10, (2,), np.int32)


class Dies(Good):
    def step(self, action):
        os._exit(7)


for each in [Good, *Good.__subclasses__()]:
    gym.register(f"{each.__name__}-v0", each)
