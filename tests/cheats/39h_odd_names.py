"""row 39 | N | names that are no text, folders without rights"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

for name in (b"\xff\xfe", b"new\nline", b"-rf", b"x" * 255):
    os.makedirs(os.fsencode(RUN_DIR) + b"/" + name + b"/inner")
    os.chmod(os.fsencode(RUN_DIR) + b"/" + name, 0o500)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
