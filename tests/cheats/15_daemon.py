"""row 15 | N | detach a daemon (setsid, double fork)"""

import os
import signal
import sys

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execv(
            sys.executable,
            [sys.executable, "-c", "import time; time.sleep(3600)", "@DAEMON@"],
        )
    os._exit(0)
evaluate_policy(Agent())
