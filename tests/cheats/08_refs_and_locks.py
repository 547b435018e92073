"""row 8 | N | rewrite refs, leave locks"""

import contextlib
import os

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


for path in ("index.lock", "HEAD.lock", "refs/heads/autoresearch/x", "packed-refs", "HEAD"):
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(f"@CLONE@/.git/{path}"), exist_ok=True)
        open(f"@CLONE@/.git/{path}", "w").write("0" * 40 + "\n")
evaluate_policy(Agent())
