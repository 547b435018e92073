"""Rows as text: results.tsv there and back, the session in numbers, the status table and its JSON.

Text that came from a run or a researcher is data: made harmless to terminals and spreadsheets before it is shown.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autorl.records import Row, to_json

# ---------------------------------------------------------------------------
# results.tsv
# ---------------------------------------------------------------------------

# The predecessor's four columns first.
COLUMNS = ("commit", "avg_return", "status", "description", "state", "runs", "stderr", "seconds", "cost_usd", "isolation", "proposer", "n", "parent", "reason")  # fmt: skip
FORMULA = "=+-@＝＋－＠"  # a spreadsheet takes a cell that begins like this for a formula


def plain(text: str, limit: int = 400) -> str:
    """One harmless line: no tab, newline, control, bidi mark or lone surrogate; blanks collapsed; cut at `limit` characters."""
    text = "".join(
        " " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text
    )
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def cell(text: str) -> str:
    """`plain`, and no spreadsheet formula or opening quote at the start."""
    text = plain(text).replace(
        '"', "'"
    )  # a quote would make a CSV reader swallow the following lines
    return "'" + text if text.startswith(tuple(FORMULA)) else text


def number(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def results_tsv(rows: Sequence[Row]) -> str:
    """The table of decided attempts, oldest first, with a header; every line has the same number of tabs."""
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        if row.status == "running":
            continue
        cells = {
            "commit": row.commit[:10],
            "avg_return": "" if row.status == "crash" else number(row.avg_return, 6),
            "status": row.status,
            "description": row.description,
            "state": row.state,
            "runs": str(row.runs),
            "stderr": number(row.stderr, 6),
            "seconds": number(row.seconds, 1),
            "cost_usd": number(row.cost_usd, 4),
            "isolation": row.isolation,
            "proposer": row.proposer,
            "n": str(row.n),
            "parent": "" if row.parent is None else str(row.parent),
            "reason": row.reason,
        }
        lines.append(
            "\t".join(
                cells[c]
                if c in ("avg_return", "stderr", "seconds", "cost_usd", "n", "parent", "runs")
                else cell(cells[c])
                for c in COLUMNS
            )
        )
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Summary:
    """A session in numbers. `kept` counts improvements that still stand; the baseline is none of them."""

    attempts: int
    kept: int
    undone: int
    discarded: int
    crashed: int
    running: int
    baseline: Row | None
    best: Row | None  # the incumbent: the newest keep that stands
    gain: float | None  # best - baseline, as measured while searching: no claim
    seconds: float
    cost_usd: float
    seconds_per_keep: float | None
    cost_per_keep: float | None


def summarize(rows: Sequence[Row], spent_usd: float | None = None) -> Summary:
    """Count a session's rows. `spent_usd`: what the purse says was spent, where it knows more than the rows."""
    standing = [r for r in rows if r.status == "keep" and r.state != "undone"]
    baseline = next((r for r in rows if r.n == 0), None)
    best = standing[-1] if standing else None
    kept = sum(r.n != 0 for r in standing)
    seconds = math.fsum(r.seconds for r in rows)
    cost = math.fsum(r.cost_usd for r in rows) if spent_usd is None else spent_usd
    gain = None
    if (
        best
        and baseline
        and best.avg_return is not None
        and baseline.avg_return is not None
        and baseline.status != "crash"
    ):
        gain = best.avg_return - baseline.avg_return
    return Summary(
        attempts=sum(r.n != 0 for r in rows),
        kept=kept,
        undone=sum(r.state == "undone" for r in rows),
        discarded=sum(r.status == "discard" for r in rows),
        crashed=sum(r.status == "crash" for r in rows),
        running=sum(r.status == "running" for r in rows),
        baseline=baseline,
        best=best,
        gain=gain,
        seconds=seconds,
        cost_usd=cost,
        seconds_per_keep=seconds / kept if kept else None,
        cost_per_keep=cost / kept if kept else None,
    )


def duration(seconds: float) -> str:
    """12 s, 3 min, 7 h 05."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"


def headline(summary: Summary) -> str:
    """The session in one line."""
    parts = [
        f"{summary.attempts} experiments",
        f"{summary.kept} kept",
        f"{summary.discarded} discarded",
        f"{summary.crashed} crashed",
    ]
    if summary.undone:
        parts.append(f"{summary.undone} undone")
    if summary.running:
        parts.append(f"{summary.running} running")
    parts.append(f"{duration(summary.seconds)} measured")
    if summary.cost_usd:
        parts.append(f"${summary.cost_usd:.2f}")
        if summary.cost_per_keep is not None:
            parts.append(f"${summary.cost_per_keep:.2f} per kept improvement")
    return ", ".join(parts)


# ---------------------------------------------------------------------------
# status
# ---------------------------------------------------------------------------


def status_table(
    rows: Sequence[Row], *, title: str = "", limit: int = 25, spent_usd: float | None = None
) -> Any:
    """The newest `limit` rows as a rich Table with the headline under it; kept rows are never left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(plain(title)) if title else None,
        caption=Text(headline(summarize(rows, spent_usd))),
        caption_justify="left",
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("commit", no_wrap=True)
    table.add_column("avg_return", justify="right", no_wrap=True)
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("description", overflow="fold", min_width=20)
    table.add_column("why", overflow="fold", min_width=20)
    recent = {r.n for r in rows[-limit:]}
    shown = [r for r in rows if r.n in recent or (r.status == "keep" and r.state != "undone")]
    style = {"keep": "green", "crash": "red", "running": "cyan"}
    for row in shown:
        score = "" if row.status == "crash" else number(row.avg_return, 2)
        if score and row.stderr is not None:
            score += f" ± {number(row.stderr, 2)}"
        what = "dim" if row.state == "undone" else style.get(row.status, "")
        status = row.status if not row.state else f"{row.status} ({row.state})"
        table.add_row(
            str(row.n), Text(plain(row.commit)[:7]), score, str(row.runs or ""), Text(plain(status), style=what),
            Text(plain(row.description, 120)), Text(plain(row.reason, 200)),
        )  # fmt: skip
    if len(shown) < len(rows):
        table.add_section()
        table.add_row(
            "",
            "",
            "",
            "",
            "",
            Text(f"… and {len(rows) - len(shown)} earlier ones in results.tsv", style="dim"),
            "",
        )
    return table


def status_json(
    rows: Sequence[Row], *, spent_usd: float | None = None, **facts: Any
) -> dict[str, Any]:
    """Machine-readable status: the summary, every row, and whatever `facts` the caller adds (tag, phase, time left)."""
    data: dict[str, Any] = to_json(
        {**facts, "summary": summarize(rows, spent_usd), "rows": list(rows)}
    )
    return data
