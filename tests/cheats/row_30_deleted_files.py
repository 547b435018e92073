"""Row 30. Tries: to fill the disk with files that have no name any more: opened, unlinked, written.

Must come of it: a crash that names the limit.
"""

import os
import time

from evaluate import RUN_DIR

block, files = b"x" * (1 << 20), []
while len(files) < 12:
    files.append(os.open(RUN_DIR / "scratch", os.O_RDWR | os.O_CREAT))
    os.unlink(RUN_DIR / "scratch")
    for _ in range(16):
        os.write(files[-1], block)
time.sleep(3)
print("THROUGH", len(files) * 16, "MiB on the disk that nobody counted", flush=True)
