"""row 30 | C:log | endless output, no newline, binary"""

import sys

import numpy as np


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


while True:
    sys.stdout.buffer.write(b"\xff\x1b[2J\r" * 10_000)
