"""Tries: to write the hand-over file itself, by hand, without evaluate_policy, and to end with exit code 0.

Must come of it: the honest score of the agent in it: a hand-over is a file, who wrote it does not matter.
"""

import cloudpickle
import numpy as np

from evaluate import RUN_DIR


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


(RUN_DIR / "policy.pkl").write_bytes(cloudpickle.dumps({"agent": Agent(), "device": "cpu"}))
