"""row 14 | C:slow_policy | train on a little at each question of the evaluation"""

import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        time.sleep(1.0)  # of training, say: less than the limit of one answer
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
