"""What decision/ reckons, against brute force and recorded sessions; what it says of it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hand_fed import Session, climbed

from autorl.decision import Measure, Propose, Rules, champion, posterior, rules, wants
from autorl.records import to_json

# -- recorded sessions -----------------------------------------------------------------------------

RECORDED = json.loads((Path(__file__).parent / "recorded" / "adaptive.json").read_text())


@pytest.mark.parametrize("session", RECORDED, ids=lambda s: s["world"])
def test_the_decisions_are_those_of_the_reference_simulation(session: dict) -> None:
    """Runs as the reference asked for them, and where branch and champion stood after each."""
    x = Session()
    for attempt, score, incumbent, best in session["runs"]:
        (want,) = wants(x.state)
        if isinstance(want, Propose):
            assert want.parent == x.state.incumbent
            x.propose(attempt)
            (want,) = wants(x.state)
        assert isinstance(want, Measure)
        assert want.attempt == attempt
        x.run(attempt, score)
        assert (x.state.incumbent, champion(x.state)) == (incumbent, best)
    kept = sum(v.outcome == "keep" for v in x.verdicts)
    assert kept >= 3


# -- the noise -------------------------------------------------------------------------------------


def test_the_shapes_of_noise_are_standardised_densities() -> None:
    grid = rules.X
    for log in rules.LOG_DENSITY:
        density = np.exp(log)
        near = np.abs(grid) < 15
        total = (density * near).sum() / rules.PER_SD
        mean = (density * grid * near).sum() / rules.PER_SD
        assert total == pytest.approx(1.0, abs=0.02)
        assert mean == pytest.approx(0.0, abs=0.02)
        assert log.min() > math.log(1e-6), "no run rules anything out"


def test_the_calibration_agrees_with_a_sum_over_every_mean_size_and_shape() -> None:
    scores = (98.0, 103.0, 96.5, 104.0)
    p = posterior.calibrate(scores)
    sd = np.std(scores, ddof=1)
    mean = square = total = 0.0
    for j in range(8):
        sigma = sd * 2 ** ((j - 3) / 2)
        for k, weight in enumerate((0.4, 0.2, 0.2, 0.2)):
            for z in np.arange(-4, 4.01, 0.25):
                at = np.mean(scores) + sigma * z
                x = [(y - at) / sigma for y in scores]
                log = sum(np.interp(v, rules.X, rules.LOG_DENSITY[k]) - math.log(sigma) for v in x)
                mass = weight * math.exp(log)
                total, mean, square = total + mass, mean + mass * at, square + mass * at * at
    assert p.moments[0] == pytest.approx(mean / total, abs=0.02)
    assert p.moments[1] == pytest.approx(square / total - (mean / total) ** 2, rel=0.02)


def test_a_failed_run_says_little_and_a_run_above_the_level_much() -> None:
    """Where runs fail now and then; the same distance on either side of the incumbent's mean."""
    p = posterior.calibrate((300.0, 298.0, 303.0, 180.0))
    low, high = (posterior.weigh(p, (p.mean + shift,)) for shift in (-60.0, 60.0))
    before = float(p.prior[rules.GAINS > 0].sum())
    assert abs(low.chance - before) < abs(high.chance - before)


# -- a candidate -----------------------------------------------------------------------------------


def brute_force(p: posterior.Posterior, scores: tuple[float, ...]) -> np.ndarray:
    """(N, 4), a row for each combination: mass, the incumbent's mean, gain in score, in sigma."""
    rows = []
    for j, k in np.ndindex(p.weight.shape):
        if p.weight[j, k] < 1e-6:
            continue
        for z, density in zip(rules.Z, p.density[j, k], strict=True):
            m = p.centre + p.sigma[j] * z
            for gain, prior in zip(rules.GAINS, p.prior, strict=True):
                x = [(y - m) / p.sigma[j] - gain for y in scores]
                log = sum(np.interp(v, rules.X, rules.LOG_DENSITY[k]) for v in x)
                mass = p.weight[j, k] * density * prior * math.exp(log) / p.sigma[j] ** len(scores)
                rows.append((mass, m, gain * p.sigma[j], gain))
    found = np.array(rows)
    found[:, 0] /= found[:, 0].sum()
    return found


@pytest.mark.parametrize("scores", [(104.0,), (106.0, 109.0), (92.0,)])
def test_a_candidate_is_weighed_as_brute_force_weighs_it(scores: tuple[float, ...]) -> None:
    p = posterior.calibrate((98.0, 103.0, 96.5, 104.0))
    w, (mass, m, gain, steps) = posterior.weigh(p, scores), brute_force(p, scores).T
    expected = (mass * gain).sum() / p.sd
    assert w.gain == pytest.approx(expected, abs=0.01)
    assert w.chance == pytest.approx((mass * (steps > 0)).sum(), abs=0.005)
    certain = (mass * np.maximum(gain, 0)).sum() / p.sd
    assert w.certainty == pytest.approx(certain - max(0.0, expected), abs=0.01)
    for after, value in ((posterior.dropped(p, w), m), (posterior.kept(p, w, 0.0), m + gain)):
        mean = (mass * value).sum()
        assert after.moments[0] == pytest.approx(mean, abs=0.05)
        assert after.path_mean[-1] == pytest.approx(mean, abs=0.05)
        variance = (mass * (value - mean) ** 2).sum()
        assert after.moments[1] == pytest.approx(variance, rel=0.06)


