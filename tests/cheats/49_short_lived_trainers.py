"""row 49 | N | trainers beside the evaluation that live too shortly to be seen"""

import contextlib
import os
import subprocess
import sys

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.train()

    def train(self):
        with contextlib.suppress(OSError):
            if (pid := os.fork()) == 0:
                print("THROUGH it forked", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            subprocess.run([sys.executable, "-c", "print('THROUGH it started another')"])

    def get_action(self, obs):
        self.train()
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
