"""Row 24. Tries: an infinite action, after a few finite ones.

Must come of it: a crash that says so, no score.
"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    answers = 0

    def get_action(self, obs):
        self.answers += 1
        return np.full((len(obs), 1), np.inf if self.answers > 10 else 0.0, np.float32)


evaluate_policy(Agent())
