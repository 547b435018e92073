"""decision/: a machine whose share of the cores comes and goes; every run counts as it is."""

from hand_fed import Session, climbed

from autorl.decision import Measure, Propose, posterior, wants


def on_a_moved_machine(score: float, share: float = 0.5) -> Session:
    """A candidate ran when the machine gave another share than before."""
    x = Session()
    for y in (98.0, 102.0, 96.0, 104.0):
        x.run(0, y, share=1.0)
    x.propose(1)
    assert x.run(1, score, share=share) == ()
    return x


def test_before_a_verdict_at_another_share_the_incumbent_is_run_there() -> None:
    x = on_a_moved_machine(98.0)
    assert wants(x.state) == (Measure(0, "incumbent"),)
    assert wants(x.state, 1, (Measure(0, "incumbent"),)) == ()
    assert wants(x.state, 3) == (Measure(0, "incumbent"), Propose(0), Propose(0))
    (verdict,) = x.run(0, 84.0, share=0.5)
    assert (verdict.attempt, verdict.outcome) == (1, "keep")  # a gain where the incumbent lost
    assert x.state.arms[1].scores == (98.0,)  # as it was measured
    (verdict,) = on_a_moved_machine(98.0).run(0, 105.0, share=0.5)
    assert verdict.outcome == "discard"


def test_a_move_that_a_candidate_of_an_older_incumbent_met_is_not_forgotten() -> None:
    x = Session()
    for y in (98.0, 102.0, 96.0, 104.0):
        x.run(0, y, share=1.0)
    x.propose(1)
    x.propose(2)
    assert [v.outcome for v in x.run(1, 112.0, share=1.0)] == ["keep"]
    assert [v.outcome for v in x.run(2, 101.0, share=0.5)] == ["discard"]
    assert x.state.moved
    x.propose(3)
    assert x.run(3, 110.0, share=0.5) == ()
    assert wants(x.state) == (Measure(1, "incumbent"),)


def test_the_same_share_asks_for_no_run_of_the_incumbent() -> None:
    x = on_a_moved_machine(92.0)
    x.run(0, 90.0, share=0.5)
    for n in range(2, 12):
        x.propose(n)
        x.run(n, 90.0, share=0.5 + 0.02 * (n % 2))
        assert not x.state.moved
        assert x.state.calibrated


def test_a_move_that_all_share_makes_no_ancestor_better() -> None:
    x = climbed(2)
    for n in range(3, 9):
        x.propose(n)
        x.run(n, 124.0, share=1.0)
    chances = []
    for share in (1.0, 0.3):
        p = posterior.at_share(x.state.posterior, share, 0.5)
        chances.append(posterior.run_again(p, 110.0).chance(0, 2))
    assert chances[1] < 0.5
    assert chances[1] < chances[0]


def test_a_crash_of_the_incumbent_run_again_is_one() -> None:
    x = on_a_moved_machine(98.0)
    assert x.run(0, None, "crash") == ()
    assert wants(x.state) == (Measure(0, "incumbent"),)  # the baseline, once: it is run again
    x.run(0, None, "crash")
    assert x.state.broken


# -- an incumbent that is not what was calibrated --------------------------------------------------


def at_half_of_the_machine() -> Session:
    """As on InvertedDoublePendulum-v5, 20 s a run: calibrated at half a core, then a whole one."""
    x = Session()
    for y in (187.0, 242.0, 287.0, 172.0):
        x.run(0, y, share=0.5)
    x.propose(1)
    assert x.run(1, 8445.0, share=1.0) == ()  # not "207 sd above the baseline"
    assert wants(x.state) == (Measure(0, "incumbent"),)
    return x


def test_no_gain_is_far_beyond_luck_while_the_incumbent_scores_as_much_today() -> None:
    x = at_half_of_the_machine()
    assert x.run(0, 9359.0, share=1.0) == ()
    assert x.state.doubt == (
        "Run 6 scored 9,359, and it is the baseline's, whose score is estimated at 221: "
        "far beyond luck, so the baseline is run once more."
    )
    assert wants(x.state) == (Measure(0, "incumbent"),)
    assert x.run(0, 9360.0, share=1.0) == ()
    assert x.state.doubt.endswith(
        "the machine is not what it was, so the baseline is calibrated again, "
        "by these and later runs."
    )
    assert wants(x.state, 4) == (Measure(0, "calibrate"),) * 2
    for y in (9358.0, 9361.0):
        x.run(0, y, share=1.0)
    assert x.state.calibrated
    assert x.state.doubt == ""
    assert x.state.posterior is not None
    assert 9350 < x.state.posterior.mean < 9370
    assert wants(x.state) == (Measure(1, "candidate"),)
    (verdict,) = x.run(1, 8439.0, share=1.0)
    assert verdict.outcome == "discard"
    assert "a loss far beyond luck" in verdict.reason


def test_one_odd_run_of_the_incumbent_is_luck() -> None:
    x = at_half_of_the_machine()
    x.run(0, 9359.0, share=1.0)
    assert x.run(0, 230.0, share=1.0) == ()
    assert x.state.calibrated
    assert (x.state.doubt, x.state.moved) == ("", False)
    assert wants(x.state) == (Measure(1, "candidate"),)


def test_a_machine_that_comes_and_goes_is_noise_and_not_calibrated_for_ever() -> None:
    x = at_half_of_the_machine()
    for y in (9359.0, 9360.0, 9358.0, 9361.0):
        x.run(0, y, share=1.0)
    x.run(1, 8439.0, share=1.0)
    for n, (share, level) in enumerate([(0.5, 220.0), (1.0, 9360.0)] * 6, start=2):
        x.propose(n)
        for _ in range(9):
            if n not in x.state.open:
                break
            (want,) = wants(x.state)
            assert isinstance(want, Measure)
            x.run(want.attempt, level + want.attempt % 5, share=share)
        assert n not in x.state.open
    assert x.state.posterior is not None
    assert x.state.posterior.sd > 1000  # a score of today may be any of the two
    assert len(x.state.arms[0].scores) <= 4 + 1 + 12  # one a move, as on any busy machine


def test_on_another_machine_the_baseline_of_a_kept_incumbent_is_calibrated_too() -> None:
    x = climbed(2)
    x.propose(3)
    for _ in range(2):
        x.run(2, 900.0)
    assert wants(x.state, 8) == (Measure(2, "calibrate"),) * 2 + (Measure(0, "calibrate"),) * 4
    x.scores(2, 902.0, 898.0)
    x.scores(0, 801.0, 799.0, 802.0, 798.0)
    assert x.state.calibrated
    assert (x.state.path, x.state.incumbent) == ((0, 2), 2)


def test_a_verdict_says_how_much_of_the_machine_its_runs_got() -> None:
    x = on_a_moved_machine(12.0, share=0.27)
    assert wants(x.state) == (Measure(0, "incumbent"),)
    (verdict,) = x.run(0, 99.0, share=0.27)
    assert verdict.outcome == "discard"
    assert "Run 5 scored 12.0 on 27 % of its cores, " in verdict.reason


def test_a_candidate_far_below_on_a_share_of_its_own_is_run_again() -> None:
    x = on_a_moved_machine(12.0, share=0.7)  # something took a part of its cores, and is gone
    assert x.run(0, 101.0, share=0.99) == ()
    assert wants(x.state) == (Measure(1, "candidate"),)
    (verdict,) = x.run(1, 110.0, share=0.99)
    assert verdict.n == 2
    assert "Runs 5 and 7 scored 12.0 and 110.0 on 70 to 99 % of their cores" in verdict.reason
