"""observe: one fact in; the new state, and the verdicts it settled, out.

A candidate is run once and kept if it is expected to be better; it is run again only while
certainty about it would be worth more than `rules.retest` unseen ideas. What else happens:

a crash         never keeps: a crash in any run discards a candidate and takes back a kept attempt.
                After `max_crashes` candidates in a row the incumbent is run again and the search
                stops: its score puts the fault on the ideas, its crash on the harness or the
                machine. A baseline that cannot be calibrated stops the search, and so does one
                that ran before and crashes twice in a row.
other hardware  Nothing is pooled across. Incumbent and baseline are calibrated again; what was
                learnt of ideas and of the noise's shape stays, the path between is forgotten.
a busy machine  Every run counts, as it is. When the share of the cores that runs get has moved, it
                is less sure what the incumbent would score there; if less than `unsure`, or where
                the candidate is far beyond luck, it is run there once before the verdict. If that
                run is far beyond luck, and so is the next, then the machine is not what it was: the
                incumbent, and the baseline, are calibrated again; earlier runs are not compared
                with later ones. If it comes back, all runs are its noise. A candidate far below on
                a share that the incumbent's newest run did not get is run again.
saturation      Where every run of the incumbent reached the ceiling, an equal score is no gain.
                `max_equal` candidates in a row at the ceiling, kept or not, end the search.
a keep          supersedes what was built on the incumbent before it. A candidate with runs is
                weighed against what it was built on: no gain, discarded; a gain, superseded. Up to
                `merged` superseded ideas are made again in one attempt (AttemptFact.again), which
                inherits what is known of their gains: with many places a round keeps what all its
                candidates gained, not what one did.
far beyond luck A candidate further off than the table of gains reaches is discarded or, seen twice,
                kept; then the new incumbent is calibrated as the baseline was.
going back      An ancestor that is better with chance `go_back` is the incumbent again; everything
                kept since is taken back. A failed control takes back the attempt and what is on it.
                A claim that finds the champion behind takes back everything.

With many places a candidate is decided when a run of its own arrives; runs that came in during a
calibration are decided after it, in the order of their attempts. What it does not do: say what to
run next (next_runs.py).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from autorl.decision import explain, posterior
from autorl.decision.posterior import Posterior
from autorl.decision.rules import GAINS, TOLERANCE, Rules
from autorl.decision.state import (
    Arm,
    AttemptFact,
    CancelFact,
    ClaimFact,
    ControlFact,
    Decided,
    Fact,
    ResumedFact,
    RunFact,
    Scored,
    State,
    closed,
    new_conditions,
    with_arm,
)
from autorl.records import Verdict

Settled = tuple[State, tuple[Verdict, ...]]


def observe(state: State, fact: Fact) -> Settled:
    """Take in one fact.

    Returns:
        The new state and the verdicts this fact settled, in order; the branch belongs on
        `state.incumbent`.
    """
    if isinstance(fact, AttemptFact):
        return _attempt(state, fact)
    if isinstance(fact, ControlFact):
        return _control(state, fact)
    if isinstance(fact, ClaimFact):
        kept = state.incumbent != state.path[0]
        return _take_back(state, state.path[0], fact.reason) if kept else (state, ())
    if isinstance(fact, CancelFact):
        return _cancel(state, fact.attempt)
    if isinstance(fact, ResumedFact):
        state = replace(state, stop="", broken=False, recheck=False)
        return replace(state, crashed_in_a_row=0, equal_in_a_row=0), ()
    return _run(state, fact)


def _attempt(state: State, fact: AttemptFact) -> Settled:
    arm = Arm(fact.n, fact.parent, fact.key)
    if fact.parent is None:
        arms = {fact.n: replace(arm, status="baseline")}
        keys, path = {fact.key: fact.n}, (fact.n,)
        return replace(state, arms=arms, keys=keys, incumbent=fact.n, path=path), ()
    twin = state.arms.get(state.keys.get(fact.key, -1))
    if twin is not None and not (twin.status == "superseded" and fact.parent == state.incumbent):
        state = with_arm(state, replace(arm, status="discard"))
        return state, (explain.identical(arm, twin),)
    # A superseded twin's runs are pooled where it is compared with the same incumbent again. Beside
    # another it is run anew: its runs were selected, they beat what it was built on.
    pooled = twin.runs if twin and twin.parent == fact.parent else ()
    arm = replace(arm, runs=pooled, known=_known(state, fact.again) if twin is None else None)
    if fact.parent != state.incumbent:
        state = with_arm(state, replace(arm, status="superseded"))
        return state, (explain.superseded(state, arm),)
    state = replace(with_arm(state, arm), open=(*state.open, fact.n))
    state = replace(state, keys={**state.keys, fact.key: fact.n})
    return _candidate(state, fact.n) if arm.runs and state.calibrated else (state, ())


def _known(state: State, again: tuple[int, ...]) -> tuple[float, ...] | None:
    """P(gain) of superseded ideas in one; None where nothing of them was run."""
    known = [state.arms[n].known for n in again if n in state.arms]
    if state.posterior is None or not any(known):
        return None
    return posterior.combined([k or tuple(state.posterior.prior) for k in known])


def _control(state: State, fact: ControlFact) -> Settled:
    arm = state.arms.get(fact.attempt)
    if arm is None:
        return state, ()
    if fact.passed:
        return with_arm(state, replace(arm, controls=(*arm.controls, fact.kind))), ()
    if arm.n not in state.lineage() or arm.parent is None:
        return state, ()
    return _take_back(state, arm.parent, explain.failed_control(fact))


def _cancel(state: State, n: int) -> Settled:
    if n not in state.open:
        return state, ()
    keys = {key: m for key, m in state.keys.items() if m != n}
    return replace(closed(state, n, "discard"), keys=keys), (explain.cancelled(state.arms[n]),)


def _run(state: State, fact: RunFact) -> Settled:
    arm = state.arms.get(fact.attempt)
    if arm is None or fact.status == "interrupted" or any(run.run == fact.run for run in arm.runs):
        return state, ()
    if state.epoch is None:
        state = replace(state, epoch=fact.epoch)
    elif fact.epoch != state.epoch:
        state = replace(new_conditions(state), epoch=fact.epoch)
    score = fact.score if type(fact.score) in (int, float) else None  # bool is no number
    if fact.status != "ok" or score is None or not math.isfinite(score):
        return _crash(state, state.arms[fact.attempt], fact)
    return _count(state, fact)


def _crash(state: State, arm: Arm, fact: RunFact) -> Settled:
    """A run without a score. It counts: to drop it and keep the others would be survivor bias."""
    arm = replace(arm, crashes=arm.crashes + 1)
    state, rules = with_arm(state, arm), state.rules
    if arm.n in state.open:
        outcome: Decided = "discard" if fact.status == "refused" else "crash"
        row = state.crashed_in_a_row + 1
        state = replace(closed(state, arm.n, outcome), crashed_in_a_row=row)
        state = replace(state, recheck=row >= rules.max_crashes)
        return state, (explain.crashed(arm, outcome, fact),)
    if arm.n == state.incumbent and state.recheck:
        return replace(state, stop=explain.crashes(state, fact), broken=True), ()
    if arm.n in state.lineage() and arm.parent is not None:
        return _take_back(state, arm.parent, explain.kept_crashed(fact))
    if arm.parent is None and (state.posterior is None or arm.crashes >= 2):
        verdict = explain.baseline_crashed(state, fact)
        first = (verdict,) if state.posterior is None else ()
        return replace(state, stop=verdict.reason, broken=True), first
    return state, ()  # the baseline, once: it is run again


def _count(state: State, fact: RunFact) -> Settled:
    """A run with a score, under the present conditions."""
    arm = state.arms[fact.attempt]
    run = Scored(fact.run, float(fact.score or 0.0), fact.seed, fact.share)
    top = run.score if state.top is None else max(state.top, run.score)
    same = state.same(top)
    at_top = (run.score >= same) + state.at_top * (state.top is not None and state.top >= same)
    arms = {**state.arms, arm.n: replace(arm, runs=(*arm.runs, run), crashes=0)}
    state = replace(state, arms=arms, top=top, at_top=at_top)
    if state.recheck and arm.n == state.incumbent:
        return replace(state, stop=explain.crashes(state), recheck=False), ()
    if not state.calibrated:
        return _calibrate(state, fact.share)
    before = state.posterior
    assert before is not None
    state = replace(state, saturated=explain.saturation(state))
    p = posterior.at_share(before, fact.share, state.rules.share)
    if arm.n == state.incumbent:
        return _run_again(state, p, run)
    moved = state.moved
    if _moved(before.share, fact.share):
        # whoever's run it was: the next one no longer sees that the share has moved
        far = _beyond_luck((run.score,), p, state.rules) != 0
        moved = moved or far or p.unsure > state.rules.unsure
    state = replace(state, posterior=p, moved=moved)
    if arm.n not in state.open or (moved and arm.parent == state.incumbent):
        return state, ()
    return _candidate(state, arm.n)


def _run_again(state: State, p: Posterior, run: Scored) -> Settled:
    """One more run of the incumbent, of which `p` is believed."""
    odd = _beyond_luck((run.score,), p, state.rules) != 0
    if odd and state.doubt:
        why, tip = explain.afresh(state, p), state.arms[state.incumbent]
        if not state.afresh:
            state = with_arm(new_conditions(state), replace(tip, runs=tip.runs[-2:]))
        state = replace(state, afresh=True, doubt=why, past={}, calibrated=False, moved=False)
        return _calibrate(state, run.share)
    doubt = explain.doubted(state, p) if odd else ""
    p = posterior.run_again(posterior.blurred(p, state.rules.drift), run.score)
    state = replace(state, posterior=p, moved=odd, doubt=doubt)
    return (state, ()) if odd else _decide_open(*_look_back(state, ()))


def _moved(before: float | None, share: float | None) -> bool:
    """Whether a run got another share of the machine than the one before it."""
    if not before or share is None:
        return False
    return not TOLERANCE <= share / before <= 1 / TOLERANCE


def _calibrate(state: State, share: float | None) -> Settled:
    """The incumbent's mean and noise, once it has its runs; the baseline's where both are new."""
    before, baseline = state.posterior, state.arms[state.path[0]]
    tip, need = state.arms[state.incumbent], state.rules.calibration_runs
    apart = tip.n != baseline.n and not state.jumped
    if len(tip.runs) < need or (apart and len(baseline.runs) < need):
        return state, ()
    path = state.path
    if before is not None and state.jumped:
        p = posterior.calibrate_after_jump(before, tip.scores)
    elif before is not None and apart:
        p, path = posterior.calibrate_apart(before, baseline.scores, tip.scores), (path[0], tip.n)
    else:
        p, path = posterior.calibrate(tip.scores, before), (tip.n,)
    state = replace(state, posterior=replace(p, share=share), path=path)
    state = replace(state, calibrated=True, jumped=False, doubt="")
    state = replace(state, saturated=explain.saturation(state))
    verdicts: tuple[Verdict, ...] = () if before is not None else (explain.baseline(state),)
    return _decide_open(*_look_back(state, verdicts))


def _decide_open(state: State, verdicts: tuple[Verdict, ...]) -> Settled:
    """The candidates with runs, which had to wait for the incumbent's."""
    for n in state.open:
        if n in state.open and state.arms[n].runs and state.calibrated:
            state, more = _candidate(state, n)
            verdicts += more
    return state, verdicts


