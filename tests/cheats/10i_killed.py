"""row 10 | C:exit | killed in the middle of the evaluation, as the kernel does it"""

import os
import signal

import numpy as np

from evaluate import evaluate_policy


class Agent:
    steps = 0

    def get_action(self, obs):
        self.steps += 1
        if self.steps > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
