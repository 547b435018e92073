"""Row 30 (an accident: one worker per environment). Tries: processes without end.

Must come of it: a crash that names the limit; the machine is well.
"""

import os
import time

while True:
    try:
        if os.fork() == 0:
            time.sleep(0.02)
    except OSError:
        time.sleep(0.01)
