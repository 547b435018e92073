"""Row 39. Tries: a sparse giant in place of the agent.

Must come of it: a crash that names the limit.
"""

import os

from evaluate import RUN_DIR

(RUN_DIR / "policy.pkl").touch()
os.truncate(RUN_DIR / "policy.pkl", 900 * 1024 * 1024)
