"""Whole sessions through decision/: random ones that must go on, simulated ones that must gain."""

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import busy
import noises
import numpy as np
import pytest
import simulation
from decision import seconds
from hand_fed import Session

from autorl.decision import (
    Control,
    ControlFact,
    Propose,
    ResumedFact,
    Rules,
    State,
    champion,
    observe,
    start,
    wants,
)
from autorl.records import to_json

# -- the fold --------------------------------------------------------------------------------------


def random_session(seed: int, steps: int = 200) -> Session:
    """Everything that can happen, in any order."""
    rng, x = random.Random(seed), Session(Rules())
    n, places, superseded = 0, rng.choice((1, 1, 2, 4, 8)), list[int]()
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
            again = tuple(superseded[:4])
            del superseded[:4]
            x.propose(n, want.parent if rng.random() > 0.05 else 0, key=key, again=again)
        elif isinstance(want, Control):
            x.tell(ControlFact(want.attempt, want.kind, rng.random() > 0.1))
        else:
            u = rng.random()
            ok = u >= 0.1 or (u < 0.05 and not x.state.calibrated)
            status = "ok" if ok else "crash" if u < 0.05 else "interrupted"
            luck: Any = rng.choice((1000.0, rng.gauss(0, 1), rng.gauss(want.attempt, 1)))
            score = luck if ok else rng.choice((None, math.nan))
            epoch = 0 if rng.random() > 0.01 else 1
            share = rng.choice((None, 1.0, 1.0, rng.uniform(0.0, 1.0)))
            x.run(want.attempt, score, status, share=share, epoch=epoch)
        superseded += [v.attempt for v in x.verdicts[-1:] if v.outcome == "superseded"]
        check(x.state)
    return x


def check(s: State) -> None:
    """What holds after every fact."""
    assert s.arms[s.incumbent].status in ("baseline", "keep")
    assert all(s.arms[m].status == "open" for m in s.open)
    assert champion(s) in (0, *s.lineage())
    assert {s.arms[m].status for m in s.lineage()} <= {"keep"}
    assert set(s.past) <= {s.arms[m].parent for m in s.open} | {s.incumbent} | set(s.arms)
    if s.posterior is None:
        return
    assert len(s.path) == len(s.posterior.path_mean)
    assert not s.calibrated or s.path[-1] == s.incumbent
    assert math.isfinite(s.posterior.sd)
    assert math.isfinite(s.posterior.mean)
    assert s.posterior.weight.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_search_goes_on_or_says_why_not(seed: int) -> None:
    x = random_session(seed)
    decided = [v.attempt for v in x.verdicts if v.outcome in ("keep", "discard", "superseded")]
    assert len(decided) == len(set(decided)), "one first verdict for each attempt"
    for verdict in x.verdicts:
        assert verdict.reason.endswith(".")
        assert "nan" not in verdict.reason
        json.dumps(to_json(verdict), allow_nan=False)


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_a_resume_from_any_prefix_is_the_same_fold(seed: int) -> None:
    x = random_session(seed, steps=80)
    state, verdicts = start(Rules()), []
    states = []
    for fact in x.facts:
        state, more = observe(state, fact)
        verdicts += more
        states.append(state)
    assert state == x.state
    assert verdicts == x.verdicts
    for cut in range(0, len(x.facts), 7):
        state = start(Rules())
        for fact in x.facts[: cut + 1]:
            state, _ = observe(state, fact)
        assert state == states[cut]


def test_a_fact_changes_no_earlier_state() -> None:
    x = Session().calibrated()
    before, copy = x.state, start(Rules(controls=False))
    for n in range(1, 12):
        x.decide(n, 97.0 + 3 * (n % 4))
    for fact in x.facts[:5]:
        copy, _ = observe(copy, fact)
    assert copy == before
    assert x.state != before


