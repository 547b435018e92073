"""`status`, `history`, `report`, `stop`, `clean`: show sessions and clean up, without a lock.

What it does not do: change a session; only `report` writes, and only views.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from autorl import report
from autorl.cli.background import how_it_ended
from autorl.environments import check_env
from autorl.errors import AutoRLError, UserError
from autorl.records import to_json
from autorl.session import (
    SessionState,
    find_session,
    journals,
    program,
    read_state,
    show_to_git,
)
from autorl.session.inbox import Inbox
from autorl.system.files import atomic_write, disk_usage
from autorl.system.locks import holder, holder_pid
from autorl.system.text import one_line

MANY = 10_000_000  # files: more are not counted


def newest(root: Path, tag: str | None, what: str = "") -> tuple[Path, SessionState]:
    """The folder of the session that is meant, and what it knows.

    Without a tag it is the one in which `try` printed the id `what`, else the newest.
    """
    path = find_session(root, tag, unfinished=False)
    if tag is None and what.startswith("t"):
        known = (p for p in journals(root) if read_state(p).named(what))
        path = next(known, path)
    if (state := read_state(path)).created is None:
        raise UserError(f"{path} holds no whole line: restore it from a copy, or start anew.")
    return path.parent, state


def numbered(state: SessionState, what: str, tag: str) -> int:
    """The number of the experiment that is meant by best, baseline, a number, or an id of `try`.

    Raises:
        UserError: there is none.
    """
    best = state.incumbent()
    number = {"baseline": "0", "best": str(best.n if best else 0)}.get(what, what)
    if (found := state.named(number)) is None:
        raise UserError(
            f"There is no experiment {what!r} in {tag!r}: say best, baseline, a number up to "
            f"{max(state.attempts, default=0)}, or the id that `try` printed (`wait` says what "
            "became of one that was not measured yet)."
        )
    return found.n


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _print_json(data: dict[str, Any]) -> None:
    click.echo(json.dumps(data, indent=1, ensure_ascii=False))


def _facts(folder: Path, state: SessionState) -> dict[str, Any]:
    who = holder(folder / "session.lock")
    stands = f"finished: {state.finished}" if state.finished else "not running"
    if not (who or state.finished):
        stands += f": {how_it_ended(state)}"
    best = state.incumbent()
    return {
        "tag": folder.name,
        "env_id": state.about.env_id,
        "state": f"running ({who})" if who else stands,
        "running": bool(who),
        "finished": state.finished or None,
        "measuring": [
            {"run": r.run, "experiment": r.attempt, "purpose": r.purpose, "seed": r.seed}
            for r in (state.pending() if who else ())
        ],
        "waits": (state.waits if who else "") or None,
        "queued": [{"id": i, "title": p.title} for i, p in Inbox(folder / "inbox").waiting()],
        "branch": f"autoresearch/{folder.name}",
        "incumbent": best.n if best else None,
        "disk_bytes": disk_usage(folder, MANY)[0],
        "claim": state.claim["claim"] if state.claim else None,
    }


def status_data(root: Path, tag: str | None) -> dict[str, Any]:
    """Where a session stands, as JSON data: `rows` has every experiment."""
    folder, state = newest(root, tag)
    rows = state.rows(decided_only=False)
    found = {"summary": report.summarize(rows, state.spent()), "rows": rows}
    data: dict[str, Any] = to_json(_facts(folder, state) | found)
    return data


def print_status(root: Path, tag: str | None, as_json: bool) -> None:
    """A table for a person or JSON for a program."""
    if as_json:
        return _print_json(status_data(root, tag))
    folder, state = newest(root, tag)
    facts, rows, spent = _facts(folder, state), state.rows(decided_only=False), state.spent()
    console = _console()
    title = f"{facts['tag']} on {facts['env_id']}: {facts['state']}"
    console.print(report.status_table(rows, title=title, spent_usd=spent, width=console.width))
    console.print(
        f"results: {folder.relative_to(root)}/results.tsv, progress.png   "
        f"branch: {facts['branch']}   disk: {facts['disk_bytes'] / 1e6:.1f} MB",
        soft_wrap=True,
    )
    for each in facts["measuring"]:
        what = f"now: experiment {each['experiment']}, run {each['run']} ({each['purpose']})"
        console.print(what, markup=False, soft_wrap=True)
    for each in facts["queued"]:
        console.print(f"queued: {each['id']}  {each['title']}", markup=False, soft_wrap=True)
    if facts["waits"]:
        console.print(f"waits: {facts['waits']}", markup=False, soft_wrap=True)
    if facts["claim"]:
        sentence = f"{facts['claim'].get('sentence', '')} (evidence.json)"
        console.print(sentence, soft_wrap=not console.is_terminal)


def print_evidence(root: Path, tag: str) -> None:
    """The last claim of a session as tables: both arms, the gain, every run; versions, hardware."""
    claim = read_state(find_session(root, tag)).claim
    if not claim:
        return
    console = _console()
    left: dict[str, Any] = {"title_justify": "left", "caption_justify": "left"}
    for table in report.evidence_tables(claim):
        shown = Table(*table.columns, title=table.title, caption=table.note or None, **left)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    versions = ", ".join(f"{name} {version}" for name, version in claim.get("versions", {}).items())
    console.print(
        f"{claim['env_id']}, {claim['time_budget']:g} s a run; {claim['hardware']}; {versions}",
        soft_wrap=True,
    )


def print_history(root: Path, tag: str | None, as_json: bool) -> None:
    """Every attempt and every refusal."""
    folder, state = newest(root, tag)
    refused = [
        {"title": r.title, "reason": r.reason, "proposer": r.proposer} for r in state.refusals
    ]
    if as_json:
        facts = {"tag": folder.name, "env_id": state.about.env_id}
        attempts = [
            to_json(state.row(a)) | {"ticket": a.ticket or None, "verdict": to_json(a.verdict)}
            for a in state.attempts.values()
        ]
        return _print_json(facts | {"experiments": attempts, "refused": refused})
    for r in state.rows(decided_only=False):
        line = f"{r.n:4d}  {r.commit[:7]}  {r.score:>15}  {report.status(r):<8} {r.description}"
        click.echo(f"{line}: {r.reason}" if r.reason else line)
    for each in refused:
        click.echo(f"   -  refused before a run: {each['title']}: {one_line(each['reason'], 300)}")


def solved_at(state: SessionState) -> float | None:
    """Gymnasium's reward threshold of an environment, where it can be made here."""
    with contextlib.suppress(AutoRLError):
        settings = state.about.settings
        return check_env(settings["env_id"], settings.get("env_kwargs"))
    return None


