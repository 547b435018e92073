"""The judge as a process of its own, its side: job on standard input, record in its folder, dead with its parent."""

import json
import os
import signal
import sys
from pathlib import Path

from autorl.judge import process_tree
from autorl.judge.measure import measure
from autorl.records import Job, Progress, from_json, to_json
from autorl.system.files import atomic_write


def main() -> int:
    """Measure the one job that standard input names."""
    process_tree.prctl(process_tree.PR_SET_PDEATHSIG, signal.SIGKILL)
    process_tree.prctl(process_tree.PR_SET_CHILD_SUBREAPER, 1)
    task = json.loads(sys.stdin.readline())
    if os.getppid() != task["parent"]:
        return 1  # our parent died before we could ask to die with it
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    folder = Path(task["folder"])
    job = from_json(Job, task["job"])
    measure(
        job,
        folder,
        lambda progress: _write_progress(folder, progress),
        lambda: bool(told),
        Path(task["project"]),
    )
    return 0


def _write_progress(folder: Path, progress: Progress) -> None:
    atomic_write(folder / "progress.json", json.dumps(to_json(progress)).encode(), durable=False)
