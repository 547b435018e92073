"""The page: what a run or a researcher writes is text there, nothing else; curves on one grid."""

import base64
import csv
import html.parser
import importlib.util
import io
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_session import BUDGET, EVIL, make_session
from rich.console import Console

from autorl.cli import page
from autorl.cli.status import write_report
from autorl.errors import UserError
from autorl.records import Progress
from autorl.report import curves, data_json, report_html
from autorl.report.progress import BARS, Dashboard, Standing, describe, resample, sparkline
from autorl.session import SessionState, read_state

ADDRESSES = ("src", "href", "action", "srcset", "data")


class Page(html.parser.HTMLParser):
    """Tags seen, every address and event handler, and what the scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.addresses: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [(k, v) for k, v in attrs if k in ADDRESSES or k.startswith("on")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(self.scripts[0])))
        return data


def texts(value: Any) -> list[str]:
    """Every string in plain data, names included."""
    if isinstance(value, dict):
        return [t for k, v in value.items() for t in (*texts(k), *texts(v))]
    if isinstance(value, list):
        return [t for v in value for t in texts(v)]
    return [value] if isinstance(value, str) else []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, SessionState]:
    root = tmp_path_factory.mktemp("made")
    folder = make_session(root, 24, rows=60, evil=True)
    return root, folder, read_state(folder / "journal.jsonl")


def test_hostile_text_never_becomes_html_and_no_control_character_gets_through(made) -> None:
    root, _, _ = made
    names = write_report(root, None)
    text = (root / names[-1]).read_text(encoding="utf-8")
    found = Page(text)
    assert "evil.example" not in text
    assert found.addresses == [("href", "data:,")]
    assert len(found.scripts) == 3
    assert not {"iframe", "object", "form", "img", "base"} & set(found.seen)
    assert "default-src 'none'" in text and "innerHTML" not in text.replace(found.scripts[1], "")
    assert EVIL.partition("\x1b")[0] in found.data["experiments"][0]["description"]
    assert all(line.isprintable() for t in texts(found.data) for line in t.split("\n"))


def test_an_experiment_tells_its_runs_what_was_left_out_and_the_line_that_crashed(made) -> None:
    root, folder, state = made
    data = page.page_data(root, folder, state)
    crashed = next(e for e in data["experiments"] if e["status"] == "crash")
    source = state.attempts[crashed["n"]].source.split("\n")
    line = crashed["crash"]["line"]
    assert source[line - 1].startswith("def main") and crashed["crash"]["code"] == source[line - 1]
    assert crashed["crash"]["cause"].startswith("ValueError") and crashed["avg_return"] is None
    out = [r for e in data["experiments"] for r in e["measured"] if not r["counted"]]
    assert out and all(r["why"] == "repeated: it got 50 % of its cores" for r in out)
    kept = data["experiments"][data["champion"]]
    assert "+CLIP_COEF" in kept["diff"] and kept["controls"][0][:2] == ["zero_budget", True]


def test_a_run_of_the_confirmation_a_control_and_an_open_one_say_why_they_do_not_count() -> None:
    from autorl.session import Run

    def why(purpose: str, kind: str = "measure") -> str:
        text: str = page.run_data(Run(1, 0, purpose, kind, 0, 0, 0, "f"))["why"]
        return text

    assert "no decision may use it" in why("confirm 0")
    assert why("control", "seed_control").endswith("seed control")
    assert why("candidate").startswith("It is under way")


def test_what_was_gathered_of_an_experiment_is_used_again_until_it_changes(made) -> None:
    root, folder, state = made
    known: dict[int, Any] = {}
    first = page.page_data(root, folder, state, known=known)
    again = page.page_data(root, folder, state, known=known)
    assert all(a is b for a, b in zip(first["experiments"], again["experiments"], strict=True))
    state.attempts[3].outcome = "superseded"
    assert page.page_data(root, folder, state, known=known)["experiments"][3]["state"] != ""


# -- curves ----------------------------------------------------------------------------------------


def test_a_curve_is_the_mean_of_each_share_of_the_budget_and_a_line_between() -> None:
    rows = ("0.1,1,10", "0.2,2,20", "4.1,3,50", "nan,4,9", "-3,5,9", "99,6,9", "2.0,7,x", "500,8,1")
    found = curves.read_curves("\n".join(("seconds,step,episode_return", *rows)), 100.0)
    curve = found["episode_return"]
    assert curve.shape == (curves.POINTS,)  # half a second each
    assert curve[0] == 15.0 and curve[8] == 50.0 and curve[4] == 15.0 + 4 * 35 / 8
    assert curve[198] == 9.0 and curve[103] == 29.5 and math.isnan(curve[199])
    assert curves.short(np.array([math.nan, 1234567.0])) == [None, 1235000.0]


def test_metrics_that_are_no_table_give_no_curve() -> None:
    for text in ("", "\0\0", "seconds\n", "a,b\n1,2\n", "seconds,a\n1,x\n", "seconds,a\n1\n"):
        assert curves.read_curves(text, 10.0) == {}
    assert curves.read_curves("seconds,a\n1,2\n", math.nan) == {}
    wild = "seconds,a\n1,1e300\n2,5\n"
    assert np.nanmax(curves.read_curves(wild, 10.0)["a"]) == 5.0


def test_the_mean_of_curves_is_over_those_that_are_known_there() -> None:
    a, b = np.full(curves.POINTS, 1.0), np.full(curves.POINTS, 3.0)
    a[0] = a[1] = b[1] = math.nan
    mean = curves.mean_curve([a, b])
    assert mean[0] == 3.0 and np.isnan(mean[1]) and mean[2] == 2.0


def test_the_csv_holds_every_run_and_no_formula(made) -> None:
    root, _, state = made
    where = root / state.runs[1].folder / "metrics.csv"
    where.write_text(where.read_text().replace("entropy", "=1+1", 1))
    lines = list(csv.DictReader(io.StringIO(page.curves_csv(root, state))))
    assert {int(line["run"]) for line in lines} == set(state.runs)
    assert "'=1+1" in lines[0] and float(lines[0]["seconds"]) == BUDGET / curves.POINTS / 2 * 7
    assert {line["counted"] for line in lines if line["status"] == "ok"} == {"0", "1"}


def test_tensorboard_is_written_or_named_as_missing(made) -> None:
    root, folder, state = made
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(UserError, match="uv sync --extra tensorboard"):
            page.write_tensorboard(root, folder, state)
    else:
        logs = page.write_tensorboard(root, folder, state)
        assert len(list(logs.glob("*/run-*/events.out.tfevents.*"))) == len(state.runs)


def test_a_journal_cut_in_the_middle_is_one_sentence_and_a_torn_end_is_none(tmp_path) -> None:
    path = make_session(tmp_path, 5, rows=10) / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert write_report(tmp_path, None)[-1].endswith("report.html")
    path.write_bytes(whole[:3000] + whole[3100:])
    with pytest.raises(UserError, match=r"Line \d+ of .* restore the file from a copy"):
        write_report(tmp_path, None)
    path.write_bytes(whole[:100])
    with pytest.raises(UserError, match="holds no whole line"):
        write_report(tmp_path, None)


@pytest.mark.long
def test_the_page_stays_small(tmp_path, capsys) -> None:
    for count, limit in ((100, 2_000_000), (1000, 6_000_000)):
        root = tmp_path / str(count)
        folder = make_session(root, count, rows=250)
        state = read_state(folder / "journal.jsonl")
        size = len(report_html(page.page_data(root, folder, state)).encode())
        with capsys.disabled():
            print(f"\n{count} experiments: report.html {size:,} bytes")
        assert size <= limit


# -- the dashboard ---------------------------------------------------------------------------------


def test_a_sparkline_shows_what_is_not_known_as_a_blank() -> None:
    assert sparkline([0.0, math.nan, 7.0, 3.5], 0.0, 7.0) == "▁ █" + BARS[round(3.5)]
    assert sparkline([2.0, 2.0], 2.0, 2.0) == "▁▁"
    assert resample(range(10), 5) == [0.0, 2.0, 4.0, 6.0, 8.0] and resample((), 5) == []


def test_the_dashboard_fits_its_terminal_and_lets_no_escape_through() -> None:
    curve = tuple((i / 10, 3.0 * i) for i in range(60))
    look = Progress("training", 6.0, 12.0, 100, 2e4, 55.0, curve)
    best, ends = tuple(float(i) for i in range(200)), ("experiment 3 of 9",)
    standing = Standing(EVIL, EVIL, best, (("keep", EVIL),), EVIL, ends, 60.0)
    for width in (80, 120):
        screen = io.StringIO()
        console = Console(width=width, file=screen, force_terminal=True, color_system=None)
        board = Dashboard(console)
        board.standing = lambda: standing
        console.print(board._picture([("run 1", look)], "claude is thinking", 0.0))
        lines = screen.getvalue().splitlines()
        assert {len(line) for line in lines} == {width} and "\x1b" not in screen.getvalue()
        mine, theirs = (line.strip("│ ") for line in lines if "▅" in line)
        assert mine.startswith("this run") and theirs.startswith("incumbent")
        assert len(mine) < 0.6 * len(theirs)  # at equal time
        assert any("1 min left, experiment 3 of 9" in line for line in lines)
    assert describe(look) == "6/12 s  return 55.0  20,000 steps/s"


def test_in_a_pipe_a_run_gets_a_plain_line_and_no_picture() -> None:
    screen = io.StringIO()
    with Dashboard(Console(file=screen)) as board:
        board.say("new session")
        board._last_plain -= 31.0
        for _ in range(3):
            board.progress([("run 1", None)], "claude is thinking")
    assert screen.getvalue().splitlines() == [
        "  0:00  new session",
        "  0:00  run 1: starting",
        "  0:00  claude is thinking",
    ]


def test_the_replay_is_framed_as_it_is() -> None:
    page = "<script>" + "1;" * 5000 + "\n</script>\x1b"
    data = json.loads(data_json({"replay": page, "title": page}))
    assert data["replay"] == page
    assert len(data["title"]) < 2100
