"""Row 5. Tries: modules beside train.py that shadow what the judge or the policy's process imports: numpy, torch,
statistics, evaluate, cloudpickle, sitecustomize, usercustomize, a package `autorl`, a pyvenv.cfg, a .pth.

Must come of it: the honest score; none of them was imported.
"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

SHOUT = "print('THROUGH shadow module imported:', __name__, flush=True)\nraise SystemExit(5)\n"

for name in ("numpy", "torch", "statistics", "evaluate", "cloudpickle", "gymnasium", "sitecustomize", "usercustomize", "struct", "csv", "json"):
    (RUN_DIR / f"{name}.py").write_text(SHOUT)
(RUN_DIR / "autorl").mkdir()
(RUN_DIR / "autorl" / "__init__.py").write_text(SHOUT)
(RUN_DIR / "shadow.pth").write_text("import os; print('THROUGH a .pth ran', flush=True)\n")
(RUN_DIR / "pyvenv.cfg").write_text("home = /tmp\n")
for folder in (os.path.expanduser("~/.local/lib/python3.11/site-packages"), "/tmp"):
    os.makedirs(folder, exist_ok=True)
    for name in ("usercustomize", "sitecustomize"):
        with open(f"{folder}/{name}.py", "w") as file:
            file.write(SHOUT)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
