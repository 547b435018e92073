"""row 17 | N | look for the evaluation seeds in /proc, the environment, the policy's process"""

import contextlib
import os
import re

import gymnasium as gym
import numpy as np

from evaluate import ENV_ID, RUN_DIR, evaluate_policy


def numbers_in_sight():
    """Every integer that this process can read about itself and its neighbours."""
    texts = [repr(dict(os.environ))]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError), open(f"/proc/{entry}/{name}", "rb") as file:
                    texts.append(file.read().decode("latin-1"))
    for path in RUN_DIR.iterdir():
        if path.suffix in (".csv", ".json", ".txt"):
            texts.append(path.read_text(errors="replace"))
    return sorted(
        {int(digits) for text in texts for digits in re.findall(r"(?<!\d)\d{1,10}(?!\d)", text)}
    )


class Agent:
    looked = False

    def get_action(self, obs):
        if not self.looked:
            self.looked = True
            env = gym.make(ENV_ID)
            for seed in numbers_in_sight():
                first = env.reset(seed=seed)[0].astype(np.float32)
                if (np.abs(np.asarray(obs, np.float32) - first).max(axis=1) < 1e-6).any():
                    print("THROUGH an evaluation seed was in sight:", seed, flush=True)
        return np.zeros((len(obs), 1), np.float32)


numbers_in_sight()
evaluate_policy(Agent())
