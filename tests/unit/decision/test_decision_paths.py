"""decision/: going back, champions, controls, and candidates side by side."""

import pytest
from hand_fed import Session, climbed

from autorl.decision import (
    Control,
    ControlFact,
    Measure,
    Propose,
    Rules,
    champion,
    controls_owed,
    wants,
)

# -- the path of keeps -----------------------------------------------------------------------------


def test_the_champion_is_the_baseline_until_what_was_kept_likely_leads() -> None:
    x = Session().calibrated(90.0, 94.0, 106.0, 110.0)
    n = 0
    while champion(x.state) == 0 and n < 20:
        n += 1
        lead = x.state.lead
        assert lead is None or lead < 0.85
        x.decide(n, 104.0 + 4 * n)
    assert x.state.lead is not None
    assert x.state.lead >= 0.85
    assert champion(x.state) == x.state.incumbent != 0
    assert n > 1, "one run of one idea was enough"


def test_candidates_that_come_out_too_low_take_a_lucky_keep_back() -> None:
    x = Session().calibrated()
    assert x.decide(1, 108.0).outcome == "keep"
    for n in range(2, 30):
        x.decide(n, 93.0 + n % 3)
        if x.state.incumbent == 0:
            break
    verdict = x.verdicts[-1]
    assert (verdict.outcome, verdict.attempt, verdict.taken_back) == ("taken back", 1, (1,))
    assert x.state.arms[1].status == "taken back"
    assert wants(x.state) == (Propose(0),)


def test_going_back_costs_no_run() -> None:
    x = Session().calibrated()
    x.decide(1, 108.0)
    for n in range(2, 30):
        x.decide(n, 93.0 + n % 3)
    assert x.runs == 4 + sum(len(arm.runs) for n, arm in x.state.arms.items() if n)


# -- controls --------------------------------------------------------------------------------------


def test_controls_are_wanted_once_when_the_lead_first_is_very_likely() -> None:
    x = Session(Rules()).calibrated()
    n = 0
    while x.state.lead is None or x.state.lead < 0.95:
        assert not [w for w in wants(x.state, 4) if isinstance(w, Control)]
        n += 1
        x.decide(n, 100.0 + 6 * n)
    tip = champion(x.state)
    assert wants(x.state) == (Control(tip, "zero_budget"),)
    assert wants(x.state, 3)[:2] == (Control(tip, "zero_budget"), Control(tip, "seed_control"))
    flying = (Control(tip, "zero_budget"),)
    assert wants(x.state, 2, flying) == (Control(tip, "seed_control"),)
    x.pass_controls()
    for m in range(n + 1, n + 4):
        x.decide(m, 100.0 + 6 * m)
        assert not [w for w in wants(x.state, 4) if isinstance(w, Control)]
    # before a claim
    assert controls_owed(x.state, x.state.incumbent) == (
        Control(x.state.incumbent, "zero_budget"),
        Control(x.state.incumbent, "seed_control"),
    )
    assert controls_owed(x.state, 0) == ()


def test_a_failed_control_takes_back_the_attempt_and_the_one_below_is_controlled() -> None:
    x = climbed(3, Rules())
    for n in (3, 2):
        assert wants(x.state) == (Control(n, "zero_budget"),)
        fact = ControlFact(n, "zero_budget", False, "it scored 290 without training")
        (verdict,) = x.tell(fact)
        assert (verdict.outcome, verdict.taken_back) == ("taken back", (n,))
        assert "it scored 290 without training" in verdict.reason
        assert x.state.incumbent == n - 1


def test_a_control_that_fails_late_takes_back_what_was_built_on_it_too() -> None:
    x = climbed(3)
    (verdict,) = x.tell(ControlFact(2, "seed_control", False))
    assert (verdict.attempt, verdict.taken_back, verdict.incumbent) == (3, (2, 3), 1)
    assert x.tell(ControlFact(2, "zero_budget", False)) == ()  # it is gone already


# -- side by side ----------------------------------------------------------------------------------


