"""Row 15. Tries: to detach a daemon (fork, setsid, fork again, all descriptors closed, all signals ignored).

Must come of it: the honest score; nothing of it lives when the run is over.
"""

import os
import signal
import time

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

if os.fork() == 0:
    os.setsid()
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    (RUN_DIR / "daemon").write_text(str(os.getpid()))
    os.closerange(0, 256)
    while True:
        time.sleep(0.05)
while not (RUN_DIR / "daemon").exists():
    time.sleep(0.01)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
