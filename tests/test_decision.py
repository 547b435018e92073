"""The decision room: a fold over facts. Each test is named by the property it attacks."""

import json
import math
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autorl.decision import (
    AttemptFact,
    Comparison,
    Control,
    ControlFact,
    Fact,
    Measure,
    Propose,
    ResumedFact,
    Rules,
    RunFact,
    State,
    champion,
    controls_owed,
    observe,
    start,
    wants,
)
from autorl.decision import belief as beliefs
from autorl.records import Verdict, to_json

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import decision as benchmark  # type: ignore[import-not-found]


class Session:
    """A state, fed by hand. Runs are numbered and every verdict is collected."""

    def __init__(self, rules: Rules | None = None, nodes: int = 100):
        self.state: State = start(rules or Rules(controls=False))
        self.verdicts: list[Verdict] = []
        self.facts: list[Fact] = []
        self.runs = 0
        self.tell(AttemptFact(0, None, "k0", nodes))

    def tell(self, fact: Fact) -> tuple[Verdict, ...]:
        self.facts.append(fact)
        self.state, verdicts = observe(self.state, fact)
        self.verdicts += verdicts
        return verdicts

    def run(self, attempt: int, score: float | None, status: Any = "ok", **more: Any) -> tuple[Verdict, ...]:
        self.runs += 1
        return self.tell(RunFact(self.runs, attempt, status, score, seed=1000 + self.runs, **more))

    def scores(self, attempt: int, *scores: float) -> tuple[Verdict, ...]:
        return tuple(v for score in scores for v in self.run(attempt, score))

    def propose(self, n: int, parent: int | None = None, nodes: int = 100, key: str = "", again: int | None = None) -> tuple[Verdict, ...]:
        parent = self.state.incumbent if parent is None else parent
        return self.tell(AttemptFact(n, parent, key or f"k{n}", nodes, again=again))

    def calibrated(self, *scores: float) -> "Session":
        self.scores(0, *(scores or (98.0, 102.0, 96.0, 104.0)))
        return self


# -- calibration -------------------------------------------------------------------------------------------------------


def test_four_baseline_runs_calibrate_and_s_is_inflated_for_its_own_uncertainty() -> None:
    x = Session()
    assert wants(x.state) == (Measure(0, "calibrate"),)
    assert wants(x.state, 8) == (Measure(0, "calibrate"),) * 4
    assert wants(x.state, 8, (Measure(0, "calibrate"),) * 3) == (Measure(0, "calibrate"),)
    assert x.scores(0, 98.0, 102.0, 96.0) == ()
    (verdict,) = x.run(0, 104.0)
    assert (verdict.outcome, verdict.n, verdict.mean, verdict.seeds) == ("baseline", 4, 100.0, (1001, 1002, 1003, 1004))
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
    assert x.state.stop and wants(x.state, 4) == ()


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
        assert verdict.outcome == "crash" and "any replicate" in verdict.reason and x.state.incumbent == 0


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
def test_after_five_crashes_in_a_row_a_baseline_run_tells_the_harness_from_the_ideas(harness_is_broken: bool) -> None:
    x = Session().calibrated()
    for n in range(1, 6):
        assert not x.state.stop
        x.propose(n)
        x.run(n, None, "crash")
    x.propose(6)  # an idea that was under way must not be taken for the re-check
    assert not x.state.stop and wants(x.state, 2) == (Measure(0, "incumbent"),)
    x.run(0, None if harness_is_broken else 100.0, "crash" if harness_is_broken else "ok")
    assert ("harness" in x.state.stop and "at fault" in x.state.stop) and ("ideas are at fault" in x.state.stop) is not harness_is_broken
    assert wants(x.state, 4) == ()
    x.tell(ResumedFact())
    assert not x.state.stop and wants(x.state) == (Measure(6, "candidate"),)


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
    assert "saturated" in x.state.saturated and "harder environment" in x.verdicts[0].reason and x.state.s == 0.0
    for n in range(1, 11):
        assert not x.state.stop
        x.propose(n)
        (verdict,) = x.run(n, 1000.0)
        assert verdict.outcome == "discard" and "saturated" in verdict.reason and verdict.D is None
    assert "saturated" in x.state.stop


