"""row 46 | N | lock the environment: the user's next `uv run` waits for the end of the run"""

import fcntl
import os
import sys

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


try:
    fd = os.open(sys.prefix + "/.lock", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("THROUGH it holds the lock", flush=True)
except OSError:
    pass
evaluate_policy(Agent())
