"""`status`, `history`, `report`, `stop`, `clean`: looking at sessions and keeping house, without a lock.

What it does not do: change a session; only `report` writes, and only views.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from autorl import report
from autorl.cli.experiment import incumbent
from autorl.environments import check_env
from autorl.errors import AutoRLError, UserError
from autorl.records import to_json
from autorl.session.session import find_session, journals, program, read_ledger
from autorl.session.state import Ledger
from autorl.system.files import atomic_write, disk_usage
from autorl.system.locks import holder, holder_pid

MANY = 10_000_000  # files: more are not counted


def _facts(path: Path, ledger: Ledger) -> dict[str, Any]:
    who = holder(path.parent / "session.lock")
    pending = ledger.pending()
    return {
        "tag": path.parent.name,
        "env_id": ledger.session["env_id"],
        "state": f"running ({who})"
        if who
        else f"finished: {ledger.finished}"
        if ledger.finished
        else "not running",
        "running": bool(who),
        "finished": ledger.finished or None,
        "measuring": [
            {"run": r.run, "experiment": r.attempt, "purpose": r.purpose, "seed": r.seed}
            for r in pending
        ]
        if who
        else [],
        "branch": f"autoresearch/{path.parent.name}",
        "incumbent": (tip.n if (tip := incumbent(ledger)) else None),
        "spent_usd": round(ledger.spent(), 4),
        "disk_bytes": disk_usage(path.parent, MANY)[0],
        "claim": ledger.claim["claim"] if ledger.claim else None,
    }


def print_status(root: Path, tag: str | None, as_json: bool) -> None:
    """A table for a person or JSON for a program."""
    path = find_session(root, tag, unfinished=False)
    ledger = read_ledger(path)
    facts = _facts(path, ledger)
    rows = ledger.rows(decided_only=False)
    if as_json:
        click.echo(
            json.dumps(
                report.status_json(
                    rows,
                    spent_usd=ledger.spent(),
                    **{k: v for k, v in facts.items() if k != "spent_usd"},
                ),
                indent=1,
                ensure_ascii=False,
            )
        )
        return
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(
        report.status_table(
            rows,
            title=f"{facts['tag']} on {facts['env_id']}: {facts['state']}",
            spent_usd=ledger.spent(),
        )
    )
    console.print(
        f"results: {path.parent.relative_to(root)}/results.tsv, progress.png   branch: {facts['branch']}   disk: {facts['disk_bytes'] / 1e6:.1f} MB",
        soft_wrap=True,
    )
    if facts["claim"]:
        console.print(f"{facts['claim'].get('sentence', '')} (evidence.json)", soft_wrap=True)


def print_evidence(root: Path, tag: str) -> None:
    """The last claim of a session as tables: both arms, the gain, every run with its seed, versions and hardware."""
    claim = read_ledger(find_session(root, tag)).claim
    if not claim:
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for table in report.evidence_tables(claim):
        shown = Table(
            *table.columns,
            title=table.title,
            title_justify="left",
            caption=table.note or None,
            caption_justify="left",
        )
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
    path = find_session(root, tag, unfinished=False)
    ledger = read_ledger(path)
    attempts = [
        to_json(ledger.row(a)) | {"ticket": a.ticket or None, "verdict": to_json(a.verdict)}
        for a in ledger.attempts.values()
    ]
    refused = [
        {"title": r["title"], "reason": r["reason"], "proposer": r["proposer"]}
        for r in ledger.refusals
    ]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "tag": path.parent.name,
                    "env_id": ledger.session["env_id"],
                    "experiments": attempts,
                    "refused": refused,
                },
                indent=1,
                ensure_ascii=False,
            )
        )
        return
    for a in attempts:
        score = "" if a["avg_return"] is None else f"{a['avg_return']:.2f}"
        click.echo(
            f"{a['n']:4d}  {a['commit'][:7]}  {score:>10}  {a['status']:<8} {a['description']}  {a['reason']}".rstrip()
        )
    for r in refused:
        click.echo(f"   -  refused before a run: {r['title']}  {r['reason']}")


def write_report(root: Path, tag: str | None) -> list[str]:
    """results.tsv, progress.png, report.html of a session, from its journal; their paths."""
    path = find_session(root, tag, unfinished=False)
    ledger = read_ledger(path)
    rows, folder, env_id = ledger.rows(), path.parent, ledger.session["env_id"]
    try:
        solved_at = check_env(env_id, root)
    except AutoRLError:
        solved_at = None
    png = report.progress_png(rows, env_id, solved_at=solved_at)
    verdicts = {a.n: a.verdict for a in ledger.attempts.values() if a.verdict}
    claim = str(ledger.claim["claim"].get("sentence", "")) if ledger.claim else ""
    page = report.report_html(
        rows,
        env_id=env_id,
        tag=folder.name,
        png=png,
        verdicts=verdicts,
        tables=report.evidence_tables(ledger.claim) if ledger.claim else (),
        claim=claim,
        spent_usd=ledger.spent(),
    )
    for name, data in (
        ("results.tsv", report.results_tsv(rows).encode()),
        ("progress.png", png),
        ("report.html", page.encode()),
    ):
        atomic_write(folder / name, data)
    return [
        str((folder / n).relative_to(root)) for n in ("results.tsv", "progress.png", "report.html")
    ]


def stop_session(root: Path, tag: str | None, patience: float = 30.0) -> str:
    """Ask the loop of a session to end and wait until it has.

    Raises:
        UserError: no loop is working on it.
    """
    path = find_session(root, tag)
    if tag is None:
        path = next(
            (p for p in journals(root) if holder_pid(p.parent / "session.lock") is not None), path
        )
    lock = path.parent / "session.lock"
    pid = holder_pid(lock)
    if pid is None:
        raise UserError(f"No loop is working on {path.parent.name!r}; there is nothing to stop.")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if holder_pid(lock) is None:
            return f"Stopped {path.parent.name}; resume with: {program(root)} run --tag {path.parent.name}"
        time.sleep(0.1)
    raise AutoRLError(
        f"The loop (pid {pid}) has not ended within {patience:.0f} s; a second `stop` ends it at once."
    )


def dead_folders(root: Path) -> list[tuple[Path, int]]:
    """(private run directory, bytes) of runs that no living judge owns."""
    from autorl.judge.run_dir import is_dead, runs_folder

    found = sorted(runs_folder(root).glob("*"))
    return [
        (p, disk_usage(p, MANY)[0])
        for p in found
        if p.is_dir() and not p.is_symlink() and is_dead(p)
    ]
