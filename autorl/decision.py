"""What to run next, and what the runs so far decide: anchored adaptive search.

    state = start(Rules())
    state, verdicts = observe(state, fact)      # fold every fact of the journal; the verdicts that this fact settled
    wants(state, places, in_flight)             # what to start now

A pure fold: facts in, verdicts out. No clock, no disk, no randomness, so a resume is the same fold over the same
facts. It never names a seed or a commit and does not know the budget; the claim to a person is `evidence.py`.

Unit: s is the standard deviation of one run's avg_return at fixed code, pooled within attempts over the session.
The rule and its parameters were chosen in simulation: `python benchmarks/decision.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from autorl.records import Status, Verdict

# ---------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Test:
    """How one candidate is held against the incumbent's mean.

    `alpha` 0: one run, keep if its score is above the incumbent's mean. Otherwise Wald's sequential probability ratio
    test of H1: gain = delta s, truncated at `most` runs (Wald 1945, Annals of Mathematical Statistics 16:117).
    """

    alpha: float = 0.0  # wrongly kept, at a gain of 0
    beta: float = 0.7  # wrongly dropped, at a gain of delta s: most ideas are nulls, so dropping early pays
    delta: float = 1.0  # s
    most: int = 6  # runs of a candidate
    least: int = 2  # runs of a candidate before a keep
    incumbent_runs: int = 4
    fresh: int = 0  # drift guard: the incumbent's newest run is at most this many runs old (0: no guard)
    newest: int = 0  # drift guard: compare with the incumbent's newest runs only (0: with all)


L0 = Test(alpha=0.0, most=1, least=1, incumbent_runs=3)
L1 = Test(alpha=0.20)
L2 = Test(alpha=0.10, fresh=8, newest=6)
STRICT = Test(alpha=0.05)


@dataclass(frozen=True, slots=True)
class Rules:
    """Every number of the procedure. The journal keeps them, so a resumed session decides as it began."""

    rigor: Literal["bold", "standard", "strict"] = "standard"
    calibration_runs: int = 4  # of the baseline, and of the incumbent again on other hardware
    levels: tuple[Test, ...] = (L0, L1, L2)  # of "standard", from bold to strict
    anchor_every: int = 3  # keeps between anchor checks
    anchor_runs: int = 3  # fresh runs of the tip and of the anchor
    anchor_memory: int = 4  # earlier runs of the anchor pooled with its fresh ones
    tie: float = 0.25  # s; within it an anchor check prefers the file with fewer AST nodes
    controls: bool = True  # zero_budget and seed_control before a node becomes an anchor
    max_crashes: int = 5  # candidates in a row, then the incumbent is re-checked and the search stops
    max_unsteady: int = 3  # runs in a row that got less machine, then that is the new normal: re-calibrate
    max_equal: int = 10  # candidates in a row that equal a saturated incumbent exactly, then the search stops


# ---------------------------------------------------------------------------
# Facts in, wants out
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttemptFact:
    """A commit exists. n = 0 with parent None is the baseline."""

    n: int
    parent: int | None
    key: str  # hash of the AST: equal keys are one experiment
    nodes: int = 0  # AST nodes


@dataclass(frozen=True, slots=True)
class RunFact:
    """A run ended."""

    run: int
    attempt: int
    status: Status
    score: float | None
    seed: int = 0
    steady: bool = True  # False: it got less machine than the session's usual; repeated, not pooled
    epoch: int = 0  # changes with the hardware: nothing is pooled across


@dataclass(frozen=True, slots=True)
class ControlFact:
    """A control with a tiny budget ended (an infrastructure fault is not a fact: run it again)."""

    attempt: int
    kind: Literal["zero_budget", "seed_control"]
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumedFact:
    """A person started the session again after a stop: the reason to stop is forgotten."""


Fact = AttemptFact | RunFact | ControlFact | ResumedFact


@dataclass(frozen=True, slots=True)
class Measure:
    """A full run of this attempt is wanted."""

    attempt: int
    purpose: str  # "calibrate", "candidate", "incumbent", "top-up", "anchor", "tip"


@dataclass(frozen=True, slots=True)
class Control:
    """A control of this attempt is wanted."""

    attempt: int
    kind: Literal["zero_budget", "seed_control"]


@dataclass(frozen=True, slots=True)
class Propose:
    """A new candidate on top of this attempt is wanted."""

    parent: int


Want = Measure | Control | Propose
CONTROLS: tuple[Literal["zero_budget", "seed_control"], ...] = ("zero_budget", "seed_control")

# ---------------------------------------------------------------------------
# State
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scored:
    """A run that counts."""

    run: int
    score: float
    seed: int
    at: int  # how many runs counted before it


@dataclass(frozen=True, slots=True)
class Arm:
    """One attempt and its runs that count, oldest first, on the present hardware."""

    n: int
    parent: int | None
    key: str
    nodes: int
    status: Literal["baseline", "open", "keep", "discard", "crash", "superseded", "undone"] = "open"
    runs: tuple[Scored, ...] = ()
    clean: int = 0  # runs[clean:] were not selected on: this node won no test with them
    controls: tuple[str, ...] = ()  # passed
    crashes: int = 0
    total: float = 0.0  # sums over runs, shifted by the first score
    squares: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """An anchor check under way: runs counted from `start` on are fresh."""

    tip: int
    start: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything the facts so far amount to. `incumbent` is where the branch belongs."""

    rules: Rules
    arms: Mapping[int, Arm] = field(default_factory=dict)  # by attempt
    keys: Mapping[str, int] = field(default_factory=dict)  # first attempt with this code
    incumbent: int = 0
    anchor: int = 0
    rung: int = 0  # index into rules.levels
    path: tuple[int, ...] = ()  # kept since the anchor, oldest first
    open: tuple[int, ...] = ()  # candidates without a verdict
    check: Check | None = None
    counted: int = 0  # runs that count
    SS: float = 0.0  # sum of squares within attempts, on the present hardware
    df: int = 0
    calibrated: bool = False
    epoch: int | None = None
    regime_start: int = 0  # the first run on the present hardware and machine share
    odd: tuple[RunFact, ...] = ()  # the unsteady runs since the last steady one
    adapting: bool = False  # since a change of machine share, until a steady run is seen
    crashed_in_a_row: int = 0
    recheck: bool = False
    equal_in_a_row: int = 0
    saturated: str = ""  # a sentence when the score has hit a ceiling
    stop: str = ""  # a sentence when the search should end

    @property
    def level(self) -> str:
        """Name of the test in force."""
        return f"L{self.rung}" if self.rules.rigor == "standard" else self.rules.rigor

    @property
    def test(self) -> Test:
        """The test in force."""
        return {"bold": L0, "strict": STRICT}.get(self.rules.rigor) or self.rules.levels[self.rung]

    @property
    def s(self) -> float | None:
        """Standard deviation of one run, inflated by sqrt((df+1)/(df-1)) for its own uncertainty; None before two runs."""
        if self.df == 0:
            return None
        if self.df == 1:
            return 1.5 * math.sqrt(self.SS)
        return math.sqrt(self.SS / self.df * (self.df + 1) / (self.df - 1))

    def certified(self, n: int) -> bool:
        """True for the baseline and for what an anchor check proved (the anchor and its ancestors)."""
        node: int | None = self.anchor
        while node is not None:
            if node == n:
                return True
            node = self.arms[node].parent if node in self.arms else None
        return False


