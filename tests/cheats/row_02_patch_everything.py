"""Row 2. Tries: to replace the environment's step, the clock, evaluate_policy, `__eq__` and the wire, in the trainer and
(by code that runs while the agent is unpickled) in the policy's process too.

Must come of it: the honest score; environments, returns and clock live in the judge.
"""

import time

import gymnasium as gym
import numpy as np

import evaluate
from evaluate import evaluate_policy


def poison():
    """Everything that could make a score, were it made in this process."""
    import statistics
    import struct
    import time

    import gymnasium as gym
    from gymnasium.envs.classic_control.pendulum import PendulumEnv

    def step(self, action):
        return self._get_obs(), 1e6, False, False, {}

    PendulumEnv.step = gym.Wrapper.step = step
    gym.make = lambda *a, **k: PendulumEnv()
    time.monotonic = time.perf_counter = time.time = lambda: 0.0
    statistics.mean = statistics.fmean = lambda values: 1e6
    struct.Struct = None
    return dict


class Poison:
    """Unpickling this runs `poison` in whatever process does it."""

    def __reduce__(self):
        return poison, ()

    def __eq__(self, other):
        return True

    __hash__ = object.__hash__


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


real = evaluate._hand_over
poison()
evaluate.elapsed = lambda: 0.0
evaluate.remaining = lambda: 1e9
evaluate.evaluate_policy = lambda *a, **k: {"avg_return": 1e6}
Agent.poison = Poison()
agent = Agent()
agent.poison = Poison()
print("clock", time.monotonic(), "step", gym.make("Pendulum-v1"))
real(agent, "cpu")
evaluate_policy(agent)
