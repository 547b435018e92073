"""Several runs at once: whatever order results come in, twice or never, each counts once and for its own experiment."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent / "faults")]

from unreliable import EXPERIMENTS, PLACES, Night, night  # noqa: E402


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return night(tmp_path_factory.mktemp("pool") / "a night")


def test_the_post_was_as_bad_as_it_should_be(found: Night) -> None:
    assert all(found.faults[kind] >= 3 for kind in ("came before an earlier one", "lost", "another's, for the second time"))
    assert found.most_at_once == PLACES


def test_every_invariant_holds_after_each_sitting(found: Night) -> None:
    assert found.broken == []


def test_every_idea_is_decided_or_refused_with_a_reason(found: Night) -> None:
    titles = {row.description for row in found.rows}
    decided = sum(f"idea {k}" in titles for k in range(EXPERIMENTS))
    assert decided >= 24  # five of the gains stand on the same line: what is left of them may not fit any more
    assert found.outcomes["keep"] >= 1 and found.outcomes["crash"] >= 1 and found.outcomes["discard"] >= 5
    best = max(row.avg_return for row in found.rows if row.avg_return is not None)
    assert best > 15.0
