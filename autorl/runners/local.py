"""Runs on this machine: one isolated judge process per run, which dies with the loop.

What this file does not do: measure (judge/ does), or keep a run alive beyond its loop.
"""

import contextlib
import subprocess
import time
import weakref
from pathlib import Path

from autorl import judge
from autorl.judge import run_dir, sandbox
from autorl.records import Job, Progress, RunRecord
from autorl.runners.base import Run, Runs
from autorl.system.files import PROJECT


class LocalRunner(Runs):
    """An interfaces.Runner over child processes of this one.

    Args:
        places: how many runs at once.
        root: the repository; private run directories live under <root>/.autorl/runs.
    """

    def __init__(self, places: int = 1, root: Path = PROJECT):
        super().__init__(places)
        self.root = root
        run_dir.sweep(root)  # what a loop that was killed left behind
        # bytecode that only judges write; gone with this object, or at the next sweep
        with contextlib.ExitStack() as stack:
            self._bytecode = stack.enter_context(run_dir.private_directory(root, "bytecode"))
            self._forget = weakref.finalize(self, stack.pop_all().close)

    def close(self) -> None:
        """Remove the bytecode; also happens when this object is collected."""
        self._forget()

    def start(self, job: Job, folder: Path) -> str:
        """Begin a run; the handle names the judge's process.

        Its bytecode cache is one that only judges of this loop write; an unconfined run could reach
        it, so there it is a fresh one.
        """
        confined = sandbox.probe(job.sandbox).confined
        cache = self._bytecode / ("shared" if confined else f"run-{time.monotonic_ns()}")
        process = judge.launch(job, folder, cache, self.root)
        handle = f"local:{process.pid}:{time.monotonic_ns()}"
        self.runs[handle] = Run(job, folder, process)
        return handle

    def poll(self, handle: str) -> RunRecord | None:
        """The record when the judge has ended, else None."""
        run = self.runs[handle]
        assert run.process is not None
        record = judge.collect(run.process, run.folder, run.job)
        if record is not None:
            del self.runs[handle]
        return record

    def progress(self, handle: str) -> Progress | None:
        """The judge's latest report."""
        run = self.runs.get(handle)
        return (run and judge.read_progress(run.folder)) or super().progress(handle)

    def cancel(self, handle: str) -> None:
        """End the judge and everything below it; its private directory is removed too."""
        run = self.runs.pop(handle, None)
        if run is None or run.process is None:
            return
        for end in (run.process.terminate, run.process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(3.0)
                break
        judge.collect(run.process, run.folder, run.job)  # removes its scratch files
        run_dir.sweep(self.root)