def test_a_ceiling_that_most_runs_reach_is_saturated_though_s_is_not_zero() -> None:
    x = Session().calibrated(1000.0, 994.0, 1000.0, 1000.0)
    assert "3 of the incumbent's 4 runs scored exactly 1000" in x.state.saturated and (x.state.s or 0) > 0
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
    assert "at fault" in x.state.stop and "harness" in x.state.stop and x.state.path == kept


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


# -- tests by numbers --------------------------------------------------------------------------------------------------


def test_the_sequential_test_by_hand() -> None:
    x = Session(Rules(rigor="strict", strict=Comparison(alpha=0.20))).calibrated()
    s = math.sqrt(40 / 3 * 4 / 2)
    x.propose(1)
    D = 3.0 / s
    (verdict,) = x.run(1, 103.0) or (None,)
    # LLR = (D - .5) / (1 + 1/4); drop at ln(.7 / .8), keep at ln(.3 / .2)
    assert math.log(0.7 / 0.8) < (D - 0.5) / 1.25 and verdict is None
    (verdict,) = x.run(1, 112.0) or (None,)
    pooled = math.sqrt((40 + 40.5) / 4 * 5 / 3)
    D = 7.5 / pooled
    LLR = (D - 0.5) / (1 / 2 + 1 / 4)
    assert verdict is not None and verdict.outcome == "keep" and math.log(0.3 / 0.2) < LLR
    assert (verdict.n, verdict.n0, verdict.mean, verdict.mean0) == (2, 4, 107.5, 100.0)
    assert (verdict.s, verdict.D, verdict.LLR) == pytest.approx((pooled, D, LLR))
    assert verdict.seeds == (1005, 1006) and verdict.seeds0 == (1001, 1002, 1003, 1004) and verdict.level == "strict"


def test_the_sequential_test_is_truncated_and_balanced() -> None:
    x = Session(Rules(rigor="strict")).calibrated()
    x.propose(1)
    asked = []
    while 1 in x.state.open:
        (want,) = wants(x.state)
        assert isinstance(want, Measure)
        asked.append(want.attempt)
        x.run(want.attempt, 100.0 if want.attempt == 0 else 103.5 + 1.0 * (len(asked) % 2))
        assert len(asked) < 12
    assert asked == [1, 1, 1, 1, 1, 0, 1, 0][: len(asked)] and len(x.state.arms[1].runs) <= 6


def test_bold_keeps_on_one_run_above_the_mean_and_tops_the_incumbent_up() -> None:
    x = Session(Rules(rigor="bold")).calibrated()
    x.propose(1)
    assert [v.outcome for v in x.run(1, 100.0)] == ["discard"]  # equal is not above
    x.propose(2)
    (verdict,) = x.run(2, 100.1)
    assert verdict.outcome == "keep" and pytest.approx(0.1 / (x.state.s or 0)) == verdict.D
    assert wants(x.state) == (Measure(2, "top-up"),) and wants(x.state, 2) == (Measure(2, "top-up"),) * 2
    x.scores(2, 99.0, 101.0)
    assert wants(x.state) == (Propose(2),) and x.state.check is None


def test_the_drift_guard_asks_for_a_fresh_incumbent_and_compares_with_the_newest() -> None:
    x = Session(Rules(rigor="strict", strict=Comparison(alpha=0.10, fresh=3, newest=2, incumbent_runs=2))).calibrated(90, 90, 104.0, 106.0)
    for n in (1, 2, 3, 4):
        x.propose(n)
        x.run(n, 60.0)
    assert wants(x.state) == (Measure(0, "incumbent"),)
    x.run(0, 108.0)
    assert x.verdicts[-1].mean0 == 105.0 and wants(x.state) == (Propose(0),)
    x.propose(5)
    (verdict,) = x.run(5, 60.0)
    assert verdict.mean0 == 107.0 and verdict.n0 == 2


