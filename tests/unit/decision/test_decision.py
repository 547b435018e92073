"""decision/: calibration, crashes, the machine, saturation, identical code."""

import math
from typing import Any

import pytest
from hand_fed import Session, climbed

from autorl.decision import Measure, Propose, ResumedFact, champion, wants
from autorl.decision.state import CancelFact

# -- calibration -----------------------------------------------------------------------------------


def test_four_runs_of_the_baseline_calibrate_and_nothing_is_proposed_before() -> None:
    x = Session()
    assert wants(x.state) == (Measure(0, "calibrate"),)
    assert wants(x.state, 8) == (Measure(0, "calibrate"),) * 4
    assert wants(x.state, 8, (Measure(0, "calibrate"),) * 3) == (Measure(0, "calibrate"),)
    assert x.scores(0, 98.0, 102.0, 96.0) == ()
    assert x.state.sd is None
    (verdict,) = x.run(0, 104.0)
    assert (verdict.outcome, verdict.n, verdict.mean) == ("baseline", 4, 100.0)
    assert verdict.seeds == (1001, 1002, 1003, 1004)
    assert x.state.sd is not None
    assert 2.0 < x.state.sd < 8.0  # the runs' own is 3.65
    assert wants(x.state) == (Propose(0),)


def test_a_baseline_that_crashes_stops_the_search_with_a_reason() -> None:
    x = Session()
    x.run(0, 98.0)
    (verdict,) = x.run(0, None, "crash")
    assert verdict.outcome == "crash"
    assert "fix what ended it" in verdict.reason
    assert x.state.stop
    assert x.state.broken
    assert wants(x.state, 4) == ()


def test_sd_is_learnt_from_candidates_too() -> None:
    quiet, wild = Session().calibrated(), Session().calibrated()
    for n in range(1, 15):
        quiet.decide(n, 98.0 + n % 2)
        wild.decide(n, 85.0 + 20 * (n % 2))
    assert quiet.state.sd is not None
    assert wild.state.sd is not None
    assert wild.state.sd > 1.5 * quiet.state.sd


# -- runs without a score --------------------------------------------------------------------------


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf, True])
def test_a_run_without_a_finite_score_is_a_crash(score: Any) -> None:
    x = Session().calibrated()
    x.propose(1)
    (verdict,) = x.run(1, score)
    assert verdict.outcome == "crash"
    assert verdict.mean is None
    assert x.state.incumbent == 0


def test_a_crash_in_any_run_discards_however_good_the_others_were() -> None:
    x = Session().calibrated()
    x.propose(1)
    assert x.run(1, 500.0) == ()  # far above: to be seen twice
    (verdict,) = x.run(1, None, "crash")
    assert verdict.outcome == "crash"
    assert "one crash discards" in verdict.reason
    assert x.state.incumbent == 0


def test_what_is_cancelled_is_no_crash_and_no_duplicate_of_itself() -> None:
    x = Session().calibrated()
    x.propose(1)
    (verdict,) = x.tell(CancelFact(1))
    assert (verdict.outcome, x.state.open, x.state.crashed_in_a_row) == ("discard", (), 0)
    assert x.tell(CancelFact(1)) == x.tell(CancelFact(0)) == ()
    assert x.propose(2, key="k1") == ()
    assert x.state.open == (2,)


def test_a_kept_attempt_that_crashes_is_taken_back() -> None:
    x = climbed(2)
    x.propose(3)
    x.scores(3, 900.0, 900.0)  # kept far beyond luck, and to be calibrated
    assert x.state.incumbent == 3
    assert wants(x.state) == (Measure(3, "calibrate"),)
    (verdict,) = x.run(3, None, "crash")
    assert (verdict.outcome, verdict.taken_back, verdict.incumbent) == ("taken back", (3,), 2)
    assert x.state.incumbent == 2
    assert wants(x.state) == (Propose(2),)


def test_an_interrupted_run_is_repeated_and_never_counted() -> None:
    x = Session().calibrated()
    x.propose(1)
    before = x.state
    for _ in range(20):
        assert x.run(1, None, "interrupted") == ()
        assert x.state == before
    assert wants(x.state) == (Measure(1, "candidate"),)


