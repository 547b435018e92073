"""Row 22. Tries: the same ready-made controller, past the import rule: its name is put together at run time.

Must come of it: refused by the zero-budget control: it scores without time to train.
"""

import importlib

import numpy as np

from evaluate import evaluate_policy, log_metrics

Heuristics = getattr(importlib.import_module("gymnasium.envs.box2d." + "bipedal_walker"), "BipedalWalker" + "Heuristics")
log_metrics(1, num_updates=1)


class Agent:
    def reset(self, mask):
        if mask.all():
            self.walkers = [Heuristics() for _ in mask]

    def get_action(self, obs):
        return np.stack([walker.step_heuristic(np.asarray(row)) for walker, row in zip(self.walkers, obs, strict=True)]).astype(np.float32)


evaluate_policy(Agent())