def test_anchored_levels_rise_with_a_path_taken_back_and_fall_with_a_proved_one() -> None:
    x = Session(Rules(rigor="anchored", controls=False)).calibrated()
    for n in (1, 2, 3):
        x.propose(n)
        assert [v.outcome for v in x.run(n, 100.0 + 10 * n)] == ["keep"]
        if n < 3:
            x.scores(n, 100.0 + 10 * n, 100.0 + 10 * n)
    assert x.state.check is not None and wants(x.state, 8) == (Measure(3, "tip"),) * 3 + (Measure(0, "anchor"),) * 3
    x.scores(3, 90.0, 91.0, 92.0)
    x.scores(0, 99.0, 100.0)
    (verdict,) = x.run(0, 101.0)
    assert verdict.outcome == "undone" and verdict.undone == (1, 2, 3) and verdict.incumbent == 0
    assert (verdict.n, verdict.n0, verdict.mean, verdict.mean0) == (3, 7, 91.0, 100.0)
    assert x.state.incumbent == x.state.anchor == 0 and x.state.level == "L1" and x.state.path == ()
    for n in (4, 5, 6):
        x.propose(n)
        while n in x.state.open:
            (want,) = wants(x.state)
            assert isinstance(want, Measure)
            x.run(want.attempt, {0: 100.0}.get(want.attempt, 100.0 + 30.0 * (want.attempt - 3)))
        while x.state.check is None and isinstance(wants(x.state)[0], Measure):
            x.run(n, 100.0 + 30.0 * (n - 3))
    x.scores(6, 190.0, 190.0, 190.0)
    verdict = x.scores(0, 100.0, 100.0, 100.0)[-1]
    assert verdict.outcome == "certified" and x.state.anchor == 6 and x.state.level == "L0"
    assert x.state.certified(4) and x.state.certified(0) and not x.state.certified(1)


# -- belief ------------------------------------------------------------------------------------------------------------


def test_a_posterior_agrees_with_the_joint_density_summed_by_brute_force() -> None:
    b = beliefs.apart(100.0, 9.0, 100.0, 9.0, beliefs.UNSEEN)
    s, n, y = 10.0, 2, 111.0
    w = beliefs.weigh(b, b.prior, y, n, s)
    m = np.linspace(100 - 30, 100 + 30, 4001)[:, None]  # the incumbent's true mean
    g = np.array(beliefs.GAINS)[None, :]
    joint = np.array(b.prior)[None, :] * np.exp(-0.5 * (m - 100) ** 2 / 9) * np.exp(-0.5 * (y - m - s * g) ** 2 / (s * s / n))
    joint /= joint.sum()
    assert w.gain == pytest.approx((joint * g).sum(), abs=1e-5)
    assert w.chance == pytest.approx((joint * (g > 0)).sum(), abs=1e-5)
    kept, dropped = beliefs.absorb(b, w, keep=True), beliefs.absorb(b, w, keep=False)
    for found, value in ((dropped, m + 0 * g), (kept, m + s * g)):
        mean = (joint * value).sum()
        assert found.mean == pytest.approx(mean, abs=1e-3)
        assert found.var == pytest.approx((joint * (value - mean) ** 2).sum(), rel=1e-3)


def test_the_lead_over_the_anchor_agrees_with_brute_force() -> None:
    b = beliefs.Belief(105.0, 16.0, 100.0, 9.0, 6.0)
    s, n, y = 10.0, 1, 112.0
    w = beliefs.weigh(b, b.prior, y, n, s)
    kept = beliefs.absorb(b, w, keep=True)
    m, a = np.meshgrid(np.linspace(75, 135, 301), np.linspace(78, 122, 301), indexing="ij")
    inverse = np.linalg.inv(np.array([[16.0, 6.0], [6.0, 9.0]]))
    dm, da = m - 105, a - 100
    prior = np.exp(-0.5 * (inverse[0, 0] * dm * dm + 2 * inverse[0, 1] * dm * da + inverse[1, 1] * da * da))
    total = mean_c = mean_a = cross = second = 0.0
    for p, g in zip(b.prior, beliefs.GAINS, strict=True):
        joint = prior * p * np.exp(-0.5 * (y - m - s * g) ** 2 / (s * s / n))
        child = m + s * g
        total += joint.sum()
        mean_c += (joint * child).sum()
        mean_a += (joint * a).sum()
        cross += (joint * child * a).sum()
        second += (joint * a * a).sum()
    mean_c, mean_a = mean_c / total, mean_a / total
    assert (kept.mean, kept.mean0) == pytest.approx((mean_c, mean_a), abs=2e-3)
    assert kept.cov == pytest.approx(cross / total - mean_c * mean_a, abs=0.02)
    assert kept.var0 == pytest.approx(second / total - mean_a**2, abs=0.02)


