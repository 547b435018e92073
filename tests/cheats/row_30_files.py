"""Row 30 (an accident: a file per episode). Tries: small files without end.

Must come of it: a crash that names the limit.
"""

from evaluate import RUN_DIR

number = 0
while True:
    (RUN_DIR / f"{number}.txt").touch()
    number += 1
