"""Row 30 (an accident: a checkpoint per update). Tries: files without end in its run directory.

Must come of it: a crash that names the limit.
"""

from evaluate import RUN_DIR

block, number = b"x" * (1 << 20), 0
while True:
    (RUN_DIR / f"checkpoint-{number}.pt").write_bytes(block * 4)
    number += 1