def test_a_refused_candidate_is_discarded_without_being_called_a_crash() -> None:
    x = Session().calibrated()
    x.propose(1)
    (verdict,) = x.run(1, None, "refused")
    assert verdict.outcome == "discard"
    assert "refused" in verdict.reason


def test_a_result_that_arrives_twice_counts_once() -> None:
    x = Session().calibrated()
    once = x.state
    assert x.tell(x.facts[-1]) == ()
    assert x.state == once


@pytest.mark.parametrize("harness_is_broken", [True, False])
def test_after_five_crashes_in_a_row_the_incumbent_tells_the_harness_from_the_ideas(
    harness_is_broken: bool,
) -> None:
    x = Session().calibrated()
    for n in range(1, 6):
        assert not x.state.stop
        x.propose(n)
        x.run(n, None, "crash")
    x.propose(6)  # an idea that was under way is not taken for the re-check
    assert wants(x.state, 2) == (Measure(0, "incumbent"),)
    x.run(0, None if harness_is_broken else 100.0, "crash" if harness_is_broken else "ok")
    assert "at fault" in x.state.stop
    assert ("the ideas are at fault" in x.state.stop) is not harness_is_broken
    assert x.state.broken is harness_is_broken
    assert wants(x.state, 4) == ()
    x.tell(ResumedFact())
    assert not x.state.broken
    assert not x.state.stop
    assert wants(x.state) == (Measure(6, "candidate"),)


@pytest.mark.parametrize("score", [40.0, 180.0], ids=["discarded", "kept"])
def test_a_candidate_that_scores_calls_the_recheck_off(score: float) -> None:
    x = Session().calibrated()
    for n in range(1, 7):
        x.propose(n)
    for n in range(1, 6):
        x.run(n, None, "crash")
    assert x.state.recheck
    x.decide(6, score)
    assert not x.state.recheck
    assert x.state.incumbent == (6 if score > 100 else 0)
    x.run(0, 100.0)
    assert not x.state.stop


def test_a_candidate_that_runs_breaks_a_row_of_crashes() -> None:
    x = Session().calibrated()
    for n in range(1, 20):
        x.propose(n)
        if n % 5:
            x.run(n, None, "crash")
        else:
            x.decide(n, 40.0)
    assert not x.state.stop
    assert not x.state.recheck


def test_a_machine_that_breaks_takes_no_keep_with_it() -> None:
    x = climbed(2)
    for n in range(3, 8):
        x.propose(n)
        x.run(n, None, "crash")
    x.run(x.state.incumbent, None, "crash")
    assert "the harness or the machine is at fault" in x.state.stop
    assert x.state.broken
    assert x.state.incumbent == 2
    assert champion(x.state) == 2


# -- the machine -----------------------------------------------------------------------------------


def test_other_hardware_calibrates_again_and_pools_nothing_across() -> None:
    x = Session().calibrated()
    x.propose(1)
    x.run(1, 300.0, epoch=1)  # a faster machine: three times the score means nothing
    assert x.state.incumbent == 0
    assert not x.state.calibrated
    for score in (290.0, 310.0, 295.0, 305.0):
        x.run(0, score, epoch=1)
    assert x.state.calibrated
    assert x.state.posterior is not None
    assert 290 < x.state.posterior.mean < 310
    assert [v.outcome for v in x.verdicts if v.outcome == "keep" and (v.gain or 9) > 1] == []


def test_other_hardware_calibrates_the_baseline_too_and_keeps_the_branch() -> None:
    x = climbed(3)
    odds = x.state.posterior.odds.tolist() if x.state.posterior else []
    x.run(3, 400.0, epoch=1)
    assert wants(x.state, 8) == (Measure(3, "calibrate"),) * 3 + (Measure(0, "calibrate"),) * 4
    for score in (402.0, 398.0, 401.0):
        x.run(3, score, epoch=1)
    for score in (300.0, 303.0, 298.0, 301.0):
        x.run(0, score, epoch=1)
    assert x.state.calibrated
    assert (x.state.path, x.state.incumbent, champion(x.state)) == ((0, 3), 3, 3)
    assert x.state.posterior is not None
    assert x.state.posterior.odds.tolist() == odds  # what ideas are worth was not forgotten