def start(rules: Rules = Rules()) -> State:
    """The state before the first fact."""
    return State(rules)


# ---------------------------------------------------------------------------
# observe
# ---------------------------------------------------------------------------


def observe(state: State, fact: Fact) -> tuple[State, tuple[Verdict, ...]]:
    """Take in one fact.

    Returns:
        The new state and the verdicts this fact settled, in order; after them the branch belongs on `state.incumbent`.
    """
    if isinstance(fact, AttemptFact):
        return _attempt(state, fact)
    if isinstance(fact, ControlFact):
        return _control(state, fact)
    if isinstance(fact, ResumedFact):
        return replace(state, stop="", crashed_in_a_row=0, recheck=False, equal_in_a_row=0), ()
    return _run(state, fact)


def _attempt(state: State, fact: AttemptFact) -> tuple[State, tuple[Verdict, ...]]:
    arm = Arm(fact.n, fact.parent, fact.key, fact.nodes)
    if fact.parent is None:
        arm = replace(arm, status="baseline")
        return replace(state, arms={fact.n: arm}, keys={fact.key: fact.n}, incumbent=fact.n, anchor=fact.n), ()
    twin = state.arms.get(state.keys.get(fact.key, -1))
    if twin is not None and twin.status == "superseded" and fact.parent == state.incumbent:
        arm = replace(arm, runs=twin.runs, total=twin.total, squares=twin.squares)  # same code: its runs are pooled, not re-rolled
    elif twin is not None:
        reason = f"Its code is that of attempt {twin.n} ({twin.status}); identical code is one experiment and is not measured again."
        return _with(state, replace(arm, status="discard")), (Verdict(fact.n, "discard", reason, twin.n, state.level),)
    if fact.parent != state.incumbent:
        return _with(state, replace(arm, status="superseded")), (_superseded(state, arm),)
    state = replace(_with(state, arm), open=(*state.open, fact.n), keys={**state.keys, fact.key: fact.n})
    return _settle(state)


