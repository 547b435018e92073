"""The cores of this machine, while a session measures on them: held, or waited for.

What it does not do: wait (loop/loop.py asks again and again), or divide them among runs.
"""

import contextlib
from collections.abc import Iterator

from autorl.errors import UserError
from autorl.judge import sandbox
from autorl.session import Settings
from autorl.system.hardware import affinity, gpus, partition
from autorl.system.locks import hold_cores


class Cores:
    """The cores of local runs, held against other loops on this machine.

    Raises:
        UserError: the machine lacks what the settings ask for.
    """

    def __init__(self, settings: Settings):
        self.wanted: tuple[int, ...] = ()
        self._held: contextlib.ExitStack | None = None
        if settings.runner != "local":
            return
        sandbox.probe(settings.sandbox)
        if settings.gpu and not gpus():
            raise UserError(f"--gpu {settings.gpu}: this machine has no CUDA device; leave it out.")
        (self.wanted,) = partition(settings.cores, 1)
        if settings.slots > len(self.wanted):
            raise UserError(
                f"--slots {settings.slots} needs as many cores for runs that do not disturb each "
                f"other; there are {len(self.wanted)}."
            )

    def others(self) -> str:
        """Take them; who has them, "" once they are ours."""
        who = ""
        if self.wanted and self._held is None:
            self._held, who = hold_cores(self.wanted)
        return who

    def release(self) -> None:
        """Let others have them."""
        if self._held:
            self._held.close()


@contextlib.contextmanager
def idle(most: int) -> Iterator[tuple[int, ...]]:
    """Up to so many cores that no loop holds, held meanwhile; () where there is none."""
    with contextlib.ExitStack() as held:
        cores: list[int] = []
        for core in affinity():
            if len(cores) < most and (each := hold_cores((core,))[0]):
                held.enter_context(each)
                cores.append(core)
        yield tuple(cores)
