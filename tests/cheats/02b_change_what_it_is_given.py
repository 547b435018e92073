"""row 2 | N | change the observations and the mask in place"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def reset(self, mask):
        try:
            mask[:] = True
        except ValueError:
            mask.flags.writeable = False

    def get_action(self, obs):
        rows = len(obs)
        obs.fill_(0.0)
        obs.resize_(0)
        return np.zeros((rows, 1), np.float32)


evaluate_policy(Agent())
