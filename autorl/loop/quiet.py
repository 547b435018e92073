"""The share of the machine: what is usual, waiting for it, and which runs are repeated for it.

A score is never adjusted. In the search every run with a score counts (decision/update.py); in a
claim one with another share is repeated once. What it does not do: start a run.
"""

import os
import statistics
import time
from collections.abc import Sequence

from autorl.decision.explain import percent
from autorl.decision.rules import TOLERANCE
from autorl.judge.machine_share import Share
from autorl.records import MachineShare

PEERS = 7  # newest runs whose median share is the usual
MAX_GAP = 30.0  # seconds without a sample: the judge itself was stopped
MOST = 600.0  # seconds that a run is waited for, and never more than it takes
SHORTEST = 60.0  # seconds of a run that is waited for: a look at less tells nothing
UNSAID = 10.0  # seconds of a wait that nobody is told of: a command was typed
WINDOW = 5.0  # seconds over which the share is read, and at most a hundredth of a run


def usual(shares: Sequence[float]) -> float:
    """The share that runs got, oldest first; before the first run all of the cores, 1."""
    return statistics.median(shares[-PEERS:]) if shares else 1.0


def disturbed(share: MachineShare) -> str:
    """Why a run was no run, else ""."""
    if share.suspended_seconds > 1.0:
        return f"the machine slept for {share.suspended_seconds:.0f} s during it"
    if share.max_gap_seconds > MAX_GAP:
        return f"the judge was stopped for {share.max_gap_seconds:.0f} s during it"
    return ""


def unusual(share: MachineShare, shares: Sequence[float]) -> str:
    """How a run's share differs from those of the runs before it, else ""; two are compared with
    at least.
    """
    got, others = share.cpu_share, usual(shares)
    if got is None or len(shares) < 2 or TOLERANCE * others <= got <= others / TOLERANCE:
        return ""
    return (
        f"it got {percent(got)} of its cores and the others {percent(others)}, "
        "too far apart to be compared"
    )


class QuietWait:
    """The wait before one run.

    Args:
        seconds: what a run takes.

    Attributes:
        why: what is waited for, in words; "" while nothing is.
    """

    def __init__(self, seconds: float):
        self.most, self.window = min(MOST, seconds), min(WINDOW, seconds / 100)
        self.why, self._began, self._at, self._ours = "", 0.0, 0.0, 0.0
        self._share: Share | None = None

    def over(self, cores: Sequence[int], usual: float) -> bool:
        """Whether a run may begin: its cores are as free as usual, or were waited for enough."""
        now, ours = time.monotonic(), sum(os.times()[:4])
        if self._share is None or self._share.cores != set(cores):
            self._began = self._began or now
            self._at, self._ours, self._share = now, ours, Share(cores)
            return False
        if now - self._at < self.window:
            return False
        free = self._share.end(ours - self._ours, 0.0).cpu_share
        self._share = None
        if free is None or free >= TOLERANCE * usual or now - self._began >= self.most:
            self.why, self._began = "", 0.0
            return True
        if now - self._began < min(UNSAID, self.most / 10):
            return False
        most = f"{self.most / 60:.0f} minutes" if self.most >= 120 else f"{self.most:.0f} s"
        self.why = f"{percent(1 - free)} of the cores went to others; waiting up to {most}"
        return False
