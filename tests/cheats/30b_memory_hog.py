"""row 30 | C:memory | memory hog"""

import numpy as np


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


hoard = []
while True:
    hoard.append(np.ones(4_000_000))
