"""Verdicts in figures and in sentences for someone who has read nothing else. Nothing here decides.

A reason says what follows and why, then names the runs that counted with their scores, and the
difference in units of the score and in sd (one run's standard deviation, whose size it tells).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from autorl.decision.posterior import Posterior, Weighing
from autorl.decision.rules import TOLERANCE
from autorl.decision.state import Arm, ControlFact, Decided, RunFact, State
from autorl.records import Verdict, score_text

SURE = 0.95  # a gain this likely needs no "for now"


def _about(value: float, sd: float) -> str:
    """What is estimated has no more digits than it can have."""
    return score_text(value, sd, least=-99)


def _signed(value: float, sd: float) -> str:
    """Three digits of one sd: a gain is often a small part of it."""
    text = score_text(value, sd / 10, least=-99)
    return text if text.startswith("-") else f"+{text}"


def listed(items: Sequence[object]) -> str:
    """ "3", "3 and 4", "3, 4 and 7"."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def named(n: int | None) -> str:
    """ "the baseline" or "experiment 7"."""
    return f"experiment {n}" if n else "the baseline"


def percent(chance: float) -> str:
    """ "27 %"."""
    if 0.01 <= chance <= 0.99:
        return f"{100 * chance:.0f} %"
    return "less than 1 %" if chance < 0.01 else "more than 99 %"


def _mean(arm: Arm) -> float:
    return math.fsum(arm.scores) / len(arm.runs)


def _runs(arm: Arm, sd: float | None) -> str:
    """ "run 5 scored 112", "runs 5 and 7 scored 112 and 108 on 40 to 55 % of their cores"."""
    which, several = listed([run.run for run in arm.runs]), len(arm.runs) > 1
    scores = listed([score_text(score, sd) for score in arm.scores])
    shares, cores = [run.share for run in arm.runs if run.share is not None], ""
    if shares and min(shares) < TOLERANCE:
        low, high = percent(min(shares)), percent(max(shares))
        span = high if low == high else f"{low.removesuffix(' %')} to {high}"
        cores = f" on {span} of {'their' if several else 'its'} cores"
    return f"run{'s' if several else ''} {which} scored {scores}{cores}"


def _compared(state: State, arm: Arm, p: Posterior) -> str:
    apart, runs, beaten = _mean(arm) - p.mean, _runs(arm, p.sd), state.arms[arm.parent or 0]
    in_sd = "" if _still(p.mean, p.sd) else f" ({abs(apart) / p.sd:.1f} sd)"
    # of a few runs an estimate believes a part
    lucky = beaten.scores and abs(_mean(beaten) - p.mean) > p.sd / 2
    luck = f" ({_runs(beaten, p.sd)}; luck is allowed for)" if lucky else ""
    return (
        f"{runs[0].upper()}{runs[1:]}, {'on average ' if len(arm.runs) > 1 else ''}"
        f"{_about(abs(apart), p.sd)}{in_sd} {'above' if apart >= 0 else 'below'} "
        f"{named(arm.parent)}, whose score is estimated at {_about(p.mean, p.sd)}{luck}; "
        f"{_spread(p)}."
    )


def _spread(p: Posterior) -> str:
    if _still(p.mean, p.sd):
        return "no run has differed from another of the same code"
    return f"one run's standard deviation (sd) is about {_about(p.sd, p.sd)}"


def _still(value: float, sd: float | None) -> bool:
    return not sd or sd < 1e-6 * max(1.0, abs(value))


def _ended(fact: RunFact) -> str:
    """ "Run 12 crashed"."""
    how = {"ok": "finished without a finite score", "refused": "was refused"}
    return f"Run {fact.run} {how.get(fact.status, 'crashed')}"


def _figures(verdict: Verdict, arm: Arm, p: Posterior | None = None) -> Verdict:
    """With the runs it rests on, and with what was believed, `p`, of what it was built on."""
    return replace(
        verdict,
        n=len(arm.runs),
        mean=_mean(arm) if arm.runs else None,
        mean0=p.mean if p and arm.parent is not None else None,
        sd=p.sd if p else None,
        seeds=tuple(run.seed for run in arm.runs),
    )


def baseline(state: State) -> Verdict:
    """The baseline's runs, calibrated."""
    arm, p = state.arms[state.incumbent], state.posterior
    assert p is not None
    reason = f"The baseline: {_runs(arm, p.sd)}; {_spread(p)}. {state.saturated}".strip()
    return _figures(Verdict(arm.n, "baseline", reason), arm, p)


def decided(
    state: State, arm: Arm, outcome: Decided, p: Posterior, w: Weighing | None = None
) -> Verdict:
    """By the expected gain over what it was built on, of which `p` is believed; no `w`: evident."""
    kept = outcome == "keep"
    why = f"a {'gain' if kept else 'loss'} far beyond luck"
    if w is not None:
        why = f"{percent(w.chance)} likely a real gain"
        if arm.known is not None:
            why += " with what it showed on an earlier incumbent"
    if kept and w is not None and w.chance < SURE:
        said = f"Kept for now: {why}, cheaper to build on than to prove."
    else:
        said = f"{'Kept' if kept else 'Discarded'}: {why}."
    reason = f"{said} {_compared(state, arm, p)}"
    if w is not None and not _still(w.gain * p.sd, p.sd):
        reason += f" Expected gain {_signed(w.gain * p.sd, p.sd)}: above 0 is kept."
    reason = f"{reason} {'' if kept else state.saturated}".strip()
    verdict = _figures(Verdict(arm.n, outcome, reason, arm.parent), arm, p)
    return replace(verdict, gain=w.gain, chance=w.chance) if w else verdict


