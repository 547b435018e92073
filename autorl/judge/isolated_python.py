"""How the judge's own processes start: isolated from what a run or a variable could put before it.

`-I` (no user site, no PYTHON* variables, no current folder on the path) and an allow-listed
environment: no key. The checkout and the folders of PYTHONPATH, where modules of environments may
lie, come after what is installed.
"""

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from autorl.system.faults import effect
from autorl.system.files import PROJECT

PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR",
    "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "AUTORL_HOME",
)  # fmt: skip


# autorl from here; else nothing of the checkout before what is installed: whoever wrote a
# gymnasium.py there would step the environments
AUTORL = (
    "import sys; from importlib import util; "
    "spec = util.spec_from_file_location('autorl', {root!r} + '/autorl/__init__.py'); "
    "sys.modules['autorl'] = util.module_from_spec(spec); "
    "spec.loader.exec_module(sys.modules['autorl']); "
    "sys.modules['autorl'].installed_first(); sys.path += {folders!r}"
)


def start(
    code: str, task: dict[str, Any], pycache: str | None = None, **popen: Any
) -> "subprocess.Popen[bytes]":
    """Start an isolated interpreter that can import autorl and runs `code`.

    Args:
        task: is written to its standard input, as one line of JSON.
        pycache: where its bytecode goes; else where this interpreter's does.
        popen: further arguments of subprocess.Popen.
    """
    cache = pycache or sys._xoptions.get("pycache_prefix")
    option = ["-X", f"pycache_prefix={cache}"] if cache else []
    preamble = AUTORL.format(root=str(PROJECT), folders=[str(PROJECT), *python_path()])
    argv = [sys.executable, "-I", *option, "-c", f"{preamble}; {code}"]
    process: subprocess.Popen[bytes] = effect(
        "child start",
        lambda: subprocess.Popen(argv, stdin=subprocess.PIPE, env=_environment(), **popen),
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps(task).encode() + b"\n")
    return process


def python_path() -> list[str]:
    """The folders that the user's PYTHONPATH names."""
    found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.abspath(folder) for folder in found if folder]


def _environment() -> dict[str, str]:
    """What of our environment a judge and its workers see."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if home := env.get("AUTORL_HOME"):
        env["AUTORL_HOME"] = os.path.abspath(home)  # a judge's current folder is another
    env["PYTHONPATH"] = os.pathsep.join(python_path())
    return env | {"OMP_NUM_THREADS": "1"}
