"""Row 36. Tries: to exploit a bug of the simulator (the test's Pendulum pays for full torque).

Must come of it: scored, since those are the environment's own rewards, and flagged for a person.
"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.full((len(obs), 1), 2.0, np.float32)


evaluate_policy(Agent())
