"""A session as the data of its page: every experiment with its diff, runs, controls and curves.

Reads the journal's state and the folders of runs, both as data. What it does not do: decide what a
page looks like (report/).
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autorl import report
from autorl.errors import UserError
from autorl.judge import read_progress
from autorl.records import RunRecord, from_json, to_json
from autorl.report import curves
from autorl.session import Attempt, Run, SessionState, Settings
from autorl.session.experiment import crash_of, diff_of, mean_curves, metrics_of
from autorl.system.text import one_line

FULL = 100  # newest experiments whose diagnostics are on the page, beside the kept ones
DIFF_CHARS, ALL_DIFFS_CHARS = 30_000, 3_000_000  # of one experiment, of the whole page
NO_RECORD = RunRecord(status="interrupted", reason="It is under way, or was when the loop ended.")

_replays: dict[tuple[object, ...], str] = {}  # the latest, by the runs that it shows


def page_data(
    root: Path,
    folder: Path,
    state: SessionState,
    solved_at: float | None = None,
    known: dict[int, tuple[Any, dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """Everything on the page.

    Args:
        folder: the session's.
        solved_at: Gymnasium's reward threshold.
        known: what earlier calls gathered of experiments, to be looked up and added to.
    """
    known = {} if known is None else known
    rows, about, spent = state.rows(decided_only=False), state.about, state.spent()
    best, claim, settings = state.incumbent(), state.claim, settings_of(state)
    budget, episodes = settings.time_budget, settings.num_eval_episodes
    sentence = claim["claim"].get("sentence", "") if claim else ""
    champion = claim["champion"] if claim else None
    summary = report.summarize(rows, spent)
    newest = {row.n for row in rows[-FULL:]}
    experiments = []
    for row in rows:
        attempt, ended = state.attempts[row.n], [bool(r.record) for r in state.every_run_of(row.n)]
        full = row.n in newest or attempt.kept or row.n == champion
        key = (row, full, *ended, sum(c.attempt == row.n for c in state.controls))
        if row.n not in known or known[row.n][0] != key:
            limit = min(DIFF_CHARS, ALL_DIFFS_CHARS // len(rows))
            found = to_json(row) | _in_full(root, state, attempt, budget, full, limit)
            known[row.n] = key, found
        experiments.append(known[row.n][1])
    runs = [r.record for r in state.runs.values() if r.record]
    compute = sum(r.cost_usd for r in runs)
    return {
        "env_id": about.env_id,
        "tag": folder.name,
        "words": report.summary_words(rows, about.env_id, budget, episodes, sentence),
        "claim": claim["claim"] if claim else None,
        "summary": to_json(summary) | {"baseline": report.mean(summary.baseline)},
        "best": report.mean(summary.best),
        "incumbent": best.n if best else None,
        "champion": champion,
        "limits": report.limits(rows),
        "solved_at": solved_at,
        "time_budget": budget,
        "experiments": experiments,
        "tables": report.evidence_tables(claim) if claim else (),
        "refused": [[r.title, r.reason, r.proposer] for r in state.refusals[-FULL:]],
        "costs": [
            ["measured wall-clock", report.duration(summary.seconds)],
            ["runs", str(len(runs))],
            ["ideas (API)", f"${max(0.0, spent - compute):.2f}"],
            ["rented machines", f"${compute:.2f}"],
            ["a kept improvement took", report.duration(summary.seconds_per_keep)]
            if summary.seconds_per_keep is not None
            else ["a kept improvement took", "none was kept"],
        ],
        "versions": {
            "autoRL": about.autorl,
            "decision rules": str(about.rules),
            "evaluate.py": about.harness,
            "began at commit": about.base[:10],
            "branch": f"autoresearch/{folder.name}",
            "hardware": state.hardware,
            "isolation": ", ".join(sorted({r.isolation for r in runs})),
            **(next((r.versions for r in reversed(runs) if r.versions), {}) or state.versions),
        },
        "replay": replay_html(root, state),
    }


def settings_of(state: SessionState) -> Settings:
    """What every run of a session has in common."""
    settings: Settings = from_json(Settings, state.about.settings)
    return settings


def replay_html(root: Path, state: SessionState) -> str | None:
    """A page that plays the median episodes of the baseline and the best version, for a frame in
    report.html; None where there is nothing to see.
    """
    from autorl.cli import watch  # the player and its scenes are imported when they are shown

    best = state.incumbent()
    try:
        shown = watch.recorded(root, state, best.n if best else 0)
        runs = (root, state.about.tag, *(run for _, run, _ in shown))
        if runs not in _replays:  # `serve` asks again and again
            _replays.clear()
            _replays[runs] = watch.page(shown, "median", state.about.env_id)
    except (UserError, ValueError):
        return None
    return _replays[runs]


def running(root: Path, state: SessionState) -> list[dict[str, Any]]:
    """The runs under way as their judges last reported them, each with its curve so far."""
    found = []
    for run in state.pending():
        look, budget = read_progress(root / run.folder), settings_of(state).time_budget
        line = curves.short(curves.grid(look.curve, budget)) if look and look.curve else []
        title = state.attempts[run.attempt].title
        found.append(
            {"run": run.run, "n": run.attempt, "purpose": run.purpose, "title": title}
            | {"look": to_json(look) | {"curve": line} if look else None}
        )
    return found


def curves_csv(root: Path, state: SessionState) -> str:
    """Every run's curves in one table: a line for each 1/200 of the budget and run; the header
    first.
    """
    budget, names = settings_of(state).time_budget, dict[str, None]()
    for run in state.runs.values():
        names |= dict.fromkeys(metrics_of(root, run, 4096).partition("\n")[0].split(","))
    columns = [n for n in list(names)[: curves.COLUMNS] if n and n != "seconds"]
    table = csv.writer(text := io.StringIO(), lineterminator="\n")
    fixed = ("experiment", "run", "purpose", "seed", "status", "counted", "seconds")
    table.writerow([*fixed, *(report.cell(n) for n in columns)])
    for run, each in _every_curve(root, state):
        status = run.record.status if run.record else "running"
        about = (run.attempt, run.run, run.purpose, run.seed, status, int(run.counted))
        for i in range(curves.POINTS):
            values = [each[n][i] if n in each else float("nan") for n in columns]
            if any(v == v for v in values):
                seconds = (i + 0.5) * budget / curves.POINTS
                numbers = ("" if v != v else f"{v:.6g}" for v in values)
                table.writerow([*about, f"{seconds:.3f}", *numbers])
    return text.getvalue()


def write_tensorboard(root: Path, folder: Path, state: SessionState) -> Path:
    """The session's runs as runs of TensorBoard, by seconds; returns their folder.

    Raises:
        UserError: the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard needs the package tensorboard: install it with `uv sync --extra "
            "tensorboard`, then run the same command."
        ) from None
    budget, logs = settings_of(state).time_budget, folder / "tensorboard"
    for run, each in _every_curve(root, state):
        place = logs / f"{run.attempt:04d}" / f"run-{run.run:04d}"
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(place)) as writer:
            writer.add_text("idea", one_line(state.attempts[run.attempt].title))
            for name, curve in each.items():
                for i, value in enumerate(curve):
                    if value == value:
                        second = round((i + 0.5) * budget / curves.POINTS)
                        writer.add_scalar(one_line(name, 64), value, second)
    return logs


