"""Where there is no PID namespace: stand between the judge and its child, and leave nobody behind.

    python -I -S subreaper.py LIFELINE -- command ...

Runs the command as a child and is the subreaper of everything below it, so a double fork does not
escape. When the command ends, or when the judge at the other end of the LIFELINE descriptor is gone
(kill -9 included), it kills all that is left and ends with the command's exit code. What it does
not do: stop a process that kills the guard itself; the judge sweeps again after it. Only the
standard library's lightest parts: it starts inside the run's clock.
"""

import ctypes
import os
import select
import signal
import sys
import time


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        try:
            for tid in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{tid}/children", "rb") as file:
                    children = [int(p) for p in file.read().split()]
                found += children
                todo += children
        except OSError:
            continue
    return found


def sweep() -> None:
    """Kill and reap until this process has no descendant."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for pid in below(os.getpid()):
            try:  # noqa: SIM105 (importing contextlib would take of the run's time)
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def main() -> int:
    lifeline, command = int(sys.argv[1]), sys.argv[3:]
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    os.set_inheritable(lifeline, False)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: dies with the guard
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    while True:
        ready = select.select([lifeline, woken], [], [])[0]
        if lifeline in ready:
            sweep()
            return 137
        os.read(woken, 4096)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    sweep()
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code
        except ChildProcessError:
            return 1


if __name__ == "__main__":
    sys.exit(main())
