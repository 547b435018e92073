"""What all runners share: which runs are under way, since when, and what is known of them."""

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from autorl.errors import UserError
from autorl.records import Job, Progress


@dataclass
class Run:
    """One run under way."""

    job: Job
    folder: Path  # where its artefacts go
    process: "subprocess.Popen[bytes] | None" = None  # None where it is another machine's
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.began


class Runs:
    """The part of `interfaces.Runner` that is the same wherever runs happen.

    Args:
        places: how many runs at once.
    """

    survives_restart, owns_cores, invents_scores = False, True, False

    def __init__(self, places: int = 1):
        if places < 1:
            raise UserError(f"--slots {places}: at least 1 run must be allowed at once.")
        self.places = places
        self.runs: dict[str, Run] = {}  # by handle

    def worst_usd(self, job: Job) -> float:
        """Nothing: it is one's own machine."""
        return 0.0

    def close(self) -> None:
        """Nothing is held between runs."""

    def progress(self, handle: str) -> Progress | None:
        """Seconds since it was started; None when it is over."""
        run = self.runs.get(handle)
        return Progress("starting", run.elapsed, run.job.time_budget) if run else None

    def attach(self, handle: str, job: Job, folder: Path) -> bool:
        """False: a run dies with the loop that started it."""
        return False
