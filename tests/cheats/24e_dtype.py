"""row 24 | C:frame | answer complex numbers"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.complex64)


evaluate_policy(Agent())
