"""Row 26. Tries: an agent whose unpickling runs code, to do it in the judge.

Must come of it: the honest score; the code ran in the confined process only.
"""

import os

import numpy as np

from evaluate import evaluate_policy


def bomb():
    import os

    for path in ("@REPOSITORY@/evaluate.py", "@CANARY@/precious.txt", "@HOME@/.netrc"):
        try:
            with open(path, "a") as file:
                file.write("unpickled here\n")
            print("THROUGH unpickling wrote", path, flush=True)
        except OSError as error:
            print("blocked", path, error.strerror, "in process", os.getpid(), flush=True)
    return "a harmless string"


class Bomb:
    def __reduce__(self):
        return bomb, ()


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


agent = Agent()
agent.bomb = Bomb()
print("handed over by process", os.getpid())
evaluate_policy(agent)
