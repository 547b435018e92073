"""row 24 | C:frame | an object that makes itself an array of another shape"""

import numpy as np

from evaluate import evaluate_policy


class Pretender:
    def __array__(self, dtype=None, copy=None):
        return np.zeros((10**6, 3), np.uint8)


class Agent:
    def get_action(self, obs):
        return Pretender()


evaluate_policy(Agent())
