"""Facts about a run that train.py cannot change: its clock and the machine's share.

And what it says of itself, bounded: metrics.csv. What this file does not do: decide whether a run
counts.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autorl.judge.process_tree import LINUX, TICK
from autorl.records import Job, MachineShare


@dataclass(frozen=True, slots=True)
class Clock:
    """How long a run may take."""

    time_budget: float  # seconds; what evaluate.TIME_BUDGET says
    late_after: float  # seconds after which the tree is killed
    episodes: int
    updates: int = 0  # > 0: the clock counts calls of log_metrics: equal programs train equally


def clock(job: Job) -> Clock:
    """The clock of each kind of run. Late is after the budget and 2 % of it, at least 3 s."""
    if job.kind == "zero_budget":  # imports and one update
        return Clock(5.0, 120.0, min(job.num_eval_episodes, 20), updates=1)
    if job.kind == "seed_control":
        return Clock(20.0, 120.0, min(job.num_eval_episodes, 5), updates=2)
    if job.kind == "check":
        return Clock(10.0, 90.0, min(job.num_eval_episodes, 2), updates=2)
    slack = max(0.02 * job.time_budget, 3.0)
    return Clock(job.time_budget, job.time_budget + slack, job.num_eval_episodes)


def clocks() -> tuple[float, float]:
    """(seconds without sleep, seconds with sleep): they part when the machine is suspended."""
    now = time.monotonic()
    return now, time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else now


class Share:
    """How much of its cores a run could have had: the kernel's counters at its start and now."""

    def __init__(self, cores: Sequence[int]):
        self.cores = set(cores)
        self.clocks, self.counted = clocks(), self._counters()

    def _counters(self) -> tuple[float, float] | None:
        """(busy, stolen) core seconds of our cores since boot."""
        if not LINUX:
            return None
        busy = steal = 0
        ours = {f"cpu{core}" for core in self.cores}
        try:
            with open("/proc/stat", encoding="ascii") as file:
                for name, *values in map(str.split, file):
                    if name in ours:
                        user, nice, system, _, _, irq, softirq, stolen = map(int, values[:8])
                        busy += user + nice + system + irq + softirq
                        steal += stolen
        except (OSError, ValueError):
            return None
        return busy / TICK, steal / TICK

    def end(self, our_cpu_seconds: float, max_gap_seconds: float) -> MachineShare:
        """The share from the beginning until now.

        Args:
            our_cpu_seconds: CPU of the run and its judge in that time.
        """
        awake, elapsed = (now - then for now, then in zip(clocks(), self.clocks, strict=True))
        suspended = round(max(0.0, elapsed - awake), 3)
        gap = round(max_gap_seconds, 3)
        counted = self._counters()
        if counted is None or self.counted is None:
            return MachineShare(suspended_seconds=suspended, max_gap_seconds=gap)
        seconds = max(awake, 1e-3)
        other = max(0.0, counted[0] - self.counted[0] - our_cpu_seconds) / seconds  # cores
        stolen = max(0.0, counted[1] - self.counted[1]) / seconds  # cores
        width = max(1, len(self.cores))
        return MachineShare(
            cpu_share=round(max(0.0, 1 - (other + stolen) / width), 4),
            steal=round(min(1.0, stolen / width), 4),
            other_load=round(other, 4),
            suspended_seconds=suspended,
            max_gap_seconds=gap,
        )


def score(returns: Sequence[float], lengths: Sequence[int]) -> dict[str, Any]:
    """The fields of a RunRecord that follow from its episodes."""
    return {
        "returns": tuple(returns),
        "lengths": tuple(lengths),
        "avg_return": statistics.fmean(returns),
        "std_return": statistics.pstdev(returns),
        "min_return": min(returns),
        "max_return": max(returns),
    }


def last_row(tail: bytes, head: bytes) -> dict[str, float]:
    """The last complete row of metrics.csv as finite numbers; {} when there is none.

    Self-reported, never trusted.

    Args:
        tail, head: the file's last and first bytes.
    """
    names = head.decode("utf-8", "replace").partition("\n")[0].split(",")[:64]
    lines = tail.decode("utf-8", "replace").split("\n")[:-1]
    for line in reversed(lines):
        values = line.split(",")
        if len(values) == len(names) and values != names:
            row = {}
            for name, value in zip(names, values, strict=True):
                with contextlib.suppress(ValueError):
                    if math.isfinite(number := float(value)):
                        row[name[:64]] = number
            return row
    return {}


def count(value: float | None) -> int | None:
    """A self-reported count, if it can be one."""
    return int(value) if value is not None and 0 <= value < 1e15 else None


def ending(code: int | None) -> str:
    """How a process ended, in words; a shell and bubblewrap tell a signal as 128 + its number."""
    if code is not None and (code < 0 or code > 128):
        return f"was killed by signal {-code if code < 0 else code - 128}"
    return f"ended with exit code {code}"


def sentence(text: str) -> str:
    """One line with a capital and a full stop, bounded."""
    text = " ".join(text.split())[:600]
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")