def _candidate(state: State, n: int) -> Settled:
    """Hold candidate `n`, which has runs, against the attempt it was built on."""
    arm, rules = state.arms[n], state.rules
    if arm.parent != state.incumbent:
        return _stale(state, arm)
    assert state.posterior is not None
    p = posterior.blurred(state.posterior, rules.drift)
    state = replace(state, posterior=p)
    if off := _beyond_luck(arm.scores, p, rules):
        if off < 0:
            beside = state.arms[state.incumbent].runs[-1].share
            if len(arm.runs) < 2 and _moved(beside, arm.runs[-1].share):
                return state, ()  # the share was its run's alone
            verdict = explain.decided(state, arm, "discard", p)
            return _counted_equal(closed(state, n, "discard"), n), (verdict,)
        if len(arm.scores) < 2:
            return state, ()
        verdict = explain.decided(state, arm, "keep", p)
        state = replace(state, calibrated=False, jumped=True)
        return _kept(state, n, posterior.jumped(p, arm.scores), verdict)
    w = posterior.weigh(p, arm.scores, arm.known)
    if w.certainty > rules.retest * p.unseen and len(arm.scores) < rules.max_runs:
        return state, ()
    learnt = posterior.learnt(p, w) if arm.known is None else p
    tip = state.arms[state.incumbent].scores
    capped = bool(state.saturated) and len(tip) > 2 and min(tip) == max(tip) >= max(arm.scores)
    if w.gain > 0 and not capped:
        verdict = explain.decided(state, arm, "keep", p, w)
        return _kept(state, n, posterior.kept(learnt, w, rules.sd_step), verdict)
    verdict = explain.decided(state, arm, "discard", p, w)
    state = replace(state, posterior=posterior.dropped(learnt, w))
    return _look_back(_counted_equal(closed(state, n, "discard"), n), (verdict,))


