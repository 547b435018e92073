"""The rules of a session, the facts it is told, and the wants it answers with. Frozen values; nothing here decides."""

from dataclasses import dataclass
from typing import Literal

from autorl.records import Status

# ---------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a candidate is held against the incumbent's mean, where nothing is learnt.

    `alpha` 0: one run, keep if its score is above the incumbent's mean. Otherwise Wald's sequential probability ratio
    test of H1: gain = delta s, truncated at `most` runs (Wald 1945, Annals of Mathematical Statistics 16:117).
    """

    alpha: float = 0.0  # wrongly kept, at a gain of 0
    beta: float = (
        0.7  # wrongly dropped, at a gain of delta s: most ideas are nulls, so dropping early pays
    )
    delta: float = 1.0  # s
    most: int = 6  # runs of a candidate
    least: int = 2  # runs of a candidate before a keep
    incumbent_runs: int = 4
    fresh: int = (
        0  # drift guard: the incumbent's newest run is at most this many runs old (0: no guard)
    )
    newest: int = 0  # drift guard: compare with the incumbent's newest runs only (0: with all)


BOLD = Comparison(alpha=0.0, most=1, least=1, incumbent_runs=3)
STRICT = Comparison(alpha=0.05)
LEVELS = (BOLD, Comparison(alpha=0.20), Comparison(alpha=0.10, fresh=8, newest=6))


@dataclass(frozen=True, slots=True)
class Rules:
    """Every number of the procedure."""

    rigor: Literal["bold", "standard", "anchored", "strict"] = "standard"
    calibration_runs: int = (
        4  # of the baseline, and of incumbent and anchor again on other hardware
    )
    # standard
    price: float = 0.02  # s; a candidate gets another run while that is worth more
    most: int = 4  # runs of a candidate
    margin: float = 0.05  # s; the expected gain that a longer file must show
    drift: float = 0.002  # s^2 that the machine may drift from one run to the next
    path: int = 4  # keeps before an anchor check
    likely: float = 0.95  # chance of a lead at which a path is put to the proof
    doubtful: float = 0.20  # chance of a lead at which a path is checked for having gone downhill
    proved: float = 0.90  # chance of a lead, fresh runs included, that certifies
    champion: float = (
        0.80  # chance of a lead from which the incumbent, not the anchor, is the champion
    )
    # anchored, strict
    levels: tuple[Comparison, ...] = LEVELS
    strict: Comparison = STRICT
    anchor_every: int = 3  # keeps between anchor checks
    anchor_memory: int = 4  # earlier runs of the anchor pooled with its fresh ones
    # all
    anchor_runs: int = 3  # fresh runs of the tip and of the anchor in an anchor check
    tie: float = 0.25  # s; within it an anchor check prefers the file with fewer AST nodes
    controls: bool = True  # zero_budget and seed_control before a node becomes an anchor
    max_crashes: int = (
        5  # candidates in a row, then the incumbent is re-checked and the search stops
    )
    max_unsteady: int = (
        3  # runs in a row that got less machine, then that is the new normal: re-calibrate
    )
    max_equal: int = (
        10  # candidates in a row that equal a saturated incumbent exactly, then the search stops
    )


# ---------------------------------------------------------------------------
# Facts in, wants out
# ---------------------------------------------------------------------------

ControlKind = Literal["zero_budget", "seed_control"]
CONTROLS: tuple[ControlKind, ...] = ("zero_budget", "seed_control")


@dataclass(frozen=True, slots=True)
class AttemptFact:
    """A commit exists. n = 0 with parent None is the baseline."""

    n: int
    parent: int | None
    key: str  # hash of the AST: equal keys are one experiment
    nodes: int = 0  # AST nodes
    again: int | None = None  # the superseded attempt whose edits these are


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
    kind: ControlKind
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumedFact:
    """The session was started again: a reason to stop is forgotten."""


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
    kind: ControlKind


@dataclass(frozen=True, slots=True)
class Propose:
    """A new candidate on top of this attempt is wanted."""

    parent: int


Want = Measure | Control | Propose
