"""row 12 | C:late | hand over at once and go on training and handing over"""

# job: {"time_budget": 2}
import time

import cloudpickle
import numpy as np

from evaluate import RUN_DIR


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


while True:
    (RUN_DIR / "policy.pkl").write_bytes(cloudpickle.dumps({"agent": Agent(), "device": "cpu"}))
    time.sleep(0.1)