def test_a_fresh_run_updates_incumbent_and_anchor_as_a_joint_normal() -> None:
    b = beliefs.Belief(105.0, 16.0, 100.0, 9.0, 6.0)
    after = beliefs.measured(b, 110.0, 100.0, anchor=True)
    P, H = np.array([[16.0, 6.0], [6.0, 9.0]]), np.array([[0.0, 1.0]])
    K = P @ H.T / (H @ P @ H.T + 100.0)
    x = np.array([[105.0], [100.0]]) + K * 10.0
    Q = P - K @ H @ P
    assert (after.mean, after.mean0) == pytest.approx((x[0, 0], x[1, 0]))
    assert (after.var, after.cov, after.var0) == pytest.approx((Q[0, 0], Q[0, 1], Q[1, 1]))


def test_one_run_more_is_worth_what_deciding_after_it_is_worth() -> None:
    b = beliefs.calibrated(0.0, 0.25)
    rng = np.random.default_rng(0)
    for y in (-0.5, 0.3, 0.8, 1.5):
        w = beliefs.weigh(b, b.prior, y, 1, 1.0)
        g = rng.choice(beliefs.GAINS, p=np.array(w.posterior) / sum(w.posterior), size=4000)
        kappa = 0.25 / 1.25
        m = kappa * (y - g) + math.sqrt(0.25 * (1 - kappa)) * rng.standard_normal(4000)
        following = m + g + rng.standard_normal(4000)
        after = [max(0.0, beliefs.weigh(b, b.prior, (y + z) / 2, 2, 1.0).gain) for z in following]
        assert w.worth == pytest.approx(np.mean(after) - max(0.0, w.gain), abs=0.012)


def test_the_share_of_good_ideas_is_learnt() -> None:
    rich, poor = Session().calibrated(), Session().calibrated()
    for x, step in ((rich, 6.0), (poor, -6.0)):
        for n in range(1, 15):
            x.propose(n)
            while n in x.state.open:
                assert x.state.belief is not None
                x.run(n, x.state.belief.mean + step)
            for want in wants(x.state, 6):
                if isinstance(want, Measure):
                    x.run(want.attempt, x.state.belief.mean)
    assert rich.state.belief and poor.state.belief
    assert poor.state.belief.good < sum(beliefs.UNSEEN_PRIOR[15:]) < rich.state.belief.good


def test_a_huge_gain_is_seen_twice_and_taken_at_its_measured_size() -> None:
    x = Session().calibrated()
    x.propose(1)
    assert x.run(1, 5000.0) == ()
    (verdict,) = x.run(1, 5010.0)
    assert verdict.outcome == "keep" and x.state.belief is not None and x.state.belief.mean == pytest.approx(5005.0)
    json.dumps(to_json(verdict), allow_nan=False)
    x.propose(2)
    (verdict,) = x.run(2, -9000.0)
    assert verdict.outcome == "discard" and x.state.belief.mean == pytest.approx(5005.0)


def test_a_longer_file_must_promise_more_than_a_shorter_one() -> None:
    def outcome(nodes: int, D: float) -> str:
        x = Session(nodes=100).calibrated()
        x.propose(1, nodes=nodes)
        while 1 in x.state.open:
            x.run(1, 100.0 + D * 5.16)
        return x.verdicts[-1].outcome

    found = {(outcome(90, d / 100), outcome(110, d / 100)) for d in range(0, 150, 2)}
    assert found == {("discard", "discard"), ("keep", "discard"), ("keep", "keep")}


# -- anchor checks -----------------------------------------------------------------------------------------------------


def climbed(rules: Rules | None = None, step: float = 8.0) -> Session:
    """A session whose path of keeps is long and good enough to be put to the proof."""
    x = Session(rules).calibrated()
    n = 0
    while x.state.check is None and n < 40:
        n += 1
        x.propose(n)
        while n in x.state.open:
            x.run(n, 100.0 + step * n)
    assert x.state.check is not None
    return x


