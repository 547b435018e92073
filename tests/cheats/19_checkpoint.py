"""row 19 | N | leave a checkpoint for the next run to warm-start from"""

# job: {"times": 2}
import contextlib
import os
import sys

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


places = [
    "/tmp/ck",
    "/dev/shm/ck",
    os.path.expanduser("~/ck"),
    "@HOME@/ck",
    "@CLONE@/ck",
    "../ck",
    "/var/tmp/ck",
    "/autorl/ck",
    f"{sys.prefix}/ck",
    "ck",
]
if any(os.path.exists(p) for p in places):
    Agent.get_action = lambda self, obs: np.full((len(obs), 1), 2.0, np.float32)
for place in places:
    with contextlib.suppress(OSError):
        open(place, "w").write("weights")
evaluate_policy(Agent())
