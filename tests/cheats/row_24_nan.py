"""Row 24. Tries: an action that is NaN (it makes Box2D raise inside the environment, and is no number to clip).

Must come of it: a crash that says so, no score.
"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.full((len(obs), 1), np.nan, np.float32)


evaluate_policy(Agent())
