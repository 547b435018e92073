"""Which sessions there are, and which one a person means.

Reads without a lock and repairs nothing.
"""

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
    """What a person types to start autoRL in `root`: a checkout has agent_loop.py."""
    return "uv run python agent_loop.py" if (root / "agent_loop.py").is_file() else "autorl"


def safe_name(env_id: str) -> str:
    """The folder name of an environment such as `my_module:MyEnv-v0` or `ALE/Pong-v5`."""
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
    """A session's knowledge, read without a lock; nothing is repaired."""
    return fold(Follower(path).new())


def newest_unfinished(root: Path, env_id: str | None = None) -> Path | None:
    """The journal of the newest session with work left, on this environment if one is named;
    demonstrations are left out.
    """
    folder = None if env_id is None else safe_name(env_id)
    found = (p for p in journals(root) if folder in (None, p.parent.parent.name))
    return next((p for p in found if not (s := read_state(p)).finished and not s.demo), None)


def find_session(root: Path, tag: str | None, unfinished: bool = True) -> Path:
    """The journal that a person means: by tag, else the newest unfinished one (where `unfinished`),
    else the newest one.

    Raises:
        UserError: there is none.
    """
    paths = [p for p in journals(root) if tag in (None, p.parent.name)]
    if not paths:
        what, flag = (f"with the tag {tag!r} ", f" --tag {tag}") if tag else ("", "")
        raise UserError(
            f"There is no session {what}under results/; start one with: {program(root)} begin{flag}"
            " (the ideas are yours), or with run (they are autoRL's)."
        )
    return (newest_unfinished(root) if tag is None and unfinished else None) or paths[0]


def pick_tag(root: Path, env_id: str, tag: str | None, new: bool) -> str:
    """`--tag`, else the newest unfinished session of this env, else a name made from the date."""
    if tag is not None:
        return tag
    if not new and (path := newest_unfinished(root, env_id)) is not None:
        return path.parent.name
    return _free_name(root, datetime.date.today().strftime("%b%d").lower())


def pick_demo(root: Path, new: bool) -> tuple[str, bool]:
    """The tag of the newest unfinished demonstration and True, else a free tag and False."""
    found = (p for p in journals(root) if (s := read_state(p)).demo and not s.finished)
    path = None if new else next(found, None)
    return (path.parent.name, True) if path else (_free_name(root, "demo"), False)


def _free_name(root: Path, name: str) -> str:
    taken = {p.parent.name for p in journals(root)}
    names = (name if k == 1 else f"{name}-{k}" for k in range(1, 10_000))
    return next(name for name in names if name not in taken)
