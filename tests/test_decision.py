"""The decision room: a fold over facts. Each test is named by the property it attacks."""

import math
from typing import Any

import pytest
from hand_fed import Session, climbed

from autorl.decision import Control, ControlFact, Measure, Propose, ResumedFact, Rules, wants

# -- calibration -------------------------------------------------------------------------------------------------------


def test_four_baseline_runs_calibrate_and_s_is_inflated_for_its_own_uncertainty() -> None:
    x = Session()
    assert wants(x.state) == (Measure(0, "calibrate"),)
    assert wants(x.state, 8) == (Measure(0, "calibrate"),) * 4
    assert wants(x.state, 8, (Measure(0, "calibrate"),) * 3) == (Measure(0, "calibrate"),)
    assert x.scores(0, 98.0, 102.0, 96.0) == ()
    (verdict,) = x.run(0, 104.0)
    assert (verdict.outcome, verdict.n, verdict.mean, verdict.seeds) == (
        "baseline",
        4,
        100.0,
        (1001, 1002, 1003, 1004),
    )
    assert x.state.s == pytest.approx(math.sqrt((4 + 4 + 16 + 16) / 3 * 4 / 2))
    assert wants(x.state) == (Propose(0),)


def test_s_is_pooled_within_attempts_and_never_between_them() -> None:
    x = Session(Rules(rigor="strict")).calibrated()
    x.propose(1)
    x.scores(1, 150.0, 154.0)  # SS 8, one degree of freedom more
    assert x.state.s == pytest.approx(math.sqrt((40 + 8) / 4 * 5 / 3))


def test_a_baseline_that_crashes_stops_the_search_with_a_reason() -> None:
    x = Session()
    x.run(0, 98.0)
    (verdict,) = x.run(0, None, "crash")
    assert verdict.outcome == "crash" and "mend train.py" in verdict.reason
    assert x.state.stop and x.state.broken and wants(x.state, 4) == ()


def test_calibrating_with_one_run_still_gets_somewhere() -> None:
    x = Session(Rules(calibration_runs=1, controls=False))
    x.run(0, 100.0)
    x.propose(1)
    assert wants(x.state) == (Measure(1, "candidate"),) and x.run(1, 90.0) == ()
    assert wants(x.state) == (Measure(1, "candidate"),)
    assert [v.outcome for v in x.run(1, 91.0)] == ["discard"]


# -- scores that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf, True])
def test_a_run_without_a_finite_score_is_a_crash(score: Any) -> None:
    x = Session().calibrated()
    x.propose(1)
    (verdict,) = x.run(1, score)
    assert verdict.outcome == "crash" and verdict.mean is None and x.state.incumbent == 0


@pytest.mark.parametrize("rigor", ["standard", "strict", "anchored"])
def test_a_crash_in_any_replicate_discards_however_good_the_others_were(rigor: Any) -> None:
    x = Session(Rules(rigor=rigor, controls=False)).calibrated()
    x.propose(1)
    if rigor == "anchored":
        x.run(1, 200.0)  # kept on one run, provisionally
        (verdict,) = x.run(1, None, "crash")
        assert verdict.outcome == "undone" and verdict.undone == (1,) and x.state.incumbent == 0
    else:
        assert x.run(1, 130.0 if rigor == "strict" else 101.0) == ()
        (verdict,) = x.run(1, None, "crash")
        assert (
            verdict.outcome == "crash"
            and "any replicate" in verdict.reason
            and x.state.incumbent == 0
        )


def test_an_interrupted_run_is_repeated_and_never_counted() -> None:
    x = Session().calibrated()
    x.propose(1)
    before = x.state
    for _ in range(20):
        assert x.run(1, None, "interrupted") == () and x.state == before
    assert wants(x.state) == (Measure(1, "candidate"),)


def test_a_refused_candidate_is_discarded_without_being_called_a_crash() -> None:
    x = Session().calibrated()
    x.propose(1)
    (verdict,) = x.run(1, None, "refused")
    assert verdict.outcome == "discard" and "refused" in verdict.reason


def test_a_result_that_arrives_twice_counts_once() -> None:
    x = Session().calibrated()
    once = x.state
    assert x.tell(x.facts[-1]) == () and x.state == once


