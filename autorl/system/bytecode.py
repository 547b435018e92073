"""Bytecode of the packages that runs import, compiled once after an installation: a confined run
cannot write any, and would compile torch anew in each of its budgets (about 5 s of it).
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = ("torch", "numpy", "gymnasium", "envpool", "mujoco", "Box2D", "cloudpickle")
STAMP = Path(sys.prefix) / "autorl-bytecode.txt"  # what was installed when all was compiled


def compile_packages() -> None:
    """Compile what is not compiled yet: some seconds after an installation, nothing afterwards.

    Packages that may not be written to (a system's own) are left as they are.
    """
    with contextlib.suppress(OSError):
        if STAMP.read_text(encoding="utf-8") == _installed():
            return
    if not os.access(sys.prefix, os.W_OK):
        return
    print(
        "autorl: compiling the installed packages, once for this installation (up to a minute)",
        file=sys.stderr,
    )
    specs = {name: importlib.util.find_spec(name) for name in PACKAGES}
    there = [name for name, spec in specs.items() if spec]
    folders = [f for s in specs.values() if s for f in s.submodule_search_locations or ()]
    # an import writes the bytecode of what these packages use, too
    imported = _quietly("-c", "; ".join(f"import {name}" for name in there))
    _quietly("-m", "compileall", "-q", "-q", "-j", "0", *folders)  # some examples do not compile
    if imported == 0:
        with contextlib.suppress(OSError):
            STAMP.write_text(_installed(), encoding="utf-8")


def _quietly(*arguments: str) -> int:
    """Exit code of Python with these arguments, its warnings and output left out."""
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-P", "-W", "ignore", *arguments]
    return subprocess.run(command, env=environment, capture_output=True).returncode


def _installed() -> str:
    """Changes with every installation into this environment."""
    return str(os.stat(sysconfig.get_paths()["purelib"]).st_mtime_ns)
