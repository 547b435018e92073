"""What research found, as views of its rows: results.tsv, progress.png, report.html, the status table and its JSON.

    uv run python agent_loop.py report

Pure: rows in, text or bytes out; no clock, no disk, nothing remembered. A missing score is an empty cell and a mark at
the edge of the picture, never a number. Text that came from a run or a researcher is data: made harmless to terminals,
spreadsheets and browsers before it is shown.

What it does not do: decide, claim (that is `confirm`), or write files.
"""

import base64
import html
import io
import math
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autorl.records import Row, Verdict

# ---------------------------------------------------------------------------
# results.tsv
# ---------------------------------------------------------------------------

# The predecessor's four columns first.
COLUMNS = ("commit", "avg_return", "status", "description", "state", "runs", "stderr", "seconds", "cost_usd", "isolation", "proposer", "n", "parent", "reason")  # fmt: skip
FORMULA = "=+-@＝＋－＠"  # a spreadsheet takes a cell that begins like this for a formula


def plain(text: str, limit: int = 400) -> str:
    """One harmless line: no tab, newline, control, bidi mark or lone surrogate; blanks collapsed; cut at `limit` characters."""
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def cell(text: str) -> str:
    """`plain`, and no spreadsheet formula or opening quote at the start."""
    text = plain(text).replace('"', "'")  # a quote would make a CSV reader swallow the following lines
    return "'" + text if text.startswith(tuple(FORMULA)) else text


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def results_tsv(rows: Sequence[Row]) -> str:
    """The table of decided attempts, oldest first, with a header; every line has the same number of tabs."""
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        if row.status == "running":
            continue
        cells = {
            "commit": row.commit[:10],
            "avg_return": "" if row.status == "crash" else _number(row.avg_return, 6),
            "status": row.status,
            "description": row.description,
            "state": row.state,
            "runs": str(row.runs),
            "stderr": _number(row.stderr, 6),
            "seconds": _number(row.seconds, 1),
            "cost_usd": _number(row.cost_usd, 4),
            "isolation": row.isolation,
            "proposer": row.proposer,
            "n": str(row.n),
            "parent": "" if row.parent is None else str(row.parent),
            "reason": row.reason,
        }
        lines.append(
            "\t".join(
                cells[c] if c in ("avg_return", "stderr", "seconds", "cost_usd", "n", "parent", "runs") else cell(cells[c]) for c in COLUMNS
            )
        )
    return "\n".join(lines) + "\n"


def parse_tsv(text: str) -> list[Row]:
    """Rows of a results.tsv; unknown columns are ignored and missing ones default, so the predecessor's four will do."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return []
    header = lines[0].split("\t")
    rows = []
    for position, line in enumerate(lines[1:]):
        got = dict(zip(header, line.split("\t"), strict=False))

        def number(name: str, got: Mapping[str, str] = got) -> float | None:
            return float(got[name]) if got.get(name) else None

        parent = number("parent")
        rows.append(
            Row(
                n=int(got["n"]) if got.get("n") else position,
                commit=got.get("commit", ""),
                avg_return=number("avg_return"),
                status=got.get("status", ""),
                description=got.get("description", ""),
                state=got.get("state", ""),
                runs=int(number("runs") or 0),
                stderr=number("stderr"),
                parent=None if parent is None else int(parent),
                proposer=got.get("proposer", ""),
                seconds=number("seconds") or 0.0,
                cost_usd=number("cost_usd") or 0.0,
                isolation=got.get("isolation", ""),
                reason=got.get("reason", ""),
            )
        )
    return rows


# ---------------------------------------------------------------------------
# What it comes to
# ---------------------------------------------------------------------------


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
    if best and baseline and best.avg_return is not None and baseline.avg_return is not None and baseline.status != "crash":
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
    parts = [f"{summary.attempts} experiments", f"{summary.kept} kept", f"{summary.discarded} discarded", f"{summary.crashed} crashed"]
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


def status_table(rows: Sequence[Row], *, title: str = "", limit: int = 25, spent_usd: float | None = None) -> Any:
    """The newest `limit` rows as a rich Table with the headline under it; kept rows are never left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(plain(title)) if title else None, caption=Text(headline(summarize(rows, spent_usd))), caption_justify="left")
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
        score = "" if row.status == "crash" else _number(row.avg_return, 2)
        if score and row.stderr is not None:
            score += f" ± {_number(row.stderr, 2)}"
        what = "dim" if row.state == "undone" else style.get(row.status, "")
        status = row.status if not row.state else f"{row.status} ({row.state})"
        table.add_row(
            str(row.n), Text(plain(row.commit)[:7]), score, str(row.runs or ""), Text(plain(status), style=what),
            Text(plain(row.description, 120)), Text(plain(row.reason, 200)),
        )  # fmt: skip
    if len(shown) < len(rows):
        table.add_section()
        table.add_row("", "", "", "", "", Text(f"… and {len(rows) - len(shown)} earlier ones in results.tsv", style="dim"), "")
    return table


