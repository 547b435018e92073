"""What can be looked up about an experiment: diff, records, learning curves, what made it crash,
the end of its log.

Reads the files of runs that are over, bounded, as data. What it does not do: trust anything in
them.
"""

import contextlib
import difflib
import json
import re
from pathlib import Path

from autorl.judge.recording import NAME
from autorl.records import Crash, Experiment, Quarters, Recording, RunRecord, from_json
from autorl.report import curves
from autorl.session.attempts import Run
from autorl.session.state import SessionState
from autorl.system.files import read_regular, read_text

LOG_BYTES = 4096
METRICS_BYTES = 1 << 22
CURVED = 4  # runs of an experiment that its curves are the mean of
COARSE = 20  # points of a curve of which only the quarters are told
RECORDING_BYTES = 1 << 20


def diff_of(state: SessionState, n: int) -> str:
    """Unified diff of attempt `n` against its parent; "" for the baseline."""
    after, parent = state.attempts[n].source, state.attempts[n].parent
    before = after if parent is None else state.attempts[parent].source
    lines = (before.splitlines(True), after.splitlines(True))
    return "".join(difflib.unified_diff(*lines, "a/train.py", "b/train.py"))


def experiment(root: Path, state: SessionState, n: int, beside: int | None = None) -> Experiment:
    """Attempt `n` in full.

    Args:
        beside: another attempt, whose metrics are shown too; None: the incumbent, and for the
            incumbent its parent.

    Raises:
        KeyError: there is no such attempt.
    """
    attempt, incumbent = state.attempts[n], state.incumbent()
    if beside is None and incumbent is not None:
        beside = attempt.parent if incumbent.n == n else incumbent.n
    runs = [r for r in state.every_run_of(n) if r.record is not None and r.kind == "measure"]
    folder = root / runs[-1].folder if runs else None
    return Experiment(
        state.row(attempt),
        diff_of(state, n),
        tuple(r.record for r in runs if r.record),
        attempt.verdict,
        read_text(folder / "run.log", LOG_BYTES, tail=True) if folder else "",
        _metrics_beside(root, state, n, beside),
        beside,
        crash_of(state, n),
        tuple(f"run {r.run}" + (", fresh, for the claim" * (not r.for_decision)) for r in runs),
    )


def _metrics_beside(
    root: Path, state: SessionState, n: int, beside: int | None
) -> dict[str, tuple[Quarters, Quarters]]:
    budget = float(state.about.settings.get("time_budget", 0.0))
    own, other = (
        {
            name: tuple(curves.quarters(curve))
            for name, curve in mean_curves(root, state.runs_of(i), budget, (), COARSE).items()
        }
        for i in (n, -1 if beside is None else beside)
    )
    unknown = (None,) * 4
    return {name: (own.get(name, unknown), other.get(name, unknown)) for name in own | other}


def metrics_of(root: Path, run: Run, at_most: int = METRICS_BYTES) -> str:
    """A run's metrics.csv, or its first so many bytes; "" where there is none."""
    return read_text(root / run.folder / "metrics.csv", at_most)


def mean_curves(
    root: Path,
    runs: list[Run],
    budget: float,
    only: tuple[str, ...] = (),
    points: int = curves.POINTS,
) -> dict[str, curves.Curve]:
    """The mean learning curves of the newest runs that counted, by column of metrics.csv."""
    counted = [r for r in runs if r.for_decision and r.counted][-CURVED:]
    each = [curves.read_curves(metrics_of(root, r), budget, only, points) for r in counted]
    names = dict.fromkeys(name for one in each for name in one)
    return {name: curves.mean_curve([one[name] for one in each if name in one]) for name in names}


def crash_of(state: SessionState, n: int) -> Crash | None:
    """What ended attempt `n`; None where it did not crash."""
    attempt = state.attempts[n]
    if attempt.outcome != "crash":
        return None
    runs = state.every_run_of(n)
    failed = [r.record for r in runs if r.counted and r.record and not r.record.scored]
    return crash_in(attempt.source, failed[-1]) if failed else Crash("", None, "", "")


def crash_in(source: str, record: RunRecord) -> Crash:
    """What ended a run of this train.py, by the last line of the file that its log names."""
    found = re.findall(r'train\.py", line (\d{1,6})', record.log_tail)
    line, lines = int(found[-1]) if found else 0, source.split("\n")
    code = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return Crash(record.reason, line or None, code, record.log_tail[-1500:])


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