@pytest.mark.parametrize("harness_is_broken", [True, False])
def test_after_five_crashes_in_a_row_a_baseline_run_tells_the_harness_from_the_ideas(
    harness_is_broken: bool,
) -> None:
    x = Session().calibrated()
    for n in range(1, 6):
        assert not x.state.stop
        x.propose(n)
        x.run(n, None, "crash")
    x.propose(6)  # an idea that was under way must not be taken for the re-check
    assert not x.state.stop and wants(x.state, 2) == (Measure(0, "incumbent"),)
    x.run(0, None if harness_is_broken else 100.0, "crash" if harness_is_broken else "ok")
    assert ("harness" in x.state.stop and "at fault" in x.state.stop) and (
        "ideas are at fault" in x.state.stop
    ) is not harness_is_broken
    assert x.state.broken is harness_is_broken
    assert wants(x.state, 4) == ()
    x.tell(ResumedFact())
    assert not x.state.broken
    assert not x.state.stop and wants(x.state) == (Measure(6, "candidate"),)


@pytest.mark.parametrize("score", [40.0, 180.0], ids=["discarded", "kept"])
def test_a_candidate_that_scores_calls_the_recheck_off(score: float) -> None:
    x = Session().calibrated()
    for n in range(1, 7):
        x.propose(n)
    for n in range(1, 6):
        x.run(n, None, "crash")
    assert x.state.recheck is not None
    while 6 in x.state.open:
        x.run(6, score)
    assert x.state.recheck is None and x.state.incumbent == (6 if score > 100 else 0)
    x.run(0, 100.0)
    assert not x.state.stop


def test_a_candidate_that_runs_breaks_a_row_of_crashes() -> None:
    x = Session().calibrated()
    for n in range(1, 20):
        x.propose(n)
        if n % 5:
            x.run(n, None, "crash")
        else:
            x.run(n, 40.0)
    assert not x.state.stop and x.state.recheck is None


def test_an_anchor_that_crashes_once_is_run_again_and_twice_in_a_row_stops() -> None:
    x = climbed()
    for score in (None, 100.0, None):
        x.run(0, score, "ok" if score else "crash")
        assert not x.state.stop
    assert Measure(0, "anchor") in wants(x.state, 9)
    x.run(0, None, "crash")
    assert "proved before" in x.state.stop and wants(x.state, 9) == ()


# -- the machine -------------------------------------------------------------------------------------------------------


def test_a_run_that_got_less_machine_is_repeated_and_not_pooled() -> None:
    x = Session().calibrated()
    x.propose(1)
    before = x.state.arms[1]
    assert x.run(1, 500.0, steady=False) == () and x.state.arms[1] == before
    assert wants(x.state) == (Measure(1, "candidate"),)


def test_three_such_runs_in_a_row_are_the_new_normal_and_calibrate_again() -> None:
    x = Session().calibrated()
    for n in (1, 2, 3):
        x.propose(n)
        x.run(n, 50.0, steady=False) if n < 3 else x.run(n, 52.0, steady=False)
    assert not x.state.calibrated and x.state.regime_start == 5 and x.state.arms[0].runs == ()
    assert wants(x.state) == (Measure(0, "calibrate"),)
    x.state, _ = x.state, x.scores(0)  # nothing told, nothing changed
    for score in (50.0, 51.0, 49.0, 50.0):
        x.run(0, score, steady=False)  # still slow: that is how it is now
    assert x.state.calibrated and x.state.belief is not None and x.state.belief.mean < 60


def test_other_hardware_calibrates_again_and_pools_nothing_across() -> None:
    x = Session().calibrated()
    x.propose(1)
    x.run(1, 300.0, epoch=1)  # a faster machine: three times the score means nothing
    assert x.state.incumbent == 0 and not x.state.calibrated and x.state.s is None
    for score in (290.0, 310.0, 295.0, 305.0):
        x.run(0, score, epoch=1)
    assert x.state.calibrated and [v for v in x.verdicts if v.outcome == "keep"] == []
    assert x.state.s is not None and x.state.belief is not None and 290 < x.state.belief.mean < 310


def test_other_hardware_calibrates_the_anchor_too() -> None:
    x = Session().calibrated()
    x.propose(1)
    x.scores(1, 140.0, 140.0)
    assert x.state.incumbent == 1 and x.state.anchor == 0
    x.run(1, 280.0, epoch=1)
    assert wants(x.state, 8) == (Measure(1, "calibrate"),) * 3 + (Measure(0, "calibrate"),) * 4


