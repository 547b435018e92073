"""cli/background: how long a verdict takes, and when a loop is not started again."""

from pathlib import Path

import msgspec
import pytest

from autorl.cli.background import revive, takes
from autorl.errors import UserError
from autorl.records import RunRecord, Verdict
from autorl.session import SessionState, Settings
from autorl.session import events as e

BUDGET = Settings(time_budget=720.0)
START = e.Attempted(n=0, parent=None, source="", title="baseline", key="0")
SLOW = RunRecord("ok", avg_return=1.0, total_seconds=900.0)


def run(n: int, record: RunRecord) -> tuple[e.Event, e.Event]:
    begun = e.RunStarted(
        run=n, attempt=0, purpose="calibrate", kind="measure", seed_index=n, seed=n, epoch=0,
        folder="f",
    )  # fmt: skip
    return begun, e.RunEnded(run=n, record=record)


def after(*events: e.Event) -> SessionState:
    state = SessionState()
    for seq, event in enumerate(events):
        state.apply(msgspec.structs.replace(event, seq=seq))
    return state


def test_the_time_follows_from_the_budget_the_places_and_then_from_the_runs():
    assert takes(SessionState(), BUDGET) == (
        "4 runs of the baseline first: about 50 min; then about 13 min a run, 1 to 4 runs"
    )
    one_run = START, *run(1, SLOW)
    two_places = Settings(time_budget=720.0, slots=2)
    assert takes(after(*one_run), two_places, ahead=1) == (
        "3 runs of the baseline first, 2 at once: about 30 min; then about 15 min a run, 1 to "
        "4 runs, after 1 other experiment: in 45 min at the earliest"
    )
    done = e.Decided(verdict=Verdict(0, "baseline", "measured"))
    assert takes(after(*one_run, done), two_places) == "about 15 min a run, 1 to 4 runs"


def test_a_loop_that_ends_early_again_and_again_is_not_started_a_fourth_time(tmp_path: Path):
    ends = [e.Opened(pid=1), e.Closed(why="the disk is full", early=True)] * 4
    with pytest.raises(UserError, match=r"4 times in a row .* the disk is full\. See to that"):
        revive(tmp_path, tmp_path, after(START, *ends))
    verdict = e.Decided(verdict=Verdict(0, "baseline", "measured"))
    assert after(START, *ends, verdict).starts == 0
    assert after(START, *ends, e.Opened(pid=1), e.Closed(why="all is decided")).starts == 0
    killed = after(START, *ends, e.Opened(pid=1))
    assert (killed.starts, killed.ended) == (5, "")
    assert after(START, *ends, e.Opened(pid=1), e.Closed(why=e.STOPPED, early=True)).starts == 0


def test_a_baseline_without_a_score_is_told_at_once(tmp_path: Path):
    crash = e.Decided(verdict=Verdict(0, "crash", "Run 1 crashed"))
    with pytest.raises(UserError, match=r"fix train\.py, commit it"):
        revive(tmp_path, tmp_path, after(START, e.Opened(pid=1), crash))
