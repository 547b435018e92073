"""report.html: one self-contained page, without script and without any address to load from."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autorl.records import Row, Verdict
from autorl.report.tables import duration, headline, number, plain, summarize


@dataclass(frozen=True, slots=True)
class Table:
    """A table of strings for the report: evidence of a claim, spend, machine."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""  # one sentence under it


def evidence_tables(evidence: Mapping[str, Any]) -> tuple[Table, ...]:
    """What `confirm` recorded, as tables: the statistics of both arms, and every run they rest on.

    Args:
        evidence: the claim's record: `claim` (the figures), `runs`, `commits`; what it lacks is left empty.
    """
    figures: Mapping[str, Any] = evidence.get("claim") or {}
    commits: Mapping[str, Any] = evidence.get("commits") or {}

    def show(name: str, digits: int = 2) -> str:
        value = figures.get(name)
        return number(value, digits) if isinstance(value, (int, float)) else ""

    arms = tuple(
        (
            who,
            str(commits.get(who, ""))[:7],
            show("runs" + end, 0),
            show("crashes" + end, 0),
            show("mean" + end),
            show("iqm" + end),
            show("std" + end),
        )
        for who, end in (("baseline", "0"), ("champion", ""))
    )
    confidence = (
        f"{100 * figures['confidence']:.0f} %"
        if isinstance(figures.get("confidence"), float)
        else ""
    )
    gain = (
        (
            show("gain"),
            f"{show('low')} to {show('high')}" if show("low") and show("high") else "",
            " ".join(part for part in (confidence, str(figures.get("method", ""))) if part),
            show("probability_of_improvement"),
            show("smallest"),
        ),
    )
    runs = tuple(
        (
            str(run.get("arm", "")),
            str(run.get("seed", "")),
            number(run.get("avg_return"), 2),
            str(len(run.get("returns") or ())),
            str(run.get("status", "")),
            str(run.get("isolation", "")),
            str(run.get("reason", "")),
        )
        for run in evidence.get("runs") or ()
    )
    return (
        Table(
            "Evidence",
            ("arm", "commit", "runs", "crashes", "mean", "IQM", "standard deviation"),
            arms,
            str(figures.get("sentence", "")),
        ),
        Table(
            "Gain",
            (
                "gain",
                "interval",
                "method",
                "probability of improvement",
                "smallest gain these runs could show",
            ),
            gain,
        ),
        Table(
            "Its runs, on seeds no decision has used",
            ("arm", "training seed", "avg_return", "episodes", "status", "isolation", "reason"),
            runs,
        ),
    )


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
            f"<p>While searching, the mean return went from {number(summary.baseline.avg_return, 2)} to {number(summary.best.avg_return, 2)}. "
            "This is the search's own ledger, chosen among many noisy numbers: only <code>confirm</code> makes it a claim.</p>"
        )
    if png:
        out.append(
            f"<p><img alt='progress' src='data:image/png;base64,{base64.b64encode(png).decode()}'></p>"
        )
    if facts:
        out.append(_html_table((), [(f"<b>{esc(k)}</b>", esc(v)) for k, v in facts.items()]))
    for table in tables:
        out.append(f"<h2>{esc(table.title)}</h2>")
        out.append(
            _html_table(
                [esc(c) for c in table.columns],
                [tuple(esc(c) for c in line) for line in table.rows],
            )
        )
        if table.note:
            out.append(f"<p class='note'>{esc(table.note)}</p>")
    if summary.kept:
        cost = (
            f"${summary.cost_per_keep:.2f} and "
            if summary.cost_usd and summary.cost_per_keep is not None
            else ""
        )
        out.append(
            f"<p>A kept improvement took {cost}{duration(summary.seconds_per_keep or 0.0)} of measured time.</p>"
        )
    out.append("<h2>Experiments</h2><table><tr>")
    out += [
        f"<th>{name}</th>"
        for name in (
            "#",
            "commit",
            "avg_return",
            "runs",
            "status",
            "what",
            "verdict",
            "by",
            "time",
            "cost",
        )
    ]
    out.append("</tr>")
    for row in rows:
        verdict = (verdicts or {}).get(row.n)
        score = "" if row.status == "crash" else number(row.avg_return, 2)
        if score and row.stderr is not None:
            score += f" ± {number(row.stderr, 2)}"
        status = row.status + (f" ({row.state})" if row.state else "")
        css = (
            "undone"
            if row.state == "undone"
            else row.status
            if row.status in ("keep", "crash")
            else ""
        )
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
    return (
        "<table>"
        + head
        + "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
        + "</table>"
    )
