"""row 20 | R:vet | weights as one long text"""

import base64

import numpy as np

from evaluate import evaluate_policy

WEIGHTS = np.frombuffer(base64.b64decode("@TEXT@"), np.float32)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
