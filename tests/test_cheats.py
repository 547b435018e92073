"""The corpus of cheats: each tests/cheats/*.py is measured by the real judge in the real sandbox and must end as it must.

    uv run pytest tests/test_cheats.py                 # the default share
    uv run pytest tests/test_cheats.py -m 'long or not long'
    uv run python tests/test_cheats.py [NAME ...]      # run them and print the table

Outcomes: N neutralised (scored, and each return is exactly what doing nothing has on the seeds in the record), C fails
with a rule and no score, R refused (by the static look or a control), F flagged for a person. After each run everything
outside its run directory is as it was (the repository, HOME, a folder in /tmp, the Python environment), no secret is in
what is kept, and no process of it lives. What this file does not do: test the sandbox's flags one by one.
"""

import dataclasses
from pathlib import Path
from typing import Any

from autorl.records import GIB, MIB, Limits

CORPUS = Path(__file__).resolve().parent / "cheats"
SECRET = "sk-ant-CANARY-3141592653"
LIMITS = Limits(memory_bytes=int(1.2 * GIB), processes=128, disk_bytes=96 * MIB, log_bytes=4 * MIB)
ENV_ID, EPISODES, BUDGET = "Pendulum-v1", 3, 20.0


@dataclasses.dataclass(frozen=True)
class Must:
    """What must come of one cheat."""

    out: str  # N, C, R or F
    rule: str = ""  # of the record
    words: str = ""  # in its reason (or in what the static look or the control says)
    says: str = ""  # in its log: the attempt was really made
    long: bool = False
    job: dict[str, Any] = dataclasses.field(default_factory=dict)
    honest: bool = True  # N: the returns are those of doing nothing
    none: bool = False  # must end the same without a sandbox


M = Must
