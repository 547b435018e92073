"""Row 10. Tries: to answer well for a while, then to end the policy's process with exit code 0: a partial mean?

Must come of it: a crash with the reason, no score: no partial means.
"""

import os

import numpy as np

from evaluate import evaluate_policy


class Agent:
    answers = 0

    def get_action(self, obs):
        self.answers += 1
        if self.answers > 50:
            os._exit(0)
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
