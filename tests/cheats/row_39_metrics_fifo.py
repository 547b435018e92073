"""Row 39. Tries: metrics.csv as a FIFO.

Must come of it: the honest score; nothing waits.
"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

os.mkfifo(RUN_DIR / "metrics.csv")


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
