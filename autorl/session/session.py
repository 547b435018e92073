"""A session: one research branch on one environment, in results/<env>/<tag>/journal.jsonl.
`session.record(event)` is the only way anything becomes known in it.

`open_session` makes a session or reads one back (which is resume), refuses what must be refused
before the first run, and returns it locked. What it does not do: run anything.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from autorl import __version__
from autorl import decision as rules
from autorl.decision.state import CancelFact
from autorl.environments import harness_sha256
from autorl.errors import Paused, UserError
from autorl.git import Repository
from autorl.records import GIB, Verdict, from_json
from autorl.session.event_log import EventLog
from autorl.session.events import (
    AnyEvent,
    Attempted,
    Baseline,
    Cancelled,
    Claimed,
    ControlEnded,
    Created,
    Event,
    Opened,
    RunEnded,
)
from autorl.session.find import journals, read_state, safe_name
from autorl.session.settings import Settings
from autorl.session.state import SessionState
from autorl.source.checks import look
from autorl.system.hardware import machine_name, versions
from autorl.system.locks import FileLock, lock_session

MIN_FREE_BYTES = 2 * GIB  # a run may write 1 GiB
SCORED_BY = ("torch", "gymnasium", "mujoco", "envpool")  # packages that a score depends on


@dataclass
class Session:
    """An open session: its log, the state that follows from it, and what the rules make of it.

    Attributes:
        decided: verdicts as the rules reach them; the log's are a prefix of them.
        observers: called with each new event, after it is known.
    """

    root: Path
    folder: Path
    tag: str
    settings: Settings
    log: EventLog
    repository: Repository
    lock: FileLock
    recovered: str = ""  # one line for the person, "" for a new session
    solved_at: float | None = None  # Gymnasium's reward threshold
    state: SessionState = field(default_factory=SessionState)
    decision: rules.State = field(default_factory=rules.start)
    decided: list[Verdict] = field(default_factory=list)
    observers: list[Callable[[Event], None]] = field(default_factory=list)
    # the researcher's thread records money
    mutex: threading.RLock = field(default_factory=threading.RLock)

    def record(self, event: Event) -> Event:
        """Write an event, take it in, decide, tell the observers.

        Raises:
            Paused: the disk refuses; nothing became known.
        """
        with self.mutex:
            event = self.log.append(event)
            self.take_in(event)
        for observer in self.observers:
            observer(event)
        return event

    def take_in(self, event: Event) -> None:
        """What follows from an event that is on the disk."""
        self.state.apply(event)
        if (fact := _fact(event, self.state)) is not None:
            self.decision, verdicts = rules.observe(self.decision, fact)
            self.decided.extend(verdicts)

    def check_harness(self) -> None:
        """Every run of a session is measured by one evaluate.py.

        Raises:
            Paused: it changed since the session began.
        """
        if harness_of(self.root) != self.state.about.harness:
            raise Paused(
                "evaluate.py or autorl_worlds changed while this session was at work: put it back "
                "(git checkout -- evaluate.py autorl_worlds),"
                " then run the same command; everything up to here is kept."
            )

    def close(self) -> None:
        with self.mutex:  # the researcher's thread may be writing
            self.log.close()
        self.lock.release()


def _fact(event: Event, state: SessionState) -> rules.Fact | None:
    """The event as the rules see it; None where it tells them nothing."""
    match event:
        case Attempted():
            return rules.AttemptFact(event.n, event.parent, event.key, event.retry_of)
        case Opened():
            return rules.ResumedFact()
        case ControlEnded():
            return rules.ControlFact(event.attempt, event.kind, event.passed, event.reason)
        case Cancelled():
            return CancelFact(event.n)
        case Claimed() if why := event.claim.get("back"):
            return rules.ClaimFact(why)
        case RunEnded() if (
            run := state.runs[event.run]
        ).for_decision and run.record is event.record:
            score = event.record.avg_return if event.record.scored else None
            status, n, share = event.record.status, run.attempt, event.record.machine.cpu_share
            return rules.RunFact(event.run, n, status, score, run.seed, share, run.epoch)
    return None


def harness_of(root: Path) -> str:
    """Which evaluate.py this is, with the environments that it brings."""
    return harness_sha256(root)[:16]


def show_to_git(folder: Path, shown: bool) -> None:
    """What git sees of a session's folder: what is worth a commit, or, while it may go on, nothing.

    A file in the folder says so, thus `git clean` and `git stash -u` leave an open session alone.
    """
    text = "runs/\ninbox/\nwatch-*\n*.lock\n*.log\n"
    if not shown:
        text = "# not while it may go on: `report` and the end of a `run` show it to git\n*\n"
    with contextlib.suppress(OSError):
        (folder / ".gitignore").write_text(text, encoding="utf-8")


def check_disk(folder: Path) -> None:
    """Refuse to start a run that the disk could not hold."""
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise Paused(
            f"Only {free / GIB:.1f} GiB of disk are free under {folder.name}/ and a run may need "
            f"{MIN_FREE_BYTES / GIB:.0f}:"
            " make room, then start again; everything up to here is kept."
        )


# ---------------------------------------------------------------------------
# Opening
# ---------------------------------------------------------------------------


def open_session(
    root: Path,
    tag: str,
    settings: Settings,
    new: bool = False,
    seed: int | None = None,
    demo: str = "",
) -> Session:
    """Create or continue a session.

    Args:
        settings: see `resolve_settings`; on continuing, the journal's own hold but for sandbox and
            cores.
        new: one that exists is refused.
        seed: root of all training seeds of a new session.
        demo: the train.py that a new demonstration starts from, in place of the one at HEAD.

    Raises:
        UserError: repository, tag, train.py or harness cannot be used, or the journal does not lead
            to its own verdicts; one sentence says why.
    """
    repository = Repository(root)
    repository.check_tag(tag)
    path = next((p for p in journals(root) if p.parent.name == tag), None)
    if path is not None and new:
        raise UserError(
            f"A session with the tag {tag!r} exists: leave out --new to continue it, or choose "
            "another --tag."
        )
    if path is not None and not repository.pinned(tag) and read_state(path).tip:
        raise UserError(
            f"The session {tag!r} was made in another repository, its refs/autorl/{tag} are not "
            "here: `status`, `show` and `report` show it; make one of your own with --tag NAME."
        )
    folder = root / "results" / safe_name(settings.env_id) / tag
    if path is None and (folder / "results.tsv").exists():
        raise UserError(
            f"{folder.relative_to(root)} holds results of another session: choose another --tag."
        )
    first = None if path else _created(repository, root, tag, settings, seed, demo)
    path = path or folder / "journal.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"results/ cannot be written ({error.strerror}): make it writable, then start again."
        ) from None
    with contextlib.ExitStack() as undo:  # what is held is let go of unless the session opens
        lock = lock_session(path.parent / "session.lock", tag)
        undo.callback(lock.release)
        show_to_git(path.parent, shown=False)
        repository.open_tag(tag)
        log, events = EventLog.open(path, first)
        undo.callback(log.close)
        session = Session(root, path.parent, tag, settings, log, repository, lock)
        _resume(session, events, continued=first is None)
        undo.pop_all()
    return session


def _created(
    repository: Repository, root: Path, tag: str, settings: Settings, seed: int | None, demo: str
) -> Created:
    """The first event of a new session."""
    if repository.branch(tag) is not None or repository.pinned(tag):
        raise UserError(
            f"The branch autoresearch/{tag} or its refs/autorl/{tag} exist but results/ holds no "
            "journal for them: choose"
            f" another --tag, or delete them: git branch -D autoresearch/{tag}; git for-each-ref"
            f" --format='delete %(refname)' refs/autorl/{tag} | git update-ref --stdin"
        )
    source, base = demo or repository.head_source(), repository.head()
    if demo:
        base = repository.commit(demo, base, "The train.py of the demonstration")
    found = look(source)
    if found.why:
        raise UserError(f"The train.py at HEAD cannot be a baseline: {found.why}")
    return Created(
        env_id=settings.env_id,
        tag=tag,
        settings=asdict(settings),
        root_seed=seed if seed is not None else int.from_bytes(os.urandom(6), "big"),
        base=base,
        baseline=Baseline(source, found.key),
        harness=harness_of(root),
        hardware=machine_name(),
        autorl=__version__,
        rules=rules.VERSION,
        versions=scored_by(),
        demo=bool(demo),
    )


def scored_by() -> dict[str, str]:
    """The versions of the packages that a score depends on."""
    return {name: version for name, version in versions().items() if name in SCORED_BY}


def _resume(session: Session, events: list[AnyEvent], continued: bool) -> None:
    """Take the log's events in; refuse what can no longer be continued."""
    for event in events:
        session.take_in(event)
    state, tag = session.state, session.tag
    about, asked = state.about, session.settings
    kept = from_json(Settings, about.settings)
    session.settings = replace(kept, sandbox=asked.sandbox, cores=asked.cores)
    if about.harness != harness_of(session.root):
        raise UserError(
            f"evaluate.py or autorl_worlds has changed since the session {tag!r} began, so its "
            "scores could not be compared: start a new one with --new."
        )
    _check_verdicts(session)
    if not continued:
        return
    done = sum(r.counted for r in state.runs.values())
    session.recovered = (
        f"continuing {tag}: {max(0, len(state.attempts) - 1)} experiments and {done} runs so far"
    )
    if pending := len(state.pending()):
        session.recovered += f", {pending} interrupted"
    if session.log.recovered:
        session.recovered += f"; {session.log.recovered}"


def _check_verdicts(session: Session) -> None:
    """The journaled verdicts are those that the rules reach from the journaled runs, whatever their
    words.
    """
    for number, verdict in enumerate(session.state.verdicts):
        reached = session.decided[number] if number < len(session.decided) else None
        if reached is not None and replace(reached, reason=verdict.reason) == verdict:
            continue
        about = session.state.about
        outcome = reached.outcome if reached else "none"
        why = f"the rules (version {rules.VERSION}) reach {outcome} there"
        cure = "restore journal.jsonl from a copy"
        if about.rules != rules.VERSION:
            cure = f"continue it with autoRL {about.autorl}, whose rules have version {about.rules}"
        raise UserError(
            f"Verdict {number + 1} of the session {session.tag!r} ({verdict.outcome}, experiment "
            f"{verdict.attempt}) does not"
            f" follow from its runs: {why}. To go on, {cure}, or start a new session with --new."
        )
