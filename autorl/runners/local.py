"""Runs on this machine: one isolated judge process per run, which dies with the loop.

What this file does not do: measure (judge/ does), or keep a run alive beyond its loop: `attach` is always False.
"""

import contextlib
import os
import signal
import subprocess
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from autorl import judge
from autorl.judge import run_dir, sandbox
from autorl.records import Job, Progress, RunRecord
from autorl.system.files import PROJECT


@dataclass
class _Flight:
    process: subprocess.Popen[bytes]
    job: Job
    folder: Path
    started: float
    record: RunRecord | None = None


class LocalRunner:
    """A interfaces.Runner over child processes of this one.

    Args:
        places: how many runs at once.
        root: the repository; private run directories live under <root>/.autorl/runs.
    """

    name = "local"
    survives_restart, owns_cores, invents_scores = False, True, False

    def __init__(self, places: int = 1, root: Path = PROJECT):
        self.places, self.root = places, root
        self._flights: dict[str, _Flight] = {}
        run_dir.sweep(root)  # what a loop that was killed left behind
        with (
            contextlib.ExitStack() as stack
        ):  # bytecode that only judges write; gone with this object, or at the next sweep
            self._bytecode = stack.enter_context(run_dir.private_directory(root, "bytecode"))
            self._forget = weakref.finalize(self, stack.pop_all().close)

    def close(self) -> None:
        """Remove what this runner kept between runs; also happens when it is collected, but not when a process exits at once."""
        self._forget()

    def worst_usd(self, job: Job) -> float:
        return 0.0

    def start(self, job: Job, folder: Path) -> str:
        """Begin a run; the handle names the judge's process.

        Its bytecode cache is one that only judges of this loop write; an unconfined run could reach it, so there it is a fresh one.
        """
        cache = self._bytecode / (
            "shared" if sandbox.probe(job.sandbox).confined else f"run-{time.monotonic_ns()}"
        )
        process = judge.launch(job, folder, cache, self.root)
        handle = f"local:{process.pid}:{time.monotonic_ns()}"
        self._flights[handle] = _Flight(process, job, folder, time.monotonic())
        return handle

    def poll(self, handle: str) -> RunRecord | None:
        """The record when the judge has ended, else None."""
        flight = self._flights[handle]
        if flight.record is None:
            flight.record = judge.collect(flight.process, flight.folder, flight.job)
        return flight.record

    def progress(self, handle: str) -> Progress | None:
        """The judge's last look."""
        flight = self._flights.get(handle)
        if flight is None or flight.record is not None:
            return None
        return judge.read_progress(flight.folder) or Progress(
            "starting", time.monotonic() - flight.started, flight.job.time_budget
        )

    def attach(self, handle: str, job: Job, folder: Path) -> bool:
        """False: a local run dies with its loop."""
        return False

    def cancel(self, handle: str) -> None:
        """End the judge, and with it everything below it; its private directory goes too."""
        flight = self._flights.pop(handle, None)
        if flight is None:
            return
        for sent, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            if flight.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(flight.process.pid, sent)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    flight.process.wait(patience)
        judge.collect(flight.process, flight.folder, flight.job)  # takes its scratch files away
        run_dir.sweep(self.root)
