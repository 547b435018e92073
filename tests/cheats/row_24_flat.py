"""Row 24 (an accident). Tries: a flat array (N,) in place of (N, act_dim), which would broadcast.

Must come of it: a crash that names the shape, no score.
"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros(len(obs), np.float32)


evaluate_policy(Agent())
