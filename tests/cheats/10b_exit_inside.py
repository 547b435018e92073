"""row 10 | C:exit | exit 0 in the middle of the evaluation"""

import os

import numpy as np

from evaluate import evaluate_policy


class Agent:
    steps = 0

    def get_action(self, obs):
        self.steps += 1
        if self.steps > 20:
            os._exit(0)
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
