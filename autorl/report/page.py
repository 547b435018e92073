"""report.html: one self-contained page, without script and without any address to load from.

page.html, filled in by jinja2 (it comes with torch); every text is made harmless and escaped there.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorl.records import Row
from autorl.report.tables import FOOTNOTE, duration, headline, number, plain, status, summarize


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
        evidence: the claim's record: `claim` (the figures), `runs`, `commits`; what it lacks stays
            empty.
    """
    figures: Mapping[str, Any] = evidence.get("claim") or {}
    commits: Mapping[str, Any] = evidence.get("commits") or {}

    def show(name: str, digits: int = 2) -> str:
        return number(figures.get(name), digits)

    arms = tuple(
        (
            arm,
            str(commits.get(arm, ""))[:7],
            *(show(name + suffix, 0) for name in ("runs", "crashes")),
            *(show(name + suffix) for name in ("mean", "iqm", "std", "floor")),
        )
        for arm, suffix in (("baseline", "0"), ("champion", ""))
    )
    low, high, confidence = show("low"), show("high"), figures.get("confidence")
    sd, gained = figures.get("sd"), figures.get("gain")
    gain = (
        show("gain"),
        f"{low} to {high}" if low and high else "",
        f"{100 * confidence:.0f} % {figures.get('method', '')}" if confidence else "",
        number(gained / sd, 1) if sd and gained is not None else "",
        show("probability_of_improvement"),
        show("smallest"),
    )
    runs = tuple(
        (
            run["arm"],
            str(run["seed"]),
            number(run["avg_return"], 2),
            str(len(run["returns"])),
            run["status"],
            run.get("isolation", ""),
            run.get("reason", ""),
        )
        for run in evidence.get("runs", ())
    )
    smallest = "smallest gain these runs could show"
    return (
        Table(
            "Evidence",
            ("arm", "commit", "runs", "crashes", "mean", "IQM", "sd of a run", "sd in the session"),
            arms,
            str(figures.get("sentence", "")),
        ),
        Table(
            "Gain",
            ("gain", "interval", "method", "in sd", "probability of improvement", smallest),
            (gain,),
        ),
        Table(
            "Its runs, on seeds no decision has used",
            ("arm", "training seed", "avg_return", "episodes", "status", "isolation", "reason"),
            runs,
        ),
    )


def report_html(
    rows: Sequence[Row],
    *,
    env_id: str,
    tag: str,
    png: bytes = b"",
    tables: Sequence[Table] = (),
    claim: str = "",
    spent_usd: float | None = None,
) -> str:
    """The page of a session, the plot inside.

    Args:
        png: what `progress_png` gave.
        tables: evidence, spend.
        claim: the sentence of `confirm`, if it ran.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: plain(value, 2000) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summary = summarize(rows, spent_usd)
    return pages.get_template("page.html").render(
        env_id=env_id,
        tag=tag,
        headline=headline(summary),
        summary=summary,
        claim=claim,
        png=base64.b64encode(png).decode(),
        tables=tables,
        rows=rows,
        footnote=FOOTNOTE,
        status=status,
        duration=duration,
    )