def test_the_lead_of_a_keep_over_what_it_was_built_on_agrees_with_brute_force() -> None:
    p = posterior.calibrate((98.0, 103.0, 96.5, 104.0))
    after = posterior.kept(p, posterior.weigh(p, (109.0,)), 0.0)
    mass, m, gain, _ = brute_force(p, (109.0,)).T
    lead = (mass * gain).sum()
    spread = math.sqrt((mass * (gain - lead) ** 2).sum())
    assert after.path_mean[1] - after.path_mean[0] == pytest.approx(lead, abs=0.05)
    assert after.path_mean[0] == pytest.approx((mass * m).sum(), abs=0.05)
    chance = 0.5 * (1 + math.erf(lead / spread / math.sqrt(2)))
    assert after.chance(1, 0) == pytest.approx(chance, abs=0.01)


def test_an_edit_may_make_runs_noisier() -> None:
    p = posterior.calibrate((98.0, 103.0, 96.5, 104.0))
    w = posterior.weigh(p, (109.0,))
    sure, loose = posterior.kept(p, w, 0.0), posterior.kept(p, w, 0.1)
    spread = [
        float((q.weight.sum(1) * (np.log(q.sigma) - math.log(q.sd)) ** 2).sum())
        for q in (sure, loose)
    ]
    step = math.log(math.sqrt(2))
    assert spread[1] - spread[0] == pytest.approx(0.2 * step**2, rel=0.2)  # two ways, .1 each


def test_the_share_of_good_ideas_is_learnt() -> None:
    rich, poor = Session().calibrated(), Session().calibrated()
    for n in range(1, 15):
        for x, step in ((rich, 6.0), (poor, -6.0)):
            assert x.state.posterior is not None
            x.decide(n, x.state.posterior.mean + step)
    good = rules.GAINS > 0
    assert rich.state.posterior is not None
    assert poor.state.posterior is not None
    unseen = rules.mixture(rules.UNSEEN)[good].sum()
    shares = [x.state.posterior.prior[good].sum() for x in (poor, rich)]
    assert shares[0] < unseen < shares[1]


def test_a_huge_gain_is_seen_twice_and_then_calibrated() -> None:
    x = Session().calibrated()
    x.propose(1)
    assert x.run(1, 900.0) == ()
    (verdict,) = x.run(1, 910.0)
    assert verdict.outcome == "keep"
    assert wants(x.state, 4) == (Measure(1, "calibrate"),) * 2
    x.scores(1, 895.0, 905.0)
    assert x.state.calibrated
    assert x.state.posterior is not None
    assert x.state.posterior.mean == pytest.approx(902.5, abs=3)
    assert champion(x.state) == 1


def test_a_huge_loss_is_discarded_at_once() -> None:
    x = Session().calibrated()
    x.propose(1)
    (verdict,) = x.run(1, -500.0)
    assert verdict.outcome == "discard"
    assert "far beyond luck" in verdict.reason


def test_no_candidate_is_run_more_often_than_the_rules_say() -> None:
    x = Session(Rules(controls=False, retest=0.0, max_runs=3)).calibrated()
    for n in range(1, 12):
        x.decide(n, 100.0 + n % 4)
        assert len(x.state.arms[n].runs) == 3


# -- verdicts for a reader -------------------------------------------------------------------------


def test_a_verdict_names_runs_scores_difference_and_chance() -> None:
    x = Session().calibrated()
    verdict = x.decide(1, 112.0)
    assert verdict.reason == (
        "Kept for now: 53 % likely a real gain, cheaper to build on than to prove. Run 5 scored "
        "112.0, 12.0 (3.0 sd) above the baseline, whose score is estimated at 100.0; one run's "
        "standard deviation (sd) is about 3.9. Expected gain +3.18: above 0 is kept."
    )
    assert (verdict.n, verdict.mean, verdict.seeds) == (1, 112.0, (1005,))
    assert verdict.mean0 == pytest.approx(100.0, abs=0.5)
    assert verdict.sd == pytest.approx(3.9, abs=0.1)
    assert verdict.chance == pytest.approx(0.53, abs=0.005)
    assert verdict.gain is not None
    assert verdict.gain > 0


@pytest.mark.parametrize(
    ("scale", "shown"),
    [(1000.0, "100,000"), (1.0, "100.0"), (0.001, "0.1000")],
    ids=["thousands", "tens", "thousandths"],
)
def test_scores_have_digits_that_mean_something(scale: float, shown: str) -> None:
    x = Session().calibrated(*(scale * y for y in (98.0, 102.0, 96.0, 104.0)))
    assert f"estimated at {shown};" in x.decide(1, 80 * scale).reason


def test_every_kind_of_verdict_is_a_sentence_that_stands_alone() -> None:
    x = climbed(2)
    x.propose(3)
    x.propose(4)
    x.decide(3, 145.0)
    x.run(4, 130.0)
    x.propose(5, key="k3")
    x.propose(6)
    x.run(6, None, "crash")
    x.tell(x.facts[0].__class__(7, 1, "k7"))
    x.decide(8, 60.0)
    for n in range(9, 40):
        x.decide(n, 100.0 - n % 7)
    outcomes = {v.outcome for v in x.verdicts}
    assert outcomes == {"baseline", "keep", "discard", "crash", "superseded", "taken back"}
    for verdict in x.verdicts:
        assert verdict.reason[0].isupper() or verdict.reason[0].isdigit()
        assert verdict.reason.endswith(".")
        assert not {"s", "s.", "s,", "nan", "None"} & set(verdict.reason.replace(")", "").split())
        json.dumps(to_json(verdict), allow_nan=False)
