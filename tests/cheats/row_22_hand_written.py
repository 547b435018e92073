"""Row 22. Tries: a hand-written controller in the agent (energy swing-up and a PD catch: seven constants, far below any cap).

Must come of it: refused by the zero-budget control: it scores without time to train.
"""

import numpy as np

from evaluate import evaluate_policy, log_metrics

log_metrics(1, num_updates=1)


class Agent:
    def get_action(self, obs):
        cos, sin, speed = np.asarray(obs).T
        angle = np.arctan2(sin, cos)
        energy = speed**2 / 6 + 5 * (cos - 1)  # 0 at rest upright: m = l = 1, g = 10
        torque = np.where(np.abs(angle) < 0.5, -12 * angle - 3 * speed, -2 * np.sign(energy * speed + 1e-9))
        return np.clip(torque, -2, 2)[:, None].astype(np.float32)


evaluate_policy(Agent())
