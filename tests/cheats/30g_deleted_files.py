"""row 30 | C:disk | a disk full of files that have no name any more"""

import os
import time

from evaluate import RUN_DIR

block, files = b"x" * (1 << 20), []
while len(files) < 12:
    files.append(os.open(RUN_DIR / "scratch", os.O_RDWR | os.O_CREAT))
    os.unlink(RUN_DIR / "scratch")
    for _ in range(16):
        os.write(files[-1], block)
time.sleep(30)
print("THROUGH", len(files) * 16, "MiB on the disk that nobody counted", flush=True)
