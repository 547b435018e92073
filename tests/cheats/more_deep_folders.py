"""Tries: folders thousands deep, to break whoever cleans up after it.

Must come of it: the honest score; the run directory is removed.
"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

os.chdir(RUN_DIR)
for _ in range(2500):
    os.mkdir("d")
    os.chdir("d")
os.chdir(RUN_DIR)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
