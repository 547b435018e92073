"""row 10 | C:exit | an agent that holds a lock (an accident): the reason names the attribute"""

import threading

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def __init__(self):
        self.lock_of_the_env = threading.Lock()

    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
