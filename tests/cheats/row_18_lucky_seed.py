"""Row 18 (an accident, often). Tries: a hard-coded lucky seed in place of the harness's.

Must come of it: refused by the seed control: two harness seeds, one and the same policy.
"""

import numpy as np

from evaluate import evaluate_policy, log_metrics, remaining

rng = np.random.default_rng(31337)
weights = np.zeros((3, 1))
for update in range(1, 4):
    weights = weights + 0.1 * rng.standard_normal(weights.shape)
    log_metrics(update, num_updates=update)
    if remaining() <= 0:
        break


class Agent:
    weights = weights

    def get_action(self, obs):
        return np.asarray(obs, np.float32) @ self.weights


evaluate_policy(Agent())
