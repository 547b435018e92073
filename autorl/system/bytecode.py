"""Bytecode of the packages that runs import, compiled once after an installation: a confined run
cannot write any, and would compile torch anew in each of its budgets (about 5 s of it).
"""

import compileall
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
    there = [name for name in PACKAGES if importlib.util.find_spec(name)]
    # an import writes the bytecode of what these packages use, too
    code = "; ".join(f"import {name}" for name in there)
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True)
    for name in there:
        spec = importlib.util.find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            compileall.compile_dir(folder, quiet=2, workers=0)
    if done.returncode == 0:
        with contextlib.suppress(OSError):
            STAMP.write_text(_installed(), encoding="utf-8")


def _installed() -> str:
    """Changes with every installation into this environment."""
    return str(os.stat(sysconfig.get_paths()["purelib"]).st_mtime_ns)
