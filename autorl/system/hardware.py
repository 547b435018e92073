"""This machine: its cores, its GPUs, its name, and the versions of what a score depends on."""

import contextlib
import itertools
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# what a score depends on, besides Python and the platform
PACKAGES = ("torch", "numpy", "gymnasium", "envpool", "mujoco", "box2d", "box2d-py", "cloudpickle")


def affinity() -> tuple[int, ...]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextlib.contextmanager
def pinned(cores: tuple[int, ...]) -> Iterator[None]:
    """This process, and the children it starts meanwhile, on these cores; () changes nothing."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = affinity()
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def partition(cores: tuple[int, ...], places: int) -> list[tuple[int, ...]]:
    """Disjoint groups of cores, one for each place, as equal as can be.

    With fewer cores than places the groups are single cores, used in turn.

    Args:
        cores: () = all that this process may use.
    """
    cores = cores or affinity()
    if places > len(cores):
        return [(cores[i % len(cores)],) for i in range(places)]
    size, extra = divmod(len(cores), places)
    starts = [i * size + min(i, extra) for i in range(places + 1)]
    return [cores[a:b] for a, b in itertools.pairwise(starts)]


def gpus(asked: str = "") -> tuple[str, ...]:
    """Names of this machine's CUDA devices, as CUDA_VISIBLE_DEVICES takes them.

    Those asked for, else those this process may use.
    """
    listed = asked or os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(name.strip() for name in listed.split(",") if name.strip())
    # device nodes: a container is given some of the host's
    nodes = [p for p in Path("/dev").glob("nvidia*") if p.name.removeprefix("nvidia").isdigit()]
    return tuple(map(str, range(len(nodes))))


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """What a score depends on: name -> version."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine_name() -> str:
    """The machine in words, stable from start to start: processor and core count."""
    return f"{processor()}, {os.cpu_count() or 1} cores"
