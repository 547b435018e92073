"""row 39 | N | metrics.csv is a link to a file outside, then a FIFO"""

import os
import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


os.symlink("@HOME@/.netrc", "metrics.csv")
time.sleep(1.5)
os.unlink("metrics.csv")
os.mkfifo("metrics.csv")
time.sleep(1.5)
evaluate_policy(Agent())
