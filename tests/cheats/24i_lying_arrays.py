"""row 24 | N | subclasses of ndarray and Tensor that lie about themselves"""

import numpy as np
import torch

from evaluate import evaluate_policy


class Liar(np.ndarray):
    shape = property(lambda self: (10**9, 10**9))
    ndim = property(lambda self: 7)

    def __array_finalize__(self, other):
        pass

    def __eq__(self, other):
        return True

    def __float__(self):
        return 1e9


class Tongue(torch.Tensor):
    @property
    def shape(self):
        return (10**9, 10**9)

    def __len__(self):
        return 10**9


class Agent:
    answers = 0

    def get_action(self, obs):
        self.answers += 1
        if self.answers % 2:
            return np.zeros((len(obs), 1), np.float32).view(Liar)
        return torch.zeros(len(obs), 1).as_subclass(Tongue)


evaluate_policy(Agent())
