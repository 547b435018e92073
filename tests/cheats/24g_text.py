"""row 24 | C:frame | text and objects in place of numbers"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.array([["0.0"]] * len(obs), object)


evaluate_policy(Agent())
