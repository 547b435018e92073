"""What was tried and why is readable in any terminal, and the text of others cannot speak to it."""

import io
import os
import subprocess
import sys

import pytest
from conftest import PROJECT
from rich.console import Console

from autorl.records import Row
from autorl.report import status_table
from autorl.system.text import one_line, plain

WORDS = "Raise the entropy bonus while the policy is still undecided"
WHY = "Kept: +31.25 over 3 runs, better with probability 0.97"
ROWS = """
from autorl.records import Row
from autorl.report import status_table
rows = [
    Row(n=12, commit="0123456789abcdef", avg_return=1234.5, stderr=12.25, status="keep",
        runs=3, description=WORDS, reason=WHY),
    Row(n=13, commit="fedcba9876543210", avg_return=None, status="crash", runs=0,
        description="…", reason="Late ± nothing"),
]
"""
SHOW = f"""
import sys
sys.path.append({str(PROJECT)!r})
WORDS, WHY = {WORDS!r}, {WHY!r}
{ROWS}
from rich.console import Console
from autorl.system.text import any_terminal
any_terminal()
Console(highlight=False, width=60).print(status_table(rows, title="t on Ümlaut-v1", width=60))
"""


@pytest.mark.parametrize("width", [40, 48, 60, 80, 99, 100, 120, 160])
def test_what_was_tried_and_why_is_there_at_every_width(width: int) -> None:
    scope: dict = {"WORDS": WORDS, "WHY": WHY}
    exec(ROWS, scope)
    rows: list[Row] = scope["rows"]
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(status_table(rows, width=width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    # a column at a time: the lines of a cell lie below each other
    cells = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    columns = [" ".join(filter(None, column)) for column in zip(*cells, strict=True)]
    text = " ".join(" ".join(columns).split())
    assert WORDS in text and WHY in text
    for word in ("1,234 ± 12", "keep", "crash", "0123456", "Late ± nothing"):
        assert word in text


@pytest.mark.parametrize(
    "setting",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"NO_COLOR": "1", "TERM": "xterm-256color"},
        {"TERM": "dumb"},
    ],
    ids=lambda setting: "-".join(setting.values()),
)
def test_any_encoding_and_any_kind_of_terminal_will_do(setting: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, env=os.environ | setting, timeout=60
    )
    assert done.returncode == 0, done.stderr
    encoding = setting.get("PYTHONIOENCODING", "utf-8")
    text = done.stdout.decode(encoding)
    assert "Raise the entropy bonus" in text and "1,234 " in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("\x1b]0;pwned\x07\x1b[31mred\x1b[2J", "red"),
        ("a\x00b\x08c\x7f\x9bd", "abcd"),
        ("\u202eevil\u2066\u200b", "evil"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("lone \ud800 surrogate\ttab", "lone  surrogate\ttab"),
        ("ESC \x1b alone, and \x1b\x1b[31m[0m", "ESC  alone, and [0m"),
    ],
)
def test_the_text_of_others_cannot_move_a_cursor(given: str, wanted: str) -> None:
    assert plain(given) == wanted == plain(plain(given))
    assert one_line(given, 100) == " ".join(wanted.split())
    assert len(one_line(given * 50, 40)) <= 40
