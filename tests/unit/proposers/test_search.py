"""Classical search and hybrid: nothing tried twice, no number for a crash, better than chance."""

import json
import math
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT, python
from test_search_space import SOURCE

from autorl.errors import ProposerError
from autorl.proposers.gaussian_process import improvement
from autorl.proposers.hybrid import HybridProposer
from autorl.proposers.search import SearchProposer, _bounded, ledger, noise_variance
from autorl.proposers.search_space import constants
from autorl.records import History, Proposal, Row, to_json
from autorl.source.edits import apply_edits


def history(source: str, rows=(), params=None, incumbent: int = 0, **more: Any) -> History:
    facts = ("Toy-v0", 60.0, 10, "2 cores", "")
    return History(*facts, source, incumbent, rows, params=params or {}, **more)


def row(n: int, score: float | None, status: str = "discard", **more: Any) -> Row:
    return Row(n, f"{n:07x}", score, status, "", **more)


# -- proposals -------------------------------------------------------------------------------------


def play(source: str, score: Callable, count: int, seed: int = 0) -> tuple[list[Proposal], History]:
    """`count` attempts; the best score so far becomes the incumbent."""
    values = {n: c.value for n, c in constants(source).items()}
    rows, params, sources = [row(0, score(values), "keep")], {0: tuple(values.items())}, {0: source}
    best, proposals, known = 0, [], sources.__getitem__
    proposer = SearchProposer(seed)
    for n in range(1, count + 1):
        now = history(sources[best], tuple(rows), params, best, source_of=known)
        proposal = proposer.propose(now)
        if proposal is None:
            break
        proposals.append(proposal)
        sources[n] = apply_edits(sources[best], proposal.edits)
        params[n] = proposal.params
        assert {k: c.value for k, c in constants(sources[n]).items()} == dict(proposal.params)
        got = score(dict(proposal.params))
        rows.append(row(n, got, "crash" if got is None else "discard", runs=1))
        if got is not None and got > (rows[best].avg_return or -math.inf):
            best = n
    return proposals, history(sources[best], tuple(rows), params, best, source_of=known)


def test_one_to_three_constants_change_and_the_title_says_which() -> None:
    proposals, _ = play(SOURCE, lambda v: v["LEARNING_RATE"], 30)
    sizes = {len(p.title.split(", ")) for p in proposals}
    assert sizes <= {1, 2, 3} and len(sizes) > 1
    for p in proposals:
        assert all("→" in part for part in p.title.split(", "))
        assert p.proposer == "search" and p.hypothesis and p.edits
        assert set(dict(p.params)) == set(constants(SOURCE))


def test_no_set_of_values_is_proposed_twice_and_the_end_of_a_small_space_is_none() -> None:
    proposals, end = play("A = 1  # {1, 2, 3}\nB = 2  # [1, 3]\n", lambda v: v["A"], 20)
    sets = [p.params for p in proposals]
    assert len(sets) == len(set(sets)) == 8  # 3 x 3 less the start
    assert SearchProposer().propose(end) is None


def test_what_is_still_running_is_not_proposed_again() -> None:
    source, rows = "A = 1  # {1, 2}\n", (row(0, 1.0, "keep"), row(1, None, "running"))
    assert SearchProposer().propose(history(source, rows, {1: (("A", 2.0),)})) is None


def test_vetoed_sources_are_passed_over() -> None:
    source = "A = 1  # {1, 2, 3}\n"
    now = history(source, (row(0, 1.0, "keep"),), vet=lambda s: "no" if "A = 2" in s else "")
    proposal = SearchProposer().propose(now)
    assert proposal is not None and apply_edits(source, proposal.edits).startswith("A = 3")


def test_without_constants_it_says_what_to_do() -> None:
    with pytest.raises(ProposerError, match="no ALL_CAPS numeric constant"):
        SearchProposer().propose(history("x = 1\n"))


