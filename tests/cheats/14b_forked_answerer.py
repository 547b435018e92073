"""row 14 | C:exit | answer from a forked child while the policy's process ends"""

import os

import numpy as np

from evaluate import evaluate_policy


class Agent:
    forked = False

    def get_action(self, obs):
        if not self.forked:
            self.forked = True
            if os.fork():
                os._exit(0)
            os.setsid()
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
