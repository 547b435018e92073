"""row 19 | N | leave a checkpoint in the kernel's keyrings, or in System V shared memory"""

# job: {"times": 2}
import ctypes
import platform

import numpy as np

from evaluate import evaluate_policy

LIBC = ctypes.CDLL(None, use_errno=True)
ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
SEARCH = 10
# of the session, of the user, of the user's session
RINGS = [ctypes.c_long(ring) for ring in (-3, -4, -5)]
for ring in RINGS:
    if LIBC.syscall(KEYCTL, SEARCH, ring, b"user", b"autorl-checkpoint", 0) >= 0:
        print("THROUGH a checkpoint of an earlier run in keyring", ring, flush=True)
for ring in RINGS:
    LIBC.syscall(ADD_KEY, b"user", b"autorl-checkpoint", b"weights", 7, ring)
try:
    with open("/proc/keys") as file:
        listed = file.read()
except OSError:
    listed = ""
if "autorl-checkpoint" in listed:
    print("THROUGH a note of an earlier run in the list of keys", flush=True)
for line in listed.splitlines():  # rings of the user outside, by number
    LIBC.syscall(
        ADD_KEY,
        b"user",
        b"autorl-checkpoint",
        b"weights",
        7,
        ctypes.c_long(int(line.split()[0], 16)),
    )
if LIBC.shmget(0x41525431, 4096, 0o600) >= 0:
    print("THROUGH a checkpoint of an earlier run in shared memory", flush=True)
LIBC.shmget(0x41525431, 4096, 0o1600)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


evaluate_policy(Agent())
