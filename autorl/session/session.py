"""Opening a session: which one, new or continued, and everything that must be refused before the first run.

A session is one research branch on one environment: `results/<env>/<tag>/journal.jsonl`. `open_session` creates it or
reads it back (which is resume) and returns it locked. What it does not do: run anything.
"""

import datetime
import hashlib
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autorl.errors import Paused, UserError
from autorl.git.repository import Workspace
from autorl.records import GIB, SandboxMode, from_json
from autorl.session.event_log import Journal
from autorl.session.state import Ledger
from autorl.source.checks import ast_key, ast_nodes, vet
from autorl.system.hardware import machine_name
from autorl.system.locks import TagLock

MIN_FREE_BYTES = 2 * GIB  # a run may write 1 GiB


@dataclass(frozen=True, slots=True)
class Settings:
    """What every run of a session has in common; journaled once, so that runs stay comparable."""

    env_id: str = "BipedalWalker-v3"
    time_budget: float = 720.0  # seconds
    num_eval_episodes: int = 100
    rigor: str = "standard"
    sandbox: SandboxMode = "auto"
    runner: str = "local"
    slots: int = 1
    cores: tuple[int, ...] = ()  # () = all this process may use
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When to stop; may differ each time a session is continued."""

    experiments: int | None = None  # decided experiments of the whole session
    hours: float | None = None  # of this sitting
    max_usd: float | None = None  # of the whole session
    confirm_runs: int = 5  # per arm, at the end; 0 = none
    refusals: int = 10  # unusable proposals in a row


@dataclass
class Session:
    """An open session; `Loop._record` is the only way its knowledge grows."""

    root: Path
    folder: Path
    tag: str
    settings: Settings
    journal: Journal
    ledger: Ledger
    workspace: Workspace
    lock: TagLock
    recovered: str = ""  # one line for the person, "" for a new session
    new: bool = False
    extras: dict[str, Any] = field(default_factory=dict)

    def check_harness(self) -> None:
        """Every run of a session is measured by one evaluate.py.

        Raises:
            Paused: it changed since the session began.
        """
        if harness_of(self.root) != self.ledger.session["harness"]:
            raise Paused(
                "evaluate.py changed while this session was at work: put it back (git checkout -- evaluate.py), then run the same command; nothing is lost."
            )

    def close(self) -> None:
        self.journal.close()
        self.lock.release()


def program(root: Path) -> str:
    """What a person types to start autoRL on the project in `root`: a checkout has agent_loop.py."""
    return "uv run python agent_loop.py" if (root / "agent_loop.py").is_file() else "autorl"


def safe_name(env_id: str) -> str:
    """The folder name of an environment: `my_module:MyEnv-v0` and `ALE/Pong-v5` hold characters paths should not."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", env_id)


def harness_of(root: Path) -> str:
    """Which evaluate.py this is."""
    try:
        return hashlib.sha256((root / "evaluate.py").read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def journals(root: Path) -> list[Path]:
    """Every session's journal under results/, newest change first."""
    found = [p for p in (root / "results").glob("*/*/journal.jsonl") if p.is_file()]
    return sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)


def read_ledger(path: Path) -> Ledger:
    """A session's knowledge, read without a lock and without repairing anything (for status, report, wait)."""
    ledger = Ledger()
    for event in Journal.read(path):
        ledger.fold(event)
    return ledger


def find_session(
    root: Path, tag: str | None, env_id: str | None = None, unfinished: bool = True
) -> Path:
    """The journal that a person means: by tag, else the newest unfinished one (where `unfinished`), else the newest one.

    Raises:
        UserError: there is none.
    """
    paths = [
        p
        for p in journals(root)
        if (tag is None or p.parent.name == tag)
        and (env_id is None or p.parent.parent.name == safe_name(env_id))
    ]
    if not paths:
        what = f"with the tag {tag!r} " if tag else ""
        raise UserError(
            f"There is no session {what}under results/; start one with: {program(root)} run{f' --tag {tag}' if tag else ''}"
        )
    if tag is None and unfinished:
        for path in paths:
            if not read_ledger(path).finished:
                return path
    return paths[0]


def check_disk(folder: Path) -> None:
    """Refuse to start a run that the disk could not hold."""
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise Paused(
            f"Only {free / GIB:.1f} GiB of disk are free under {folder.name}/ and a run may need {MIN_FREE_BYTES / GIB:.0f}: make room, then start again; nothing is lost."
        )


