"""Row 39. Tries: a symlink to a host's file in place of the agent, so that the judge reads it.

Must come of it: a crash: nothing was handed over.
"""

import os

from evaluate import RUN_DIR

os.symlink("@HOME@/.netrc", RUN_DIR / "policy.pkl")
