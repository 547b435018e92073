"""row 14 | N | go on training while the evaluation runs"""

import contextlib
import os
import time

import cloudpickle
import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


class Better:
    def get_action(self, obs):
        return np.full((len(obs), 1), 2.0, np.float32)


if os.fork() == 0:
    os.setsid()
    better = cloudpickle.dumps({"agent": Better(), "device": "cpu"})
    while True:
        with contextlib.suppress(OSError):
            if os.path.exists("policy.pkl"):
                time.sleep(0.3)  # of training on
                open("policy.next", "wb").write(better)
                os.replace("policy.next", "policy.pkl")
        sum(range(10000))
evaluate_policy(Agent())
