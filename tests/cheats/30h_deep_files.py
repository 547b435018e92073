"""row 30 | C:disk | files below folders too deep for a path from outside"""

import os
import time

from evaluate import RUN_DIR

os.chdir(RUN_DIR)
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
block = b"x" * (1 << 20)
for number in range(12):
    with open(f"checkpoint-{number}", "wb") as file:
        for _ in range(16):
            file.write(block)
time.sleep(30)
print("THROUGH", 12 * 16, "MiB on the disk that nobody counted", flush=True)