def test_the_same_ledger_gives_the_same_proposal_in_another_process() -> None:
    _, now = play(SOURCE, lambda v: -abs(math.log(v["LEARNING_RATE"] / 1e-3)), 12)
    here = SearchProposer(3).propose(now)
    again = SearchProposer(3).propose(now)
    code = """
import json, sys
from autorl.proposers.search import SearchProposer
from autorl.records import History, Row, from_json
d = json.loads(sys.argv[1])
rows = tuple(from_json(Row, r) for r in d["rows"])
params = {int(n): tuple((a, b) for a, b in p) for n, p in d["params"].items()}
facts = ("Toy-v0", 60.0, 10, "", "")
now = History(*facts, d["source"], d["incumbent"], rows, params=params)
print(SearchProposer(3).propose(now).title)
"""
    known = {"rows": now.rows, "params": now.params, "source": now.train_source}
    data = json.dumps(to_json(known | {"incumbent": now.incumbent}))
    done = python("-c", code, data, PYTHONHASHSEED="77", PYTHONIOENCODING="utf-8")
    assert here is not None and here == again
    assert done.stdout.strip() == here.title, done.stderr


# -- what it learns from ---------------------------------------------------------------------------


def test_a_crash_is_like_the_worst_measured_score_and_never_zero() -> None:
    assert _bounded([-900.0, None, -500.0, -700.0]).tolist() == [-900.0, -900.0, -500.0, -700.0]


def test_a_disaster_is_low_but_does_not_drown_the_rest() -> None:
    scores = _bounded([-150.0, -140.0, -145.0, -155.0, -1e9])
    assert scores[-1] == scores.min() and scores[-1] > -1000


def test_crashing_settings_are_avoided_though_every_return_is_negative() -> None:
    """Half of the range crashes; read as 0 a crash would beat every measured return."""
    proposals, _ = play(
        "A = 0.4  # [0.0, 1.0]\nB = 0.5  # [0.0, 1.0]\n",
        lambda v: None if v["A"] > 0.5 else -100 - 10 * abs(v["B"] - 0.2),
        40,
    )
    late = [dict(p.params)["A"] > 0.5 for p in proposals[20:]]
    assert sum(late) <= len(late) / 4


def test_attempts_by_others_teach_it_and_lacking_constants_read_as_the_incumbents() -> None:
    sources = {0: "A = 1.0  # [0, 4]\nB = 2.0  # [0, 4]\n", 1: "A = 3.0\nx = 1\n"}
    rows = (row(0, 1.0, "keep"), row(1, 5.0, "discard", proposer="claude"))
    now = history(sources[0], rows, source_of=sources.__getitem__)
    trials = [(t.values, t.score) for t in ledger(now, constants(sources[0]))]
    assert trials == [({"A": 1.0, "B": 2.0}, 1.0), ({"A": 3.0, "B": 2.0}, 5.0)]


def test_an_attempt_whose_source_is_gone_is_left_out() -> None:
    def source_of(n: int) -> str:
        raise KeyError(n)

    now = history("A = 1.0\n", (row(0, 1.0, "keep"), row(1, 5.0)), source_of=source_of)
    assert len(ledger(now, constants(now.train_source))) == 1


def test_noise_is_pooled_over_replicates() -> None:
    # (1, 3): variance 2, stderr 1.  (0, 0, 3): variance 3, stderr 1.  pooled: (1 x 2 + 2 x 3) / 3
    rows = (row(0, 2.0, runs=2, stderr=1.0), row(1, 1.0, runs=3, stderr=1.0), row(2, 9.0, runs=1))
    assert noise_variance(history("A = 1.0\n", rows)) == pytest.approx(8 / 3)
    assert noise_variance(history("A = 1.0\n", rows[2:])) is None


def test_expected_improvement_is_the_mean_of_the_positive_part() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((12, 2))
    scores, pool = -100 + 50 * points[:, 0], rng.random((30, 2))
    expected, mean, deviation = improvement(points, scores, np.ones(12), 4.0, pool, points[0])
    grid = np.linspace(-8, 8, 20001)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    for e, m, s in zip(expected, mean, deviation, strict=True):
        whole = (np.maximum(m + s * grid, 0) * density).sum() * (grid[1] - grid[0])
        assert e == pytest.approx(float(whole), abs=1e-3)


def test_the_model_climbs_a_ramp_and_trusts_noise_less() -> None:
    points = np.linspace(0, 1, 9)[:, None]
    pool, here = np.array([[0.0], [1.0]]), np.array([0.5])
    for shift in (0.0, -1000.0):  # the level of the returns does not matter
        _, mean, _ = improvement(points, 10 * points[:, 0] + shift, np.ones(9), 0.01, pool, here)
        assert mean[0] == pytest.approx(-5, abs=0.5) and mean[1] == pytest.approx(5, abs=0.5)
    _, doubted, _ = improvement(points, 10 * points[:, 0], np.ones(9), 400.0, pool, here)
    assert abs(doubted[1]) < 2.5


