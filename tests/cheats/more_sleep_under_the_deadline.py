"""Tries: to think for just less than the deadline of each answer, all through the evaluation.

Must come of it: a crash: all answers together have a cap as well.
"""

import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        time.sleep(1.7)
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
