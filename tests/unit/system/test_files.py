"""What a run's processes hold is counted once, whoever of them holds it."""

import os
import socket
import subprocess

from autorl.system.files import SOCKET_BYTES, nameless_usage


def test_a_socket_that_a_child_inherits_counts_once() -> None:
    before = nameless_usage([os.getpid()], device=0)[1]
    with (
        socket.socket() as inherited,
        subprocess.Popen(["sleep", "9"], pass_fds=[inherited.fileno()]) as child,
    ):
        held = nameless_usage([os.getpid(), child.pid], device=0)[1]
        child.kill()
    assert held == before + SOCKET_BYTES
