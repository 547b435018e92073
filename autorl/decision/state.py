"""What the rule is told, what it answers, and what the facts amount to. Nothing here decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from autorl.decision.posterior import Posterior
from autorl.decision.rules import Rules
from autorl.records import Status

ControlKind = Literal["zero_budget", "seed_control"]
Decided = Literal["keep", "discard", "crash", "superseded"]
CONTROLS: tuple[ControlKind, ...] = ("zero_budget", "seed_control")


@dataclass(frozen=True, slots=True)
class AttemptFact:
    """A commit exists. Parent None: the baseline."""

    n: int
    parent: int | None
    key: str  # equal keys are one program
    again: tuple[int, ...] = ()  # the superseded attempts whose edits these are, together


@dataclass(frozen=True, slots=True)
class RunFact:
    """A run ended."""

    run: int
    attempt: int
    status: Status
    score: float | None  # avg_return
    seed: int = 0
    share: float | None = None  # of its cores that it could have had, 0..1; None: not known
    epoch: int = 0  # changes with the hardware: nothing is pooled across


@dataclass(frozen=True, slots=True)
class ControlFact:
    """A control with a tiny budget ended (an infrastructure fault is not a fact: run it again)."""

    attempt: int
    kind: ControlKind
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClaimFact:
    """On fresh runs the champion was behind the baseline: everything built on that is taken back.

    A claim that leaves the branch where it is, is not a fact.
    """

    reason: str  # what a claim found, without a full stop


@dataclass(frozen=True, slots=True)
class CancelFact:
    """A person took a candidate back before its verdict; its code may be tried again."""

    attempt: int


@dataclass(frozen=True, slots=True)
class ResumedFact:
    """The session was started again: a reason to stop is forgotten."""


Fact = AttemptFact | RunFact | ControlFact | ClaimFact | CancelFact | ResumedFact


@dataclass(frozen=True, slots=True)
class Measure:
    """A full run of this attempt is wanted."""

    attempt: int
    purpose: str  # "calibrate", "candidate", "incumbent" (after crashes, or the share moved)


@dataclass(frozen=True, slots=True)
class Control:
    """A control of this attempt is wanted."""

    attempt: int
    kind: ControlKind


@dataclass(frozen=True, slots=True)
class Propose:
    """A new candidate on top of this attempt is wanted."""

    parent: int


Want = Measure | Control | Propose


@dataclass(frozen=True, slots=True)
class Scored:
    """A run that counts."""

    run: int
    score: float
    seed: int
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One attempt and its runs that count, oldest first, under the present conditions."""

    n: int
    parent: int | None
    key: str
    status: Decided | Literal["baseline", "open", "taken back"] = "open"
    runs: tuple[Scored, ...] = ()
    controls: tuple[ControlKind, ...] = ()  # passed
    crashes: int = 0  # in a row
    known: tuple[float, ...] | None = None  # P(gain) of this idea, from its superseded self

    @property
    def scores(self) -> tuple[float, ...]:
        """avg_return of each run."""
        return tuple(run.score for run in self.runs)


@dataclass(frozen=True, slots=True)
class State:
    """Everything the facts so far amount to. The branch belongs on `incumbent`."""

    rules: Rules
    arms: Mapping[int, Arm] = field(default_factory=dict)  # by attempt
    keys: Mapping[str, int] = field(default_factory=dict)  # the attempt that stands for this code
    incumbent: int = 0  # what candidates are built on
    path: tuple[int, ...] = ()  # the attempts at the places of posterior.path_mean
    open: tuple[int, ...] = ()  # candidates without a verdict, oldest first
    posterior: Posterior | None = None  # once calibrated
    past: Mapping[int, Posterior] = field(default_factory=dict)  # of incumbents that gave way
    calibrated: bool = False
    jumped: bool = False  # not calibrated because the incumbent came in far beyond luck
    epoch: int | None = None  # of the hardware
    moved: bool = False  # the machine's share did: the incumbent is run before the next verdict
    doubt: str = ""  # a sentence while the incumbent's newest run is far from what was calibrated
    afresh: bool = False  # it was twice in a row, so it was calibrated again
    crashed_in_a_row: int = 0
    recheck: bool = False  # the incumbent is to be run again: is the harness at fault?
    equal_in_a_row: int = 0
    top: float | None = None  # the highest score under the present conditions
    at_top: int = 0  # runs that scored as much
    saturated: str = ""  # a sentence when the score has hit a ceiling
    stop: str = ""  # a sentence when the search should end
    broken: bool = False  # it ends because of the harness or the machine: no claim can be measured

    @property
    def sd(self) -> float | None:
        """Standard deviation of one run, as believed; None before the calibration."""
        return self.posterior.sd if self.posterior else None

    @property
    def lead(self) -> float | None:
        """P(the best of the path is better than the baseline); None where it is the baseline."""
        p = self.posterior
        return p.chance(p.best, 0) if p and p.best else None

    def same(self, score: float) -> float:
        """The least score that counts as this one."""
        return score - self.rules.equal * (self.sd or 0.0)

    def tops(self, score: float) -> bool:
        """Whether it is the highest so far, or the same."""
        return self.top is not None and score >= self.same(self.top)

    def lineage(self) -> tuple[int, ...]:
        """The incumbent, what it was built on, and so on; without the baseline."""
        chain, n = [], self.incumbent
        while (parent := self.arms[n].parent) is not None:
            chain.append(n)
            n = parent
        return tuple(chain)


def start(rules: Rules = Rules()) -> State:
    """The state before the first fact."""
    return State(rules)


def with_arm(state: State, arm: Arm) -> State:
    """The state with this attempt's arm replaced."""
    return replace(state, arms={**state.arms, arm.n: arm})


def closed(state: State, n: int, status: Decided) -> State:
    """The state in which candidate `n` has a verdict."""
    state = with_arm(state, replace(state.arms[n], status=status))
    still = tuple(m for m in state.open if m != n)
    parents = {state.arms[m].parent for m in still}
    return replace(state, open=still, past={n: p for n, p in state.past.items() if n in parents})


def new_conditions(state: State) -> State:
    """Other hardware: earlier runs are not compared with later."""
    arms = {n: replace(arm, runs=()) for n, arm in state.arms.items()}
    state = replace(state, arms=arms, past={}, top=None, at_top=0, afresh=False)
    return replace(state, calibrated=False, jumped=False, moved=False, doubt="")
