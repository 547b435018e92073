"""Tries: to write the hand-over file at once and to train on past the deadline, writing better ones.

Must come of it: a crash, late: what counts is when the process ends.
"""

import time

import cloudpickle
import numpy as np

from evaluate import RUN_DIR


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


while True:
    (RUN_DIR / "policy.pkl").write_bytes(cloudpickle.dumps({"agent": Agent(), "device": "cpu"}))
    time.sleep(0.1)