def test_only_fresh_runs_certify() -> None:
    x = climbed()
    tip = x.state.incumbent
    assert wants(x.state, 9) == (Measure(tip, "tip"),) * 3 + (Measure(0, "anchor"),) * 3
    assert wants(x.state, 9, (Measure(tip, "tip"),) * 3 + (Measure(0, "anchor"),) * 2) == (Measure(0, "anchor"),)
    high = x.state.belief.mean if x.state.belief else 0.0
    x.scores(tip, high, high + 2, high - 2)
    x.scores(0, 99.0, 101.0)
    (verdict,) = x.run(0, 100.0)
    assert verdict.outcome == "certified" and verdict.level == "anchor" and verdict.n == verdict.n0 == 3
    assert verdict.seeds == tuple(range(1000 + x.runs - 5, 1000 + x.runs - 2)) and x.state.anchor == tip and x.state.path == ()
    assert all(x.state.certified(n) for n in range(tip + 1))


def test_fresh_runs_that_do_not_hold_take_the_path_back() -> None:
    x = climbed()
    tip, path = x.state.incumbent, x.state.path
    x.scores(tip, 80.0, 81.0, 79.0)
    x.scores(0, 100.0, 102.0)
    (verdict,) = x.run(0, 101.0)
    assert verdict.outcome == "undone" and verdict.undone == path and x.state.incumbent == x.state.anchor == champion(x.state) == 0
    assert x.state.belief is not None and abs(x.state.belief.mean - 100) < 6 and wants(x.state) == (Propose(0),)


def test_a_proof_that_settles_nothing_leaves_the_search_where_it_is() -> None:
    x = climbed()
    tip, s = x.state.incumbent, x.state.s or 0.0
    x.scores(tip, 100.0, 100.0 - s / 2, 100.0)  # not above the anchor, not a whole s below it
    assert x.scores(0, 100.0, 100.0 + s / 2, 100.0) == ()
    assert x.state.incumbent == tip and x.state.anchor == 0 and x.state.check is None and x.state.chance is not None
    assert wants(x.state) == (Propose(tip),)


def test_a_node_that_fails_a_control_never_becomes_the_anchor_and_the_one_below_is_tried() -> None:
    x = climbed(Rules())
    tip, path = x.state.incumbent, x.state.path
    assert wants(x.state, 3) == (Control(tip, "zero_budget"), Control(tip, "seed_control"))
    assert wants(x.state, 3, (Control(tip, "zero_budget"),)) == (Control(tip, "seed_control"),)
    assert controls_owed(x.state, tip) == (Control(tip, "zero_budget"), Control(tip, "seed_control")) and controls_owed(x.state, 0) == ()
    assert x.tell(ControlFact(tip, "seed_control", True)) == ()
    (verdict,) = x.tell(ControlFact(tip, "zero_budget", False, "it scored 290 without training"))
    assert verdict.outcome == "undone" and verdict.undone == (tip,) and "without training" in verdict.reason
    for n in reversed(path[:-1]):
        assert x.state.incumbent == n and wants(x.state) == (Control(n, "zero_budget"),)
        x.tell(ControlFact(n, "zero_budget", False))
    assert x.state.incumbent == x.state.anchor == 0 and wants(x.state) == (Propose(0),)


def test_runs_start_only_after_both_controls_have_passed() -> None:
    x = climbed(Rules())
    tip = x.state.incumbent
    x.tell(ControlFact(tip, "seed_control", True))
    assert wants(x.state) == (Control(tip, "zero_budget"),)
    x.tell(ControlFact(tip, "zero_budget", True))
    assert wants(x.state) == (Measure(tip, "tip"),)


@pytest.mark.parametrize(("nodes", "outcome"), [(90, "certified"), (110, "undone")])
def test_within_a_quarter_of_s_the_shorter_file_wins(nodes: int, outcome: str) -> None:
    x = Session(Rules(rigor="anchored", anchor_every=1, controls=False), nodes=100).calibrated()
    x.propose(1, nodes=nodes)
    x.run(1, 105.0)
    shift = 0.5 if nodes > 100 else -0.5  # against the shorter one
    x.scores(1, 99.0 + shift, 100.0 + shift, 101.0 + shift)
    x.scores(0, 99.0, 100.0, 101.0)
    assert x.verdicts[-1].outcome == outcome and "shorter" in x.verdicts[-1].reason


