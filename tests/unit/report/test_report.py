"""The report: no number for what is missing, nothing hostile gets through, always a plot."""

import csv
import dataclasses
import io
import json
import math
import random
import struct
import warnings

import pytest
from conftest import python

from autorl.records import Row, to_json
from autorl.report import (
    COLUMNS,
    evidence_tables,
    limits,
    progress_png,
    results_tsv,
    status_table,
    summarize,
    summary_words,
)
from autorl.system.text import one_line

HOSTILE = [
    "a\tb\nc\rd",
    "a\u2028b\u2029c\x85d\x0be\x0cf",
    "=HYPERLINK('http://x')",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "  \t=1+1",
    "\u200e=1",  # an invisible mark before the formula
    "＝1+1",
    '"swallow\nthe next line',
    "\x1b[31mred\x1b[0m \x07bell \x00nul",
    "right-to-left \u202e override",
    "\ud800 lone surrogate",
    "<script>alert(1)</script><img src=http://evil/x>",
    "$\\frac{1}{0}$ and $ and _^",
    "观测 🦾 normalisation",
    "[bold red]markup[/] [/nonsense]",
    "x" * 5000,
    "",
]


def row(n: int, score: float | None = None, status: str = "discard", **more: object) -> Row:
    defaults: dict[str, object] = {"commit": f"{n:040x}", "description": f"idea {n}"}
    return Row(n=n, avg_return=score, status=status, **(defaults | more))  # type: ignore[arg-type]


def session(count: int, base: float, sd: float, seed: int = 0) -> list[Row]:
    """A made-up session: crashes, discards, disasters, keeps, some taken back."""
    rng, mean = random.Random(seed), base
    rows = [row(0, base, "keep", runs=4, stderr=sd / 2, seconds=2880.0, description="baseline")]
    for n in range(1, count):
        u, words = rng.random(), {"description": rng.choice(HOSTILE)}
        if u < 0.1:
            why = {"reason": "train.py raised ValueError"}
            rows.append(row(n, None, "crash", runs=1, seconds=30.0, **words, **why))
        elif u < 0.25:
            mean += rng.random() * sd
            state = "taken back" if u < 0.13 else ""
            more = {"state": state, "runs": 3, "stderr": sd / 2, "cost_usd": 0.1}
            rows.append(row(n, mean, "keep", **words, **more))
        else:
            score = mean - rng.expovariate(1 / sd) * (40 if u > 0.97 else 1)
            rows.append(row(n, score, runs=1, cost_usd=0.1, **words))
    return rows


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"sd": 60.4, "runs": 4, "stderr": 30.2}, "1,903 ± 30"),
        ({"sd": 5419.0, "runs": 1}, "1,903"),
        ({"sd": 0.74, "runs": 1}, "1,903.46"),
        ({"runs": 4, "stderr": 30.2}, "1,903 ± 30"),
        ({"runs": 1}, "1903.46"),
        ({"status": "crash", "sd": 1.0}, ""),
    ],
)
def test_a_score_has_the_digits_that_its_spread_leaves(given, shown) -> None:
    assert row(1, 1903.4567, **given).score == shown


# -- results.tsv -----------------------------------------------------------------------------------


def test_the_first_four_columns_are_commit_return_status_description() -> None:
    assert COLUMNS[:4] == ("commit", "avg_return", "status", "description")
    assert results_tsv([]) == "\t".join(COLUMNS) + "\n"


def test_a_missing_score_is_an_empty_cell() -> None:
    rows = [row(1, None, "crash"), row(2, math.nan), row(3, -math.inf), row(4, 0.0)]
    rows.append(row(5, 17.0, "crash"))
    cells = [line.split("\t")[1] for line in results_tsv(rows).splitlines()[1:]]
    assert cells == ["", "", "", "0.000000", ""]


def test_what_is_still_running_is_not_a_result() -> None:
    assert len(results_tsv([row(0, 1.0, "keep"), row(1, None, "running")]).splitlines()) == 2


def test_hostile_text_makes_no_line_no_column_and_no_formula() -> None:
    fields = ("description", "reason", "proposer", "isolation", "state", "status")
    rows = [row(n, -1.5, **dict.fromkeys(fields, text)) for n, text in enumerate(HOSTILE)]
    text = results_tsv(rows)
    text.encode("utf-8")
    lines = text.split("\n")
    assert lines[-1] == "" and len(lines) == len(rows) + 2 == len(text.splitlines()) + 1
    assert all(line.count("\t") == len(COLUMNS) - 1 for line in lines[:-1])
    for line in lines[1:-1]:
        for name, cell in zip(COLUMNS, line.split("\t"), strict=True):
            formula = cell.startswith(("=", "+", "-", "@", "＝", '"'))
            assert name == "avg_return" or not formula, (name, cell)
            assert all(c.isprintable() for c in cell), repr(cell)


