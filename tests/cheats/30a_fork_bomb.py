"""row 30 | C:processes | fork bomb"""

import contextlib
import os
import time

assert os.path.isdir("/autorl/run"), "only inside the sandbox"
number = os.getpid()  # in the PID namespace: 1, 2, 3, ...
while number < 1000:  # between 1000 and 2000 in all: a judge that comes too late costs no machine
    with contextlib.suppress(OSError):
        if (number := os.fork()) == 0:
            number = os.getpid()
            time.sleep(0.01)
time.sleep(60)
