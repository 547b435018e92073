"""`try` and `wait`: a person or a coding agent uses the loop's own machinery.

`try` puts ./train.py into a session's inbox, starts a loop in the background if none works on it,
and returns an id; `wait` asks for that id. What it does not do: measure or decide.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from autorl.environments import check_env
from autorl.errors import UserError
from autorl.git import Repository
from autorl.judge.trial import try_env
from autorl.records import Proposal
from autorl.session import (
    Attempt,
    SessionState,
    Settings,
    find_session,
    fold,
    journals,
    open_session,
    program,
    read_state,
    resolve_settings,
)
from autorl.session.event_log import Follower
from autorl.session.find import newest_unfinished
from autorl.session.inbox import Inbox
from autorl.source.checks import look
from autorl.system.locks import holder, holder_pid
from autorl.system.text import last_line, plain

LOOP_START_SECONDS = 15.0  # a loop needs less to start, even on a busy machine


def submit(root: Path, o: dict[str, Any]) -> dict[str, Any]:
    """Put ./train.py into a session's inbox and see that a loop works on it.

    Args:
        o: the flags of `try`.

    Raises:
        UserError: the session, its settings or train.py cannot be used; one sentence says why.
    """
    repository = Repository(root)
    source = repository.working_source()
    typed = {name: o[name] for name in Settings.__dataclass_fields__ if o.get(name) is not None}
    going_on = None if o["tag"] else newest_unfinished(root, o["env_id"])
    tag = going_on.parent.name if going_on else o["tag"]
    tag, settings, exists = resolve_settings(root, typed, tag)
    if exists:
        path = find_session(root, tag)
        state = read_state(path)
    else:
        check_env(settings.env_id, settings.env_kwargs)
        try_env(settings.env_id, settings.sandbox, settings.env_kwargs)
        _look(source, {look(repository.head_source()).key})
        session = open_session(root, tag, settings)
        session.close()
        path, state = session.log.path, session.state
    inbox = Inbox(path.parent / "inbox")
    known = {a.key for a in state.attempts.values()} or {state.about.baseline.key}
    _look(source, known | {look(p.source).key for _, p in inbox.waiting() if p.source})
    title, _, rest = plain(o["message"]).strip().partition("\n")
    ticket = inbox.leave(
        Proposal(title=title, hypothesis=rest.strip(), source=source, proposer="person")
    )
    try:
        if holder_pid(path.parent / "session.lock") is None:
            start_loop(root, path.parent)
    except UserError:
        inbox.drop(ticket)  # refused is refused: nothing is measured later
        raise
    takes = f"about {settings.time_budget * 1.05 / 60:.0f} minutes a run"
    if sum(r.counted for r in state.runs.values()) < 4:
        takes += "; the first experiment of a session waits for 4 runs of the baseline"
    else:
        takes += ", up to 4 runs"
    return {
        "id": ticket,
        "session": tag,
        "state": "queued",
        "takes": takes,
        "next": f"{program(root)} wait {ticket} --timeout 540",
    }


def _look(source: str, known: set[str]) -> None:
    if why := look(source, known).why:
        raise UserError(f"./train.py was not taken: {why}")


def start_loop(root: Path, folder: Path, patience: float = 30.0) -> None:
    """Start a loop in the background on a session's inbox, and wait until it holds the session.

    Raises:
        UserError: it ended at once; its last line says why.
    """
    script = root / "agent_loop.py"
    main = [str(script)] if script.is_file() else ["-c", "from autorl.cli import main; main()"]
    with open(folder / "loop.log", "ab") as log:
        loop = subprocess.Popen(
            [sys.executable, *main, "run", "--tag", folder.name, "--inbox-only"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + patience
    while time.monotonic() < end and holder_pid(folder / "session.lock") is None:
        if (code := loop.poll()) is not None:
            if code not in (0, 130) and holder_pid(folder / "session.lock") is None:
                text = (folder / "loop.log").read_text(encoding="utf-8", errors="replace")
                why = last_line(text).removeprefix("autorl: ")
                raise UserError(f"The loop for {folder.name!r} could not start: {why}")
            return
        time.sleep(0.05)


class Watch:
    """What is known of an experiment; each look reads only what is new in the journals.

    Args:
        ticket: the id that `try` printed, or an experiment's number.

    Raises:
        UserError: there is no id.
    """

    def __init__(self, root: Path, ticket: str):
        if not ticket.strip():
            raise UserError("`wait` needs the id that `try` printed.")
        self.root, self.ticket = root, ticket
        self._known: dict[Path, tuple[Follower, SessionState]] = {}

    def look(self) -> tuple[dict[str, Any], int]:
        """(answer, code): 0 decided or refused, 4 under way, 1 nobody works on it.

        Raises:
            UserError: no session knows this id.
        """
        for path in journals(self.root):
            follower, state = self._known.setdefault(path, (Follower(path), SessionState()))
            fold(follower.new(), state)
            if (found := self._look(path, state)) is not None:
                return found
        raise UserError(
            f"No session knows the id {self.ticket}; `{program(self.root)} history` lists what "
            "there is."
        )

    def _look(self, path: Path, state: SessionState) -> tuple[dict[str, Any], int] | None:
        """The answer of one session, None where it does not know the id."""
        ticket, folder = self.ticket, path.parent
        attempt = _by_ticket(state, ticket)
        answer: dict[str, Any] = {"id": ticket, "session": folder.name}
        if refused := next((r for r in state.refusals if r.ticket == ticket), None):
            what_next = "fix ./train.py and try again"
            return answer | {"state": "refused", "reason": refused.reason, "next": what_next}, 0
        if attempt is not None:
            answer |= {"state": "running"} | _figures(state, attempt)
            if _is_settled(state, attempt):
                return answer | _decision(state, attempt, folder.name), 0
            if pending := state.pending():
                answer["measuring"] = f"experiment {pending[-1].attempt} ({pending[-1].purpose})"
        elif (folder / "inbox" / f"{ticket}.json").is_file():
            answer["state"] = "queued"
        else:
            return None
        if holder(folder / "session.lock"):
            again = f"{program(self.root)} wait {ticket} --timeout 540"
            return answer | {"next": again}, 4
        ended = f": {state.ended}" if state.ended else ""
        return answer | {
            "state": "waiting for a loop",
            "reason": f"no loop works on this session{ended}",
            "next": f"{program(self.root)} run --tag {folder.name} --inbox-only",
        }, 1


def wait_for(root: Path, ticket: str, timeout: float) -> tuple[dict[str, Any], int]:
    """Look about once a second, until it is decided, nobody works on it, or time is up."""
    watch, end = Watch(root, ticket), time.monotonic() + timeout
    # seconds without a loop at work; one that ends as an experiment arrives starts again, which
    # takes a moment
    alone = 0.0
    while True:
        answer, code = watch.look()
        if code == 0 or time.monotonic() >= end or alone > LOOP_START_SECONDS:
            return answer, code
        pause = min(1.0, max(0.0, end - time.monotonic()))
        alone = alone + pause if code == 1 else 0.0
        time.sleep(pause)


def _by_ticket(state: SessionState, ticket: str) -> Attempt | None:
    """The newest attempt with this id or number; a superseded one is measured again."""
    found = [
        a
        for a in state.attempts.values()
        if a.ticket == ticket or (ticket.isdecimal() and a.n == int(ticket))
    ]
    live = [a for a in found if a.outcome != "superseded"]
    return (live or found)[-1] if found else None


def _figures(state: SessionState, attempt: Attempt) -> dict[str, Any]:
    row, best = state.row(attempt), state.incumbent()
    logs = [r.folder for r in state.runs.values() if r.attempt == attempt.n]
    return {
        "experiment": attempt.n,
        "title": attempt.title,
        "commit": attempt.commit,
        "avg_return": _six_digits(row.avg_return),
        "stderr": _six_digits(row.stderr),
        "runs": row.runs,
        "incumbent": best.n if best else None,
        "incumbent_return": _six_digits(state.row(best).avg_return) if best else None,
        "log": f"{logs[-1]}/run.log" if logs else None,
    }


def _six_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _newest_keep(state: SessionState) -> Attempt | None:
    return next((a for a in reversed(state.attempts.values()) if a.outcome == "keep"), None)


def _is_settled(state: SessionState, attempt: Attempt) -> bool:
    """Decided, and where it was kept the branch has moved there."""
    if attempt.outcome in ("running", "superseded"):
        return False
    return attempt.commit == state.tip or attempt is not _newest_keep(state)


def _decision(state: SessionState, attempt: Attempt, tag: str) -> dict[str, Any]:
    row = state.row(attempt)
    what_next = "kept: go on from this ./train.py"
    if attempt is not _newest_keep(state):
        fetch = f"git show autoresearch/{tag}:./train.py > train.py.best"
        fetch += " && mv train.py.best train.py"
        what_next = f"the best one is another: {fetch}; then the next idea"
    return {
        "state": "decided",
        "outcome": row.status,
        "seconds": row.seconds,
        "reason": row.reason,
        "next": what_next,
    }
