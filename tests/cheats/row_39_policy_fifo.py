"""Row 39. Tries: a FIFO in place of the agent, on which an open() waits for ever.

Must come of it: a crash: nothing was handed over.
"""

import os

from evaluate import RUN_DIR

os.mkfifo(RUN_DIR / "policy.pkl")
