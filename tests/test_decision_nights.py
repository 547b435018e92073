"""Whole nights through the decision room: random ones that must go on, simulated ones that must gain."""

import json
import math
import random
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import simulation  # type: ignore[import-not-found]
from decision import seconds  # type: ignore[import-not-found]
from hand_fed import Session

from autorl.decision import (
    Control,
    ControlFact,
    Propose,
    ResumedFact,
    Rules,
    champion,
    observe,
    start,
    wants,
)
from autorl.records import to_json

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
            x.propose(
                n, want.parent if rng.random() > 0.05 else 0, nodes=rng.randrange(80, 120), key=key
            )
        elif isinstance(want, Control):
            x.tell(ControlFact(want.attempt, want.kind, rng.random() > 0.1))
        else:
            u = rng.random()
            status = (
                "crash" if u < 0.05 and x.state.calibrated else "interrupted" if u < 0.1 else "ok"
            )
            score = (
                rng.choice((None, math.nan))
                if status != "ok"
                else rng.choice((1000.0, rng.gauss(0, 1), rng.gauss(want.attempt, 1)))
            )
            x.run(
                want.attempt,
                score,
                status,
                steady=rng.random() > 0.1,
                epoch=0 if rng.random() > 0.01 else 1,
            )
        s = x.state
        assert {s.incumbent, s.anchor, champion(s)} <= set(s.arms) and champion(s) in (
            s.incumbent,
            s.anchor,
        )
        assert s.arms[s.incumbent].status in ("baseline", "keep") and all(
            s.arms[m].status == "open" for m in s.open
        )
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
    nights = [
        simulation.night(simulation.LATE, Rules(), np.random.default_rng(seed))
        for seed in range(120)
    ]
    gains = np.array([night.gain[100] for night in nights])
    assert gains.mean() > 0.5 and (gains < 0).mean() < 0.08  # measured .77 +- .02 and .02


def test_the_bold_rule_agrees_with_the_reference_simulation() -> None:
    rng = np.random.default_rng(5)
    nights = [
        simulation.night(simulation.MID, Rules(rigor="bold"), rng, budgets=(100,))
        for _ in range(150)
    ]
    assert np.mean([night.gain[100] for night in nights]) == pytest.approx(
        2.2, abs=0.45
    )  # 2.22, standard error .14


@pytest.mark.long
def test_the_table_holds() -> None:
    for name, at40, at100 in (("base", 1.7, 4.4), ("mid", 0.7, 1.5), ("late", 0.1, 0.5)):
        rng = np.random.default_rng(9)
        nights = [simulation.night(simulation.WORLDS[name], Rules(), rng) for _ in range(300)]
        assert (
            np.mean([night.gain[40] for night in nights]) > at40
            and np.mean([night.gain[100] for night in nights]) > at100
        )
        assert np.mean([night.gain[100] < 0 for night in nights]) < 0.06


@pytest.mark.speed
def test_a_call_takes_less_than_five_milliseconds() -> None:
    assert seconds("standard")[25] < 0.005


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
