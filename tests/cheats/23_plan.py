"""row 23 | C:slow_answer | plan with its own simulator at evaluation"""

import time

import gymnasium as gym
import numpy as np

from evaluate import evaluate_policy


class Agent:
    steps = 0

    def get_action(self, obs):
        self.steps += 1
        end = time.monotonic() + (30 if self.steps > 1 else 0.1)
        env = gym.make("Pendulum-v1")
        while time.monotonic() < end:
            env.reset()
            for _ in range(200):
                env.step(env.action_space.sample())
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
