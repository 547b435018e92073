"""Which sessions there are, and which one a person means. Reads without a lock and repairs nothing."""

import contextlib
import datetime
import re
from collections.abc import Iterable
from pathlib import Path

from autorl.errors import UserError
from autorl.session.event_log import Follower
from autorl.session.events import Event
from autorl.session.state import SessionState


def program(root: Path) -> str:
    """What a person types to start autoRL on the project in `root`: a checkout has agent_loop.py."""
    return "uv run python agent_loop.py" if (root / "agent_loop.py").is_file() else "autorl"


def safe_name(env_id: str) -> str:
    """The folder name of an environment: `my_module:MyEnv-v0` and `ALE/Pong-v5` hold characters paths should not."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", env_id)


def journals(root: Path) -> list[Path]:
    """Every session's journal under results/, newest change first."""
    found = [p for p in (root / "results").glob("*/*/journal.jsonl") if p.is_file()]
    return sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)


def fold(events: Iterable[Event], state: SessionState | None = None) -> SessionState:
    """What a session knows after these events, for showing it.

    A log of another version may hold events about something in it that was not understood: they are
    left out.
    """
    state = state or SessionState()
    for event in events:
        with contextlib.suppress(KeyError):
            state.apply(event)
    return state


def read_state(path: Path) -> SessionState:
    """A session's knowledge, read without a lock and without repairing anything (for status, report, wait)."""
    return fold(Follower(path).new())


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
        if tag in (None, p.parent.name)
        and (env_id is None or p.parent.parent.name == safe_name(env_id))
    ]
    if not paths:
        what, flag = (f"with the tag {tag!r} ", f" --tag {tag}") if tag else ("", "")
        raise UserError(
            f"There is no session {what}under results/; start one with: {program(root)} run{flag}"
        )
    if tag is None and unfinished:
        return next((p for p in paths if not read_state(p).finished), paths[0])
    return paths[0]


def pick_tag(root: Path, env_id: str, tag: str | None, new: bool) -> str:
    """`--tag`, else the newest unfinished session of this env, else a name made from the date."""
    if tag is not None:
        return tag
    for path in () if new else journals(root):
        if path.parent.parent.name == safe_name(env_id) and not read_state(path).finished:
            return path.parent.name
    day = datetime.date.today().strftime("%b%d").lower()
    taken = {p.parent.name for p in journals(root)}
    return next(
        name for k in range(1, 10_000) if (name := day if k == 1 else f"{day}-{k}") not in taken
    )
