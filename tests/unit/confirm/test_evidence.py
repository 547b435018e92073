"""The statistics of a claim: by hand, against scipy, against rliable."""

import json
import math
import random

import pytest
import run_statistics

from autorl.confirm import stats
from autorl.records import to_json

scipy_stats = pytest.importorskip("scipy.stats")

A = [1.0, 2.0, 3.0, 4.0, 5.0]
B = [4.0, 5.0, 6.0, 7.0, 9.0]


def draws(seed: int, n: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(-50.0, 20.0) for _ in range(n)]


# -- by hand ---------------------------------------------------------------------------------------


def test_mean_and_variance_by_hand() -> None:
    assert stats.mean(B) == (4 + 5 + 6 + 7 + 9) / 5 == 6.2
    assert stats.variance(A) == (4 + 1 + 0 + 1 + 4) / 4 == 2.5


def test_iqm_drops_a_quarter_of_the_scores_at_each_end() -> None:
    assert stats.iqm(B) == (5 + 6 + 7) / 3  # 5 // 4 = 1 at each end
    assert stats.iqm([100.0, 1.0, 2.0, 3.0, 4.0, -100.0, 5.0, 6.0]) == (2 + 3 + 4 + 5) / 4
    assert stats.iqm([7.0]) == 7.0
    assert stats.iqm([1.0, 2.0, 6.0]) == 3.0  # 3 // 4 = 0: nothing to drop


def test_probability_of_improvement_counts_pairs_and_ties_half() -> None:
    # pairs (a, b): 4 beats 1, 2, 3 and ties 4; 5 beats 1-4 and ties 5; 6, 7, 9 beat all:
    # 3.5 + 4.5 + 15 of 25
    assert stats.probability_of_improvement(A, B) == 23 / 25
    assert stats.probability_of_improvement(B, A) == 2 / 25
    assert stats.probability_of_improvement(A, A) == 0.5


def test_spread_is_pooled_within_arms_and_not_between_them() -> None:
    # SS 2 + 8, one degree of freedom each
    found = run_statistics.spread([[0.0, 2.0], [100.0, 104.0], [7.0]])
    assert found is not None
    assert found.df == 2 and found.s == math.sqrt(5.0) and found.stderr == math.sqrt(5.0) / 2
    assert run_statistics.spread([[1.0], [2.0], []]) is None


def test_evaluation_share_by_hand() -> None:
    # 100 episodes with a standard deviation of 50: the mean's variance is 25, 1/4 of s^2 = 100
    assert run_statistics.evaluation_share([50.0, 50.0], 100, 10.0) == 0.25
    assert run_statistics.evaluation_share([50.0], 100, 0.0) is None


def test_wilson_agrees_with_scipy() -> None:
    for k, n in ((0, 40), (3, 40), (20, 20), (7, 11)):
        theirs = scipy_stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert run_statistics.wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert run_statistics.wilson(0, 0) == (0.0, 1.0)


def test_welch_by_hand() -> None:
    found = stats.welch(A, B)
    assert found is not None
    # variances 2.5 and 3.7: stderr sqrt(.5 + .74); df = 1.24^2 / (.5^2/4 + .74^2/4)
    assert found.stderr == pytest.approx(math.sqrt(1.24))
    assert found.df == pytest.approx(1.24**2 / (0.25 / 4 + 0.5476 / 4))
    assert (found.low + found.high) / 2 == pytest.approx(3.2)


# -- against scipy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_formulas_agree_with_scipy(seed: int) -> None:
    a, b = draws(seed, 5 + seed), draws(seed + 100, 4 + seed)
    found = stats.welch(a, b)
    theirs = scipy_stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert stats.iqm(a) == pytest.approx(scipy_stats.trim_mean(a, 0.25))
    u = scipy_stats.mannwhitneyu(b, a).statistic
    assert stats.probability_of_improvement(a, b) == pytest.approx(u / (len(a) * len(b)))
    skew = run_statistics.skewness(a)
    assert skew is not None and skew[0] == pytest.approx(scipy_stats.skew(a, bias=False))


