"""observe: one fact in; the new state, and the verdicts it settled, out. Nothing here chooses what to run (wanting.py)."""

import math
from dataclasses import replace
from typing import Literal

from autorl.decision import belief as beliefs
from autorl.decision.belief import Weighing
from autorl.decision.facts import AttemptFact, Comparison, ControlFact, Fact, ResumedFact, RunFact
from autorl.decision.state import (
    Arm,
    Check,
    State,
    compared,
    mean,
    new_regime,
    since,
    with_arm,
    with_run,
)
from autorl.decision.verdicts import (
    apart,
    num,
    numbered,
    runs_in_words,
    saturation,
    superseded,
    verdict_of,
)
from autorl.records import Verdict

Settled = tuple[State, tuple[Verdict, ...]]


def observe(state: State, fact: Fact) -> Settled:
    """Take in one fact.

    Returns:
        The new state and the verdicts this fact settled, in order; after them the branch belongs on `state.incumbent`.
    """
    if isinstance(fact, AttemptFact):
        return _attempt(state, fact)
    if isinstance(fact, ControlFact):
        return _control(state, fact)
    if isinstance(fact, ResumedFact):
        return replace(
            state, stop="", broken=False, crashed_in_a_row=0, recheck=None, equal_in_a_row=0
        ), ()
    return _run(state, fact)


# ---------------------------------------------------------------------------
# Facts
# ---------------------------------------------------------------------------


def _attempt(state: State, fact: AttemptFact) -> Settled:
    arm = Arm(fact.n, fact.parent, fact.key, fact.nodes)
    if fact.parent is None:
        arm = replace(arm, status="baseline")
        return replace(
            state, arms={fact.n: arm}, keys={fact.key: fact.n}, incumbent=fact.n, anchor=fact.n
        ), ()
    twin = state.arms.get(state.keys.get(fact.key, -1))
    if twin is not None and not (twin.status == "superseded" and fact.parent == state.incumbent):
        reason = f"Its code is that of attempt {twin.n} ({twin.status}): identical code is one experiment and is not measured again."
        return with_arm(state, replace(arm, status="discard")), (
            Verdict(fact.n, "discard", reason, twin.n, state.level),
        )
    if twin is not None:  # its runs are pooled, not re-rolled
        arm = replace(arm, runs=twin.runs, _sum=twin._sum, _squares=twin._squares)
    elif fact.again is not None and fact.again in state.arms:
        arm = replace(arm, prior=state.arms[fact.again].prior)
    if fact.parent != state.incumbent:
        return with_arm(state, replace(arm, status="superseded")), (superseded(state, arm),)
    return _settle(
        replace(
            with_arm(state, arm), open=(*state.open, fact.n), keys={**state.keys, fact.key: fact.n}
        )
    )


def _control(state: State, fact: ControlFact) -> Settled:
    arm = state.arms.get(fact.attempt)
    if arm is None:
        return state, ()
    if fact.passed:
        return _settle(with_arm(state, replace(arm, controls=(*arm.controls, fact.kind))))
    if fact.attempt not in state.path:
        return state, ()
    what = "zero-budget" if fact.kind == "zero_budget" else "seed"
    state, verdicts = _undo(
        state,
        f"Attempt {fact.attempt} failed the {what} control ({fact.reason or 'no reason given'})",
        first=fact.attempt,
    )
    if state.path and state.rules.rigor in (
        "standard",
        "anchored",
    ):  # where did it come in? the node below is put to the proof
        state = replace(state, check=Check(state.incumbent, state.counted))
    return state, verdicts


def _run(state: State, fact: RunFact) -> Settled:
    arm = state.arms.get(fact.attempt)
    if arm is None or fact.status == "interrupted" or any(run.run == fact.run for run in arm.runs):
        return state, ()
    if state.epoch is None:
        state = replace(state, epoch=fact.epoch)
    elif fact.epoch != state.epoch:
        state = replace(new_regime(state, fact.run), epoch=fact.epoch)
    score = (
        fact.score
        if isinstance(fact.score, (int, float)) and not isinstance(fact.score, bool)
        else None
    )
    if fact.status != "ok" or score is None or not math.isfinite(score):
        return _crash(state, state.arms[fact.attempt], fact)
    if fact.steady:
        return _count(replace(state, odd=(), adapting=False), fact)
    if state.adapting:
        return _count(state, fact)
    odd = (*state.odd, fact)
    if len(odd) < state.rules.max_unsteady:
        return replace(state, odd=odd), ()
    state = replace(new_regime(state, odd[0].run), adapting=True)
    verdicts: tuple[Verdict, ...] = ()
    for earlier in odd:
        state, more = _count(state, earlier)
        verdicts = (*verdicts, *more)
    return state, verdicts


