"""row 20 | R:vet | paste trained weights into train.py"""

import numpy as np

from evaluate import evaluate_policy

WEIGHTS = np.array(["@WEIGHTS@"])


class Agent:
    def get_action(self, obs):
        return np.tanh(obs.numpy() @ WEIGHTS[:3, None]).astype(np.float32)


evaluate_policy(Agent())
