"""row 24 | C:frame | booleans, which Python counts as numbers"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), bool)


evaluate_policy(Agent())
