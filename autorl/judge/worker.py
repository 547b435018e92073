"""A judge's own process: job on standard input, record in its folder, dead with its parent."""

import contextlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from autorl.errors import Paused
from autorl.judge import process_tree
from autorl.judge.measure import measure
from autorl.records import Job, Progress, from_json, to_json
from autorl.system.files import atomic_write

MAX_POINTS = 400  # of the curve in progress.json; then every other one goes


def main() -> int:
    """Measure the one job that standard input names."""
    process_tree.prctl(process_tree.PR_SET_PDEATHSIG, signal.SIGKILL)
    process_tree.prctl(process_tree.PR_SET_CHILD_SUBREAPER, 1)
    task = json.loads(sys.stdin.readline())
    if os.getppid() != task["parent"]:
        return 1  # our parent died before we could ask to die with it
    folder, terminated = Path(task["folder"]), False
    curve: list[tuple[float, float]] = []

    def terminate(*_: object) -> None:
        nonlocal terminated
        terminated = True

    def report(progress: Progress) -> None:
        if progress.phase == "training" and progress.episode_return is not None:
            if len(curve) == MAX_POINTS:
                del curve[::2]
            curve.append((round(progress.elapsed, 2), float(f"{progress.episode_return:.5g}")))
        data = json.dumps(to_json(replace(progress, curve=tuple(curve)))).encode()
        with contextlib.suppress(Paused):  # a full disk: only a view is missing
            atomic_write(folder / "progress.json", data, durable=False)

    signal.signal(signal.SIGTERM, terminate)
    job = from_json(Job, task["job"])
    measure(job, folder, report, lambda: terminated, Path(task["project"]))
    return 0