def test_skewness_standard_error_is_its_spread_over_normal_samples() -> None:
    rng = random.Random(1)
    found = [run_statistics.skewness([rng.gauss(0, 1) for _ in range(12)]) for _ in range(4000)]
    values = [f[0] for f in found if f]
    assert found[0] is not None
    assert math.sqrt(stats.variance(values)) == pytest.approx(found[0][1], rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_seed_correlation_agrees_with_scipy(seed: int) -> None:
    x = draws(seed, 12)
    y = [0.6 * a + b for a, b in zip(x, draws(seed + 50, 12), strict=True)]
    found = run_statistics.seed_correlation(x, y)
    theirs = scipy_stats.pearsonr(x, y)
    interval = theirs.confidence_interval(0.95)
    assert found == pytest.approx((theirs.statistic, interval.low, interval.high))


def test_seed_correlation_of_unpaired_or_flat_scores() -> None:
    with pytest.raises(ValueError, match="pairs"):
        run_statistics.seed_correlation([1.0, 2.0], [1.0])
    assert run_statistics.seed_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None
    assert run_statistics.seed_correlation([1.0] * 5, A) is None
    assert run_statistics.seed_correlation(A, A) == (1.0, 1.0, 1.0)


# -- against rliable -------------------------------------------------------------------------------


def test_rliable_agrees() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    numpy = pytest.importorskip("numpy")
    for seed in range(10):
        a, b = draws(seed, 5 + seed), draws(seed + 100, 5)
        assert stats.iqm(a) == pytest.approx(metrics.aggregate_iqm(numpy.array(a)[:, None]))
        assert stats.mean(a) == pytest.approx(metrics.aggregate_mean(numpy.array(a)[:, None]))
        theirs = metrics.probability_of_improvement(
            numpy.array(b)[:, None], numpy.array(a)[:, None]
        )
        assert stats.probability_of_improvement(a, b) == pytest.approx(theirs)


# -- the claim -------------------------------------------------------------------------------------


def test_a_clear_gain_is_shown_with_every_number() -> None:
    c = stats.claim(A, B)
    assert c.shown and c.sentence.startswith("Shown: the champion scores 3.2 more")
    assert (c.mean0, c.mean, c.gain, c.iqm0, c.iqm) == (3.0, 6.2, pytest.approx(3.2), 3.0, 6.0)
    assert c.low is not None
    assert 0 < c.low < 3.2
    assert c.runs == c.runs0 == 5
    assert c.crashes == c.crashes0 == 0
    assert c.probability_of_improvement == 0.92


def test_a_gain_within_the_noise_is_not_shown_and_says_what_could_have_been() -> None:
    c = stats.claim(A, [x + 1.0 for x in A])
    assert not c.shown and "Not shown" in c.sentence and "show gains from about" in c.sentence
    assert c.low is not None and c.high is not None and c.low < 1.0 < c.high


def test_the_smallest_gain_is_shown_in_about_eight_cases_of_ten() -> None:
    rng = random.Random(3)

    def claimed(gain: float) -> stats.Claim:
        base, champion = ([rng.gauss(mean, 1) for _ in range(5)] for mean in (0, gain))
        return stats.claim(base, champion)

    typical = [claimed(0).smallest for _ in range(300)]
    smallest = stats.mean([x for x in typical if x is not None])
    shown = sum(claimed(smallest).shown for _ in range(600))
    assert 0.7 < shown / 600 < 0.9


@pytest.mark.parametrize("broken", [None, math.nan, math.inf, -math.inf])
def test_a_crashed_champion_is_never_shown(broken: float | None) -> None:
    c = stats.claim(A, [104.0, 105.0, 106.0, 107.0, broken])
    assert not c.shown and c.crashes == 1 and c.runs == 5
    assert "1 of the champion's 5 runs crashed" in c.sentence and "forbid" in c.sentence


def test_a_crashed_baseline_is_counted_and_said() -> None:
    c = stats.claim([1.0, 2.0, None, 3.0, 4.0], [104.0, 105.0, 106.0, 107.0, 103.0])
    assert c.shown and c.crashes0 == 1 and "1 of the baseline's 5 runs crashed" in c.sentence


@pytest.mark.parametrize(
    ("base", "champ", "word"),
    [
        ([], [], "no run with a score"),
        ([None, None], [1.0, 2.0], "baseline has no run"),
        ([1.0, 2.0], [None, math.nan], "champion has no run"),
        ([1.0], [2.0], "cannot tell a gain from luck"),
        ([1.0, 2.0, 3.0], [50.0], "cannot tell a gain from luck"),
        ([1000.0] * 5, [1000.0] * 5, "saturated"),
        ([1000.0] * 5, [990.0] * 5, "10 less"),
        ([0.0] * 2, [1.0] * 2, "too few to rule out luck"),
    ],
)
def test_runs_that_allow_no_claim(
    base: list[float | None], champ: list[float | None], word: str
) -> None:
    c = stats.claim(base, champ)
    assert not c.shown and word in c.sentence
    assert "nan" not in json.dumps(to_json(c)).lower() and "Infinity" not in json.dumps(to_json(c))


def test_a_deterministic_gain_is_shown_by_permutation_and_not_by_dividing_by_zero() -> None:
    c = stats.claim([-5.0] * 5, [-3.0] * 5)  # 1 of C(10, 5) = 252 orders
    assert c.shown and c.method == "permutation test" and (c.low, c.high) == (2.0, 2.0)
    assert stats.claim([-5.0] * 3, [-3.0] * 3).shown is False  # 1 of 20


def test_a_claim_does_not_depend_on_zero_or_scale_and_quotes_no_percentage_of_a_score() -> None:
    for seed in range(20):
        a, b = draws(seed, 5), [x + 25 for x in draws(seed + 9, 5)]
        first = stats.claim(a, b)
        shifted = stats.claim([3 * x - 7000 for x in a], [3 * x - 7000 for x in b])
        assert first.shown == shifted.shown
        assert shifted.gain == pytest.approx(3 * (first.gain or 0.0))
        assert shifted.low == pytest.approx(3 * (first.low or 0.0))
        assert first.sentence.count("%") == 1  # the interval's confidence


@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_covers_the_truth(skewed: bool) -> None:
    rng = random.Random(5)

    def run() -> float:
        if not skewed:
            return rng.gauss(0, 1)
        return rng.gauss(0, 0.62) + (-1.87 if rng.random() < 0.15 else 0.33)

    held = 0
    for _ in range(1500):
        c = stats.claim([run() for _ in range(5)], [run() for _ in range(5)])
        assert c.low is not None and c.high is not None
        held += c.low <= 0.0 <= c.high
    assert held / 1500 > 0.945  # measured .96, standard error .005
