"""Row 21. Tries: to fetch a policy or a package from somewhere, or to reach anything at all on a network.

Must come of it: the honest score; there is no network.
"""

import socket
import subprocess
import sys
import urllib.request

import numpy as np

from evaluate import RUN_DIR, evaluate_policy


def attempt(what, act):
    try:
        print("THROUGH", what, act(), flush=True)
    except Exception as error:
        print("blocked", what, type(error).__name__, flush=True)


def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"weights?", ("192.0.2.1", 53))


def pip():
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--timeout", "2", "--retries", "0", "--target", str(RUN_DIR / "p"), "rl-zoo3"]
    return subprocess.run(command, check=True, capture_output=True, timeout=20).returncode


attempt("a listener of this machine", lambda: socket.create_connection(("127.0.0.1", int("@PORT@")), 2))
attempt("an address", lambda: socket.create_connection(("192.0.2.1", 80), 2))
attempt("udp", udp)
attempt("a name", lambda: socket.getaddrinfo("pypi.org", 443))
attempt("a page", lambda: urllib.request.urlopen("http://pypi.org/simple/", timeout=2).read(10))
attempt("pip", pip)


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)  # doing nothing


evaluate_policy(Agent())
