"""row 30 | C:exit | fill /tmp and /dev/shm, which are memory"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


for place in ("/dev/shm", "/tmp"):
    for i in range(10**4):
        open(f"{place}/{i}", "wb").write(b"x" * 50_000_000)
evaluate_policy(Agent())