def test_the_champion_is_the_anchor_until_the_incumbent_is_likely_better() -> None:
    x = Session().calibrated()
    x.propose(1)
    while 1 in x.state.open:
        x.run(1, 106.0)
    assert x.state.incumbent == 1 and x.state.chance is not None and x.state.chance < 0.8 and champion(x.state) == 0
    x.scores(1, *[108.0] * 5)
    assert x.state.chance > 0.8 and champion(x.state) == 1


# -- side by side ------------------------------------------------------------------------------------------------------


def test_places_are_filled_and_never_overfilled() -> None:
    x = Session().calibrated()
    assert wants(x.state, 3) == (Propose(0),) * 3
    assert wants(x.state, 3, (Propose(0),)) == (Propose(0),) * 2
    x.propose(1)
    x.propose(2)
    assert wants(x.state, 3) == (Measure(1, "candidate"), Measure(2, "candidate"), Propose(0))
    assert wants(x.state, 3, (Measure(1, "candidate"), Measure(2, "candidate"))) == (Propose(0),)
    assert wants(x.state, 2, (Measure(1, "candidate"), Measure(2, "candidate"))) == ()


def test_a_keep_supersedes_the_promising_and_discards_the_rest() -> None:
    x = Session().calibrated()
    for n in (1, 2, 3):
        x.propose(n)
    x.run(1, 101.0)  # undecided so far
    verdicts = x.scores(2, 118.0, 118.0)
    assert [(v.attempt, v.outcome) for v in verdicts] == [(2, "keep"), (1, "superseded")]
    assert x.state.open == (3,) and wants(x.state, 2)[0] == Measure(3, "candidate")  # under way: its run is not wasted
    (verdict,) = x.run(3, 70.0)
    assert verdict.outcome == "discard" and verdict.incumbent == 0 and x.state.incumbent == 2
    (verdict,) = x.propose(4, parent=0)  # an idea that was being thought about
    assert verdict.outcome == "superseded"


def test_what_was_seen_of_a_superseded_idea_is_not_forgotten() -> None:
    x = Session().calibrated()
    x.propose(1)
    x.propose(2)
    x.scores(2, 118.0, 118.0)
    (verdict,) = x.run(1, 112.0)
    assert verdict.outcome == "superseded"
    x.propose(3, again=1)
    x.propose(4)
    prior = x.state.arms[3].prior
    assert prior is not None and x.state.belief is not None
    assert sum(prior[15:]) > sum(x.state.belief.prior[15:]) and x.state.arms[4].prior is None


# -- the fold ----------------------------------------------------------------------------------------------------------


def random_session(seed: int, rules: Rules, steps: int = 250) -> Session:
    """A night of everything that can happen, in any order."""
    rng, x = random.Random(seed), Session(rules)
    n, places = 0, rng.choice((1, 1, 2, 4))
    for _ in range(steps):
        asked = wants(x.state, places)
        assert len(asked) <= places
        if not asked:
            assert x.state.stop, "nothing is wanted and nothing says why"
            x.tell(ResumedFact())
            if not wants(x.state, places):
                break  # a baseline that crashed
            continue
        want = rng.choice(asked)
        if isinstance(want, Propose):
            n += 1
            key = f"k{rng.randrange(n)}" if rng.random() < 0.05 else f"k{n}x"
            x.propose(n, want.parent if rng.random() > 0.05 else 0, nodes=rng.randrange(80, 120), key=key)
        elif isinstance(want, Control):
            x.tell(ControlFact(want.attempt, want.kind, rng.random() > 0.1))
        else:
            u = rng.random()
            status = "crash" if u < 0.05 and x.state.calibrated else "interrupted" if u < 0.1 else "ok"
            score = rng.choice((None, math.nan)) if status != "ok" else rng.choice((1000.0, rng.gauss(0, 1), rng.gauss(want.attempt, 1)))
            x.run(want.attempt, score, status, steady=rng.random() > 0.1, epoch=0 if rng.random() > 0.01 else 1)
        s = x.state
        assert {s.incumbent, s.anchor, champion(s)} <= set(s.arms) and champion(s) in (s.incumbent, s.anchor)
        assert s.arms[s.incumbent].status in ("baseline", "keep") and all(s.arms[m].status == "open" for m in s.open)
        assert (s.path[-1] if s.path else s.anchor) == s.incumbent
        assert s.s is None or math.isfinite(s.s)
    return x