def _control(state: State, fact: ControlFact) -> tuple[State, tuple[Verdict, ...]]:
    arm = state.arms[fact.attempt]
    if fact.passed:
        return _with(state, replace(arm, controls=(*arm.controls, fact.kind))), ()
    if state.check is None or state.check.tip != fact.attempt:
        return state, ()
    what = "zero-budget" if fact.kind == "zero_budget" else "seed"
    return _undo(state, f"Attempt {fact.attempt} failed the {what} control: {fact.reason or 'no reason given'}", stricter=False)


def _run(state: State, fact: RunFact) -> tuple[State, tuple[Verdict, ...]]:
    arm = state.arms.get(fact.attempt)
    if arm is None or fact.status == "interrupted" or any(run.run == fact.run for run in arm.runs):
        return state, ()
    if state.epoch is None:
        state = replace(state, epoch=fact.epoch)
    elif fact.epoch != state.epoch:
        state = replace(_new_regime(state, fact.run), epoch=fact.epoch)
        arm = state.arms[fact.attempt]
    score = fact.score if isinstance(fact.score, (int, float)) and not isinstance(fact.score, bool) else None
    if fact.status != "ok" or score is None or not math.isfinite(score):
        return _crash(state, arm, fact)
    if fact.steady:
        state = replace(state, odd=(), adapting=False)
    elif not state.adapting:
        state = replace(state, odd=(*state.odd, fact))
        if len(state.odd) < state.rules.max_unsteady:
            return state, ()
        odd = state.odd
        state = replace(_new_regime(state, odd[0].run), adapting=True, odd=())
        verdicts: tuple[Verdict, ...] = ()
        for earlier in odd:
            state, more = _run(state, earlier)
            verdicts += more
        return state, verdicts
    return _settle(_score(state, arm, fact, float(score)))


def _score(state: State, arm: Arm, fact: RunFact, score: float) -> State:
    """Add a run that counts, and its share of the pooled sum of squares (Welford 1962)."""
    n, old_total = len(arm.runs), arm.total
    first = arm.runs[0].score if n else score
    shifted = score - first
    total, squares = old_total + shifted, arm.squares + shifted * shifted
    grown = max(0.0, (squares - total * total / (n + 1)) - (arm.squares - (old_total * old_total / n if n else 0.0)))
    arm = replace(arm, runs=(*arm.runs, Scored(fact.run, score, fact.seed, state.counted)), total=total, squares=squares)
    return replace(_with(state, arm), counted=state.counted + 1, SS=state.SS + grown, df=state.df + (n > 0))


