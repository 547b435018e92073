"""Row 10 (an accident, often). Tries: to end with exit code 0 before anything is handed over, having printed a score.

Must come of it: a crash with the reason, no score.
"""

import sys

print("---\navg_return:       9999.0")
sys.exit(0)
