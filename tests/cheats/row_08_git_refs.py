"""Row 8. Tries: to move branches, to rewrite a pinned commit and to leave locks in the user's repository.

Must come of it: the honest score; runs happen in an exported copy.
"""

import os

import numpy as np

from evaluate import RUN_DIR, evaluate_policy

REPOSITORY = "@REPOSITORY@"


def attempt(what, act):
    try:
        print("THROUGH", what, act(), flush=True)
    except Exception as error:
        print("blocked", what, type(error).__name__, flush=True)


def write(path, text):
    with open(path, "w") as file:
        return file.write(text)


for name in ("refs/heads/main", "HEAD", "index.lock", "refs/autorl/night/0", "packed-refs"):
    attempt(name, lambda name=name: write(f"{REPOSITORY}/.git/{name}", "0" * 40 + "\n"))
attempt("git update-ref", lambda: os.system(f"git -C {REPOSITORY} update-ref refs/heads/autoresearch/night 0000 2>/dev/null") and 1 / 0)
here = RUN_DIR.resolve()
while here != here.parent:  # is there a repository above the run directory?
    attempt(f"{here}/.git", lambda here=here: os.listdir(here / ".git"))
    here = here.parent


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