def _new_regime(state: State, first_run: int) -> State:
    """Other hardware, or a machine that has become slower: earlier runs are not compared with later ones."""
    arms = {n: replace(arm, runs=(), total=0.0, squares=0.0, clean=0) for n, arm in state.arms.items()}
    check = replace(state.check, start=state.counted) if state.check else None
    return replace(state, arms=arms, SS=0.0, df=0, calibrated=False, check=check, regime_start=first_run, odd=(), adapting=False)


def _crash(state: State, arm: Arm, fact: RunFact) -> tuple[State, tuple[Verdict, ...]]:
    """A replicate without a score. It counts: dropping the crash and keeping the other scores would be survivor bias."""
    arm = replace(arm, crashes=arm.crashes + 1)
    state = _with(state, arm)
    what = {"ok": "finished without a finite score", "refused": "was refused"}.get(fact.status, "crashed")
    scored = len(arm.runs)
    if arm.n in state.open:
        outcome: Literal["discard", "crash"] = "discard" if fact.status == "refused" else "crash"
        reason = f"Run {fact.run} {what}" + (f" after {scored} that did not; a crash in any replicate discards." if scored else ".")
        verdict = _verdict(state, arm, outcome, reason)
        row = state.crashed_in_a_row + 1
        state = replace(_close(state, arm.n, outcome), crashed_in_a_row=row, recheck=row >= state.rules.max_crashes)
        return state, (verdict,)
    if arm.n == state.incumbent and arm.n != state.anchor:
        return _undo(
            state,
            f"Run {fact.run} of the incumbent, attempt {arm.n}, {what}; a crash in any replicate discards",
            stricter=False,
            only=arm.n,
        )
    if arm.n not in (state.incumbent, state.anchor):
        return state, ()
    if not state.calibrated:
        reason = f"Run {fact.run} of the baseline {what}: mend train.py before researching it."
        if arm.n:
            reason = f"Run {fact.run} of attempt {arm.n}, the incumbent, {what} while re-calibrating on this machine: mend the machine or start a new tag."
        return replace(state, stop=reason), (Verdict(arm.n, "crash", reason, level=state.level),)
    if state.recheck:
        reason = f"{state.crashed_in_a_row} candidates in a row crashed, and now attempt {arm.n}, the incumbent, {what} too: the harness or the machine is at fault."
        return replace(state, stop=reason), ()
    if arm.crashes >= 2:
        return replace(
            state, stop=f"Attempt {arm.n}, proved before, {what} in {arm.crashes} runs: the harness or the machine is at fault."
        ), ()
    return state, ()  # once: run again


# ---------------------------------------------------------------------------
# Verdicts
# ---------------------------------------------------------------------------


def _settle(state: State) -> tuple[State, tuple[Verdict, ...]]:
    """Draw every conclusion the runs now allow."""
    verdicts: list[Verdict] = []
    incumbent = state.arms.get(state.incumbent)
    if incumbent is None:
        return state, ()
    if not state.calibrated:
        if len(incumbent.runs) < state.rules.calibration_runs:
            return state, ()
        state = _saturation(replace(state, calibrated=True))
        if (incumbent.parent is None and state.regime_start == 0) or incumbent.status == "baseline":
            spread = "no spread at all" if not state.s else f"s = {_num(state.s)}"
            reason = (
                f"The baseline's {len(incumbent.runs)} runs average {_num(_mean(incumbent.runs))} with {spread}. {state.saturated}".strip()
            )
            verdicts.append(
                Verdict(
                    incumbent.n,
                    "baseline",
                    reason,
                    None,
                    state.level,
                    len(incumbent.runs),
                    0,
                    _mean(incumbent.runs),
                    None,
                    state.s,
                    seeds=_seeds(incumbent.runs),
                )
            )
    if state.recheck and incumbent.runs and incumbent.runs[-1].at == state.counted - 1:
        stop = (
            f"{state.crashed_in_a_row} candidates in a row crashed while the incumbent still runs: the ideas are at fault, not the harness."
        )
        state = replace(state, stop=stop, recheck=False)
    if state.check is not None:
        state, more = _anchor(state)
        verdicts += more
    if state.check is None:
        for n in state.open:
            if n not in state.open:
                continue
            state, more = _candidate(state, n)
            verdicts += more
            if state.incumbent == n:
                break
    return state, tuple(verdicts)


