"""What research found, as views of its rows: results.tsv, progress.png, report.html, the status
table and its JSON; and the progress bars of runs under way (progress.py).

    uv run python agent_loop.py report

The views are pure: rows in, text or bytes out; no clock, nothing written or remembered. A missing
score is an empty cell and a mark at the edge of the plot, never a number.

What it does not do: decide, claim (that is `confirm`), or write files.
"""

from autorl.report.page import data_json as data_json
from autorl.report.page import evidence_tables as evidence_tables
from autorl.report.page import report_html as report_html
from autorl.report.page import summary_words as summary_words
from autorl.report.plot import limits as limits
from autorl.report.plot import progress_png as progress_png
from autorl.report.tables import COLUMNS as COLUMNS
from autorl.report.tables import cell as cell
from autorl.report.tables import duration as duration
from autorl.report.tables import headline as headline
from autorl.report.tables import mean as mean
from autorl.report.tables import results_tsv as results_tsv
from autorl.report.tables import status as status
from autorl.report.tables import status_table as status_table
from autorl.report.tables import summarize as summarize
