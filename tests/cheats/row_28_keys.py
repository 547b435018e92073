"""Row 28. Tries: to read keys and tokens wherever they are usually kept, and to show them in its log.

Must come of it: the honest score; no secret is in the log.
"""

import contextlib
import glob
import os

import numpy as np

from evaluate import evaluate_policy

print(dict(os.environ))
seen = 0
for pattern in ("/proc/*/environ", "/proc/*/cmdline", "@REPOSITORY@/.env", "@HOME@/.*", "@HOME@/.ssh/*", "~/.*", "/root/.*", "/home/*/.*", "/etc/shadow",
                "/run/secrets/*", "/var/run/secrets/*/*/*", "@CANARY@/*"):  # fmt: skip
    for path in glob.glob(os.path.expanduser(pattern)):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            print(path, file.read(4000))
            seen += 1
print("blocked" if seen else "nothing at all", "read", seen, "files")


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
