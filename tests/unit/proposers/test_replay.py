"""Proposals from a file: in order, resumable, refused by name when they are no proposals."""

import json
from pathlib import Path

import pytest
from researching import history

from autorl.errors import ProposerError, UserError
from autorl.proposers.replay import Replay

TRAIN = "LR = 1e-3\nGAMMA = 0.99\n"
EDITS = [{"search": "LR = 1e-3", "replace": "LR = 3e-3"}]
ROWS = [
    {"title": "lr", "hypothesis": "timid", "expected_effect": "faster", "edits": EDITS},
    {"title": "misfit", "edits": [{"search": "NOT THERE", "replace": "x"}]},
    {"title": "all new", "source": "print('new')\n"},
]


def replay(tmp_path: Path, rows, consumed: int = 0, lines: bool = True) -> Replay:
    path = tmp_path / "ideas.json"
    text = "\n\n".join(json.dumps(r) for r in rows) if lines else json.dumps(rows, indent=1)
    path.write_text(text, encoding="utf-8")
    return Replay(path, consumed)


@pytest.mark.parametrize("lines", [True, False], ids=["json lines", "json array"])
def test_rows_come_in_order_and_end(lines, tmp_path, spending):
    now, proposer = history(train_source=TRAIN), replay(tmp_path, ROWS, lines=lines)
    budget, why = spending.budget, r"misfit: Edit 1: the search block is not in train\.py"
    first = proposer.propose(now, budget)
    told = (first.title, first.hypothesis, first.expected_effect, first.proposer)
    assert told == ("lr", "timid", "faster", "replay")
    with pytest.raises(ProposerError, match=why):
        proposer.propose(now, budget)
    assert proposer.propose(now, budget).source == "print('new')\n"
    assert proposer.propose(now, budget) is None and proposer.propose(now, budget) is None


@pytest.mark.parametrize("consumed", [0, 1, 2, 3, 7])
def test_it_goes_on_behind_what_was_taken(consumed, tmp_path, spending):
    rows = [{"title": f"idea {i}", "source": f"x = {i}\n"} for i in range(3)]
    proposer = replay(tmp_path, rows, consumed)
    titles = []
    while (proposal := proposer.propose(history(), spending.budget)) is not None:
        titles.append(proposal.title)
    assert titles == [f"idea {i}" for i in range(consumed, 3)]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"title": " ", "source": "x"}, "an object with a title"),
        (["lr"], "an object with a title"),
        ({"title": "neither"}, "either edits or source"),
        ({"title": "both", "source": "x", "edits": EDITS}, "either edits or source"),
        ({"title": "half an edit", "edits": [{"search": "a"}]}, "search and replace"),
        ({"title": "a number", "source": 3}, "text of the whole new train.py"),
        ({"title": "\ud800", "source": "x"}, "no Unicode"),
    ],
)
def test_what_is_no_proposal_is_refused_at_the_start_with_its_number(row, why, tmp_path):
    with pytest.raises(UserError, match=f"row 2: .*{why}"):
        replay(tmp_path, [ROWS[0], row])


@pytest.mark.parametrize("data", [b"{not json", b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(data, tmp_path):
    path = tmp_path / "ideas.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as refused:
        Replay(path)
    assert "\n" not in str(refused.value) and "ideas.jsonl" in str(refused.value)