# -- saturation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rigor", ["standard", "bold", "strict", "anchored"])
def test_a_saturated_score_says_so_and_stops_instead_of_discarding_for_ever(rigor: Any) -> None:
    x = Session(Rules(rigor=rigor, controls=False)).calibrated(1000.0, 1000.0, 1000.0, 1000.0)
    assert (
        "saturated" in x.state.saturated
        and "harder environment" in x.verdicts[0].reason
        and x.state.s == 0.0
    )
    for n in range(1, 11):
        assert not x.state.stop
        x.propose(n)
        (verdict,) = x.run(n, 1000.0)
        assert verdict.outcome == "discard" and "saturated" in verdict.reason and verdict.D is None
    assert "saturated" in x.state.stop


def test_a_ceiling_that_most_runs_reach_is_saturated_though_s_is_not_zero() -> None:
    x = Session().calibrated(1000.0, 994.0, 1000.0, 1000.0)
    assert (
        "3 of the incumbent's 4 runs scored exactly 1000" in x.state.saturated
        and (x.state.s or 0) > 0
    )
    for n in range(1, 30):
        if x.state.stop:
            break
        x.propose(n)
        while n in x.state.open:
            x.run(n, 1000.0)
    assert "saturated" in x.state.stop and x.state.incumbent == 0


@pytest.mark.parametrize("rigor", ["standard", "anchored", "strict", "bold"])
def test_a_ceiling_that_the_search_reaches_is_noticed_and_ends_it(rigor: Any) -> None:
    x = Session(Rules(rigor=rigor)).calibrated(400.0, 500.0, 700.0, 800.0)
    n = 0
    while not x.state.stop and n < 60:
        want = wants(x.state)[0]
        if isinstance(want, Measure):
            x.run(want.attempt, 1000.0 if want.attempt else 600.0)
        elif isinstance(want, Control):
            x.tell(ControlFact(want.attempt, want.kind, True))
        else:
            n += 1
            x.propose(n)
    assert "saturated" in x.state.stop and "harder environment" in x.state.stop and n <= 20


def test_a_machine_that_breaks_takes_no_keep_with_it() -> None:
    x = Session(Rules(rigor="strict")).calibrated()
    n = 0
    while not x.state.path:
        n += 1
        x.propose(n)
        while n in x.state.open:
            want = wants(x.state)[0]
            assert isinstance(want, Measure)
            x.run(want.attempt, 130.0 if want.attempt == n else 100.0)
    kept = x.state.path
    for k in range(n + 1, n + 6):
        x.propose(k)
        x.run(k, None, "crash")
    x.run(x.state.incumbent, None, "crash")
    assert (
        "at fault" in x.state.stop
        and "harness" in x.state.stop
        and x.state.path == kept
        and x.state.broken
    )


def test_a_deterministic_score_below_its_ceiling_still_finds_the_gain() -> None:
    x = Session().calibrated(7.0, 7.0, 7.0, 7.0)
    x.propose(1)
    assert [v.outcome for v in x.run(1, 6.0)] == ["discard"]
    x.propose(2)
    assert [v.outcome for v in x.run(2, 7.5)] == ["keep"]
    x.propose(3)
    assert [v.outcome for v in x.run(3, 7.25)] == ["discard"] and x.state.incumbent == 2


def test_spread_that_appears_after_none_was_seen_is_believed() -> None:
    x = Session().calibrated(7.0, 7.0, 7.0, 7.0)
    for n in range(1, 40):
        x.propose(n)
        while isinstance(want := wants(x.state)[0], Measure):
            x.run(want.attempt, 7.0 + 0.01 * math.sin(n * 7 + x.runs))
    assert x.state.s is not None and x.state.s > 0


# -- one experiment per code -------------------------------------------------------------------------------------------


def test_identical_code_is_not_measured_again() -> None:
    x = Session().calibrated()
    for n, key in ((1, "k0"), (2, "new"), (3, "new")):
        verdicts = x.propose(n, key=key)
        assert [v.outcome for v in verdicts] == ([] if n == 2 else ["discard"])
    assert x.state.open == (2,)
    x.run(2, 40.0)
    (verdict,) = x.propose(4, key="new")
    assert verdict.outcome == "discard" and "attempt 2" in verdict.reason and x.state.open == ()


def test_a_superseded_attempt_that_comes_back_keeps_its_runs() -> None:
    x = Session(Rules(rigor="strict", controls=False)).calibrated()
    x.propose(1)
    x.propose(2)
    x.run(2, 112.0)
    x.scores(1, 140.0, 141.0)
    assert x.state.incumbent == 1 and x.state.arms[2].status == "superseded"
    x.run(1, None, "crash")  # the keep is undone: attempt 0 is the incumbent again
    assert x.state.incumbent == 0
    x.propose(3, key="k2")
    assert [run.score for run in x.state.arms[3].runs] == [112.0]
