"""Files that leave a daemon behind, or hang and ignore SIGTERM; and whether one is alive."""

import os
import time

from played_alone import NOTHING, command_lines

MARK = f"autorl-test-daemon-{os.getpid()}"  # not the daemon of another checkout's tests
DAEMON = (
    NOTHING
    + """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleep = "import time; time.sleep(3600)"
        os.execv(sys.executable, [sys.executable, "-c", sleep, "MARK"])
    os._exit(0)
""".replace("MARK", MARK)
)
HANG = DAEMON + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3600)\n"


def alive(mark: str) -> list[int]:
    return [pid for pid, line in command_lines().items() if mark in line]


def gone(mark: str, patience: float = 10.0) -> bool:
    deadline = time.monotonic() + patience
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(mark)
