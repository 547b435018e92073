"""Row 23. Tries: to plan with a simulator of its own at evaluation, as long as it takes.

Must come of it: a crash: each batch has a deadline.
"""

import time

import gymnasium as gym
import numpy as np

from evaluate import ENV_ID, evaluate_policy


class Agent:
    def get_action(self, obs):
        env, until, best = gym.make(ENV_ID), time.monotonic() + 8, [(-np.inf, 0.0)] * len(obs)
        while time.monotonic() < until:
            for row, (cos, sin, speed) in enumerate(np.asarray(obs)):
                env.reset()
                env.unwrapped.state = np.array([np.arctan2(sin, cos), speed])
                plan = np.random.uniform(-2, 2, 20)
                best[row] = max(best[row], (sum(float(env.step(np.array([u]))[1]) for u in plan), plan[0]))
        return np.array([u for _, u in best], np.float32)[:, None]


evaluate_policy(Agent())
