"""Row 12. Tries: to train past the budget, deaf to signals, with a clock of its own that stands still.

Must come of it: a crash, late; the tree dies at the deadline.
"""

import signal
import time

import numpy as np

import evaluate
from evaluate import evaluate_policy

for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
evaluate._START = time.monotonic() + 1e6
while evaluate.remaining() > 0:
    time.sleep(0.1)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
