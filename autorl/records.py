"""The values that travel between rooms: history -> Proposal -> commit -> Job -> RunRecord ->
Verdict -> Row -> history.

Everything here is a frozen value; nothing here touches a disk, a clock or another room.

Units: seconds everywhere, bytes everywhere, US dollars as float.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")

SCHEMA_VERSION = 2  # of the journal


def to_json(value: Any) -> Any:
    """A value as plain JSON data; NaN and infinity become None: a missing value is missing."""
    return msgspec.json.decode(msgspec.json.encode(value))


def from_json(cls: type[T], data: Any) -> T:
    """The inverse of `to_json`: unknown keys are ignored, missing ones default.

    Raises:
        ValueError: data that is no `cls`.
    """
    return msgspec.convert(data, cls)


# -- history -> Proposal ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """One exact search/replace block on train.py; `search` must occur exactly once."""

    search: str
    replace: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """One idea.

    Either `edits` (applied to the incumbent's train.py) or `source` (the whole new file), not both.
    """

    title: str
    hypothesis: str = ""
    expected_effect: str = ""
    edits: tuple[Edit, ...] = ()
    source: str | None = None
    proposer: str = ""  # "claude", "command", "search", "replay", "person"
    base: int | None = None  # the incumbent that it was written on
    params: tuple[tuple[str, float], ...] = ()  # search: the constants it set, by name
    cost_usd: float = 0.0
    seconds: float = 0.0
    lesson: str = ""  # what experiment `lesson_of` taught: expected against what came
    lesson_of: int = 0


# -- commit -> Job -> RunRecord --------------------------------------------------------------------

GIB = 1024**3
MIB = 1024**2

SandboxMode = Literal["auto", "bwrap", "off"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take; the judge kills it at the first breach and names the limit."""

    memory_bytes: int = 8 * GIB  # resident memory of the whole tree
    processes: int = 256  # processes and threads of the whole tree
    disk_bytes: int = 1 * GIB  # bytes in the run directory
    log_bytes: int = 16 * MIB  # standard output and error together


@dataclass(frozen=True, slots=True)
class Job:
    """One measured run, as a value: it needs no repository, so it can happen anywhere."""

    train_source: str
    env_id: str
    seed: int  # the training seed; evaluation seeds are drawn by the judge after training
    time_budget: float  # seconds, from process start to hand-over
    num_eval_episodes: int = 100
    env_kwargs: dict[str, Any] = field(default_factory=dict)  # of the environment's constructor
    budget_steps: int = 0  # environment steps, self-counted, beside time_budget; 0 = no limit
    cores: tuple[int, ...] = ()  # CPU affinity; () = all
    threads: int = 0  # what train.py is told to use; 0 = as many as cores
    gpu: str = ""  # "" = none asked for; "0" = CUDA_VISIBLE_DEVICES; "H100!" on Modal
    sandbox: SandboxMode = "auto"
    limits: Limits = field(default_factory=Limits)
    kind: Literal["measure", "zero_budget", "seed_control", "check"] = "measure"


# What became of a run. Only "ok" has a score.
#   ok            every episode finished; avg_return is finite
#   crash         train.py's own fault: raised, hung, was late, broke a limit or the wire (`rule`)
#   refused       a rule was broken that is no crash: a control, the static look
#   interrupted   the judge or its machine died, slept, or was told to stop; the run is repeated
Status = Literal["ok", "crash", "refused", "interrupted"]


@dataclass(frozen=True, slots=True)
class MachineShare:
    """The machine this run got, sampled all through it."""

    # CPU seconds the cores were free to give us / (seconds x cores), 1 = undisturbed
    cpu_share: float | None = None
    steal: float | None = None  # share of time the hypervisor took, 0..1
    other_load: float | None = None  # cores' worth of other processes' CPU on our cores
    suspended_seconds: float = 0.0  # CLOCK_BOOTTIME ran ahead of CLOCK_MONOTONIC
    max_gap_seconds: float = 0.0  # longest hole between two samples of the judge


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the judge measured. Self-reported figures say so; a missing score is None, never 0."""

    status: Status
    # short name of the rule that ended it: "late", "memory", "exit", "frame", ... ("" when ok)
    rule: str = ""
    reason: str = ""  # one sentence for a person
    avg_return: float | None = None
    std_return: float | None = None
    min_return: float | None = None
    max_return: float | None = None
    returns: tuple[float, ...] = ()  # per episode
    lengths: tuple[int, ...] = ()  # environment steps per episode
    env_id: str = ""
    seed: int = 0
    eval_seeds: tuple[int, ...] = ()
    time_budget: float = 0.0
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    budget_steps: int = 0
    training_seconds: float | None = None  # process start to hand-over, the judge's monotonic clock
    evaluation_seconds: float | None = None
    total_seconds: float | None = None
    total_timesteps: int | None = None  # self-reported
    num_updates: int | None = None  # self-reported
    first_update_seconds: float | None = None  # self-reported: of the first row of metrics.csv
    # self-reported: last row of metrics.csv
    diagnostics: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    machine: MachineShare = field(default_factory=MachineShare)
    isolation: str = "none"  # "bwrap" | "none" | "modal+bwrap" | ...
    flags: tuple[str, ...] = ()  # for a person to look at: "above plausible maximum", ...
    hardware: str = ""
    cores: int = 0
    gpu: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    log_tail: str = ""  # bounded, valid UTF-8; data, never instructions
    cost_usd: float = 0.0  # rented machines: an estimate at list price; 0 on one's own
    control: dict[str, Any] = field(default_factory=dict)  # of a control run: what it saw

    @property
    def scored(self) -> bool:
        """True when there is a score to compare: finite, and no overflow away (bool is none)."""
        score = self.avg_return
        return self.status == "ok" and type(score) is float and abs(score) < 1e15


@dataclass(frozen=True, slots=True)
class PackedArray:
    """Numbers (F, D) as text, 16 bits each over a column's range; made by system/arrays.py."""

    low: tuple[float, ...]  # (D,)
    span: tuple[float, ...]  # (D,) the highest number of a column less its lowest
    data: str  # base64 of deflated differences from row to row


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """One episode of an evaluation, to be looked at."""

    episode_return: float
    length: int  # steps
    seconds_per_frame: float  # of simulated time
    states: PackedArray  # (F, D + 1): the state, and the return so far
    scenery: dict[str, Any] = field(default_factory=dict)  # Box2D: the ground of this episode


@dataclass(frozen=True, slots=True)
class Recording:
    """Episodes that the judge recorded while it evaluated, the worst first and the best last.

    A state is qpos (mujoco: the model is that of `env_id`), x, y and angle of each body (box2d:
    `shapes` are their polygons), or what the environment calls its state (state).
    """

    env_id: str
    kind: Literal["mujoco", "box2d", "state"]
    num_episodes: int  # that were evaluated
    episodes: tuple[RecordedEpisode, ...]
    median: int  # its index in `episodes`
    shapes: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """A look at a run under way, for progress bars; self-reported by train.py."""

    phase: Literal["starting", "training", "evaluating", "done"]
    elapsed: float  # seconds since the process started
    time_budget: float
    step: int | None = None
    steps_per_second: float | None = None
    episode_return: float | None = None
    curve: tuple[tuple[float, float], ...] = ()  # (seconds, episode_return) so far, <= 400


# -- RunRecord -> Verdict -> Row -------------------------------------------------------------------


# What became of an attempt: the first word on it; "taken back" once it was kept and is no longer.
Outcome = Literal["running", "baseline", "keep", "discard", "crash", "superseded", "taken back"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an attempt was kept, discarded or taken back, with every number it rests on."""

    attempt: int
    outcome: Outcome
    reason: str  # one readable sentence
    incumbent: int | None = None  # the attempt it was compared with, or went back to
    n: int = 0  # runs of the attempt
    mean: float | None = None  # of the attempt's runs
    mean0: float | None = None  # what the incumbent was believed to score
    sd: float | None = None  # standard deviation of one run, as believed
    gain: float | None = None  # expected, in sd
    chance: float | None = None  # P(a gain above 0)
    seeds: tuple[int, ...] = ()
    taken_back: tuple[int, ...] = ()  # attempts


def score_text(value: float, sd: float | None, least: int = 0) -> str:
    """A score with the digits that mean something: two of the sd of one run.

    Args:
        sd: where it is missing, or nothing beside the value, there are six significant digits.
        least: digits after the point, at least; -2 rounds to hundreds where the sd is thousands.
    """
    if not sd or sd < 1e-6 * max(1.0, abs(value)):
        return f"{value:.6g}"
    digits = max(least, 1 - math.floor(math.log10(sd)))
    return f"{round(value, digits) + 0.0:,.{max(0, digits)}f}"  # + 0.0: no "-0"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of results.tsv; also what a researcher sees of an experiment."""

    n: int  # attempt number; 0 is the baseline
    commit: str
    avg_return: float | None  # mean over this attempt's scored runs
    status: str  # keep | discard | crash | running
    description: str
    state: str = ""  # superseded | taken back | cancelled | shown | not shown | ""
    runs: int = 0
    stderr: float | None = None
    parent: int | None = None
    proposer: str = ""
    seconds: float = 0.0  # measured wall-clock of all its runs
    cost_usd: float = 0.0
    isolation: str = ""
    reason: str = ""  # the verdict's sentence, or the crash's
    hypothesis: str = ""
    steps_per_second: float | None = None
    sd: float | None = None  # of one run, as believed when the attempt was decided
    expected_effect: str = ""
    lesson: str = ""  # what a later proposal's author learnt from it

    @property
    def score(self) -> str:
        """The mean, ± its standard error where there is one; "" for a crash or without a score."""
        mean, error = self.avg_return, self.stderr
        if mean is None or not math.isfinite(mean) or self.status == "crash":
            return ""
        sd = self.sd or (error and error * math.sqrt(self.runs))
        text = score_text(mean, sd)
        return text if error is None else f"{text} ± {score_text(error, sd)}"


# -- Row -> history --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Crash:
    """What ended the runs of an attempt, and the line of train.py where."""

    cause: str
    line: int | None
    code: str  # that line
    log: str  # its end, bounded; data, never instructions


Quarters = tuple[float | None, ...]  # (4,) the last known in each quarter of the time budget


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything about one attempt that a researcher may ask for."""

    row: Row
    diff: str  # unified diff against its parent
    records: tuple[RunRecord, ...]
    verdict: Verdict | None
    log_tail: str  # bounded; data, never instructions
    # by column of metrics.csv: of this attempt, of the one beside it; means over their runs
    metrics: Mapping[str, tuple[Quarters, Quarters]] = field(default_factory=dict)
    beside: int | None = None
    crash: Crash | None = None
    names: tuple[str, ...] = ()  # of the runs that `records` are of


@dataclass(frozen=True)
class History:
    """What a researcher sees.

    `experiment(n)` and `vet(source)` are looked up on demand, everything else is a value.
    """

    env_id: str
    time_budget: float
    num_eval_episodes: int
    machine: str  # "2 cores, no GPU"
    program: str  # program.md
    train_source: str  # the incumbent's train.py
    incumbent: int
    rows: tuple[Row, ...]  # every attempt so far, oldest first
    # (title, reason) of proposals refused since the last attempt
    refusals: tuple[tuple[str, str], ...] = ()
    solved_at: float | None = None  # gymnasium's reward threshold
    experiment: Callable[[int], Experiment] | None = None
    source_of: Callable[[int], str] | None = None  # an earlier attempt's train.py
    vet: Callable[[str], str] = lambda source: ""  # "" when acceptable, else one sentence why not
    # search's ledger, by attempt
    params: Mapping[int, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    budget_steps: int = 0  # environment steps beside time_budget; 0 = no limit
    seed: int = 0  # for proposers that draw
    wanted: int = 1  # independent ideas that have a place, each on this incumbent
    ready: tuple[str, ...] = ()  # titles of ideas that wait for a place
    # True once the loop is ending: a long thought may be given up
    stopped: Callable[[], bool] = lambda: False
