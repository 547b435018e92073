"""Row 0, the measure of all others: an honest agent that does nothing, on Pendulum-v1.

Must come of it: a score, and the very returns that doing nothing has on the seeds in the record.
"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
