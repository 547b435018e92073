"""examples/algorithms: each trains, is handed over and is judged; each says what to expect.

uv run pytest tests/integration/test_algorithms.py
"""

import re
from pathlib import Path

import pytest

from autorl.judge.measure import measure
from autorl.proposers.search_space import constants
from autorl.records import Job
from autorl.source.checks import look

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "algorithms"
FILES = sorted(FOLDER.glob("*.py"))

pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_it_is_handed_over_and_judged(path: Path, tmp_path: Path) -> None:
    """A run of one update, as long as the machine needs for it."""
    source = path.read_text(encoding="utf-8")
    job = Job(source, "InvertedPendulum-v5", 1, 5.0, num_eval_episodes=3, kind="zero_budget")
    record = measure(job, tmp_path / "run")
    assert record.status == "ok", f"{record.reason}\n{record.log_tail}"
    assert len(record.returns) == 3
    assert record.total_timesteps is not None
    assert record.total_timesteps > 0


def test_it_can_be_searched_and_says_what_to_expect(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert look(source).why == ""
    assert len(constants(source)) >= 5
    assert re.search(r"^Expect .*-v\d.* \d+ s", source, re.MULTILINE), "no line of what to expect"
