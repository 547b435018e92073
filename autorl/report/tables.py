"""Rows as text: results.tsv, the session in numbers, the status table.

Text of a run or a researcher is data: it is made harmless to terminals and spreadsheets.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from autorl.records import Row
from autorl.system.text import one_line

# -- Cells -----------------------------------------------------------------------------------------

FORMULA = tuple("=+-@＝＋－＠")  # how a formula begins in a spreadsheet


def cell(text: str) -> str:
    """`one_line`, and no spreadsheet formula or quote, which would swallow the following lines."""
    text = one_line(text).replace('"', "'")
    return "'" + text if text.startswith(FORMULA) else text


def number(value: float | None, digits: int) -> str:
    """Fixed point; empty for a missing value."""
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def mean(row: Row | None) -> float | None:
    """The mean return; None for a crash, whatever was measured."""
    return None if row is None or row.status == "crash" else row.avg_return


def status(row: Row) -> str:
    """`keep (taken back)`; the baseline was not kept, it was there."""
    word = "baseline" if row.n == 0 and row.status == "keep" else row.status
    return f"{word} ({row.state})" if row.state else word


def duration(seconds: float) -> str:
    """12 s, 3 min, 7 h 05."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"


FOOTNOTE = "± is the mean's standard error; an estimate allows for the luck of what was kept"


# -- results.tsv -----------------------------------------------------------------------------------

_CELLS: dict[str, Callable[[Row], str]] = {  # first the four columns of zjianyi/autoRL
    "commit": lambda r: cell(r.commit[:10]),
    "avg_return": lambda r: number(mean(r), 6),
    "status": lambda r: cell(r.status),
    "description": lambda r: cell(r.description),
    "state": lambda r: cell(r.state),
    "runs": lambda r: str(r.runs),
    "stderr": lambda r: number(r.stderr, 6),
    "seconds": lambda r: number(r.seconds, 1),
    "cost_usd": lambda r: number(r.cost_usd, 4),
    "isolation": lambda r: cell(r.isolation),
    "proposer": lambda r: cell(r.proposer),
    "n": lambda r: str(r.n),
    "parent": lambda r: "" if r.parent is None else str(r.parent),
    "reason": lambda r: cell(r.reason),
}
COLUMNS = tuple(_CELLS)


def results_tsv(rows: Sequence[Row]) -> str:
    """Header and decided attempts, oldest first; every line has the same number of tabs."""
    decided = (row for row in rows if row.status != "running")
    lines = [COLUMNS, *([show(row) for show in _CELLS.values()] for row in decided)]
    return "".join("\t".join(line) + "\n" for line in lines)


# -- The session in numbers ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """A session in numbers. `kept` counts improvements that still stand, without the baseline."""

    attempts: int
    kept: int
    taken_back: int
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
    """Count a session's rows. `spent_usd`: what was spent, where more is known than in rows.

    A superseded idea counts as its second attempt, a cancelled one not at all.
    """
    counted = [r for r in rows if r.state not in ("superseded", "cancelled")]
    statuses = [r.status for r in counted]
    standing = [r for r in rows if r.status == "keep" and r.state != "taken back"]
    baseline = next((r for r in rows if r.n == 0), None)
    best = standing[-1] if standing else None
    first, now = mean(baseline), mean(best)
    kept = sum(r.n != 0 for r in standing)
    seconds = math.fsum(r.seconds for r in rows)
    cost = math.fsum(r.cost_usd for r in rows) if spent_usd is None else spent_usd
    return Summary(
        attempts=sum(r.n != 0 for r in counted),
        kept=kept,
        taken_back=sum(r.state == "taken back" for r in rows),
        discarded=statuses.count("discard"),
        crashed=statuses.count("crash"),
        running=statuses.count("running"),
        baseline=baseline,
        best=best,
        gain=None if first is None or now is None else now - first,
        seconds=seconds,
        cost_usd=cost,
        seconds_per_keep=seconds / kept if kept else None,
        cost_per_keep=cost / kept if kept else None,
    )


def headline(summary: Summary) -> str:
    """The session in one line."""
    parts = [f"{summary.attempts} experiments"]
    for name in ("kept", "discarded", "crashed", "taken_back", "running"):
        count = getattr(summary, name)
        if count or name not in ("taken_back", "running"):
            parts.append(f"{count} {name.replace('_', ' ')}")
    parts.append(f"{duration(summary.seconds)} measured")
    if summary.cost_usd:
        parts.append(f"${summary.cost_usd:.2f}")
        if summary.cost_per_keep is not None:
            parts.append(f"${summary.cost_per_keep:.2f} per kept improvement")
    return ", ".join(parts)


# -- status ----------------------------------------------------------------------------------------


WIDE = 100  # columns of a terminal that shows a row of the status table in one line


def status_table(
    rows: Sequence[Row],
    *,
    title: str = "",
    limit: int = 25,
    spent_usd: float | None = None,
    width: int = 160,
) -> Table:
    """The newest `limit` rows and every kept one, with the headline under them.

    Args:
        width: columns of the terminal. In a narrow one a row has lines below each other, so that
            what was tried and why can be read in any.
    """
    table = Table(
        title=Text(one_line(title)) if title else None,
        caption=Text(f"{headline(summarize(rows, spent_usd))} \n{FOOTNOTE}."),
        caption_justify="left",
    )
    figures = ("#", "commit", "avg_return", "runs", "status")
    for name in figures if width >= WIDE else ("#",):
        right = name in ("#", "avg_return", "runs")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for name in ("description", "why") if width >= WIDE else ("experiment",):
        table.add_column(name, overflow="fold", min_width=20)
    recent = {r.n for r in rows[-limit:]}
    shown = [r for r in rows if r.n in recent or (r.status == "keep" and r.state != "taken back")]
    if earlier := len(rows) - len(shown):
        note = Text(f"{earlier} earlier ones in results.tsv …", style="dim")
        table.add_row(*[""] * (len(figures) if width >= WIDE else 1), note)
        table.add_section()
    colours = {"keep": "green", "crash": "red", "running": "cyan"}
    for row in shown:
        style = "dim" if row.state == "taken back" else colours.get(row.status, "")
        state = Text(one_line(status(row)), style=style)
        runs, commit = str(row.runs or ""), Text(one_line(row.commit)[:7])
        description, why = Text(one_line(row.description, 120)), Text(one_line(row.reason, 300))
        if width >= WIDE:
            table.add_row(str(row.n), commit, row.score, runs, state, description, why)
        else:
            measured = f"{row.score} ({runs} run{'s' * (row.runs != 1)})" if row.score else ""
            first = Text("  ").join(x for x in (state, Text(measured), commit) if x)
            lines = [x for x in (first, description, why) if x]
            table.add_row(str(row.n), Text("\n").join(lines))
    return table
