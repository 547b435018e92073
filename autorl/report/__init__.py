"""What research found, as views of its rows: results.tsv, progress.png, report.html, the status
table and its JSON; and the progress bars of runs under way (progress.py).

    uv run python agent_loop.py report

The views are pure: rows in, text or bytes out; no clock, nothing written or remembered. A missing
score is an empty cell and a mark at the edge of the plot, never a number.

What it does not do: decide, claim (that is `confirm`), or write files.
"""

from autorl.report.page import Table, data_json, evidence_tables, report_html, summary_words
from autorl.report.plot import limits, progress_png
from autorl.report.tables import (
    COLUMNS,
    cell,
    duration,
    headline,
    mean,
    results_tsv,
    status_json,
    status_table,
    summarize,
)

__all__ = [
    "COLUMNS",
    "Table",
    "cell",
    "data_json",
    "duration",
    "evidence_tables",
    "headline",
    "limits",
    "mean",
    "progress_png",
    "report_html",
    "results_tsv",
    "status_json",
    "status_table",
    "summarize",
    "summary_words",
]
