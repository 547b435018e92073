"""row 20 | R:zero_budget | paste a solved controller of four numbers"""

# job: {"kind": "zero_budget", "env_id": "InvertedPendulum-v5"}
import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return (obs.numpy() @ np.array([[0.6], [12.0], [0.9], [2.2]], np.float32)).astype(
            np.float32
        )


evaluate_policy(Agent())
