"""The counted effect seam: every side effect of the loop passes `effect()`, so a test can stop the
program at effect N.

In normal use it only counts. Three environment variables, read at the first effect, serve the
tests:

    AUTORL_EFFECT_TRACE=FILE     append one line "N kind" for each effect
    AUTORL_KILL_AT=N[:after]     kill -9 this very process just before (or just after) effect N
    AUTORL_FAIL_AT=N:ERRNO[:k]   raise OSError(ERRNO, ...) instead of effects N .. N+k-1
                                 (k defaults to 1, "ever" has no end)

The numbering is per process. What it does not do: log, or know what the effect is.
`retry_when_full` is the one policy on failure that all writers share.
"""

import errno
import functools
import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

RETRY_PAUSES = (0.05, 0.5)  # seconds before the second and third try when the disk is full
FULL = (errno.ENOSPC, errno.EDQUOT)

_counter = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults that a test wants in this process."""

    trace: str = ""
    kill_at: int = 0  # 0: never
    kill_after: bool = False
    fail_first: int = 0  # 0: never
    fail_last: float = 0.0
    fail_errno: int = 0


@functools.cache
def _faults() -> Faults:
    kill_at, _, when = os.environ.get("AUTORL_KILL_AT", "").partition(":")
    fail_at, _, rest = os.environ.get("AUTORL_FAIL_AT", "").partition(":")
    code, _, count = rest.partition(":")
    first = int(fail_at or 0)
    return Faults(
        trace=os.environ.get("AUTORL_EFFECT_TRACE", ""),
        kill_at=int(kill_at or 0),
        kill_after=when == "after",
        fail_first=first,
        fail_last=float("inf") if count == "ever" else first + int(count or 1) - 1,
        fail_errno=getattr(errno, code) if code else 0,
    )


def effect(kind: str, act: Callable[[], T]) -> T:
    """Do `act()` as the next counted effect and return what it returns.

    Args:
        kind: what it is, in two words ("journal append", "child start", "API call"). A torn write
            is tested by making the two halves two effects.
        act: the effect itself, without arguments.
    """
    number, faults = next(_counter), _faults()
    if faults.trace:
        with open(faults.trace, "a", encoding="utf-8") as file:
            file.write(f"{number} {kind}\n")
    if faults.fail_first and faults.fail_first <= number <= faults.fail_last:
        raise OSError(faults.fail_errno, os.strerror(faults.fail_errno), kind)
    if faults.kill_at == number and not faults.kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    result = act()
    if faults.kill_at == number and faults.kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def retry_when_full(act: Callable[[], T]) -> T:
    """Do it; when the disk is full, try twice more after a pause: space may be freed meanwhile."""
    for pause in RETRY_PAUSES:
        try:
            return act()
        except OSError as error:
            if error.errno not in FULL:
                raise
            time.sleep(pause)
    return act()
