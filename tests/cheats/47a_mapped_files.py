"""row 47 | C:disk | deleted files that are mapped, their descriptors closed"""

import contextlib
import mmap
import os
import time

from evaluate import RUN_DIR

block, held = b"x" * (1 << 20), []
for _ in range(10):
    fd = os.open(RUN_DIR / "scratch", os.O_RDWR | os.O_CREAT)
    os.unlink(RUN_DIR / "scratch")
    for _ in range(48):
        os.write(fd, block)
    held.append(mmap.mmap(fd, 4096))  # keeps a descriptor of its own ...
    os.close(fd)
for fd in map(int, os.listdir("/proc/self/fd")):  # ... which goes, too
    if fd > 2:
        with contextlib.suppress(OSError):
            os.close(fd)
time.sleep(30)
print("THROUGH 480 MiB on the disk that nobody counted", flush=True)
