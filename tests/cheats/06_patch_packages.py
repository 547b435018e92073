"""row 6 | N | write .pth, sitecustomize or a patched gymnasium for the next run"""

import contextlib
import os
import sys

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


site = os.path.dirname(os.path.dirname(np.__file__))
for path in (
    f"{site}/zz.pth",
    f"{site}/sitecustomize.py",
    f"{site}/gymnasium/core.py",
    f"{sys.base_prefix}/lib/python3/sitecustomize.py",
):
    for act in (
        lambda p=path: os.chmod(p, 0o666),
        lambda p=path: open(p, "a").write("import os; print('pwned')\n"),
    ):
        with contextlib.suppress(OSError):
            act()
evaluate_policy(Agent())
