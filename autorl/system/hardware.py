"""This machine: its cores, its GPUs, its name, and the versions of what a score depends on."""

import contextlib
import os
import platform


def affinity() -> tuple[int, ...]:
    """The cores this process may use."""
    return (
        tuple(sorted(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else tuple(range(os.cpu_count() or 1))
    )


def partition(cores: tuple[int, ...], places: int) -> list[tuple[int, ...]]:
    """Disjoint groups of cores, one for each place, as equal as can be; () = all cores this process may use.

    With fewer cores than places the groups are single cores, used in turn.
    """
    if not cores:
        cores = affinity()
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
        return tuple(
            str(i)
            for i in range(
                sum(name.removeprefix("nvidia").isdigit() for name in os.listdir("/dev"))
            )
        )
    except OSError:
        return ()


def processor() -> str:
    """The processor's name."""
    with (
        contextlib.suppress(OSError),
        open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file,
    ):
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """What a score depends on."""
    from importlib import metadata

    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in (
        "torch",
        "numpy",
        "gymnasium",
        "envpool",
        "mujoco",
        "box2d",
        "box2d-py",
        "cloudpickle",
    ):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine_name() -> str:
    """The machine in words, stable from start to start: processor and core count."""
    return f"{processor()}, {os.cpu_count() or 1} cores"