def test_csv_and_pandas_read_what_we_wrote() -> None:
    rows = session(40, -300.0, 20.0)
    text = results_tsv(rows)
    lengths = [len(line) for line in csv.reader(io.StringIO(text), delimiter="\t")]
    assert lengths == [len(COLUMNS)] * (len(rows) + 1)
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(io.StringIO(text), sep="\t")
    assert list(frame.columns) == list(COLUMNS) and len(frame) == len(rows)
    assert frame["avg_return"].isna().sum() == sum(r.status == "crash" for r in rows)


def test_what_was_written_reads_back() -> None:
    crash = row(1, None, "crash", parent=0, reason="late", cost_usd=0.0123)
    text = results_tsv([row(0, -12.25, "keep", runs=4, stderr=1.5), crash])
    first, second = csv.DictReader(io.StringIO(text), delimiter="\t")
    assert (float(first["avg_return"]), first["parent"]) == (-12.25, "")
    assert float(first["stderr"]) == 1.5
    assert (second["avg_return"], second["parent"], second["reason"]) == ("", "0", "late")
    assert float(second["cost_usd"]) == 0.0123


def test_plain_text_is_bounded_and_one_line() -> None:
    for text in HOSTILE:
        assert len(one_line(text, 50)) <= 50
        assert len(one_line(text).splitlines()) <= 1
        assert one_line(one_line(text)) == one_line(text)


# -- the session in numbers ------------------------------------------------------------------------


def test_the_summary_counts_by_hand() -> None:
    rows = [
        row(0, 10.0, "keep", seconds=40.0),
        row(1, 12.0, "keep", seconds=30.0, cost_usd=0.5),
        row(2, 90.0, "keep", state="taken back", seconds=10.0, cost_usd=0.25),
        row(3, None, "crash", seconds=5.0),
        row(4, 11.0, "discard", seconds=10.0, cost_usd=0.25),
        row(5, 15.0, "keep", seconds=5.0),
        row(6, None, "running"),
    ]
    s = summarize(rows)
    counts = (s.attempts, s.kept, s.taken_back, s.discarded, s.crashed, s.running)
    assert counts == (6, 2, 1, 1, 1, 1)
    assert s.best is rows[5] and s.gain == 5.0 and s.seconds == 100.0 and s.seconds_per_keep == 50.0
    assert s.cost_usd == 1.0
    assert s.cost_per_keep == 0.5
    assert summarize(rows, spent_usd=3.0).cost_per_keep == 1.5


def test_nothing_kept_has_no_price_per_keep_and_a_crashed_baseline_no_gain() -> None:
    assert summarize([row(0, 1.0, "keep")]).cost_per_keep is None
    s = summarize([row(0, None, "crash"), row(1, -5.0, "keep")])
    assert s.gain is None and s.kept == 1
    assert summarize([]).best is None


# -- the picture -----------------------------------------------------------------------------------


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and png[-8:-4] == b"IEND"
    return struct.unpack(">II", png[16:24])  # type: ignore[return-value]


SESSIONS: dict[str, tuple[list[Row], float | None]] = {
    "no row": ([], 300.0),
    "one row": ([row(0, -50.0, "keep")], 300.0),
    "only a crash": ([row(0, None, "crash")], None),
    "first running": ([row(0, 5.0, "keep"), row(1, None, "running")], None),
    "saturated": ([row(n, 1000.0, "discard" if n else "keep", stderr=0.0) for n in range(9)], 950),
    "tiny": ([row(n, 1e-300 * n, "keep") for n in range(3)], None),
    "huge": ([row(n, (-1) ** n * 1e15, "discard") for n in range(5)], 0.0),
    "5 negative": (session(5, -1300.0, 150.0), None),
    "40": (session(40, 100.0, 30.0), 300.0),
    "200": (session(200, -400.0, 40.0), 300.0),
}


