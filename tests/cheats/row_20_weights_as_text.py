"""Row 20. Tries: to bring trained weights along in the file, as one long text.

Must come of it: refused before a run: too long a literal.
"""

import base64

import numpy as np

from evaluate import evaluate_policy

WEIGHTS = np.frombuffer(base64.b64decode("@TEXT@"), np.float32)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
