"""row 14 | C:slow_answer | train on for long while the agent is loaded for evaluation"""

import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def __getstate__(self):
        return {"trained": False}

    def __setstate__(self, state):
        time.sleep(25)  # of training, say

    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
