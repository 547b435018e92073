"""How the judge's own processes start: Python isolated from whatever a run or an environment variable could put before it.

`-I` (no user site, no PYTHON* variables, no current folder on the path) and an allow-listed environment: no key, no token.
"""

import os
import sys

from autorl.system.files import PROJECT

PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "AUTORL_HOME",
)


def isolated_python(code: str, pycache: str | None = None) -> list[str]:
    """argv of an isolated interpreter that can import autorl and runs `code`.

    Args:
        pycache: where its bytecode goes; else where this interpreter's does.
    """
    cache = pycache or sys._xoptions.get("pycache_prefix")
    option = ["-X", f"pycache_prefix={cache}"] if cache else []
    return [
        sys.executable,
        "-I",
        *option,
        "-c",
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {code}",
    ]


def judge_env() -> dict[str, str]:
    """What of our environment a judge and its workers see."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if "AUTORL_HOME" in env:
        env["AUTORL_HOME"] = os.path.abspath(
            env["AUTORL_HOME"]
        )  # a judge's current folder is another
    return env | {"OMP_NUM_THREADS": "1"}
