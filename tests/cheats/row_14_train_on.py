"""Row 14. Tries: to leave a trainer running after the hand-over, which later puts a better agent in place of the one
handed over.

Must come of it: the honest score of the agent handed over; the trainer's tree was gone before evaluation began.
"""

import os
import time

import numpy as np

from evaluate import RUN_DIR, evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


class Better:
    def get_action(self, obs):
        return np.full((len(obs), 1), 2.0, np.float32)


if os.fork() == 0:
    os.setsid()
    import cloudpickle

    blob = cloudpickle.dumps({"agent": Better(), "device": "cpu"})
    while True:
        time.sleep(0.01)
        if (RUN_DIR / "policy.pkl").exists():
            time.sleep(0.05)
            (RUN_DIR / "policy.tmp2").write_bytes(blob)
            os.replace(RUN_DIR / "policy.tmp2", RUN_DIR / "policy.pkl")
            print("THROUGH the agent was replaced after the hand-over", flush=True)

evaluate_policy(Agent())