def test_places_are_filled_and_never_overfilled() -> None:
    x = Session().calibrated()
    assert wants(x.state, 3) == (Propose(0),) * 3
    assert wants(x.state, 3, (Propose(0),)) == (Propose(0),) * 2
    x.propose(1)
    x.propose(2)
    assert wants(x.state, 3) == (Measure(1, "candidate"), Measure(2, "candidate"), Propose(0))
    both = (Measure(1, "candidate"), Measure(2, "candidate"))
    assert wants(x.state, 3, both) == (Propose(0),)
    assert wants(x.state, 2, both) == ()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_one_good_candidate_is_kept_in_whatever_order_the_runs_arrive(
    order: tuple[int, ...],
) -> None:
    x = Session().calibrated()
    for n in (1, 2, 3):
        x.propose(n)
    for n in order:
        x.run(n, {1: 80.0, 2: 112.0, 3: 75.0}[n])
    assert x.state.incumbent == 2
    assert {n: x.state.arms[n].status for n in (1, 2, 3)} == {1: "discard", 2: "keep", 3: "discard"}


def test_a_keep_supersedes_the_promising_and_discards_the_rest() -> None:
    x = Session().calibrated()
    for n in (1, 2, 3):
        x.propose(n)
    x.decide(2, 114.0)
    assert x.state.open == (1, 3), "their runs are under way, and not wasted"
    assert wants(x.state, 3)[:2] == (Measure(1, "candidate"), Measure(3, "candidate"))
    (verdict,) = x.run(1, 109.0)
    assert (verdict.outcome, verdict.incumbent) == ("superseded", 2)
    (verdict,) = x.run(3, 70.0)
    assert (verdict.outcome, verdict.incumbent) == ("discard", 0)
    assert x.state.incumbent == 2
    (verdict,) = x.propose(4, parent=0)  # an idea that was being thought about
    assert verdict.outcome == "superseded"
    assert x.state.past == {}, "nothing is left to be weighed against the old incumbent"


def test_a_gain_beyond_the_table_is_superseded_too_and_expected_to_gain_most() -> None:
    x = superseded(300.0)  # 20 sd above everything: no luck, though the table of gains ends at 6
    assert x.verdicts[-1].chance == 1.0
    x.propose(3, again=(2,))
    known = x.state.arms[3].known
    assert known is not None
    assert known[-1] == 1.0


def superseded(*scores: float) -> Session:
    """Experiment 1 was kept while experiments 2, 3, ... were running; they then scored these."""
    x = Session().calibrated()
    for n in range(1, len(scores) + 2):
        x.propose(n)
    x.decide(1, 114.0)
    for n, score in enumerate(scores, 2):
        assert [v.outcome for v in x.run(n, score)] == ["superseded"]
    return x


def test_what_was_seen_of_a_superseded_idea_is_not_forgotten() -> None:
    x = superseded(109.0)
    x.propose(3, again=(2,))
    x.propose(4)
    known = x.state.arms[3].known
    assert known is not None
    assert x.state.posterior is not None
    assert sum(known[15:]) > sum(x.state.posterior.prior[15:])  # P(gain > 0)
    assert x.state.arms[4].known is None


def test_superseded_ideas_made_again_together_are_expected_to_gain_what_they_gain_together() -> (
    None
):
    x = superseded(109.0, 111.0)
    x.propose(4, again=(2,))
    x.propose(5, again=(3,), key="other")
    x.propose(6, again=(2, 3))

    def expected(n: int) -> float:
        gains = (-6, -5, -4, -3.5, -3, -2.5, -2, -1.75, -1.5, -1.25, -1, -0.75, -0.5, -0.25)
        both = (*gains, 0.0, *(-g for g in reversed(gains)))
        known = x.state.arms[n].known
        assert known is not None
        assert sum(known) == pytest.approx(1.0)
        return sum(p * g for p, g in zip(known, both, strict=True))

    assert expected(6) == pytest.approx(expected(4) + expected(5), abs=0.02)
    assert expected(4) > 0.1


def test_an_idea_is_learnt_from_once() -> None:
    x = superseded(109.0)
    assert x.state.posterior is not None
    before = x.state.posterior.odds.tolist()
    x.propose(3, again=(2,))
    x.decide(3, 60.0 + 70.0)
    assert x.state.posterior.odds.tolist() == before
    x.decide(4, 90.0)
    assert x.state.posterior.odds.tolist() != before
