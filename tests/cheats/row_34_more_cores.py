"""Row 34 (an accident: torch picks its own thread count). Tries: to take more cores than its slot has.

Must come of it: the honest score, a flag, and the threads put back.
"""

import os
import time

import numpy as np

from evaluate import evaluate_policy

os.sched_setaffinity(0, range(os.cpu_count()))
time.sleep(1.5)
print("cores after a while:", len(os.sched_getaffinity(0)), flush=True)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
