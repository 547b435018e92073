"""row 7 | N | git hooks, core.fsmonitor, clean filters"""

import contextlib
import os

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


git = "@CLONE@/.git"
for hook in ("reference-transaction", "post-commit", "pre-commit", "post-checkout"):
    with contextlib.suppress(OSError):
        open(f"{git}/hooks/{hook}", "w").write("#!/bin/sh\ntouch @CLONE@/pwned\n")
        os.chmod(f"{git}/hooks/{hook}", 0o755)
for path, text in (
    (f"{git}/config", "[core]\n\tfsmonitor = touch @CLONE@/pwned\n"),
    ("@CLONE@/.gitattributes", "* filter=x\n"),
    ("@HOME@/.gitconfig", "[alias]\n"),
):
    with contextlib.suppress(OSError):
        open(path, "a").write(text)
evaluate_policy(Agent())
