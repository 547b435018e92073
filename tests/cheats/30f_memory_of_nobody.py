"""row 30 | C:memory | memory in anonymous files, which no process maps"""

import os
import time

block, files = b"x" * (1 << 20), []
while len(files) < 200:
    files.append(os.memfd_create("autorl-cheat"))
    for _ in range(16):
        os.write(files[-1], block)
time.sleep(30)
print("THROUGH", len(files) * 16, "MiB that nobody counted", flush=True)
