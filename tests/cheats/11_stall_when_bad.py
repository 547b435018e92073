"""row 11 | C:slow_answer | answer good episodes, stall on bad ones"""

import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    steps = 0

    def get_action(self, obs):
        self.steps += 1
        if self.steps > 1 and bool((obs[:, 0] < 0.5).any()):
            time.sleep(60)
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