def superseded(state: State, arm: Arm, chance: float | None = None) -> Verdict:
    """Built on an incumbent that is one no more; `chance` of a gain over it, where it has runs."""
    tip = named(state.incumbent)
    promise = f" ({_runs(arm, state.sd)}; {percent(chance)} likely a real gain)" if chance else ""
    reason = (
        f"To be made again on top of {tip}, from which research goes on: it was built on "
        f"{named(arm.parent)}{promise}."
    )
    verdict = Verdict(arm.n, "superseded", reason, state.incumbent, chance=chance)
    return _figures(verdict, arm)


def identical(arm: Arm, twin: Arm) -> Verdict:
    """Code that was seen before."""
    words = {"keep": "kept", "discard": "discarded", "open": "under way", "baseline": "kept"}
    status = f" ({words.get(twin.status, twin.status)})" if twin.n else ""
    reason = f"Its code is that of {named(twin.n)}{status}: identical code is not measured again."
    return Verdict(arm.n, "discard", reason, twin.n)


def taken_back(state: State, tip: int, taken: tuple[int, ...], why: str) -> Verdict:
    """Told of what was the incumbent, `tip`; `state` is after it."""
    which = f"experiment{'s' if len(taken) > 1 else ''} {listed(taken)}"
    reason = f"{why}: back to {named(state.incumbent)}, {which} taken back."
    return Verdict(tip, "taken back", reason, state.incumbent, sd=state.sd, taken_back=taken)


def crashed(arm: Arm, outcome: Decided, fact: RunFact) -> Verdict:
    """A candidate's run without a score."""
    after = f" after {len(arm.runs)} that did not: one crash discards" if arm.runs else ""
    return _figures(Verdict(arm.n, outcome, f"{_ended(fact)}{after}.", arm.parent), arm)


def cancelled(arm: Arm) -> Verdict:
    """A candidate that a person took back."""
    after = f" after {_runs(arm, None)}" if arm.runs else " before a run of it was over"
    return _figures(Verdict(arm.n, "discard", f"Cancelled{after}.", arm.parent), arm)


def baseline_crashed(state: State, fact: RunFact) -> Verdict:
    """The baseline's run without a score."""
    cause = "fix what ended it before researching"
    if state.posterior is not None:
        cause = "it ran before, so the harness or the machine is at fault"
    return Verdict(fact.attempt, "crash", f"{_ended(fact)}, and it was the baseline's: {cause}.")


def kept_crashed(fact: RunFact) -> str:
    """A kept attempt's run without a score."""
    return f"{_ended(fact)}: one crash discards, and it was experiment {fact.attempt}'s"


def failed_control(fact: ControlFact) -> str:
    """A kept attempt that fails a control."""
    what = {"zero_budget": "almost no time to train", "seed_control": "another seed"}[fact.kind]
    why = fact.reason or "no reason given"
    return f"Experiment {fact.attempt} failed the control with {what} ({why})"


def better_before(state: State, place: int, chance: float) -> str:
    """An ancestor, at this place of the path, that is likely better than the incumbent."""
    before, tip = named(state.path[place]), named(state.incumbent)
    return f"By all runs so far {before} is better than {tip} with {percent(chance)} chance"


def doubted(state: State, p: Posterior) -> str:
    """The incumbent's newest run is far from what is believed of it, `p`."""
    arm = state.arms[state.incumbent]
    run = _runs(replace(arm, runs=arm.runs[-1:]), p.sd)
    return (
        f"{run[0].upper()}{run[1:]}, and it is {named(arm.n)}'s, whose score is estimated at "
        f"{_about(p.mean, p.sd)}: far beyond luck, so {named(arm.n)} is run once more."
    )


def afresh(state: State, p: Posterior) -> str:
    """So was the run after it."""
    arm = state.arms[state.incumbent]
    runs = _runs(replace(arm, runs=arm.runs[-2:]), p.sd)
    how = "by all of its runs" if state.afresh else "by these and later runs"
    return (
        f"{runs[0].upper()}{runs[1:]}, and they are {named(arm.n)}'s, whose score was estimated at "
        f"{_about(p.mean, p.sd)}: the machine is not what it was, so {named(arm.n)} is calibrated "
        f"again, {how}."
    )


def crashes(state: State, fact: RunFact | None = None) -> str:
    """Candidates crash; `fact`: so does what they are built on."""
    row, tip = f"{state.crashed_in_a_row} experiments in a row crashed", named(state.incumbent)
    if fact is not None:
        return f"{row}, and {tip} did so too: the harness or the machine is at fault."
    return f"{row}; {tip}, run again, did not: the ideas are at fault, not the harness."


def saturation(state: State) -> str:
    """A sentence when the score has hit a ceiling, else "".

    Three runs share the highest score, and at least half of the incumbent's runs are among them: a
    ceiling, not noise.
    """
    own, top = state.arms[state.incumbent].scores, state.top
    if top is None or state.at_top < 3 or not own or 2 * sum(map(state.tops, own)) < len(own):
        return ""
    return (
        f"{state.at_top} runs scored {top:.6g} and none more: the score is saturated; "
        "take a harder environment or a shorter budget."
    )