def _count(state: State, fact: RunFact) -> Settled:
    """A run with a score, of the present conditions."""
    arm, score, b = state.arms[fact.attempt], float(fact.score or 0.0), state.belief
    state = with_run(state, arm, fact, score)
    if state.calibrated and b is not None and state.s is not None:
        noise = state.s * state.s
        b = beliefs.aged(b, state.rules.drift * noise)
        if arm.n in (state.incumbent, state.anchor):
            b = beliefs.measured(b, score, noise, anchor=arm.n == state.anchor)
        state = replace(state, belief=b)
    return _settle(saturation(state) if state.calibrated else state)


def _crash(state: State, arm: Arm, fact: RunFact) -> Settled:
    """A replicate without a score. It counts: dropping the crash and keeping the other scores would be survivor bias."""
    arm = replace(arm, crashes=arm.crashes + 1)  # in a row: a run with a score starts over
    state = with_arm(state, arm)
    what = {"ok": "finished without a finite score", "refused": "was refused"}.get(
        fact.status, "crashed"
    )
    if arm.n in state.open:
        outcome: Literal["discard", "crash"] = "discard" if fact.status == "refused" else "crash"
        scored = len(arm.runs)
        reason = f"Run {fact.run} {what}" + (
            f" after {scored} that did not: a crash in any replicate discards." if scored else "."
        )
        row = state.crashed_in_a_row + 1
        state = replace(
            _closed(state, arm.n, outcome),
            crashed_in_a_row=row,
            recheck=state.counted if row >= state.rules.max_crashes else None,
        )
        return state, (verdict_of(state, arm, outcome, reason),)
    if state.recheck is not None and arm.n == state.incumbent:
        row = state.crashed_in_a_row
        stop = f"{row} candidates in a row crashed, and now the incumbent, attempt {arm.n}, {what} too: the harness or the machine is at fault."
        return replace(state, stop=stop, broken=True), ()
    if arm.n in state.path:
        return _undo(
            state,
            f"Run {fact.run} of attempt {arm.n} {what}: a crash in any replicate discards",
            first=arm.n,
        )
    if arm.n != state.anchor:
        return state, ()
    if not state.calibrated and state.belief is None:
        mend = (
            "mend train.py before researching it"
            if arm.parent is None
            else "it ran before, so the machine is at fault"
        )
        reason = f"Run {fact.run} of {'the baseline' if arm.parent is None else f'attempt {arm.n}'} {what}: {mend}."
        return replace(state, stop=reason, broken=True), (
            Verdict(arm.n, "crash", reason, level=state.level),
        )
    if arm.crashes >= 2:
        stop = f"Attempt {arm.n}, proved before, {what} in {arm.crashes} runs: the harness or the machine is at fault."
        return replace(state, stop=stop, broken=True), ()
    return state, ()  # once: it is run again


# ---------------------------------------------------------------------------
# Conclusions
# ---------------------------------------------------------------------------


def _settle(state: State) -> Settled:
    """Draw every conclusion that the runs now allow."""
    verdicts: list[Verdict] = []
    if not state.calibrated:
        state, more = _calibrate(state)
        verdicts += more
        if not state.calibrated:
            return state, tuple(verdicts)
    if state.recheck is not None and since(state.arms[state.incumbent], state.recheck):
        row = state.crashed_in_a_row
        stop = f"{row} candidates in a row crashed while the incumbent, attempt {state.incumbent}, still runs: the ideas are at fault, not the harness."
        return replace(state, stop=stop, recheck=None), tuple(verdicts)
    if state.check is not None:
        state, more = _conclude(state)
        verdicts += more
    for n in state.open:
        if state.check is None and n in state.open:
            state, more = _candidate(state, n)
            verdicts += more
    return state, tuple(verdicts)


