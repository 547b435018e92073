"""Paths of keeps put to the proof, and candidates side by side."""

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

# -- anchor checks -----------------------------------------------------------------------------------------------------


def test_only_fresh_runs_certify() -> None:
    x = climbed()
    tip = x.state.incumbent
    assert wants(x.state, 9) == (Measure(tip, "tip"),) * 3 + (Measure(0, "anchor"),) * 3
    assert wants(x.state, 9, (Measure(tip, "tip"),) * 3 + (Measure(0, "anchor"),) * 2) == (
        Measure(0, "anchor"),
    )
    high = x.state.belief.mean if x.state.belief else 0.0
    x.scores(tip, high, high + 2, high - 2)
    x.scores(0, 99.0, 101.0)
    (verdict,) = x.run(0, 100.0)
    assert (
        verdict.outcome == "certified"
        and verdict.level == "anchor"
        and verdict.n == verdict.n0 == 3
    )
    assert (
        verdict.seeds == tuple(range(1000 + x.runs - 5, 1000 + x.runs - 2))
        and x.state.anchor == tip
        and x.state.path == ()
    )
    assert all(x.state.certified(n) for n in range(tip + 1))


def test_fresh_runs_that_do_not_hold_take_the_path_back() -> None:
    x = climbed()
    tip, path = x.state.incumbent, x.state.path
    x.scores(tip, 80.0, 81.0, 79.0)
    x.scores(0, 100.0, 102.0)
    (verdict,) = x.run(0, 101.0)
    assert (
        verdict.outcome == "undone"
        and verdict.undone == path
        and x.state.incumbent == x.state.anchor == champion(x.state) == 0
    )
    assert (
        x.state.belief is not None
        and abs(x.state.belief.mean - 100) < 6
        and wants(x.state) == (Propose(0),)
    )


def test_a_proof_that_settles_nothing_leaves_the_search_where_it_is() -> None:
    x = climbed()
    tip, s = x.state.incumbent, x.state.s or 0.0
    x.scores(tip, 100.0, 100.0 - s / 2, 100.0)  # not above the anchor, not a whole s below it
    assert x.scores(0, 100.0, 100.0 + s / 2, 100.0) == ()
    assert (
        x.state.incumbent == tip
        and x.state.anchor == 0
        and x.state.check is None
        and x.state.chance is not None
    )
    assert wants(x.state) == (Propose(tip),)


def test_a_node_that_fails_a_control_never_becomes_the_anchor_and_the_one_below_is_tried() -> None:
    x = climbed(Rules())
    tip, path = x.state.incumbent, x.state.path
    assert wants(x.state, 3) == (Control(tip, "zero_budget"), Control(tip, "seed_control"))
    assert wants(x.state, 3, (Control(tip, "zero_budget"),)) == (Control(tip, "seed_control"),)
    assert (
        controls_owed(x.state, tip) == (Control(tip, "zero_budget"), Control(tip, "seed_control"))
        and controls_owed(x.state, 0) == ()
    )
    assert x.tell(ControlFact(tip, "seed_control", True)) == ()
    (verdict,) = x.tell(ControlFact(tip, "zero_budget", False, "it scored 290 without training"))
    assert (
        verdict.outcome == "undone"
        and verdict.undone == (tip,)
        and "without training" in verdict.reason
    )
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
    assert (
        x.state.incumbent == 1
        and x.state.chance is not None
        and x.state.chance < 0.8
        and champion(x.state) == 0
    )
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
    assert x.state.open == (3,) and wants(x.state, 2)[0] == Measure(
        3, "candidate"
    )  # under way: its run is not wasted
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