def _candidate(state: State, n: int) -> tuple[State, tuple[Verdict, ...]]:
    """Hold candidate `n` against the incumbent with the test in force."""
    arm, test, s = state.arms[n], state.test, state.s
    runs, runs0 = arm.runs, _against(state, test)
    if not runs or len(runs0) < test.incumbent_runs or s is None:
        return state, ()
    gain = _mean(runs) - _mean(runs0)
    if s == 0.0:
        D, LLR = None, None
        keep = gain > 0 and len(runs) >= test.least
        drop = gain <= 0
        rule = "no run has ever differed from another of the same code"
    elif test.alpha == 0.0:
        D, LLR = gain / s, None
        keep, drop = gain > 0, gain <= 0
        rule = "one run against the mean"
    else:
        D = gain / s
        LLR = test.delta * (D - test.delta / 2) / (1 / len(runs) + 1 / len(runs0))
        upper, lower = math.log((1 - test.beta) / test.alpha), math.log(test.beta / (1 - test.alpha))
        keep = upper <= LLR and len(runs) >= test.least
        drop = lower >= LLR or (not keep and len(runs) >= test.most)
        rule = f"LLR {LLR:+.2f}, keep at {upper:.2f}, drop at {lower:.2f}"
    if not (keep or drop):
        return state, ()
    size = "" if D is None else f", {abs(D):.2f} s {'above' if D > 0 else 'below'}"
    reason = (
        f"Mean {_num(_mean(runs))} of {len(runs)} against attempt {state.incumbent}'s {_num(_mean(runs0))} of {len(runs0)}{size} ({rule})."
    )
    if drop and state.saturated:
        reason += " " + state.saturated
    verdict = _verdict(state, arm, "keep" if keep else "discard", reason, D, LLR)
    same = state.equal_in_a_row + 1 if state.saturated and gain == 0 else 0
    state = replace(_close(state, n, "keep" if keep else "discard"), crashed_in_a_row=0, equal_in_a_row=same)
    if state.saturated and same >= state.rules.max_equal:
        state = replace(state, stop=f"{same} candidates in a row scored exactly what the incumbent scores. {state.saturated}")
    if not keep:
        return state, (verdict,)
    others = tuple(state.arms[other] for other in state.open)
    superseded = tuple(_superseded(replace(state, incumbent=n), other) for other in others)
    for other in others:
        state = _with(state, replace(other, status="superseded"))
    state = _saturation(replace(state, incumbent=n, path=(*state.path, n), open=()))
    if state.rules.rigor == "standard" and len(state.path) >= state.rules.anchor_every:
        state = replace(state, check=Check(n, state.counted))
    return state, (verdict, *superseded)


