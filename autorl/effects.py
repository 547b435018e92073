"""The counted effect seam: every side effect of the loop passes `effect()`, so a test can stop the program at effect N.

Nothing happens here in normal use but counting. Three environment variables, read once at import, serve the tests:

    AUTORL_EFFECT_TRACE=FILE     append one line "N kind" for each effect
    AUTORL_KILL_AT=N[:after]     kill -9 this very process just before (or just after) effect N
    AUTORL_FAIL_AT=N:ERRNO[:k]   raise OSError(ERRNO, ...) instead of effects N .. N+k-1 (k defaults to 1, "ever" has no end)

The numbering is per process. What it does not do: retry, log, or know what the effect is.
"""

import errno
import itertools
import os
import signal
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_counter = itertools.count(1)
_trace = os.environ.get("AUTORL_EFFECT_TRACE")
_kill_at, _, _kill_when = os.environ.get("AUTORL_KILL_AT", "").partition(":")
_fail_at, _, _fail_rest = os.environ.get("AUTORL_FAIL_AT", "").partition(":")
_fail_errno, _, _fail_count = _fail_rest.partition(":")


def effect(kind: str, act: Callable[[], T]) -> T:
    """Do `act()` as the next counted effect and return what it returns.

    Args:
        kind: what it is, in two or three words ("journal append", "ref move", "child start", "file write",
            "git object", "API call", "remote submit"). A torn write is tested by making the two halves two effects.
        act: the effect itself, without arguments.
    """
    number = next(_counter)
    if _trace:
        with open(_trace, "a", encoding="utf-8") as file:
            file.write(f"{number} {kind}\n")
    if _fail_at:
        first = int(_fail_at)
        last = float("inf") if _fail_count == "ever" else first + int(_fail_count or 1) - 1
        if first <= number <= last:
            code = getattr(errno, _fail_errno)
            raise OSError(code, os.strerror(code), kind)
    if _kill_at and int(_kill_at) == number and _kill_when != "after":
        os.kill(os.getpid(), signal.SIGKILL)
    result = act()
    if _kill_at and int(_kill_at) == number and _kill_when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result
