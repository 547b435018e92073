"""Row 29. Tries: to kill the judge and the loop, by parent, by number, and everybody at once.

Must come of it: the honest score; nobody outside is in reach.
"""

import contextlib
import os
import signal

import numpy as np

from evaluate import evaluate_policy

for pid in {os.getppid(), *range(1, 4096)} - {os.getpid(), 0, 1}:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        print("killed", pid)
with contextlib.suppress(OSError):
    os.kill(1, signal.SIGKILL)  # of its own PID namespace: the kernel ignores it
with contextlib.suppress(OSError):
    os.kill(-1, signal.SIGKILL)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