def status_json(rows: Sequence[Row], *, spent_usd: float | None = None, **facts: Any) -> dict[str, Any]:
    """Machine-readable status: the summary, every row, and whatever `facts` the caller adds (tag, phase, time left)."""
    from autorl.records import to_json

    data: dict[str, Any] = to_json({**facts, "summary": summarize(rows, spent_usd), "rows": list(rows)})
    return data


# ---------------------------------------------------------------------------
# progress.png
# ---------------------------------------------------------------------------

INK, KEPT, DULL, BAD, GOAL = "#222222", "#1a7f4b", "#b8bcc2", "#c0392b", "#8e6bbf"


def progress_png(rows: Sequence[Row], env_id: str, title: str = "", solved_at: float | None = None) -> bytes:
    """Every experiment a dot, the kept ones named, the incumbent's mean with its standard error, crashes at the bottom edge.

    Args:
        rows: attempts, oldest first.   solved_at: gymnasium's reward threshold, drawn as a line.
    Returns:
        a PNG, 1800 x 960 pixels or wider.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    decided = [r for r in rows if r.status != "running"]
    scored = [r for r in decided if r.status != "crash" and r.avg_return is not None and math.isfinite(r.avg_return)]
    crashed = [r for r in decided if r.status == "crash" or r.avg_return is None or not math.isfinite(r.avg_return)]
    kept = [r for r in scored if r.status == "keep" and r.state != "undone"]
    undone = [r for r in scored if r.state == "undone"]
    discarded = [r for r in scored if r.status != "keep" and r.state != "undone"]

    figure = Figure(figsize=(min(12 + max(0, len(rows) - 60) * 0.04, 18), 6.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    last = max((r.n for r in decided), default=1)
    axes.set_xlim(-0.6, max(last, 3) + max(0.6, last * 0.04))
    axes.set_xlabel("experiment")
    axes.set_ylabel("average return")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    heading = plain(title or env_id, 90)
    axes.set_title(f"{heading}: {headline(summarize(rows))}", loc="left", fontsize=11, color=INK, parse_math=False)

    if scored:
        low, high = _limits(scored, kept)
        goal_shown = solved_at is not None and solved_at <= high + 1.5 * (high - low)
        if goal_shown and solved_at is not None:
            low, high = min(low, solved_at), max(high, solved_at)
        pad = (high - low) * 0.08
        axes.set_ylim(low - pad, high + 2.2 * pad)
        if goal_shown and solved_at is not None:
            axes.axhline(solved_at, color=GOAL, lw=1.2, ls="--", zorder=1)
            axes.text(0.995, solved_at, f"solved at {solved_at:g}", color=GOAL, fontsize=8, ha="right", va="bottom", transform=axes.get_yaxis_transform())  # fmt: skip
        elif solved_at is not None:
            axes.text(0.995, 0.985, f"solved at {solved_at:g}, above this picture", color=GOAL, fontsize=8, ha="right", va="top", transform=axes.transAxes)  # fmt: skip
        for group, size, color, face, label in (
            (discarded, 26, DULL, DULL, "discarded"),
            (undone, 30, KEPT, "white", "kept, later undone"),
        ):
            inside = [r for r in group if _score(r) >= low]
            if inside:
                axes.scatter(
                    [r.n for r in inside], [_score(r) for r in inside], s=size, facecolors=face, edgecolors=color, zorder=2, label=label
                )
        below = [r for r in (*discarded, *undone) if _score(r) < low]
        if below:
            axes.scatter([r.n for r in below], [0.012] * len(below), s=26, marker="v", color=DULL, transform=axes.get_xaxis_transform(), zorder=2, label="discarded, below this picture")  # fmt: skip
        if kept:
            xs, ys = [r.n for r in kept], [_score(r) for r in kept]
            axes.step([*xs, max(last, xs[-1] + 0.5)], [*ys, ys[-1]], where="post", color=KEPT, lw=1.4, alpha=0.8, zorder=3)
            axes.errorbar(xs, ys, yerr=[r.stderr or 0.0 for r in kept], fmt="o", ms=6, color=KEPT, ecolor=KEPT, elinewidth=1, capsize=2.5, zorder=4, label="kept (mean ± standard error)")  # fmt: skip
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no scored experiment yet", ha="center", va="center", color="#888888", fontsize=13, transform=axes.transAxes)
    if crashed:
        axes.scatter([r.n for r in crashed], [0.03] * len(crashed), s=32, marker="x", color=BAD, transform=axes.get_xaxis_transform(), zorder=4, label="crashed (no score)")  # fmt: skip
    if decided:
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph this font lacks is drawn as a box
        if kept:
            _name(figure, axes, kept, scored)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _score(row: Row) -> float:
    assert row.avg_return is not None  # only scored rows come here
    return row.avg_return


def _limits(scored: Sequence[Row], kept: Sequence[Row]) -> tuple[float, float]:
    """The returns worth showing: everything above, and below no further than the bulk; a disaster would flatten the rest."""
    values = sorted(_score(r) for r in scored)
    edges = [v for r in kept for v in (_score(r) - (r.stderr or 0.0), _score(r) + (r.stderr or 0.0))]
    high = max(*values, *edges) if edges else values[-1]
    bulk = values[len(values) // 5]
    low = max(values[0], min(bulk, *edges) - 0.5 * (high - bulk)) if edges else values[0]
    low = min([low, *edges])
    if high - low < 1e-9 * max(1.0, abs(high)):
        margin = max(1.0, abs(high) * 0.1)
        return low - margin, high + margin
    return low, high


def _name(figure: Any, axes: Any, kept: Sequence[Row], scored: Sequence[Row]) -> None:
    """Write each kept row's description where it covers neither another name nor a dot; by number alone where nothing is free."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    scale = figure.dpi / 72
    dots = [axes.transData.transform((r.n, _score(r))) for r in scored]
    taken: list[tuple[float, float, float, float]] = []

    def free(box: tuple[float, float, float, float]) -> bool:
        x0, y0, x1, y1 = box
        if x0 < frame.x0 or x1 > frame.x1 or y0 < frame.y0 or y1 > frame.y1:
            return False
        return not any(x0 < b[2] and b[0] < x1 and y0 < b[3] and b[1] < y1 for b in taken)

    offsets = [(dx, dy) for dy in (14, -16, 28, -30, 42, -44, 58, -60, 76, -78, 96, -100, 120, -130, 150, -160) for dx in (8, -8)]
    for row in reversed(kept):  # the newest first: they matter most
        x, y = axes.transData.transform((row.n, _score(row)))
        words = "baseline" if row.n == 0 else plain(row.description, 34)
        for text, places in ((words, offsets), (f"#{row.n}", offsets[:4])):
            best: tuple[int, int, int] | None = None
            probe = axes.text(0, 0, text, fontsize=7.5, parse_math=False)
            extent = probe.get_window_extent(renderer)
            probe.remove()
            width, height = extent.width, extent.height
            for dx, dy in places:
                left = x + dx * scale if dx > 0 else x + dx * scale - width
                box = (left - 2, y + dy * scale - height / 2 - 1, left + width + 2, y + dy * scale + height / 2 + 1)
                if not free(box):
                    continue
                covered = sum(box[0] - 4 < a < box[2] + 4 and box[1] - 4 < b < box[3] + 4 for a, b in dots)
                if best is None or covered < best[0]:
                    best = (covered, dx, dy)
                if covered == 0:
                    break
            if best is None:
                continue
            _, dx, dy = best
            left = x + dx * scale if dx > 0 else x + dx * scale - width
            taken.append((left - 2, y + dy * scale - height / 2 - 1, left + width + 2, y + dy * scale + height / 2 + 1))
            axes.annotate(
                text, (row.n, _score(row)), xytext=(dx, dy), textcoords="offset points", fontsize=7.5, color=INK, parse_math=False,
                ha="left" if dx > 0 else "right", va="center", zorder=5, annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": "#888888", "lw": 0.6, "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip
            break


# ---------------------------------------------------------------------------
# report.html
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """A table of strings for the report: evidence of a claim, spend, machine."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""  # one sentence under it


_CSS = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1150px;margin:2em auto;padding:0 1em}
img{max-width:100%;height:auto}table{border-collapse:collapse;width:100%;margin:.6em 0 1.4em;font-size:13.5px}
th,td{text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid #e4e4e4;overflow-wrap:anywhere}
th{border-bottom:2px solid #bbb;white-space:nowrap}td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
tr.keep td{background:#eef8f1}tr.undone td{color:#888}tr.crash td{color:#a33}code{font-size:12.5px}.note{color:#666}
"""


def report_html(rows: Sequence[Row], *, env_id: str, tag: str, png: bytes = b"", verdicts: Mapping[int, Verdict] | None = None,
                tables: Sequence[Table] = (), facts: Mapping[str, str] | None = None, claim: str = "", spent_usd: float | None = None) -> str:  # fmt: skip
    """One self-contained page: no script, no address, the picture inside.

    Args:
        png: what `progress_png` gave.   verdicts: by attempt; else a row's own reason is shown.
        tables: evidence, spend.   facts: name -> value, listed on top.   claim: the sentence of `confirm`, if it ran.
    """
    summary = summarize(rows, spent_usd)
    esc = lambda text: html.escape(plain(str(text), 2000))  # noqa: E731
    out = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>{esc(env_id)} · {esc(tag)}</title><style>{_CSS}</style></head><body>",
        f"<h1>{esc(env_id)} <small>{esc(tag)}</small></h1><p>{esc(headline(summary))}.</p>",
    ]
    if claim:
        out.append(f"<p><b>Claim:</b> {esc(claim)}</p>")
    elif summary.gain is not None and summary.kept and summary.baseline and summary.best:
        out.append(
            f"<p>While searching, the mean return went from {_number(summary.baseline.avg_return, 2)} to {_number(summary.best.avg_return, 2)}. "
            "This is the search's own ledger, chosen among many noisy numbers: only <code>confirm</code> makes it a claim.</p>"
        )
    if png:
        out.append(f"<p><img alt='progress' src='data:image/png;base64,{base64.b64encode(png).decode()}'></p>")
    if facts:
        out.append(_html_table((), [(f"<b>{esc(k)}</b>", esc(v)) for k, v in facts.items()]))
    for table in tables:
        out.append(f"<h2>{esc(table.title)}</h2>")
        out.append(_html_table([esc(c) for c in table.columns], [tuple(esc(c) for c in line) for line in table.rows]))
        if table.note:
            out.append(f"<p class='note'>{esc(table.note)}</p>")
    if summary.kept:
        cost = f"${summary.cost_per_keep:.2f} and " if summary.cost_usd and summary.cost_per_keep is not None else ""
        out.append(f"<p>A kept improvement took {cost}{duration(summary.seconds_per_keep or 0.0)} of measured time.</p>")
    out.append("<h2>Experiments</h2><table><tr>")
    out += [f"<th>{name}</th>" for name in ("#", "commit", "avg_return", "runs", "status", "what", "verdict", "by", "time", "cost")]
    out.append("</tr>")
    for row in rows:
        verdict = (verdicts or {}).get(row.n)
        score = "" if row.status == "crash" else _number(row.avg_return, 2)
        if score and row.stderr is not None:
            score += f" ± {_number(row.stderr, 2)}"
        status = row.status + (f" ({row.state})" if row.state else "")
        css = "undone" if row.state == "undone" else row.status if row.status in ("keep", "crash") else ""
        why = f"<br><span class='note'>{esc(row.hypothesis)}</span>" if row.hypothesis else ""
        out.append(
            f"<tr class='{css}'><td class='n'>{row.n}</td><td><code>{esc(row.commit[:7])}</code></td><td class='n'>{score}</td>"
            f"<td class='n'>{row.runs or ''}</td><td>{esc(status)}</td><td>{esc(row.description)}{why}</td>"
            f"<td>{esc(verdict.reason if verdict else row.reason)}</td><td>{esc(row.proposer)}</td>"
            f"<td class='n'>{duration(row.seconds) if row.seconds else ''}</td><td class='n'>{f'${row.cost_usd:.2f}' if row.cost_usd else ''}</td></tr>"
        )
    out.append("</table></body></html>\n")
    return "".join(out)


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "<tr>" + "".join(f"<th>{c}</th>" for c in columns) + "</tr>" if columns else ""
    return "<table>" + head + "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows) + "</table>"
