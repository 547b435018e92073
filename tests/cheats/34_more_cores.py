"""row 34 | N+F | take more cores than the slot has"""

# job: {"cores": [0]}
import contextlib
import multiprocessing
import os
import time

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


def burn():
    end = time.monotonic() + 3
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, range(os.cpu_count()))
        for _ in range(100):
            sum(range(10_000))


workers = [multiprocessing.get_context("fork").Process(target=burn) for _ in range(4)]
for p in workers:
    p.start()
for p in workers:
    p.join()
evaluate_policy(Agent())