def _anchor(state: State) -> tuple[State, tuple[Verdict, ...]]:
    """Compare fresh runs of the tip with the anchor's, once they are all there."""
    assert state.check is not None
    rules, tip, anchor = state.rules, state.arms[state.check.tip], state.arms[state.anchor]
    fresh, fresh0 = _since(tip, state.check.start), _since(anchor, state.check.start)
    if len(fresh) < rules.anchor_runs or len(fresh0) < rules.anchor_runs or (rules.controls and len(set(tip.controls)) < len(CONTROLS)):
        return state, ()
    earlier = tuple(run for run in anchor.runs[anchor.clean :] if run.at < state.check.start)
    runs0 = (*earlier[len(earlier) - min(len(earlier), rules.anchor_memory) :], *fresh0)
    gain, s = _mean(fresh) - _mean(runs0), state.s or 0.0
    close = abs(gain) < rules.tie * s
    holds = tip.nodes < anchor.nodes if close and tip.nodes != anchor.nodes else gain >= 0
    D = gain / s if s else None
    said = f"{len(fresh)} fresh runs of attempt {tip.n} average {_num(_mean(fresh))}, {len(runs0)} of the anchor, attempt {anchor.n}, {_num(_mean(runs0))}"
    if close and tip.nodes != anchor.nodes:
        said += f"; within {rules.tie} s the shorter file wins ({tip.nodes} against {anchor.nodes} AST nodes)"
    if not holds:
        state, verdicts = _undo(state, said, stricter=True, numbers=(fresh, runs0, D))
        return state, verdicts
    verdict = Verdict(tip.n, "certified", f"{said}: it is the new anchor.", anchor.n, "anchor", len(fresh), len(runs0), _mean(fresh), _mean(runs0), state.s, D, None, _seeds(fresh), _seeds(runs0))  # fmt: skip
    tip = replace(tip, clean=len(tip.runs) - len(fresh))
    return replace(_with(state, tip), anchor=tip.n, path=(), check=None, rung=max(0, state.rung - 1)), (verdict,)


def _undo(
    state: State,
    why: str,
    stricter: bool,
    only: int | None = None,
    numbers: tuple[tuple[Scored, ...], tuple[Scored, ...], float | None] | None = None,
) -> tuple[State, tuple[Verdict, ...]]:
    """Take back the path to the anchor, or only its last step."""
    undone = state.path if only is None else (only,)
    back = state.anchor if only is None else next((n for n in reversed(state.path) if n != only), state.anchor)
    tip = state.incumbent
    arms = {**state.arms, **{n: replace(state.arms[n], status="undone") for n in undone}}
    others = tuple(arms[n] for n in state.open)
    arms.update({arm.n: replace(arm, status="superseded") for arm in others})
    runs, runs0, D = numbers or ((), (), None)
    listed = ", ".join(str(n) for n in undone)
    reason = f"{why}: back to attempt {back}, attempt{'s' if len(undone) > 1 else ''} {listed} undone."
    verdict = Verdict(tip, "undone", reason, back, "anchor", len(runs), len(runs0), _mean(runs) if runs else None, _mean(runs0) if runs0 else None, state.s, D, None, _seeds(runs), _seeds(runs0), undone)  # fmt: skip
    rung = min(state.rung + 1, len(state.rules.levels) - 1) if stricter else state.rung
    state = replace(state, arms=arms, incumbent=back, path=tuple(n for n in state.path if n not in undone), open=(), check=None, rung=rung)
    return _saturation(state), (verdict, *(_superseded(state, arm) for arm in others))


def _saturation(state: State) -> State:
    """Say so when at least half of the incumbent's runs share the very same highest score: a ceiling, not noise."""
    scores = [run.score for run in state.arms[state.incumbent].runs]
    top = scores.count(max(scores)) if scores else 0
    said = ""
    if len(scores) >= 3 and 2 * top >= len(scores) and top >= 2:
        said = f"{top} of the incumbent's {len(scores)} runs scored exactly {_num(max(scores))}: the score is saturated; take a harder environment or a shorter budget."
    return replace(state, saturated=said)


