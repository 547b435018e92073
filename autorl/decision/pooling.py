"""Which runs may be compared: one that got another share of the machine than its peers is not."""

import statistics
from collections.abc import Sequence

from autorl.records import MachineShare

# of the peers' median share; 30 runs of a quiet machine got .99 to 1.00 (benchmarks/LOG.md)
TOLERANCE = 0.90
STARVED = 0.5
MAX_GAP = 30.0  # seconds without a sample: the judge itself was stopped


def is_steady(
    share: MachineShare, peers: Sequence[MachineShare], late: bool = False
) -> tuple[bool, str]:
    """Whether a run may be pooled with its peers (counted runs on the same machine), or why not.

    Args:
        late: it did not end in time: then half of its cores is too little, whatever others got.
    """
    if share.suspended_seconds > 1.0:
        return False, f"the machine slept for {share.suspended_seconds:.0f} s during it"
    if share.max_gap_seconds > MAX_GAP:
        return False, f"the judge was stopped for {share.max_gap_seconds:.0f} s during it"
    known = [p.cpu_share for p in peers if p.cpu_share is not None]
    if share.cpu_share is None or len(known) < 2:
        if late and share.cpu_share is not None and share.cpu_share < STARVED:
            return False, f"other programs left it {share.cpu_share:.0%} of its cores"
        return True, ""
    usual = statistics.median(known)
    if not TOLERANCE * usual <= share.cpu_share <= usual / TOLERANCE:
        return False, f"it got {share.cpu_share:.0%} of its cores where the others got {usual:.0%}"
    return True, ""
