"""row 3 | N | change train.py itself while it runs, and start it anew"""

import os
import sys

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

mine = RUN_DIR / "train.py"
if "again" not in sys.argv:
    mine.write_text(mine.read_text().replace("# doing" + " nothing", "# rewritten"))
    os.execv(sys.executable, [sys.executable, "-P", str(mine), "again"])


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
