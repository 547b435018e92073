"""row 24 | C:frame | answer one action too many"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 2), np.float32)


evaluate_policy(Agent())