def _calibrate(state: State) -> Settled:
    tip, anchor, need = (
        state.arms[state.incumbent],
        state.arms[state.anchor],
        state.rules.calibration_runs,
    )
    if min(len(tip.runs), len(anchor.runs)) < need:
        return state, ()
    noise, odds = (state.s or 0.0) ** 2, state.belief.odds if state.belief else beliefs.UNSEEN
    at, at0 = (mean(tip.runs), noise / len(tip.runs)), (mean(anchor.runs), noise / len(anchor.runs))
    known = beliefs.calibrated(*at, odds) if tip.n == anchor.n else beliefs.apart(*at, *at0, odds)
    first = state.belief is None
    state = saturation(replace(state, calibrated=True, belief=known))
    if not first:
        return state, ()
    spread = f"s = {num(state.s)}" if state.s else "no spread at all"
    reason = f"The baseline's {len(tip.runs)} runs average {num(mean(tip.runs))} with {spread}. {state.saturated}".strip()
    return state, (
        replace(numbered(state, Verdict(tip.n, "baseline", reason), tip.runs, ()), incumbent=None),
    )


def _candidate(state: State, n: int) -> Settled:
    """Hold candidate `n` against the attempt it was built on."""
    arm, s = state.arms[n], state.s
    stale = arm.parent != state.incumbent
    if not arm.runs or s is None:
        return state, ()
    if stale and (arm.parent not in state.past or state.test is not None or s == 0.0):
        return _closed(state, n, "superseded"), (superseded(state, arm),)
    if s == 0.0:
        return _exactly(state, arm)
    if state.test is not None:
        return _tested(state, arm, state.test, s)
    b, rules = state.past[arm.parent or 0] if stale else state.belief, state.rules
    assert b is not None
    w = beliefs.weigh(b, arm.prior or b.prior, mean(arm.runs), w_n := len(arm.runs), s)
    again = (w.worth > rules.price and w_n < rules.most) or (w.evident and w.D > 0 and w_n < 2)
    keep = w.gain > (rules.margin if arm.nodes > state.arms[arm.parent or 0].nodes else 0.0)
    if state.saturated and not stale:  # nothing is higher than a ceiling
        keep = keep and max(run.score for run in arm.runs) > max(
            run.score for run in state.arms[state.incumbent].runs
        )
    if stale and (again or keep):
        state = with_arm(_learn(state, arm, w), replace(arm, prior=w.posterior))
        return _closed(state, n, "superseded"), (superseded(state, arm),)
    if again:
        return state, ()
    said = f"{runs_in_words(w_n)} averaging {num(mean(arm.runs))}, {apart(w.D)} attempt {arm.parent}'s {num(b.mean)} (± {num(math.sqrt(b.var))}): "
    said += (
        "far beyond luck"
        if w.evident
        else f"a gain with {w.chance:.0%} chance, expected {w.gain:+.2f} s"
    )
    verdict = verdict_of(
        state,
        arm,
        "keep" if keep else "discard",
        f"{said}. {'' if keep else state.saturated}".strip(),
        w.D,
        None if w.evident else w.LLR,
        b.mean,
    )
    state = _learn(state, arm, w)
    if stale:
        return _closed(state, n, "discard"), (verdict,)
    assert state.belief is not None
    left = beliefs.absorb(state.belief, w, keep=False)
    left = left if state.path else beliefs.anchored(left)
    if not keep:
        return _dropped(replace(state, belief=left), n), (verdict,)
    state = replace(
        state,
        belief=beliefs.absorb(state.belief, w, keep=True),
        past={**state.past, state.incumbent: left},
    )
    return _kept(state, n, verdict)


