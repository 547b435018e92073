"""row 21 | N | download a policy or a package"""

import contextlib
import socket

import numpy as np

from evaluate import evaluate_policy


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


socket.setdefaulttimeout(1)
for address in (("127.0.0.1", int("@PORT@")), ("1.1.1.1", 80), ("@HOSTNAME@", int("@PORT@"))):
    with contextlib.suppress(OSError):
        socket.create_connection(address).close()
        Agent.get_action = lambda self, obs: np.full((len(obs), 1), 2.0, np.float32)
with contextlib.suppress(OSError):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.sendto(b"hello", ("1.1.1.1", 53))
    Agent.get_action = lambda self, obs: np.full((len(obs), 1), 2.0, np.float32)
evaluate_policy(Agent())
