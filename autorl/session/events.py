"""Everything that can become known in a session, one type for each kind of line in its journal.

An event is written before anything follows from it. `seq` counts a journal's lines from 0 and is
the only order; `at` is the wall clock, for people. A line of a type that is not here is refused
(event_log.py), never skipped.
"""

from typing import Any

import msgspec

from autorl.decision import ControlKind
from autorl.records import Edit, RunRecord, Verdict

STOPPED = "Ctrl-C or `stop`"  # why a process ended that a person ended


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """One line of the journal."""

    seq: int = -1  # both are set as it is appended
    at: str = ""


class Baseline(msgspec.Struct, frozen=True):
    """train.py as the session found it."""

    source: str
    key: str  # of the program: equal keys do the same


class Created(Event, frozen=True, tag="session"):
    """The first line: what holds for the whole session, and what its scores depend on."""

    env_id: str
    tag: str
    settings: dict[str, Any]
    root_seed: int
    base: str  # commit
    baseline: Baseline
    harness: str = ""  # hash of evaluate.py
    hardware: str = ""
    autorl: str = ""  # version
    rules: int = 0  # version of the decision rules
    versions: dict[str, str] = {}
    demo: bool = False  # begun by `run --demo`: never continued but by it, or by name


class Attempted(Event, frozen=True, tag="attempt"):
    """A proposal was accepted; its commit follows from this line. Attempt 0 is the baseline."""

    n: int
    parent: int | None
    source: str
    title: str
    key: str
    hypothesis: str = ""
    expected_effect: str = ""
    proposer: str = ""
    params: tuple[tuple[str, float], ...] = ()
    edits: tuple[Edit, ...] = ()
    cost_usd: float = 0.0
    ticket: str = ""  # the id that `try` gave out
    retry_of: tuple[int, ...] = ()  # superseded attempts whose edits these are


class Lesson(Event, frozen=True, tag="lesson"):
    """What an experiment taught, as the author of a later proposal puts it."""

    n: int
    text: str


class Pinned(Event, frozen=True, tag="pinned"):
    """The commit exists and is reachable."""

    n: int
    commit: str


class Refused(Event, frozen=True, tag="refused"):
    """A proposal that is not measured, and why."""

    title: str
    reason: str
    proposer: str
    ticket: str = ""
    retry_of: tuple[int, ...] = ()


class Cancelled(Event, frozen=True, tag="cancelled"):
    """A person took an experiment back before its verdict."""

    ticket: str  # "" for an idea of the researcher
    n: int = 0  # its attempt; 0: it was queued still


class RunStarted(Event, frozen=True, tag="started"):
    """A run is about to begin."""

    run: int
    attempt: int
    purpose: str  # calibrate, candidate, incumbent, control ..., confirm experiment <n>
    kind: str  # measure, or which control
    seed_index: int
    seed: int
    epoch: int
    folder: str
    cores: tuple[int, ...] = ()
    mono: float = 0.0


class RunHandle(Event, frozen=True, tag="handle"):
    """Where a run that outlives us can be found again."""

    run: int
    handle: str


class RunEnded(Event, frozen=True, tag="run"):
    """A run is over, interrupted ones included."""

    run: int
    record: RunRecord
    steady: bool = True  # False: it got another share of the machine than the others of its claim
    why: str = ""
    mono: float = 0.0


class ControlEnded(Event, frozen=True, tag="control"):
    """What a control run showed."""

    run: int
    attempt: int
    kind: ControlKind
    passed: bool
    reason: str = ""


class Decided(Event, frozen=True, tag="verdict"):
    """What the rules decided."""

    verdict: Verdict


class BranchMoved(Event, frozen=True, tag="moved"):
    """The research branch stands at another commit."""

    commit: str
    old: str = ""


class EpochBegan(Event, frozen=True, tag="epoch"):
    """Other hardware or packages: scores from before are not compared with later ones."""

    epoch: int
    why: str
    hardware: str
    versions: dict[str, str] = {}


class BaselineScores(Event, frozen=True, tag="band"):
    """What doing nothing and acting at random score (environments.sanity_band)."""

    band: dict[str, Any]


class Money(Event, frozen=True, tag="money"):
    """A call's worst case is reserved before it is made, and settled from its usage afterwards."""

    ticket: str
    op: str  # reserve | settle
    usd: float
    what: str = ""
    usage: dict[str, Any] = {}


class Note(Event, frozen=True, tag="note"):
    """Anything a person may want to know in the morning."""

    event: str
    detail: str


class Claimed(Event, frozen=True, tag="claim"):
    """Evidence from fresh seeds: one look at a pair (confirm.make_claim)."""

    claim: dict[str, Any]


class Opened(Event, frozen=True, tag="opened"):
    """A process began to work on the session."""

    pid: int
    why: str = ""


class Closed(Event, frozen=True, tag="closed"):
    """It ended."""

    why: str
    finished: str = ""  # why the session needs no further work; "" while it does
    early: bool = False  # by a signal, a pause or a fault: there was work left


AnyEvent = (
    Created | Attempted | Lesson | Pinned | Refused | Cancelled | RunStarted | RunHandle | RunEnded
    | ControlEnded | Decided | BranchMoved | EpochBegan | BaselineScores | Money | Note | Claimed
    | Opened | Closed
)  # fmt: skip
