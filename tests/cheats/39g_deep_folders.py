"""row 39 | N | folders a thousand deep, to break who cleans up"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

os.chdir(RUN_DIR)
for _ in range(1200):
    os.mkdir("d")
    os.chdir("d")
os.chdir(RUN_DIR)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
