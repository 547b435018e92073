"""A claim: two looks, a floor under the variances, limits on repetition, consequences, words."""

import random
from types import SimpleNamespace as Fake
from typing import Any

import pytest
from hand_fed import Session as Rules
from hand_fed import climbed

from autorl.confirm import make_claim, owed, purpose, stats
from autorl.confirm.claim import least_variance
from autorl.decision import ClaimFact, champion
from autorl.loop.confirmation import Confirmation
from autorl.records import RunRecord
from autorl.session import Bounds, SessionState
from autorl.session import events as e

# -- the statistics --------------------------------------------------------------------------------

NEAR, AHEAD = [0.0, 1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 3.5, 4.5, 5.5]


def test_a_second_look_follows_only_where_the_champion_is_ahead_and_nothing_is_shown() -> None:
    undecided = stats.claim(NEAR, AHEAD, look=1, looks=2)
    assert undecided.open and not undecided.shown and undecided.confidence == 0.97
    shown = stats.claim(NEAR, [x + 20 for x in AHEAD], look=1, looks=2)
    behind = stats.claim(AHEAD, NEAR, look=1, looks=2)
    crashed = stats.claim(NEAR, [*AHEAD, None], look=1, looks=2)
    assert shown.shown and behind.behind and not (shown.open or behind.open or crashed.open)
    assert not stats.claim(NEAR, AHEAD, look=2, looks=2).open
    one = stats.claim(NEAR, AHEAD)
    assert not one.open and one.confidence == 0.95


def test_a_look_after_the_last_that_counts_never_says_shown() -> None:
    for look in (3, 4):
        c = stats.claim(NEAR, [x + 20 for x in AHEAD], look=look, looks=2)
        assert not c.shown and "hown:" not in c.sentence and c.low is not None and c.low > 0
        assert not stats.claim([-5.0] * 5, [-3.0] * 5, look=look, looks=2).shown
    assert not stats.claim(NEAR, [x + 20 for x in AHEAD], look=2, looks=1).shown


def test_a_floor_takes_the_place_of_a_smaller_variance_and_only_widens() -> None:
    # 2 + 2 runs with variances 2 and 2 against floors of 8 and 18: stderr sqrt(8/2 + 18/2)
    floored = stats.welch([0.0, 2.0], [10.0, 12.0], floors=(8.0, 18.0))
    assert floored is not None
    assert floored.stderr == pytest.approx(13**0.5) and floored.sd == pytest.approx(13**0.5)
    rng = random.Random(1)
    for _ in range(200):
        a, b = ([rng.gauss(0, s) for _ in range(5)] for s in (1, rng.choice((0.01, 1, 3))))
        floors = (rng.choice((0.0, 0.1, 2.0)), rng.choice((0.0, 0.1, 2.0)))
        plain, floored = stats.welch(a, b), stats.welch(a, b, floors=floors)
        assert plain is not None and floored is not None
        assert floored.low <= plain.low + 1e-12 and plain.high <= floored.high + 1e-12
    lucky = [1.0, 1.1, 0.9, 1.0, 1.0], [2.0, 2.1, 1.9, 2.0, 2.0]
    assert stats.claim(*lucky).shown and not stats.claim(*lucky, floors=(4.0, 4.0)).shown
    assert "no narrower than" in stats.claim(*lucky, floors=(4.0, 4.0)).sentence


def test_no_gain_is_promised_that_the_environment_cannot_pay() -> None:
    free, bound = stats.claim(NEAR, AHEAD), stats.claim(NEAR, AHEAD, most=4.0)
    assert free.smallest is not None and free.smallest + 2.0 > 4.0  # mean(NEAR) = 2
    assert bound.smallest is None and "this environment can pay (4.0 at most)" in bound.sentence
    assert stats.claim(NEAR, AHEAD, most=100.0).smallest == free.smallest


def test_two_humps_are_told_from_eight_runs_on_with_the_rate() -> None:
    runs = [300.0, 20.0, 310.0, 305.0, 18.0, 295.0, 22.0, 290.0]
    assert stats.humps(runs) == (5, 300.0, 20.0)
    assert stats.humps(runs[:7]) is None
    rng = random.Random(2)
    normal = [stats.humps([rng.gauss(0, 1) for _ in range(10)]) for _ in range(400)]
    one_failed = [stats.humps([rng.gauss(0, 1) for _ in range(9)] + [-30.0]) for _ in range(400)]
    assert sum(found is not None for found in normal) <= 0.08 * 400
    assert not any(found and found[0] == 9 for found in one_failed)  # one failure is no hump


# -- in a session ----------------------------------------------------------------------------------


