"""row 22 | R:vet | import a ready-made controller"""

from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics

from evaluate import evaluate_policy

evaluate_policy(BipedalWalkerHeuristics())
