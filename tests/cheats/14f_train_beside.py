"""row 14 | C:exit | fork a trainer that goes on beside the evaluation"""

import os
import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    forked = False

    def get_action(self, obs):
        if not self.forked:
            self.forked = True
            if os.fork() == 0:
                while True:
                    sum(range(10000))
        time.sleep(0.01)
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
