"""row 10 | N | hand over without evaluate_policy: who wrote the file does not matter"""

import cloudpickle
import numpy as np

from evaluate import RUN_DIR


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


(RUN_DIR / "policy.pkl").write_bytes(cloudpickle.dumps({"agent": Agent(), "device": "cpu"}))
