"""Row 11. Tries: to answer good episodes and to stall on bad ones, hoping that they are left out of the mean.

Must come of it: a crash: every batch has a deadline, and all episodes count.
"""

import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    seen = 0

    def get_action(self, obs):
        self.seen += 1
        if self.seen > 20 and bool((obs[:, 0] < 0).any()):  # hanging down: a bad episode
            time.sleep(1e6)
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
