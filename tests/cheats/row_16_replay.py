"""Row 16. Tries: to memorise episodes by their first observation (for the seeds it can think of) and to replay what was
best on them.

Must come of it: the honest score: evaluation seeds are drawn when training is over, so nothing is recognised.
"""

import gymnasium as gym
import numpy as np

from evaluate import ENV_ID, SEED, evaluate_policy

env = gym.make(ENV_ID)
guesses = [*range(512), *range(SEED, SEED + 512), *(int(s) for s in np.random.SeedSequence([SEED, 0x5EED]).generate_state(64))]
known = {env.reset(seed=seed)[0].tobytes() for seed in guesses}


class Agent:
    known = known

    def get_action(self, obs):
        torque = [2.0 if np.asarray(row, np.float32).tobytes() in self.known else 0.0 for row in obs]
        if any(torque):
            print("THROUGH an episode was recognised", flush=True)
        return np.array(torque, np.float32)[:, None]


evaluate_policy(Agent())