def pick_tag(root: Path, env_id: str, tag: str | None, new: bool) -> str:
    """`--tag`, else the newest unfinished session of this env, else a name made from the date."""
    if tag is not None:
        return tag
    if not new:
        for path in journals(root):
            if path.parent.parent.name == safe_name(env_id) and not read_ledger(path).finished:
                return path.parent.name
    day = datetime.date.today().strftime("%b%d").lower()
    taken = {p.parent.name for p in journals(root)}
    return next(
        name for k in range(1, 10_000) if (name := day if k == 1 else f"{day}-{k}") not in taken
    )


def kept_settings(root: Path, tag: str | None, settings: Settings, new: bool) -> Settings | None:
    """The settings of the session that `open_session` would continue; None where it would make one."""
    tag = pick_tag(root, settings.env_id, tag, new)
    path = next((p for p in journals(root) if p.parent.name == tag), None)
    if path is None or new:
        return None
    kept = read_ledger(path).session["settings"]
    return from_json(Settings, kept)


def open_session(
    root: Path,
    tag: str | None,
    settings: Settings,
    new: bool = False,
    seed: int | None = None,
    given: frozenset[str] = frozenset(),
) -> Session:
    """Create or continue a session.

    Args:
        settings: what the command line asks for; on continuing, the journal's own settings hold.
        given: names of the settings that the person typed; a typed setting that contradicts the journal is refused.

    Raises:
        UserError: repository, tag, train.py or harness cannot be used; one sentence says why.
    """
    workspace = Workspace(root)
    tag = pick_tag(root, settings.env_id, tag, new)
    workspace.check_tag(tag)
    same = [p.parent for p in journals(root) if p.parent.name == tag]
    folder = root / "results" / safe_name(settings.env_id) / tag
    if "env_id" not in given and len(same) == 1:
        folder = same[0]  # a tag alone names its session, whatever ENV_ID says
    for other in journals(root):
        if other.parent.name == tag and other.parent != folder:
            raise UserError(
                f"The tag {tag!r} belongs to {other.parent.parent.name}: choose another --tag, or continue it with --env-id {other.parent.parent.name}."
            )
    path = folder / "journal.jsonl"
    exists = path.is_file()
    if exists and new:
        raise UserError(
            f"A session with the tag {tag!r} exists: leave out --new to continue it, or choose another --tag."
        )
    harness = harness_of(root)
    meta = None
    if not exists:
        if workspace.branch(tag) is not None or workspace.pinned(tag):
            raise UserError(
                f"The branch autoresearch/{tag} or its refs/autorl/{tag} exist but results/ holds no journal for them: choose another --tag, or delete them: "
                f"git branch -D autoresearch/{tag}; git for-each-ref --format='delete %(refname)' refs/autorl/{tag} | git update-ref --stdin"
            )
        source = workspace.head_source()
        if why := vet(source):
            raise UserError(f"The train.py at HEAD cannot be a baseline: {why}")
        meta = {
            "env_id": settings.env_id,
            "tag": tag,
            "settings": asdict(settings),
            "root_seed": seed if seed is not None else int.from_bytes(os.urandom(6), "big"),
            "base": workspace.head(),
            "harness": harness,
            "hardware": machine_name(),
            "baseline": {"source": source, "key": ast_key(source), "nodes": ast_nodes(source)},
        }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"results/ cannot be written ({error.strerror}): make it writable, then start again."
        ) from None
    lock = TagLock(folder / "session.lock", tag)
    lock.acquire()
    try:
        workspace.open_tag(tag)
        journal = Journal.open(path, meta)
    except BaseException:
        lock.release()
        raise
    ledger = Ledger()
    for event in journal.events:
        ledger.fold(event)
    kept = from_json(Settings, ledger.session["settings"])
    clashes = [
        n
        for n in sorted(given)
        if hasattr(kept, n)
        and getattr(kept, n) != getattr(settings, n)
        and n not in ("sandbox", "cores")
    ]
    refusal = ""
    if exists and clashes:
        n = clashes[0]
        refusal = f"The session {tag!r} was begun with {n.replace('_', ' ')} {getattr(kept, n)}, not {getattr(settings, n)}: leave the flag out to continue it, or start another with --new --tag NAME."
    elif ledger.session["harness"] != harness:
        refusal = f"evaluate.py has changed since the session {tag!r} began, so its scores could not be compared: start a new one with --new."
    if refusal:
        journal.close()
        lock.release()
        raise UserError(refusal)
    recovered = ""
    if exists:
        done = sum(r.counted for r in ledger.runs.values())
        recovered = f"continuing {tag}: {max(0, len(ledger.attempts) - 1)} experiments and {done} runs so far"
        if pending := len(ledger.pending()):
            recovered += f", {pending} interrupted"
        if journal.recovered:
            recovered += f"; {journal.recovered}"
    return Session(root, folder, tag, kept, journal, ledger, workspace, lock, recovered, not exists)