@pytest.mark.parametrize(("rows", "solved"), SESSIONS.values(), ids=SESSIONS)
def test_every_session_has_its_picture_without_a_warning(
    rows: list[Row], solved: float | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        width, height = size(progress_png(rows, "session $1", solved))
    assert width >= 1800 and height == 960


def test_the_picture_is_the_same_twice_and_changes_with_a_score() -> None:
    rows = session(12, 10.0, 2.0)
    other = [*rows[:-1], dataclasses.replace(rows[-1], status="discard", avg_return=11.0)]
    assert progress_png(rows, "E") == progress_png(rows, "E") != progress_png(other, "E")


def test_a_crash_is_drawn_at_the_edge_wherever_the_returns_are() -> None:
    """The red of a crash is in the lowest tenth of the axes, for returns far below and above 0."""
    from matplotlib.image import imread

    for level in (-5000.0, 5000.0):
        rows = [row(0, level, "keep", stderr=10.0), row(1, level - 50)]
        rows += [row(2, None, "crash"), row(3, level + 20)]
        pixels = imread(io.BytesIO(progress_png(rows, "E")))
        red = (pixels[:, :, 0] > 0.65) & (pixels[:, :, 1] < 0.35) & (pixels[:, :, 2] < 0.3)
        heights = red[: int(960 * 0.9)].any(axis=1).nonzero()[0]  # without the legend
        assert len(heights) and heights.min() > 960 * 0.75, level


def test_a_disaster_does_not_flatten_the_picture() -> None:
    usual = [row(n, 100.0 + n) for n in range(1, 20)]
    rows = [row(0, 100.0, "keep", stderr=5.0), *usual, row(20, -1e6)]
    low, high = limits(rows) or (0.0, 0.0)
    assert limits([row(0)]) is None and high == 119.0 and 0 < low < 100


# -- status and page -------------------------------------------------------------------------------


def test_status_shows_every_kept_row_and_no_escape_sequence() -> None:
    from rich.console import Console

    rows = session(120, 50.0, 5.0)
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=True, color_system=None).print(
        status_table(rows, title="[red]x\x1b[2J", limit=10)
    )
    text = out.getvalue()
    assert "\x1b[2J" not in text and "[red]x" in text
    for r in rows:
        if r.status == "keep" and r.state != "taken back":
            assert r.score in text
    assert "earlier ones in results.tsv" in text


def test_status_json_is_json_and_has_no_number_for_a_missing_score() -> None:
    rows = [row(0, math.nan, "crash")]
    found = to_json({"summary": summarize(rows, 1.25), "rows": rows})
    data = json.loads(json.dumps(found, allow_nan=False))
    assert data["rows"][0]["avg_return"] is None
    assert data["summary"]["cost_usd"] == 1.25


def test_the_words_claim_nothing_unless_confirm_did() -> None:
    rows = [row(0, 1.0, "keep"), row(1, 3.0, "keep", description="b\x1b[31mold")]
    words = " ".join(summary_words(rows, "E", 12.0, 50))
    assert "1 idea was tried, 1 kept" in words and "nothing is claimed until `confirm`" in words
    assert "went from 1.00 to 3.00 with experiment 1, “bold”" in words
    claimed = " ".join(summary_words(rows, "E", 12.0, 50, "shown: 1.2 to 3.4 better"))
    assert claimed.endswith("shown: 1.2 to 3.4 better") and "nothing is claimed" not in claimed
    assert "no change has been found" in " ".join(summary_words(rows[:1], "E", 12.0, 50))


def test_evidence_is_shown_with_every_run_and_a_crash_without_a_score() -> None:
    from autorl.confirm import stats

    scored = {"avg_return": -12.5, "returns": [-12.0, -13.0], "status": "ok"}
    crashed = {"avg_return": None, "returns": [], "status": "crash", "reason": "late"}
    runs = [{"arm": "baseline", "seed": 7, **scored}, {"arm": "champion", "seed": 8, **crashed}]
    figures = dataclasses.asdict(stats.claim([1.0, 2.0, 3.0], [5.0, 6.5, 7.0]))
    commits = {"baseline": "abcdef0123", "champion": "1234567890"}
    arms, gain, listed = evidence_tables({"claim": figures, "runs": runs, "commits": commits})
    assert arms.rows[0][:5] == ("baseline", "abcdef0", "3", "0", "2.00")
    assert arms.rows[1][4] == "6.17"
    assert arms.note == figures["sentence"]
    assert gain.rows[0][0] == "4.17" and gain.rows[0][2] == "95 % Welch's t"
    assert listed.rows == (
        ("baseline", "7", "-12.50", "2", "ok", "", ""),
        ("champion", "8", "", "0", "crash", "", "late"),
    )
    assert len(evidence_tables({})) == 3


def test_importing_the_report_does_not_load_matplotlib() -> None:
    code = "import sys, autorl.report; sys.exit('matplotlib' in sys.modules)"
    assert python("-c", code).returncode == 0
