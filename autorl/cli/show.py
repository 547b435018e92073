"""`show`: the one place to look an experiment up; and what `wait` says of its diagnostics.

The text is the one that researchers read (proposers/prompt.py). It and the JSON fit into a context
window, whatever the session. What it does not do: gather (session/experiment.py), or decide.
"""

import json
from pathlib import Path
from typing import Any

from autorl.cli.page import run_data
from autorl.cli.status import newest, numbered
from autorl.judge import read_progress
from autorl.proposers.prompt import (
    DIAGNOSTICS,
    MAX_BYTES,
    MAX_LOG,
    experiment_text,
    row_line,
    shown_names,
)
from autorl.records import Experiment
from autorl.report.progress import describe
from autorl.session import SessionState
from autorl.session.experiment import experiment
from autorl.system.text import one_line, plain

MAX_RUNS = 6  # of the JSON answer, the newest
FEW = 8  # metrics of an answer of `wait`
METRICS_AT = [0.25, 0.5, 0.75, 1.0]  # shares of the budget: own values, then those beside

Seen = tuple[str, SessionState, Experiment, list[str]]


def look_up(root: Path, what: str, beside: str | None, tag: str | None) -> Seen:
    """The session's tag, what it knows, an experiment beside another, and its runs under way.

    Args:
        what: a number, an id that `try` printed, best or baseline.
        beside: likewise; None: the incumbent, and for the incumbent its parent.

    Raises:
        UserError: there is no such experiment.
    """
    folder, state = newest(root, tag, what)
    n, m = (w if w is None else numbered(state, w, folder.name) for w in (what, beside))
    assert n is not None
    pending = [r for r in state.every_run_of(n) if r.record is None]
    looks = [f"run {r.run}: {describe(read_progress(root / r.folder))}" for r in pending]
    return folder.name, state, experiment(root, state, n, m), looks


def show_text(seen: Seen) -> str:
    """An experiment as text, at most 12 kB."""
    tag, state, found, under_way = seen
    best = state.incumbent()
    lines = [
        f"session {tag} on {state.about.env_id}; incumbent: experiment {best.n if best else 0}"
    ]
    if found.beside is not None:
        lines.append(f"beside: {row_line(state.row(state.attempts[found.beside]), why=False)}")
    if found.row.commit:
        lines.append(f"its train.py: git show {found.row.commit}:./train.py")
    lines += [f"under way (or was, when the loop ended): {look}" for look in under_way]
    return "\n".join([*lines, experiment_text(found)])


def show_data(seen: Seen) -> dict[str, Any]:
    """What `show_text` says and more, as JSON data of at most 12 kB."""
    tag, state, found, under_way = seen
    row, crash, other = found.row, found.crash, found.beside
    runs = [run_data(run) for run in state.every_run_of(row.n)[-MAX_RUNS:]]
    for run in runs:
        reason = run.pop("reason")
        run["why"] = one_line(run["why"] or reason, 120)
    data: dict[str, Any] = {
        "session": tag,
        "env_id": state.about.env_id,
        "experiment": row.n,
        "title": one_line(row.description, 100),
        "hypothesis": one_line(row.hypothesis, 300),
        "parent": row.parent,
        "commit": row.commit,
        "outcome": row.status,
        "state": row.state or None,
        "avg_return": row.avg_return,
        "stderr": row.stderr,
        "reason": one_line(row.reason, 300),
        "incumbent": best.n if (best := state.incumbent()) else None,
        "runs": runs,
        "under_way": under_way,
        "beside": other,
        "beside_return": None if other is None else state.row(state.attempts[other]).avg_return,
        "metrics_at": METRICS_AT,
        "metrics": metrics_data(found),
        "crash": crash and {"line": crash.line, "code": one_line(crash.code, 200)},
        "log": plain(found.log_tail)[-MAX_LOG:],
        "diff": plain(found.diff),
    }
    for name in ("diff", "log"):
        over = len(json.dumps(data, ensure_ascii=False).encode()) - MAX_BYTES
        if over > 0:  # a character is at least a byte
            text, kept = data[name], max(0, len(data[name]) - over - 40)
            cut = f"[… {len(text) - kept} characters left out]"
            data[name] = (
                f"{text[:kept]}\n{cut}" if name == "diff" else cut + text[-kept or len(text) :]
            )
    return data


def metrics_data(found: Experiment, most: int | None = None) -> dict[str, list[list[float | None]]]:
    """By column of metrics.csv: the values at 25, 50, 75, 100 % of the budget of this experiment,
    and of the one beside it; of `most` columns two are those that only this train.py logs."""
    names = shown_names(found.metrics)
    if most is not None:
        mine, theirs = ({n for n in names if set(found.metrics[n][k]) - {None}} for k in (0, 1))
        logged = [n for n in names if n in mine] or names
        own = [n for n in logged if theirs and n not in theirs and n not in DIAGNOSTICS][:2]
        names = [*[n for n in logged if n not in own][: most - len(own)], *own]
    return {n: [list(q) for q in found.metrics[n]] for n in names}


def diagnosis(root: Path, state: SessionState, n: int) -> dict[str, Any]:
    """A few lines on experiment `n` beside the incumbent, for `wait`."""
    found = experiment(root, state, n)
    last = found.records[-1] if found.records else None
    other = state.runs_of(-1 if found.beside is None else found.beside)
    return {
        "first_update": last and last.first_update_seconds,
        "updates": last and last.num_updates,
        "cpu_share": last and last.machine.cpu_share,
        "line": found.crash and found.crash.line,
        "code": (found.crash and one_line(found.crash.code, 200)) or None,
        "beside": found.beside,
        "beside_cpu_share": other[-1].record.machine.cpu_share
        if other and other[-1].record
        else None,
        "metrics_at": METRICS_AT,
        "metrics": metrics_data(found, FEW),
    }
