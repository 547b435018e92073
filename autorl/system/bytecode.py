"""Bytecode of the packages that runs import, compiled once.

A confined run cannot write any, and would compile torch anew in each of its budgets (about 5 s of
it).
"""

import compileall
import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from autorl.system.hardware import versions

PACKAGES = ("torch", "numpy", "gymnasium", "envpool", "mujoco", "Box2D", "cloudpickle")
STAMP = Path(sys.prefix) / "autorl-bytecode.json"  # the versions that were compiled


def compile_packages() -> None:
    """Compile what is not compiled yet: some seconds after an installation, nothing afterwards.

    Packages that may not be written to (a system's own) are left as they are.
    """
    now = json.dumps(versions())
    with contextlib.suppress(OSError):
        if STAMP.read_text(encoding="utf-8") == now:
            return
    if not os.access(sys.prefix, os.W_OK):
        return
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in (spec and spec.submodule_search_locations) or ():
            if os.access(folder, os.W_OK):
                compileall.compile_dir(folder, quiet=2, workers=0)
    with contextlib.suppress(OSError):
        STAMP.write_text(now, encoding="utf-8")