def test_a_verdict_does_not_depend_on_zero_or_scale_of_the_score() -> None:
    stories = []
    for zero, scale in ((0.0, 1.0), (-7000.0, 3.0)):
        rng, x, n = random.Random(4), Session(), 0
        for _ in range(120):
            want = wants(x.state)[0]
            if isinstance(want, Propose):
                n += 1
                x.propose(n)
            else:
                x.run(want.attempt, zero + scale * rng.gauss(0.1 * want.attempt, 1))
        stories.append([(v.attempt, v.outcome, v.taken_back, v.n) for v in x.verdicts])
    assert stories[0] == stories[1]
    assert len(stories[0]) > 10


# -- simulated sessions ----------------------------------------------------------------------------


def gains(world: str, sessions: int, places: int = 1) -> np.ndarray:
    """True gain after 100 runs, of each session."""
    natures = (simulation.Nature(simulation.WORLDS[world], k) for k in range(sessions))
    return np.array([simulation.adaptive(nature, (100,), places).gain[100] for nature in natures])


def test_a_late_session_gains_and_hardly_ever_ends_below_its_start() -> None:
    found = gains("late", 30)
    assert found.mean() > 0.5  # .95 in 300 sessions
    assert (found < 0).mean() < 0.1  # .01


def test_eight_places_gain_from_what_was_superseded() -> None:
    assert gains("base", 16, places=8).mean() > 5.9  # 8.2 of 100 sessions; 5.3 one idea at a time


def test_ideas_that_were_superseded_are_made_again_together() -> None:
    session = simulation.adaptive(simulation.Nature(simulation.WORLDS["base"], 0), (60,), 8)
    assert session.ideas > 45
    assert session.keeps < 15


def test_the_worlds_noise_is_standardised() -> None:
    for name, world in simulation.WORLDS.items():
        if name in ("jump", "multiplicative", "ceiling", "drift"):
            continue
        nature = simulation.Nature(world, 0)
        scores = np.array([nature.run(0) for _ in range(20_000)])
        assert scores.std() == pytest.approx(1.0, abs=0.05), name
        if name not in ("take-off", "late take-off"):  # their level is that of the runs that do
            assert scores.mean() == pytest.approx(0.0, abs=0.03), name


def test_real_residuals_are_those_of_the_recorded_runs() -> None:
    folder = Path(simulation.__file__).resolve().parent.parent / "results" / "benchmarks"
    rows = json.loads((folder / "slots.json").read_text())
    scores = {round(r["avg_return"], 1) for r in rows if r["avg_return"] is not None}
    assert {y for runs in noises.SLOTS for y in runs} <= scores


def test_on_a_wandering_machine_most_runs_are_candidates_and_verdicts_as_good() -> None:
    wrong, candidates, others = {}, {}, {}
    for kind in ("quiet", "walks", "jumps"):
        found = [busy.session(kind, seed, 1.0, Rules()) for seed in range(25)]
        wrong[kind] = sum(s.wrong for s in found)
        candidates[kind] = sum(s.candidates for s in found)
        others[kind] = sum(s.others for s in found)
    assert others["quiet"] < 0.01 * candidates["quiet"]  # calibrations after a leap
    for kind in ("walks", "jumps"):
        assert candidates[kind] > 0.7 * (candidates[kind] + others[kind])  # .87, .83 of 200
        assert wrong[kind] < 1.3 * wrong["quiet"]


@pytest.mark.speed
def test_a_call_takes_a_millisecond() -> None:
    spent = seconds()
    assert spent[len(spent) // 2] < 0.001
    assert spent[int(0.99 * len(spent))] < 0.005


def test_a_long_journal_is_folded_in_no_time() -> None:
    x, rng, n = Session().calibrated(), random.Random(0), 0
    while x.runs < 300:
        want = wants(x.state)[0]
        if isinstance(want, Propose):
            n += 1
            x.propose(n)
        else:
            x.run(want.attempt, rng.gauss(100, 5))
    began, state = time.process_time(), start(x.state.rules)
    for fact in x.facts:
        state, _ = observe(state, fact)
    assert state == x.state
    assert (time.process_time() - began) / len(x.facts) < 0.005
