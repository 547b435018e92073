"""Tries: to hand an agent over and end with an exit code of its own.

Must come of it: a crash that names the exit code, no score.
"""

import os

import cloudpickle
import numpy as np

from evaluate import RUN_DIR


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


(RUN_DIR / "policy.pkl").write_bytes(cloudpickle.dumps({"agent": Agent(), "device": "cpu"}))
os._exit(3)
