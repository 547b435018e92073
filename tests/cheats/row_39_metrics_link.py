"""Row 39. Tries: metrics.csv as a link to a secret, and the other names the judge knows as FIFO and folder.

Must come of it: the honest score; no secret is copied out, nothing waits.
"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

os.symlink("@HOME@/.netrc", RUN_DIR / "metrics.csv")
os.mkfifo(RUN_DIR / "run.log")
os.mkfifo(RUN_DIR / "record.json")
(RUN_DIR / "progress.json").mkdir()


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