def _tested(state: State, arm: Arm, test: Comparison, s: float) -> Settled:
    """The sequential test of facts.Comparison."""
    runs, runs0 = arm.runs, compared(state, test)
    if len(runs0) < test.incumbent_runs:
        return state, ()
    D, LLR = (mean(runs) - mean(runs0)) / s, None
    if test.alpha == 0.0:
        keep, drop, rule = D > 0, D <= 0, "one run against the mean"
    else:
        LLR = test.delta * (D - test.delta / 2) / (1 / len(runs) + 1 / len(runs0))
        upper, lower = (
            math.log((1 - test.beta) / test.alpha),
            math.log(test.beta / (1 - test.alpha)),
        )
        keep = upper <= LLR and len(runs) >= test.least
        drop = lower >= LLR or (not keep and len(runs) >= test.most)
        rule = f"LLR {LLR:+.2f}, keep at {upper:.2f}, drop at {lower:.2f}"
    if not (keep or drop):
        return state, ()
    said = f"{runs_in_words(len(runs))} averaging {num(mean(runs))}, {apart(D)} attempt {state.incumbent}'s {num(mean(runs0))} of {len(runs0)} ({rule})."
    verdict = verdict_of(state, arm, "keep" if keep else "discard", said, D, LLR)
    return _kept(state, arm.n, verdict) if keep else (_dropped(state, arm.n), (verdict,))


def _exactly(state: State, arm: Arm) -> Settled:
    """No run has ever differed from another of the same code: a higher score is a gain."""
    runs0 = state.arms[state.incumbent].runs
    if not runs0:
        return state, ()
    gain = mean(arm.runs) - mean(runs0)
    how = (
        "exactly as much as"
        if gain == 0
        else f"{num(abs(gain))} {'more' if gain > 0 else 'less'} than"
    )
    said = f"{runs_in_words(len(arm.runs))} averaging {num(mean(arm.runs))}, {how} attempt {state.incumbent}, where no run has differed from another of the same code."
    if gain <= 0:
        verdict = verdict_of(state, arm, "discard", f"{said} {state.saturated}".strip())
        return _dropped(state, arm.n), (verdict,)
    if state.belief is not None:
        state = replace(state, belief=replace(state.belief, mean=mean(arm.runs), var=0.0, cov=0.0))
    return _kept(state, arm.n, verdict_of(state, arm, "keep", said))


def _dropped(state: State, n: int) -> State:
    top = max((run.score for run in state.arms[state.incumbent].runs), default=None)
    same = bool(state.saturated) and all(run.score == top for run in state.arms[n].runs)
    row = state.equal_in_a_row + 1 if same else 0
    stop = (
        f"{row} candidates in a row scored exactly what the incumbent scores. {state.saturated}"
        if row >= state.rules.max_equal
        else ""
    )
    return replace(
        _closed(state, n, "discard"),
        crashed_in_a_row=0,
        recheck=None,
        equal_in_a_row=row,
        stop=stop or state.stop,
    )


def _kept(state: State, n: int, verdict: Verdict) -> Settled:
    """The candidate is the incumbent; others that have begun are to be built again on top of it."""
    state = replace(_closed(state, n, "keep"), crashed_in_a_row=0, recheck=None, equal_in_a_row=0)
    state = saturation(replace(state, incumbent=n, path=(*state.path, n)))
    begun = tuple(state.arms[m] for m in state.open if state.arms[m].runs)
    verdicts = [verdict]
    for arm in begun:
        state, more = _candidate(state, arm.n)
        verdicts += more
    return _look(state), tuple(verdicts)


def _look(state: State) -> State:
    """Open an anchor check when the path is long enough to ask."""
    rules, length = state.rules, len(state.path) - state.checked
    if rules.rigor == "anchored":
        due = length >= rules.anchor_every
    else:
        chance = state.chance
        due = (
            length >= rules.path
            and chance is not None
            and (chance >= rules.likely or chance < rules.doubtful)
        )
    return replace(state, check=Check(state.incumbent, state.counted)) if due else state


