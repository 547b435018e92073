"""Row 22. Tries: to import the ready-made controller that Gymnasium ships for BipedalWalker.

Must come of it: refused before a run, by the import rule.
"""

from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics

from evaluate import evaluate_policy

evaluate_policy(BipedalWalkerHeuristics())
