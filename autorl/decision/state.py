"""What the facts so far amount to: attempts and their runs, the incumbent, the anchor, s, the belief. Frozen values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from autorl.decision.belief import Belief
from autorl.decision.facts import BOLD, CONTROLS, Comparison, Rules, RunFact

Status = Literal["baseline", "open", "keep", "discard", "crash", "superseded", "undone"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A run that counts."""

    run: int
    score: float
    seed: int
    at: int  # how many runs counted before it


@dataclass(frozen=True, slots=True)
class Arm:
    """One attempt and its runs that count, oldest first, under the present conditions (hardware, share of the machine)."""

    n: int
    parent: int | None
    key: str
    nodes: int
    status: Status = "open"
    runs: tuple[Scored, ...] = ()
    clean: int = 0  # runs[clean:] were not selected on: they did not win this node its place
    controls: tuple[str, ...] = ()  # passed
    crashes: int = 0
    prior: tuple[float, ...] | None = None  # what is known of this idea from its superseded self
    _sum: float = 0.0  # of scores less the first, and of their squares
    _squares: float = 0.0

    @property
    def controlled(self) -> bool:
        return set(self.controls) >= set(CONTROLS)


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
    belief: Belief | None = None  # once calibrated
    past: Mapping[int, Belief] = field(default_factory=dict)  # as it was when an incumbent gave way
    rung: int = 0  # "anchored": index into rules.levels
    path: tuple[int, ...] = ()  # kept since the anchor, oldest first
    checked: int = 0  # length of the path at the last check that settled nothing
    open: tuple[int, ...] = ()  # candidates without a verdict
    check: Check | None = None
    counted: int = 0  # runs that count
    SS: float = 0.0  # sum of squares within attempts, under the present conditions
    df: int = 0
    calibrated: bool = False
    epoch: int | None = None
    regime_start: int = 0  # the first run under the present conditions
    odd: tuple[RunFact, ...] = ()  # the unsteady runs since the last steady one
    adapting: bool = False  # since the machine's share changed, until a steady run is seen
    crashed_in_a_row: int = 0
    recheck: int | None = (
        None  # the incumbent is to be run again, from this count on: is the harness at fault?
    )
    equal_in_a_row: int = 0
    saturated: str = ""  # a sentence when the score has hit a ceiling
    stop: str = ""  # a sentence when the search should end
    broken: bool = False  # it ends because of the harness or the machine, so that not even a claim could be measured

    @property
    def level(self) -> str:
        """Name of the rule in force: "standard", "bold", "strict", or "L0" to "L2" when anchored."""
        return f"L{self.rung}" if self.rules.rigor == "anchored" else self.rules.rigor

    @property
    def test(self) -> Comparison | None:
        """The test in force; None where the belief decides."""
        rules = self.rules
        return {"bold": BOLD, "strict": rules.strict, "anchored": rules.levels[self.rung]}.get(
            rules.rigor
        )

    @property
    def s(self) -> float | None:
        """Standard deviation of one run, inflated by sqrt((df+1)/(df-1)) for its own uncertainty; None before two runs."""
        if self.df == 0:
            return None
        if self.df == 1:
            return 1.5 * math.sqrt(self.SS)
        return math.sqrt(self.SS / self.df * (self.df + 1) / (self.df - 1))

    @property
    def chance(self) -> float | None:
        """P(the incumbent is better than the anchor), where the belief decides and they are two."""
        return (
            self.belief.chance
            if self.belief and self.path and self.rules.rigor == "standard"
            else None
        )

    def certified(self, n: int) -> bool:
        """True for the baseline and for what an anchor check proved: the anchor and its ancestors."""
        node: int | None = self.anchor
        while node is not None and node != n:
            node = self.arms[node].parent if node in self.arms else None
        return node is not None


def start(rules: Rules = Rules()) -> State:
    """The state before the first fact."""
    return State(rules)


def with_arm(state: State, arm: Arm) -> State:
    """The state with this attempt's arm replaced."""
    return replace(state, arms={**state.arms, arm.n: arm})


def with_run(state: State, arm: Arm, fact: RunFact, score: float) -> State:
    """Add a run that counts, and what it adds to the pooled sum of squares."""
    n = len(arm.runs)
    shifted = score - (arm.runs[0].score if n else score)
    total, squares = arm._sum + shifted, arm._squares + shifted * shifted
    before = arm._squares - (arm._sum * arm._sum / n if n else 0.0)
    grown = max(0.0, squares - total * total / (n + 1) - before)
    arm = replace(
        arm,
        runs=(*arm.runs, Scored(fact.run, score, fact.seed, state.counted)),
        crashes=0,
        _sum=total,
        _squares=squares,
    )
    return replace(
        with_arm(state, arm), counted=state.counted + 1, SS=state.SS + grown, df=state.df + (n > 0)
    )


def new_regime(state: State, first_run: int) -> State:
    """Other hardware, or a machine that has become slower: earlier runs are not compared with later ones.

    What was learnt of ideas stays; the means and s are measured anew.
    """
    arms = {
        n: replace(arm, runs=(), clean=0, _sum=0.0, _squares=0.0) for n, arm in state.arms.items()
    }
    check = replace(state.check, start=state.counted) if state.check else None
    return replace(
        state, arms=arms, past={}, SS=0.0, df=0, calibrated=False, check=check, regime_start=first_run, odd=(), adapting=False
    )  # fmt: skip


def compared(state: State, test: Comparison) -> tuple[Scored, ...]:
    """The incumbent's runs that a test compares a candidate with."""
    arm = state.arms[state.incumbent]
    runs = arm.runs[arm.clean :] if len(arm.runs) - arm.clean >= test.incumbent_runs else arm.runs
    return runs[-test.newest :] if test.newest else runs


def since(arm: Arm, start: int) -> tuple[Scored, ...]:
    """The runs counted from `start` on."""
    return tuple(run for run in arm.runs if run.at >= start)


def mean(runs: tuple[Scored, ...]) -> float:
    """Mean score of at least one run."""
    return math.fsum(run.score for run in runs) / len(runs)