class Site:
    """A session's state, fed with a claim's runs by hand; experiment 1 is the champion."""

    def __init__(self, known: Rules, **settings: Any):
        self.known, self.state, self.runs = known, SessionState(), 0
        kept = {"env_id": "Toy-v0", "time_budget": 5.0, "num_eval_episodes": 3, **settings}
        self.state.apply(e.Created(env_id="Toy-v0", tag="t", settings=kept, root_seed=1, base="",
            baseline=e.Baseline("", "")))  # fmt: skip
        for n in known.state.arms:
            self.state.apply(e.Attempted(n=n, parent=None, source="", title="", key=str(n)))

    def run(self, attempt: int, score: float | None, champion: int = 1, **more: Any) -> None:
        self.runs += 1
        self.state.apply(e.RunStarted(run=self.runs, attempt=attempt, purpose=purpose(champion),
            kind="measure", seed_index=self.runs, seed=self.runs, epoch=0, folder=""))  # fmt: skip
        status: Any = "ok" if score is not None else "crash"
        record = RunRecord(status, avg_return=score, total_seconds=60.0)
        self.state.apply(e.RunEnded(run=self.runs, record=record, **more))

    def look(self, base: list[float], champ: list[float], champion: int = 1) -> dict[str, Any]:
        for a, b in zip(base, champ, strict=True):
            self.run(0, a, champion)
            self.run(champion, b, champion)
        claim = make_claim(self.state, self.known.state, champion)
        self.state.apply(e.Claimed(claim=claim))
        return claim


def test_a_confirm_of_the_same_pair_goes_on_with_its_runs_and_another_pair_begins_anew() -> None:
    site = Site(climbed(2))
    assert owed(site.state, 1, 5) == {0: 5, 1: 5}
    first = site.look([98.0, 102.0, 99.0], [100.0, 103.0, 104.0])["claim"]
    assert first["open"] and "as many runs again of each follow" in first["sentence"]
    site.run(0, 101.0)
    assert owed(site.state, 1, 3) == {0: 2, 1: 3}
    site.run(1, 103.5)
    second = site.look([97.0, 103.0], [104.0, 101.0])["claim"]
    assert (second["look"], second["runs"], second["runs0"]) == (2, 6, 6)
    assert "Look 2 of 2 at this pair (look 1: not shown)." in second["sentence"]
    assert second["sentence"].endswith("Claims of this session: 1.")
    third = site.look([90.0] * 3, [190.0] * 3)["claim"]
    assert third["look"] == 3 and not third["shown"]
    assert third["sentence"].startswith("Described, not decided: ")
    other = site.look([99.0, 101.0], [104.0, 103.0], champion=2)["claim"]
    assert (other["look"], other["runs"]) == (1, 2)
    assert other["sentence"].endswith("Claims of this session: 2.")
    assert Site(climbed(1), confirm_looks=1).look(NEAR, AHEAD)["claim"]["confidence"] == 0.95


def test_the_floor_is_what_the_session_measured_for_the_file_or_else_has_learnt() -> None:
    known = climbed(1)  # four runs of the baseline (98, 102, 96, 104), one or two of experiment 1
    assert least_variance(known.state, 0) == pytest.approx((4 + 4 + 16 + 16) / 3)
    assert len(known.state.arms[1].scores) < 3 and known.state.sd is not None
    assert least_variance(known.state, 1) == known.state.sd**2
    figures = Site(known).look([100.0, 100.5, 99.5], [104.0, 104.5, 103.5])["claim"]
    assert figures["floor0"] == pytest.approx((40 / 3) ** 0.5) and not figures["shown"]
    still = Rules().calibrated(5.0, 5.0, 5.0, 5.0)
    still.propose(1)
    still.run(1, 5.0)
    assert least_variance(still.state, 0) == least_variance(still.state, 1) == 0.0


def test_a_champion_that_is_behind_is_taken_off_the_branch_and_one_that_is_ahead_is_not() -> None:
    ahead = Site(climbed(2)).look([99.0, 101.0, 100.0], [100.0, 102.0, 101.0], champion=2)
    assert ahead["back"] == "" and not ahead["claim"]["behind"]
    behind = Site(climbed(2)).look([99.0, 101.0, 100.0], [96.0, 94.0, 95.0], champion=2)
    assert "5.0 less than the baseline" in behind["back"]
    assert "stays at refs/autorl/t/2; the branch goes back to the" in behind["claim"]["sentence"]
    x = climbed(2)
    (verdict,) = x.tell(ClaimFact(behind["back"]))
    assert (verdict.outcome, verdict.taken_back, x.state.incumbent) == ("taken back", (1, 2), 0)
    assert verdict.reason.startswith(behind["back"]) and x.tell(ClaimFact("again")) == ()
    assert x.decide(3, 160.0).outcome == "keep"  # and research goes on from the baseline


def test_repeated_runs_are_listed_and_the_means_are_told_with_them() -> None:
    site = Site(climbed(1))
    site.run(0, 40.0, steady=False)
    claim = site.look([98.0, 102.0, 100.0], [120.0, 121.0, 119.0])
    assert claim["claim"]["mean0"] == 100.0
    assert [r["avg_return"] for r in claim["repeated"]] == [40.0]
    said = "do not count: 1; the mean of the baseline is 85.0 with them, without 100.0."
    assert said in claim["claim"]["sentence"]


def test_another_look_for_which_no_time_is_left_is_left_to_confirm() -> None:
    known = climbed(2)
    site, n = Site(known), champion(known.state)
    assert site.look([99.0, 101.0, 97.0], [100.0, 103.0, 99.0], n)["claim"]["open"]
    session: Any = Fake(state=site.state, decision=known.state, settings=Fake(time_budget=60.0))
    runs: Any = Fake(active={}, places=1)
    for hours, done in ((None, False), (1.0, False), (0.05, True)):  # 2 + 2 runs of 60 s: 240 s
        bounds = Bounds(hours=hours, confirm_runs=2)
        search = Confirmation(session, runs, Fake(), bounds)
        assert search.finished() is done and ("no time is left" in search.why) is done