def _conclude(state: State) -> Settled:
    """An anchor check's verdict, once its fresh runs are all there."""
    assert state.check is not None
    rules, tip, anchor, s = (
        state.rules,
        state.arms[state.check.tip],
        state.arms[state.anchor],
        state.s or 0.0,
    )
    fresh, fresh0 = since(tip, state.check.start), since(anchor, state.check.start)
    if min(len(fresh), len(fresh0)) < rules.anchor_runs or (rules.controls and not tip.controlled):
        return state, ()
    chance, runs0 = state.chance, fresh0
    if chance is None:
        earlier = tuple(run for run in anchor.runs[anchor.clean :] if run.at < state.check.start)
        runs0 = (*earlier[-rules.anchor_memory :], *fresh0)
    gain = mean(fresh) - mean(runs0)
    said = f"{len(fresh)} fresh runs of attempt {tip.n} average {num(mean(fresh))}, {len(runs0)} of the anchor, attempt {anchor.n}, {num(mean(runs0))}"
    lead = gain if chance is None or state.belief is None else state.belief.lead
    D = lead / s if s else None
    if chance is None:
        holds, fails = gain >= 0, gain < 0
    else:
        holds, fails = chance >= rules.proved and gain >= 0, chance < 0.5 or gain < -s
        said += f"; with the runs before, a lead with {chance:.0%} chance"
    if tip.nodes != anchor.nodes and abs(lead) < rules.tie * s:
        holds, fails = tip.nodes < anchor.nodes, tip.nodes > anchor.nodes
        said += f"; within {rules.tie} s the shorter file wins ({tip.nodes} against {anchor.nodes} AST nodes)"
    if fails:
        rung = min(state.rung + 1, len(rules.levels) - 1)
        state, (verdict, *others) = _undo(replace(state, rung=rung), said)
        return state, (
            replace(
                numbered(state, verdict, fresh, runs0), D=D, incumbent=anchor.n, level="anchor"
            ),
            *others,
        )
    state = replace(state, check=None)
    if not holds:
        return replace(state, checked=len(state.path)), ()
    tip = replace(tip, clean=len(tip.runs) - len(fresh))
    known = beliefs.anchored(state.belief) if state.belief else None
    verdict = replace(
        numbered(
            state, Verdict(tip.n, "certified", f"{said}: it is the new anchor."), fresh, runs0
        ),
        D=D,
        incumbent=anchor.n,
    )
    state = replace(
        with_arm(state, tip),
        anchor=tip.n,
        path=(),
        checked=0,
        belief=known,
        rung=max(0, state.rung - 1),
    )
    return state, (replace(verdict, level="anchor"),)


def _undo(state: State, why: str, first: int | None = None) -> Settled:
    """Take back the path to the anchor, or only from attempt `first` on."""
    at = state.path.index(first) if first is not None else 0
    undone, left, tip = state.path[at:], state.path[:at], state.incumbent
    back = left[-1] if left else state.anchor
    for n in undone:
        state = with_arm(state, replace(state.arms[n], status="undone"))
    b, unknown = state.belief, False
    if b is not None:
        was = state.past.get(back) if left else None
        known = was or replace(b, mean=b.mean0, var=b.var0, cov=b.var0)
        state = replace(
            state, belief=replace(known, odds=b.odds, prior=b.prior), past={**state.past, tip: b}
        )
        unknown = (
            bool(left) and was is None and state.test is None
        )  # `back` was not measured under the present conditions
    listed = ", ".join(str(n) for n in undone)
    reason = (
        f"{why}: back to attempt {back}, attempt{'s' if len(undone) > 1 else ''} {listed} undone."
    )
    verdicts = [Verdict(tip, "undone", reason, back, "anchor", s=state.s, undone=undone)]
    state = saturation(
        replace(state, incumbent=back, path=left, checked=min(state.checked, len(left)), check=None)
    )
    if unknown:
        state, _ = _calibrate(replace(state, calibrated=False))
    for n in state.open:
        if state.calibrated and state.check is None and n in state.open and state.arms[n].runs:
            state, more = _candidate(state, n)
            verdicts += more
    return state, tuple(verdicts)


# ---------------------------------------------------------------------------
# Pieces
# ---------------------------------------------------------------------------


def _learn(state: State, arm: Arm, w: Weighing) -> State:
    """What this idea says about ideas, once."""
    if w.evident or state.belief is None or arm.prior is not None:
        return state
    return replace(state, belief=beliefs.learnt(state.belief, w))


def _closed(
    state: State, n: int, status: Literal["keep", "discard", "crash", "superseded"]
) -> State:
    return replace(
        with_arm(state, replace(state.arms[n], status=status)),
        open=tuple(m for m in state.open if m != n),
    )