def _beyond_luck(scores: Sequence[float], p: Posterior, rules: Rules) -> float:
    """How far above (below: negative) `p` every one of these runs is, in sd; 0 if not evident."""
    mean, sd = p.mean, p.sd
    off = [(y - mean) / sd for y in scores]
    mean = sum(off) / len(off)
    return mean if min(map(abs, off)) > rules.far and abs(mean) > rules.evident else 0.0


def _stale(state: State, arm: Arm) -> Settled:
    """What was built on an incumbent that is one no more."""
    p = state.past.get(arm.parent or 0)
    if p is None:
        return closed(state, arm.n, "superseded"), (explain.superseded(state, arm),)
    now = state.posterior.share if state.posterior else None
    p = posterior.at_share(p, now, state.rules.share)
    w = posterior.weigh(p, arm.scores, arm.known)
    if _beyond_luck(arm.scores, p, state.rules) > 0:  # the table of gains does not reach it
        w = replace(w, gain=1.0, chance=1.0, gains=(GAINS[-1] <= GAINS).astype(float))
    if w.gain > 0:
        state = with_arm(state, replace(arm, known=tuple(w.gains.tolist())))
        return closed(state, arm.n, "superseded"), (explain.superseded(state, arm, w.chance),)
    return closed(state, arm.n, "discard"), (explain.decided(state, arm, "discard", p, w),)


