"""What can be looked up about an experiment: diff, records, an extract of its metrics, the end of
its log.

Reads the files of runs that are over, bounded, as data. What it does not do: trust anything in
them.
"""

import contextlib
import difflib
import json
from pathlib import Path

from autorl.judge.recording import NAME
from autorl.records import Experiment, Recording, from_json
from autorl.session.state import Run, SessionState
from autorl.system.files import read_regular, read_text

LOG_BYTES = 4096
METRICS_ROWS = 12
RECORDING_BYTES = 1 << 20


def diff_of(state: SessionState, n: int) -> str:
    """Unified diff of attempt `n` against its parent; "" for the baseline."""
    after, parent = state.attempts[n].source, state.attempts[n].parent
    before = after if parent is None else state.attempts[parent].source
    lines = (before.splitlines(True), after.splitlines(True))
    return "".join(difflib.unified_diff(*lines, "a/train.py", "b/train.py"))


def experiment(root: Path, state: SessionState, n: int) -> Experiment:
    """Attempt `n` in full.

    Raises:
        KeyError: there is no such attempt.
    """
    attempt = state.attempts[n]
    runs = [
        r
        for r in tuple(state.runs.values())
        if r.attempt == n and r.record is not None and r.kind == "measure"
    ]
    metrics = log = ""
    if runs:
        folder = root / runs[-1].folder
        log = read_text(folder / "run.log", LOG_BYTES, tail=True)
        lines = read_text(folder / "metrics.csv", 1 << 20).splitlines()
        if len(lines) > METRICS_ROWS + 1:
            step = (len(lines) - 1) / METRICS_ROWS
            lines = [lines[0], *(lines[int(1 + (i + 1) * step) - 1] for i in range(METRICS_ROWS))]
        metrics = "\n".join(lines)
    return Experiment(
        state.row(attempt),
        diff_of(state, n),
        tuple(r.record for r in runs if r.record),
        attempt.verdict,
        metrics,
        log,
    )


def recording(root: Path, state: SessionState, n: int) -> tuple[Run, Recording] | None:
    """What was recorded of attempt `n`: of its runs with a recording, the one whose score is the
    median; None where there is none."""
    found = []
    for run in state.runs_of(n):
        with contextlib.suppress(OSError, ValueError):
            if run.counted and run.record and run.record.scored:
                data = read_regular(root / run.folder / NAME, RECORDING_BYTES)
                found.append((run.record.avg_return, run, from_json(Recording, json.loads(data))))
    if not found:
        return None
    found.sort(key=lambda item: item[0] or 0.0)
    return found[(len(found) - 1) // 2][1:]
