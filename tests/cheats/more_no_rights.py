"""Tries: to take all rights from its run directory and its files, and to make names that are no text.

Must come of it: the honest score; the run directory is removed.
"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

for name in (b"\xff\xfe", b"new\nline", b"-rf", b"x" * 255):
    os.makedirs(os.fsencode(RUN_DIR) + b"/" + name + b"/inner")
    os.chmod(os.fsencode(RUN_DIR) + b"/" + name, 0)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