def _kept(state: State, n: int, after: Posterior, verdict: Verdict) -> Settled:
    """Candidate `n` is the incumbent, and `after` is believed."""
    assert state.posterior is not None
    state = replace(state, past={**state.past, state.incumbent: state.posterior})
    state = _counted_equal(closed(state, n, "keep"), n)
    state = replace(state, incumbent=n, path=(*state.path, n), posterior=after)
    state = replace(state, moved=False, doubt="")
    state = replace(state, saturated=explain.saturation(state))
    state, verdicts = _settle_stale(state, (verdict,))
    return _look_back(state, verdicts) if state.calibrated else (state, verdicts)


def _counted_equal(state: State, n: int) -> State:
    """Candidate `n` ran to a verdict; did it score what a saturated incumbent scores?"""
    same = bool(state.saturated) and all(map(state.tops, state.arms[n].scores))
    row = state.equal_in_a_row + 1 if same else 0
    state = replace(state, crashed_in_a_row=0, recheck=False, equal_in_a_row=row)
    if row < state.rules.max_equal:
        return state
    said = f"{row} experiments in a row scored what the best one scores."
    return replace(state, stop=f"{said} {state.saturated}")


def _look_back(state: State, verdicts: tuple[Verdict, ...]) -> Settled:
    """Is an ancestor likely enough to be better?"""
    p = state.posterior
    assert p is not None
    last, best = len(state.path) - 1, p.best
    if best == last or (chance := p.chance(best, last)) < state.rules.go_back:
        return state, verdicts
    state, more = _take_back(state, state.path[best], explain.better_before(state, best, chance))
    return state, (*verdicts, *more)


def _take_back(state: State, back: int, why: str) -> Settled:
    """Attempt `back` is the incumbent again; everything built on it is taken back."""
    tip, chain = state.incumbent, state.lineage()
    taken = tuple(sorted(chain[: chain.index(back)] if back in chain else chain))
    for n in taken:
        state = with_arm(state, replace(state.arms[n], status="taken back"))
    p = state.posterior
    if p is not None:
        at_hand = back in state.path
        place = state.path.index(back) if at_hand else 0
        if state.calibrated:
            state = replace(state, past={**state.past, tip: p})
        known = at_hand and (state.calibrated or state.jumped)
        state = replace(state, posterior=posterior.gone_back(p, place), calibrated=known)
        state = replace(state, path=state.path[: place + 1], jumped=False)
    state = replace(state, incumbent=back, moved=False, doubt="")
    state = replace(state, saturated=explain.saturation(state))
    return _settle_stale(state, (explain.taken_back(state, tip, taken, why),))


def _settle_stale(state: State, verdicts: tuple[Verdict, ...]) -> Settled:
    """The candidates with runs whose parent is the incumbent no more."""
    for n in state.open:
        if (arm := state.arms[n]).runs and arm.parent != state.incumbent:
            state, more = _stale(state, arm)
            verdicts += more
    return state, verdicts
