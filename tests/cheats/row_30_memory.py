"""Row 30 (an accident: a replay buffer). Tries: memory without end.

Must come of it: a crash that names the limit.
"""

import numpy as np

buffer = []
while True:
    buffer.append(np.ones(4 * 1024 * 1024))  # 32 MiB each
