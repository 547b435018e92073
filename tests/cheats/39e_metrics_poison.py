"""row 39 | N | a metrics.csv of NaN, 1e308, NUL, control characters and endless columns"""

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

header = 'seconds,step,num_updates,"quo\rted,\x1b[31mred,\0,' + ",".join(
    f"c{i}" for i in range(5000)
)
rows = [
    "nan,inf,1e308," + ",".join(["-inf"] * 5003),
    "1\r2,3",
    '"',
    "\0" * 1000,
    "9" * 5000 + ",1,2",
]
(RUN_DIR / "metrics.csv").write_bytes(("\n".join([header, *rows]) + "\n").encode())


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
