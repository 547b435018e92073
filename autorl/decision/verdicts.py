"""Verdicts in figures and words. Values from values; nothing here decides."""

from dataclasses import replace
from typing import Literal

from autorl.decision.state import Arm, Scored, State, compared, mean
from autorl.records import Verdict


def saturation(state: State) -> State:
    """Say so when at least half of the incumbent's runs share the very same highest score, three runs of it and of what was
    built on it do, and none of these is higher: a ceiling, not noise.
    """
    own = [run.score for run in state.arms[state.incumbent].runs]
    seen = own + [
        run.score
        for arm in state.arms.values()
        if arm.parent == state.incumbent
        for run in arm.runs
    ]
    best, said = max(seen, default=0.0), ""
    if own and seen.count(best) >= 3 and 2 * own.count(best) >= len(own):
        where = (
            f"the incumbent's {len(own)} runs"
            if len(own) >= 3
            else f"{len(seen)} runs of the incumbent and of what was built on it"
        )
        top = own.count(best) if len(own) >= 3 else seen.count(best)
        said = f"{top} of {where} scored exactly {num(best)}: the score is saturated; take a harder environment or a shorter budget."
    return replace(state, saturated=said)


def superseded(state: State, arm: Arm) -> Verdict:
    """What was built on an incumbent that is one no more."""
    reason = f"It was built on attempt {arm.parent}, and attempt {state.incumbent} is the incumbent now: to be built again on top of it."
    return Verdict(arm.n, "superseded", reason, state.incumbent, state.level, len(arm.runs))


def verdict_of(
    state: State,
    arm: Arm,
    outcome: Literal["keep", "discard", "crash"],
    reason: str,
    D: float | None = None,
    LLR: float | None = None,
    mean0: float | None = None,
) -> Verdict:
    """A candidate's verdict against the attempt it was built on; `mean0` where the belief knows better than the mean of its runs."""
    parent = state.arms[arm.parent if arm.parent is not None else state.incumbent]
    runs0 = (
        compared(state, state.test) if state.test and parent.n == state.incumbent else parent.runs
    )
    verdict = numbered(state, Verdict(arm.n, outcome, reason, parent.n), arm.runs, runs0)
    return replace(verdict, D=D, LLR=LLR, mean0=verdict.mean0 if mean0 is None else mean0)


def numbered(
    state: State, verdict: Verdict, runs: tuple[Scored, ...], runs0: tuple[Scored, ...]
) -> Verdict:
    """The verdict with the figures and seeds of the runs it rests on."""
    return replace(
        verdict,
        level=state.level,
        n=len(runs),
        n0=len(runs0),
        mean=mean(runs) if runs else None,
        mean0=mean(runs0) if runs0 else None,
        s=state.s,
        seeds=tuple(run.seed for run in runs),
        seeds0=tuple(run.seed for run in runs0),
    )


def runs_in_words(n: int) -> str:
    """ "One run", "2 runs"."""
    return "One run" if n == 1 else f"{n} runs"


def apart(D: float) -> str:
    """ "0.71 s above"."""
    return f"{abs(D):.2f} s {'above' if D >= 0 else 'below'}"


def num(value: float) -> str:
    """A score for a sentence, in four figures."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
