"""row 1 | N | print any avg_return"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


print(
    "---\navg_return:       999999.0\nstd_return:       0.0\n"
    "min_return:       999999.0\nmax_return:       999999.0"
)
evaluate_policy(Agent())
