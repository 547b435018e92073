"""Machine honesty: which cores and GPU a place gets, and whether a run got as much machine as its peers.

What it does not do: measure the machine (the judge samples it all through a run).
"""

import os
import statistics
from collections.abc import Sequence

from autorl.records import MachineShare

TOLERANCE = 0.90  # of the peers' median share; 30 runs of a quiet machine got .99 to 1.00 (benchmarks/LOG.md)
MAX_GAP = 30.0  # seconds without a sample: the judge itself was stopped


def partition(cores: tuple[int, ...], places: int) -> list[tuple[int, ...]]:
    """Disjoint groups of cores, one for each place, as equal as can be; () = all cores this process may use.

    With fewer cores than places the groups are single cores, used in turn.
    """
    if not cores:
        cores = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else tuple(range(os.cpu_count() or 1))
    if places > len(cores):
        return [(cores[i % len(cores)],) for i in range(places)]
    size, extra = divmod(len(cores), places)
    groups, at = [], 0
    for i in range(places):
        width = size + (i < extra)
        groups.append(cores[at : at + width])
        at += width
    return groups


def gpus(asked: str = "") -> tuple[str, ...]:
    """Names of this machine's CUDA devices, as CUDA_VISIBLE_DEVICES takes them: those asked for, else those this process may use."""
    listed = asked or os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(name.strip() for name in listed.split(",") if name.strip())
    try:  # device nodes: a container is given some of the host's
        return tuple(str(i) for i in range(sum(name.removeprefix("nvidia").isdigit() for name in os.listdir("/dev"))))
    except OSError:
        return ()


def is_steady(share: MachineShare, peers: Sequence[MachineShare]) -> tuple[bool, str]:
    """Whether a run may be pooled with its peers (counted runs on the same machine), and if not, why."""
    if share.suspended_seconds > 1.0:
        return False, f"the machine slept for {share.suspended_seconds:.0f} s during it"
    if share.max_gap_seconds > MAX_GAP:
        return False, f"the judge was stopped for {share.max_gap_seconds:.0f} s during it"
    known = [p.cpu_share for p in peers if p.cpu_share is not None]
    if share.cpu_share is None or len(known) < 2:
        return True, ""
    usual = statistics.median(known)
    if not TOLERANCE * usual <= share.cpu_share <= usual / TOLERANCE:
        return False, f"it got {share.cpu_share:.0%} of its cores where the others got {usual:.0%}"
    return True, ""