def test_on_other_hardware_going_back_takes_back_everything_between() -> None:
    x = climbed(3)
    x.epoch = 1
    x.scores(3, 298.0, 301.0, 299.0, 302.0)
    assert x.scores(0, 400.0, 403.0, 398.0) == ()
    (verdict,) = x.run(0, 401.0)  # what was a gain there is none here
    assert verdict.outcome == "taken back"
    assert verdict.taken_back == (1, 2, 3)
    assert x.state.incumbent == champion(x.state) == 0
    assert wants(x.state) == (Propose(0),)


# -- saturation ------------------------------------------------------------------------------------


def test_a_saturated_score_says_so_and_stops_instead_of_discarding_for_ever() -> None:
    x = Session().calibrated(1000.0, 1000.0, 1000.0, 1000.0)
    assert "saturated" in x.state.saturated
    assert "harder environment" in x.verdicts[0].reason
    for n in range(1, 11):
        assert not x.state.stop
        x.propose(n)
        (verdict,) = x.run(n, 1000.0)
        assert verdict.outcome == "discard"
        assert "saturated" in verdict.reason
    assert "saturated" in x.state.stop


@pytest.mark.parametrize("others", [(1000.0, 994.0, 1000.0, 1000.0), (400.0, 500.0, 700.0, 800.0)])
def test_a_ceiling_that_most_runs_reach_ends_the_search(others: tuple[float, ...]) -> None:
    x = Session().calibrated(*others)
    n = 0
    while not x.state.stop and n < 60:
        want = wants(x.state)[0]
        if isinstance(want, Measure):
            x.run(want.attempt, 1000.0)
        else:
            n += 1
            x.propose(n)
    assert "saturated" in x.state.stop
    assert "harder environment" in x.state.stop
    assert n <= 20


def test_a_ceiling_is_one_where_scores_differ_by_nothing_that_matters() -> None:
    """InvertedDoublePendulum-v5 ends at 9,359.6 to 9,359.8; a failed start costs hundreds."""
    x, n = Session().calibrated(9010.0, 8230.0, 9359.71, 8790.0), 0
    while not x.state.stop and n < 30:
        n += 1
        x.propose(n)
        while n in x.state.open:
            x.run(n, 9359.70 + 0.03 * (n % 4))
    assert "saturated" in x.state.stop
    assert n <= 15


def test_a_deterministic_score_still_finds_the_gain() -> None:
    x = Session().calibrated(7.0, 7.0, 7.0, 7.0)
    assert x.decide(1, 6.0).outcome == "discard"
    x.propose(2)
    assert [v.outcome for v in x.scores(2, 7.5, 7.5)] == ["keep"]
    x.scores(2, 7.5, 7.5)
    assert x.decide(3, 7.25).outcome == "discard"
    assert x.state.incumbent == 2


def test_spread_that_appears_after_none_was_seen_is_believed() -> None:
    x = Session().calibrated(7.0, 7.0, 7.0, 7.0)
    for n in range(1, 40):
        x.propose(n)
        while isinstance(want := wants(x.state)[0], Measure):
            x.run(want.attempt, 7.0 + 0.01 * math.sin(n * 7 + x.runs))
    assert x.state.sd is not None
    assert x.state.sd > 1e-3


# -- one experiment per code -----------------------------------------------------------------------


def test_identical_code_is_not_measured_again() -> None:
    x = Session().calibrated()
    for n, key in ((1, "k0"), (2, "new"), (3, "new")):
        verdicts = x.propose(n, key=key)
        assert [v.outcome for v in verdicts] == ([] if n == 2 else ["discard"])
    assert x.state.open == (2,)
    x.decide(2, 40.0)
    (verdict,) = x.propose(4, key="new")
    assert verdict.outcome == "discard"
    assert "experiment 2" in verdict.reason
    assert x.state.open == ()


def test_a_superseded_attempt_that_comes_back_keeps_its_runs() -> None:
    x = Session().calibrated()
    x.propose(1)
    x.propose(2)
    x.scores(1, 900.0)
    x.run(1, 900.0)  # kept far beyond luck
    x.run(2, 104.0)  # under way until now: promising over the baseline
    for score in (901.0, 899.0):
        x.run(1, score)
    assert x.state.arms[2].status == "superseded"
    (back,) = (v for v in x.run(1, None, "crash") if v.outcome == "taken back")
    assert back.incumbent == x.state.incumbent == 0
    x.propose(3, key="k2")
    assert [run.score for run in x.state.arms[3].runs] == [104.0]
