"""What the decision room reckons: the sequential test, the bold rule, the belief, each against numbers found another way."""

import json
import math

import numpy as np
import pytest
from hand_fed import Session

from autorl.decision import Comparison, Measure, Propose, Rules, wants
from autorl.decision import belief as beliefs
from autorl.records import to_json

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
    assert (
        verdict.seeds == (1005, 1006)
        and verdict.seeds0 == (1001, 1002, 1003, 1004)
        and verdict.level == "strict"
    )


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
    assert (
        wants(x.state) == (Measure(2, "top-up"),)
        and wants(x.state, 2) == (Measure(2, "top-up"),) * 2
    )
    x.scores(2, 99.0, 101.0)
    assert wants(x.state) == (Propose(2),) and x.state.check is None


def test_the_drift_guard_asks_for_a_fresh_incumbent_and_compares_with_the_newest() -> None:
    x = Session(
        Rules(rigor="strict", strict=Comparison(alpha=0.10, fresh=3, newest=2, incumbent_runs=2))
    ).calibrated(90, 90, 104.0, 106.0)
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
    assert (
        x.state.check is not None
        and wants(x.state, 8) == (Measure(3, "tip"),) * 3 + (Measure(0, "anchor"),) * 3
    )
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
    joint = (
        np.array(b.prior)[None, :]
        * np.exp(-0.5 * (m - 100) ** 2 / 9)
        * np.exp(-0.5 * (y - m - s * g) ** 2 / (s * s / n))
    )
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
    prior = np.exp(
        -0.5 * (inverse[0, 0] * dm * dm + 2 * inverse[0, 1] * dm * da + inverse[1, 1] * da * da)
    )
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
    assert (
        verdict.outcome == "keep"
        and x.state.belief is not None
        and x.state.belief.mean == pytest.approx(5005.0)
    )
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