def _verdict(
    state: State, arm: Arm, outcome: Literal["keep", "discard", "crash"], reason: str, D: float | None = None, LLR: float | None = None
) -> Verdict:
    runs0 = _against(state, state.test)
    mean, mean0 = (_mean(arm.runs) if arm.runs else None), (_mean(runs0) if runs0 else None)
    return Verdict(arm.n, outcome, reason, state.incumbent, state.level, len(arm.runs), len(runs0), mean, mean0, state.s, D, LLR, _seeds(arm.runs), _seeds(runs0))  # fmt: skip


def _superseded(state: State, arm: Arm) -> Verdict:
    reason = f"It was built on attempt {arm.parent}, and attempt {state.incumbent} is the incumbent now."
    return Verdict(arm.n, "superseded", reason, state.incumbent, state.level, len(arm.runs))


def _against(state: State, test: Test) -> tuple[Scored, ...]:
    """The incumbent's runs that a candidate is compared with."""
    arm = state.arms[state.incumbent]
    runs = arm.runs[arm.clean :] if len(arm.runs) - arm.clean >= test.incumbent_runs else arm.runs
    return runs[-test.newest :] if test.newest else runs


def _since(arm: Arm, start: int) -> tuple[Scored, ...]:
    return tuple(run for run in arm.runs if run.at >= start)


def _mean(runs: tuple[Scored, ...]) -> float:
    return math.fsum(run.score for run in runs) / len(runs)


def _seeds(runs: tuple[Scored, ...]) -> tuple[int, ...]:
    return tuple(run.seed for run in runs)


def _num(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def _with(state: State, arm: Arm) -> State:
    return replace(state, arms={**state.arms, arm.n: arm})


def _close(state: State, n: int, status: Literal["keep", "discard", "crash"]) -> State:
    return replace(_with(state, replace(state.arms[n], status=status)), open=tuple(m for m in state.open if m != n))


# ---------------------------------------------------------------------------
# wants
# ---------------------------------------------------------------------------


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
    flying = list(in_flight)
    chosen: list[Want] = []

    def need(attempt: int, count: int, purpose: str) -> None:
        """Ask for `count` more runs of an attempt, less those in flight."""
        for _ in range(count):
            same = next((w for w in flying if isinstance(w, Measure) and w.attempt == attempt), None)
            if same is not None:
                flying.remove(same)
            else:
                chosen.append(Measure(attempt, purpose))

    rules, test, incumbent = state.rules, state.test, state.arms[state.incumbent]
    if not state.calibrated:
        need(incumbent.n, rules.calibration_runs - len(incumbent.runs), "calibrate")
        return tuple(chosen[:room])
    if state.recheck:
        need(incumbent.n, 1, "incumbent")
        return tuple(chosen[:room])
    if state.check is not None:
        tip, anchor = state.arms[state.check.tip], state.arms[state.anchor]
        missing = [kind for kind in CONTROLS if rules.controls and kind not in tip.controls]
        for kind in missing:
            if Control(tip.n, kind) not in flying:
                chosen.append(Control(tip.n, kind))
        if not missing:
            need(tip.n, rules.anchor_runs - len(_since(tip, state.check.start)), "tip")
            need(anchor.n, rules.anchor_runs - len(_since(anchor, state.check.start)), "anchor")
        return tuple(chosen[:room])

    have = len(_against(state, test))
    need(incumbent.n, test.incumbent_runs - have, "top-up")
    stale = bool(test.fresh and state.counted - incumbent.runs[-1].at > test.fresh) if incumbent.runs else False
    if stale and not any(state.arms[n].runs for n in state.open):
        need(incumbent.n, 1, "incumbent")
    for n in state.open:
        runs = len(state.arms[n].runs)
        if runs >= 2 and have < runs and not (test.newest and have >= test.newest):
            need(incumbent.n, 1, "incumbent")
        else:
            need(n, 1, "candidate")
    proposals = sum(isinstance(w, Propose) for w in in_flight)
    if not (places == 1 and chosen):
        chosen += [Propose(state.incumbent)] * max(0, places - len(state.open) - proposals)
    return tuple(chosen[:room])
