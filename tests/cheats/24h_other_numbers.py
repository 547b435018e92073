"""row 24 | N | float64, integers, lists, tensors with a gradient: accidents that cost no run"""

import numpy as np
import torch

from evaluate import evaluate_policy


class Agent:
    answers = 0

    def get_action(self, obs):
        self.answers += 1
        return (
            np.zeros((len(obs), 1)),
            np.zeros((len(obs), 1), np.int64),
            [[0.0]] * len(obs),
            torch.zeros(len(obs), 1, requires_grad=True),
            torch.zeros(len(obs), 1, dtype=torch.float64),
            np.zeros((1, len(obs)), np.float32).T,
        )[self.answers % 6]


evaluate_policy(Agent())