# -- one experiment --------------------------------------------------------------------------------


def _in_full(
    root: Path, state: SessionState, attempt: Attempt, budget: float, full: bool, limit: int
) -> dict[str, Any]:
    runs, diff = state.every_run_of(attempt.n), diff_of(state, attempt.n)
    if len(diff) > limit:
        more = f"{len(diff) - limit:,} more characters: git show {attempt.commit}"
        diff = f"{diff[:limit]}\n… {more}"
    only = () if full else (curves.RETURN,)
    return {
        "at": attempt.at,
        "expected": attempt.expected_effect,
        "diff": diff,
        "measured": [run_data(run) for run in runs],
        "controls": [
            [c.kind, c.passed, c.reason] for c in state.controls if c.attempt == attempt.n
        ],
        "crash": to_json(crash_of(state, attempt.n)),
        "curves": {
            name: curves.short(curve)
            for name, curve in mean_curves(root, runs, budget, only).items()
        },
    }


def run_data(run: Run) -> dict[str, Any]:
    """One run in a few numbers, and why it does not count where it does not."""
    record = run.record or NO_RECORD
    why = "" if run.for_decision and run.counted else record.reason
    if run.kind != "measure":
        why = f"a control run, which is not scored: {run.kind.replace('_', ' ')}"
    elif not run.for_decision:
        why = "kept for the claim: no decision may use it"
    elif not run.steady:
        why = f"repeated: {run.why or 'it got another share of the machine than its peers'}"
    return {
        "run": run.run,
        "seed": run.seed,
        "score": record.avg_return,
        "sd": record.std_return,
        "status": record.status if run.record else "running",
        "reason": record.reason,
        "counted": run.for_decision and run.counted,
        "why": why,
        "seconds": record.total_seconds,
        "first_update": record.first_update_seconds,
        "updates": record.num_updates,
        "share": record.machine.cpu_share,
        "flags": record.flags,
    }


def _every_curve(root: Path, state: SessionState) -> Iterator[tuple[Run, dict[str, curves.Curve]]]:
    budget = settings_of(state).time_budget
    for run in state.runs.values():
        yield run, curves.read_curves(metrics_of(root, run), budget)