def write_report(
    root: Path, tag: str | None, with_csv: bool = False, tensorboard: bool = False
) -> list[str]:
    """results.tsv, progress.png, report.html of a session, from its journal; their paths.

    Args:
        with_csv: curves.csv too.
        tensorboard: its runs as runs of TensorBoard too.
    """
    from autorl.cli import page  # only a report needs it and what it imports

    folder, state = newest(root, tag)
    rows, env_id = state.rows(), state.about.env_id
    goal = solved_at(state)
    views = {
        "results.tsv": report.results_tsv(rows).encode(),
        "progress.png": report.progress_png(rows, env_id, goal, state.claim),
        "report.html": report.report_html(page.page_data(root, folder, state, goal)).encode(),
    }
    if with_csv:
        views["curves.csv"] = page.curves_csv(root, state).encode()
    for name, data in views.items():
        atomic_write(folder / name, data)
    show_to_git(folder, shown=True)
    paths = [folder / name for name in views]
    if tensorboard:
        paths.append(page.write_tensorboard(root, folder, state))
    return [str(path.relative_to(root)) for path in paths]


def stop_session(root: Path, tag: str | None, patience: float = 30.0) -> str:
    """Ask the loop of a session to end and wait until it has; returns a sentence.

    Raises:
        UserError: no loop is working on it.
        AutoRLError: it has not ended within `patience` seconds.
    """
    path = find_session(root, tag)
    if tag is None:
        busy = (p for p in journals(root) if holder_pid(p.parent / "session.lock") is not None)
        path = next(busy, path)
    name, lock = path.parent.name, path.parent / "session.lock"
    pid = holder_pid(lock)
    if pid is None:
        raise UserError(f"No loop is working on {name!r}; there is nothing to stop.")
    claiming = any(r.purpose.startswith("confirm") for r in read_state(path).pending())
    os.kill(pid, signal.SIGINT)  # SIGTERM may be anybody's: `wait` starts the loop again
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if holder_pid(lock) is None:
            if claiming:
                return f"Stopped {name}; resume with: {program(root)} confirm --tag {name}"
            again = f"{program(root)} run --tag {name}"
            return f"Stopped {name}; resume with: {again}; or with `try`, where the ideas are yours"
        time.sleep(0.1)
    raise AutoRLError(
        f"The loop (pid {pid}) has not ended within {patience:.0f} s; "
        "a second `stop` ends it at once."
    )


def dead_folders(root: Path) -> list[tuple[Path, int]]:
    """(private run directory, bytes) of runs that no living judge owns."""
    from autorl.judge.run_dir import is_dead, runs_folder

    found = [p for p in sorted(runs_folder(root).glob("*")) if p.is_dir() and not p.is_symlink()]
    return [(p, disk_usage(p, MANY)[0]) for p in found if is_dead(p)]
