"""argv -> confined argv: bubblewrap on Linux, nothing silently.

    box = probe("auto")                     # really starts one; Sandbox(name="bwrap" | "none", why=...)
    argv = wrap(box, ["python", "train.py"], run_dir=..., harness=..., env=...)
    advice()                                # one line: what is missing and how to get it

What this file does not do: start the run, watch it, or fall back without saying so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["auto", "bwrap", "off"]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What confinement there is on this machine, for this mode."""

    name: Literal["bwrap", "none"]
    why: str = ""  # one line: why it is "none"

    @property
    def confined(self) -> bool:
        return self.name != "none"


def probe(mode: Mode = "auto") -> Sandbox:
    """Try it."""
    return Sandbox("none", "not built yet")


def wrap(box: Sandbox, argv: Sequence[str], *, run_dir: Path, harness: Path, env: Mapping[str, str]) -> list[str]:
    """The argv that runs `argv` confined."""
    return list(argv)


def advice(mode: Mode = "auto") -> str:
    """One line about what is missing and how to get it; "" when nothing is."""
    box = probe(mode)
    return "" if box.confined else box.why


def notice(mode: Mode = "auto") -> str:
    """What a session says at its start about its isolation; "" when it is confined."""
    return advice(mode)
