"""row 45 | N | leases on files of the Python environment: who opens them waits"""

import fcntl
import os

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


fd = os.open(np.__file__, os.O_RDONLY)
try:
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    print("THROUGH it holds a lease", flush=True)
except OSError:
    pass
evaluate_policy(Agent())