@pytest.mark.parametrize("rigor", ["standard", "anchored", "strict", "bold"])
@pytest.mark.parametrize("seed", range(16))
def test_whatever_happens_the_search_goes_on_or_says_why_not(seed: int, rigor: Any) -> None:
    x = random_session(seed, Rules(rigor=rigor))
    decided = [v.attempt for v in x.verdicts if v.outcome in ("keep", "discard", "superseded")]
    assert len(decided) == len(set(decided)), "one first verdict for each attempt"
    for verdict in x.verdicts:
        assert verdict.reason.endswith(".") and "nan" not in verdict.reason
        json.dumps(to_json(verdict), allow_nan=False)


@pytest.mark.parametrize("rigor", ["standard", "anchored"])
def test_a_resume_is_the_same_fold(rigor: Any) -> None:
    x = random_session(1, Rules(rigor=rigor))
    state, verdicts = start(Rules(rigor=rigor)), []
    for fact in x.facts:
        state, more = observe(state, fact)
        verdicts += more
    assert state == x.state and verdicts == x.verdicts


def test_a_verdict_does_not_depend_on_zero_or_scale_of_the_score() -> None:
    for rigor in ("standard", "anchored", "strict", "bold"):
        stories = []
        for zero, scale in ((0.0, 1.0), (-7000.0, 3.0)):
            rng, x = random.Random(4), Session(Rules(rigor=rigor, controls=False))  # type: ignore[arg-type]
            n = 0
            for _ in range(120):
                want = wants(x.state)[0]
                if isinstance(want, Propose):
                    n += 1
                    x.propose(n)
                else:
                    x.run(want.attempt, zero + scale * rng.gauss(0.1 * want.attempt, 1))
            stories.append([(v.attempt, v.outcome, v.undone, v.n, v.n0) for v in x.verdicts])
        assert stories[0] == stories[1] and len(stories[0]) > 10


# -- simulated nights, through the shipped room ------------------------------------------------------------------------


def test_a_late_night_gains_and_hardly_ever_ends_below_its_start() -> None:
    nights = [benchmark.night(benchmark.LATE, Rules(), np.random.default_rng(seed)) for seed in range(120)]
    gains = np.array([night.gain[100] for night in nights])
    assert gains.mean() > 0.5 and (gains < 0).mean() < 0.08  # measured .77 +- .02 and .02


def test_the_bold_rule_agrees_with_the_reference_simulation() -> None:
    rng = np.random.default_rng(5)
    nights = [benchmark.night(benchmark.MID, Rules(rigor="bold"), rng, budgets=(100,)) for _ in range(150)]
    assert np.mean([night.gain[100] for night in nights]) == pytest.approx(2.2, abs=0.45)  # 2.22, standard error .14


@pytest.mark.long
def test_the_table_holds() -> None:
    for name, at40, at100 in (("base", 1.7, 4.4), ("mid", 0.7, 1.5), ("late", 0.1, 0.5)):
        rng = np.random.default_rng(9)
        nights = [benchmark.night(benchmark.WORLDS[name], Rules(), rng) for _ in range(300)]
        assert np.mean([night.gain[40] for night in nights]) > at40 and np.mean([night.gain[100] for night in nights]) > at100
        assert np.mean([night.gain[100] < 0 for night in nights]) < 0.06


@pytest.mark.speed
def test_a_call_takes_less_than_five_milliseconds() -> None:
    assert benchmark.seconds("standard")[25] < 0.005


def test_a_long_journal_is_folded_in_no_time() -> None:
    x = Session(Rules(controls=False)).calibrated()
    rng = random.Random(0)
    n = 0
    while x.runs < 400:
        want = wants(x.state)[0]
        if isinstance(want, Propose):
            n += 1
            x.propose(n)
        else:
            x.run(want.attempt, rng.gauss(100, 5))
    began, state = time.process_time(), start(replace(x.state.rules))
    for fact in x.facts:
        state, _ = observe(state, fact)
    assert state == x.state and (time.process_time() - began) / len(x.facts) < 0.005
