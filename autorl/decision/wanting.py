"""What to start now, and what the session stands for when it ends. Pure questions to a State."""

from autorl.decision.facts import CONTROLS, Comparison, Control, Measure, Propose, Want
from autorl.decision.state import State, compared, since


def wants(state: State, places: int = 1, in_flight: tuple[Want, ...] = ()) -> tuple[Want, ...]:
    """What to start now, most urgent first.

    Args:
        places: how many runs can go on at once; as many candidates are tested side by side.
        in_flight: what was started and has not yet come back as a fact.

    Returns:
        At most `places - len(in_flight)` wants; () while there is nothing to do but wait, or once `state.stop` says why.
    """
    room = places - len(in_flight)
    if state.stop or room <= 0 or state.incumbent not in state.arms:
        return ()
    needed: dict[int, tuple[int, str]] = {}  # attempt -> runs it still needs, what for

    def need(attempt: int, count: int, purpose: str) -> None:
        if count > needed.get(attempt, (0, ""))[0]:
            needed[attempt] = (count, purpose)

    rules, incumbent = state.rules, state.arms[state.incumbent]
    chosen: list[Want] = []
    if not state.calibrated:
        need(incumbent.n, rules.calibration_runs - len(incumbent.runs), "calibrate")
        need(state.anchor, rules.calibration_runs - len(state.arms[state.anchor].runs), "calibrate")
    elif state.recheck is not None:
        need(incumbent.n, 1, "incumbent")
    elif state.check is not None:
        tip, anchor = state.arms[state.check.tip], state.arms[state.anchor]
        if rules.controls and not tip.controlled:
            chosen += controls_owed(state, tip.n, in_flight)
        else:
            need(tip.n, rules.anchor_runs - len(since(tip, state.check.start)), "tip")
            need(anchor.n, rules.anchor_runs - len(since(anchor, state.check.start)), "anchor")
    else:
        if state.test is not None:
            _incumbent_needs(state, state.test, need)
        for n in state.open:
            runs = len(state.arms[n].runs)
            if (
                state.test is not None
                and state.arms[n].parent == incumbent.n
                and _unbalanced(state, state.test, runs)
            ):
                need(incumbent.n, 1, "incumbent")
            else:
                need(n, 1, "candidate")
    for attempt, (count, purpose) in needed.items():
        flying = sum(isinstance(w, Measure) and w.attempt == attempt for w in in_flight)
        chosen += [Measure(attempt, purpose)] * (count - flying)
    if (
        state.calibrated
        and state.recheck is None
        and state.check is None
        and not (places == 1 and chosen)
    ):
        proposing = sum(isinstance(w, Propose) for w in in_flight)
        chosen += [Propose(incumbent.n)] * (places - len(state.open) - proposing)
    return tuple(chosen[:room])


def _incumbent_needs(state: State, test: Comparison, need) -> None:  # type: ignore[no-untyped-def]
    """A test's incumbent has enough runs, and under a drift guard a recent one."""
    incumbent = state.arms[state.incumbent]
    need(incumbent.n, test.incumbent_runs - len(compared(state, test)), "top-up")
    stale = bool(
        test.fresh and incumbent.runs and state.counted - incumbent.runs[-1].at > test.fresh
    )
    if stale and not any(state.arms[n].runs for n in state.open):
        need(incumbent.n, 1, "incumbent")


def _unbalanced(state: State, test: Comparison, runs: int) -> bool:
    """A candidate has more runs than the incumbent it is compared with."""
    have = len(compared(state, test))
    return runs >= 2 and have < runs and not (test.newest and have >= test.newest)


def champion(state: State) -> int:
    """The attempt a session claims when it ends: the incumbent where its lead is likely enough, else the proved anchor."""
    if state.chance is None or state.chance >= state.rules.champion:
        return state.incumbent
    return state.anchor


def controls_owed(state: State, n: int, in_flight: tuple[Want, ...] = ()) -> tuple[Control, ...]:
    """The controls that attempt `n` has not passed yet: to be run before it is claimed. The baseline owes none."""
    arm = state.arms[n]
    if arm.parent is None or not state.rules.controls:
        return ()
    return tuple(
        Control(n, kind)
        for kind in CONTROLS
        if kind not in arm.controls and Control(n, kind) not in in_flight
    )
