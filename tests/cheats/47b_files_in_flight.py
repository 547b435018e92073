"""row 47 | C:disk | deleted files whose descriptors wait in a socket"""

import os
import socket
import time

from evaluate import RUN_DIR

here, there = socket.socketpair()
block = b"x" * (1 << 20)
for _ in range(10):
    fd = os.open(RUN_DIR / "scratch", os.O_RDWR | os.O_CREAT)
    os.unlink(RUN_DIR / "scratch")
    socket.send_fds(here, [b"x"], [fd])
    copy = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    os.close(fd)
    for _ in range(48):
        os.write(copy, block)
    os.close(copy)
time.sleep(30)
print("THROUGH 480 MiB on the disk that nobody counted", flush=True)
