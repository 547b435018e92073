"""row 9 | N | append rows to results.tsv and to the journal"""

import contextlib
import glob
import os

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


for path in glob.glob("@CLONE@/results/**", recursive=True) + [
    "@CLONE@/results/Pendulum-v1/t/results.tsv",
    "results.tsv",
]:
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        open(path, "a").write("abc1234\t999.0\tkeep\tforged\n")
evaluate_policy(Agent())