def test_equal_scores_do_not_break_it() -> None:
    proposals, _ = play(SOURCE, lambda v: 1000.0, 12)
    assert len(proposals) == 12


def test_it_finds_the_bottom_of_a_noisy_bowl_more_often_than_chance() -> None:
    source = "".join(f"C{i} = {s}  # [0.0, 1.0]\n" for i, s in enumerate((0.9, 0.1, 0.8, 0.2, 0.9)))

    def bowl(v: dict[str, float]) -> float:
        return -sum((x - 0.5) ** 2 for x in v.values())

    wins = 0
    for seed in range(6):
        rng = random.Random(seed)
        _, end = play(source, lambda v, rng=rng: bowl(v) + rng.gauss(0, 0.03), 25, seed)  # type: ignore[misc]
        found = bowl({n: c.value for n, c in constants(end.train_source).items()})
        # chance: the best of 25 uniform draws, judged by the same noisy eye
        draws = [{f"C{i}": rng.random() for i in range(5)} for _ in range(25)]
        wins += found > bowl(max(draws, key=lambda v: bowl(v) + rng.gauss(0, 0.03)))
    assert wins >= 5


def test_a_proposal_at_a_hundred_trials_takes_under_half_a_second_of_cpu() -> None:
    rng = random.Random(0)
    known = constants(SOURCE)
    spaces = {name: constant.dimension for name, constant in known.items()}
    params = {
        n: tuple((k, d.to_value(rng.uniform(*d.x_bounds))) for k, d in spaces.items())
        for n in range(1, 101)
    }
    rows = [row(0, 0.0, "keep", runs=4, stderr=0.5)]
    rows += [row(n, rng.gauss(0, 1)) if n % 9 else row(n, None, "crash") for n in params]
    now = history(SOURCE, tuple(rows), params)
    SearchProposer().propose(now)  # imports
    took = []
    for _ in range(3):  # a program on the sister core makes the same work dearer
        began = time.thread_time()
        assert SearchProposer(1).propose(now) is not None
        took.append(time.thread_time() - began)
    assert min(took) < 0.5


def test_the_shipped_train_py_is_tunable_and_stays_python() -> None:
    source = (PROJECT / "train.py").read_text(encoding="utf-8")
    known = constants(source)
    assert len(known) >= 8 and "LEARNING_RATE" in known
    for seed in range(20):
        proposal = SearchProposer(seed).propose(history(source, (row(0, 1.0, "keep"),)))
        compile(apply_edits(source, proposal.edits), "train.py", "exec")


# -- hybrid ----------------------------------------------------------------------------------------


class Scripted:
    """A researcher that always has the same idea, or none."""

    def __init__(self, name: str, has: bool = True):
        self.name, self.has = name, has

    def propose(self, history: History, purse: object) -> Proposal | None:
        if self.has:
            return Proposal("idea", source="x = 1\n", proposer=self.name)
        if self.name == "search":
            raise ProposerError("no constants")
        return None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.77, 1.0])
def test_shares_hold_at_every_moment_and_across_restarts(share: float) -> None:
    rows: tuple[Row, ...] = (row(0, 1.0, "keep"),)
    for n in range(1, 61):
        both = HybridProposer(Scripted("claude"), Scripted("search"), share)
        proposal = both.propose(history("x = 1\n", rows), None)
        rows += (row(n, 0.0, proposer=proposal.proposer),)
        mine = sum(r.proposer == "search" for r in rows)
        assert share * n - 1 < mine <= share * n + 1e-9


def test_search_without_anything_to_tune_passes_its_turn_on() -> None:
    both = HybridProposer(Scripted("claude"), Scripted("search", has=False), 0.9)
    rows = tuple(row(n, 0.0, proposer="claude") for n in range(9))
    proposal = both.propose(history("x = 1\n", rows), None)  # type: ignore[arg-type]
    assert proposal is not None and proposal.proposer == "claude"


def test_search_alone_says_why_it_cannot() -> None:
    both = HybridProposer(Scripted("claude"), Scripted("search", has=False), 1.0)
    with pytest.raises(ProposerError):
        both.propose(history("x = 1\n"), None)


def test_a_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError):
        HybridProposer(Scripted("claude"), Scripted("search"), 30)
