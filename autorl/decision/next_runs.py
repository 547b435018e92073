"""What to start now, and what the session stands for when it ends. Pure questions to a State.

Controls are cheap and tell a cheat from a gain: they are wanted when the champion first leads the
baseline with chance `rules.control_at`, that is while nothing on its path has passed them, and
again of the very attempt that is claimed.
"""

from autorl.decision.state import CONTROLS, Control, Measure, Propose, State, Want


def wants(state: State, places: int = 1, in_flight: tuple[Want, ...] = ()) -> tuple[Want, ...]:
    """What to start now, most urgent first.

    Args:
        places: how many runs can go on at once; as many candidates are tested side by side.
        in_flight: what was started and has not yet come back as a fact.

    Returns:
        At most `places - len(in_flight)` wants; () while there is nothing to do but wait, or once
        `state.stop` says why.
    """
    room = places - len(in_flight)
    if state.stop or room <= 0 or not state.path:
        return ()
    chosen: list[Want] = []
    if not state.calibrated:
        chosen += _calibration(state, in_flight)
    elif state.recheck:
        chosen += _missing(Measure(state.incumbent, "incumbent"), 1, in_flight)
    else:
        chosen += _controls_due(state, in_flight)
        if state.moved:
            chosen += _missing(Measure(state.incumbent, "incumbent"), 1, in_flight)
        for n in state.open:
            if not (state.moved and state.arms[n].runs):
                chosen += _missing(Measure(n, "candidate"), 1, in_flight)
        if places > 1 or not chosen:
            proposing = sum(isinstance(want, Propose) for want in in_flight)
            chosen += [Propose(state.incumbent)] * (places - len(state.open) - proposing)
    return tuple(chosen[:room])


def _missing(want: Measure, count: int, in_flight: tuple[Want, ...]) -> list[Want]:
    """`count` runs of an attempt, less those under way, whatever for."""
    flying = sum(isinstance(w, Measure) and w.attempt == want.attempt for w in in_flight)
    return [want] * (count - flying)


def _calibration(state: State, in_flight: tuple[Want, ...]) -> list[Want]:
    """Runs of the incumbent, and where conditions are new of the baseline."""
    both = (state.incumbent,) if state.jumped else dict.fromkeys((state.incumbent, state.path[0]))
    chosen: list[Want] = []
    for n in both:
        need = state.rules.calibration_runs - len(state.arms[n].runs)
        chosen += _missing(Measure(n, "calibrate"), need, in_flight)
    return chosen


def _controls_due(state: State, in_flight: tuple[Want, ...]) -> tuple[Control, ...]:
    lead, p = state.lead, state.posterior
    if p is None or lead is None or lead < state.rules.control_at:
        return ()
    if any(set(state.arms[n].controls) >= set(CONTROLS) for n in state.path):
        return ()
    return controls_owed(state, state.path[p.best], in_flight)


def champion(state: State) -> int:
    """What a session claims: the best of the path if it likely leads, else the baseline."""
    lead, p = state.lead, state.posterior
    if p is None or lead is None or lead < state.rules.champion:
        return state.path[0] if state.path else 0
    return state.path[p.best]


def controls_owed(state: State, n: int, in_flight: tuple[Want, ...] = ()) -> tuple[Control, ...]:
    """The controls to be run before attempt `n` is claimed. The baseline owes none."""
    arm = state.arms[n]
    if arm.parent is None or not state.rules.controls:
        return ()
    due = (Control(n, kind) for kind in CONTROLS if kind not in arm.controls)
    return tuple(control for control in due if control not in in_flight)
