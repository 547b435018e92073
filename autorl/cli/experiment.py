"""`begin`, `try`, `wait`, `cancel`: a person or a coding agent uses the loop's own machinery.

`begin` makes a session and measures its baseline, `try` puts ./train.py into its inbox and returns
an id, `wait` asks for that id; each sees that a loop works on it (background.py). What it does not
do: measure or decide.
"""

import itertools
import time
from pathlib import Path
from typing import Any

from autorl.cli import options
from autorl.cli.background import how_it_ended, revive, takes
from autorl.cli.cores import Cores
from autorl.decision.explain import named
from autorl.environments import check_env
from autorl.errors import UserError
from autorl.git import Repository
from autorl.judge.trial import try_env
from autorl.records import Proposal, from_json
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
from autorl.session.events import STOPPED
from autorl.session.find import newest_unfinished
from autorl.session.inbox import Inbox
from autorl.source.checks import look
from autorl.system.files import read_text
from autorl.system.locks import holder
from autorl.system.text import plain

# seconds that `wait` gives a loop that ends as an experiment arrives: it starts another by itself
ALONE_SECONDS = 3.0
CANCEL_SECONDS = 15.0  # that a loop at work may take to stop a run


def begin(root: Path, o: dict[str, Any]) -> dict[str, Any]:
    """Make a session with its settings and calibrate it in the background; one that exists goes on.

    Args:
        o: the flags of `begin` by name: tag, env_id, time_budget, num_eval_episodes, env_kwargs,
            budget_steps, sandbox, runner, cores ("0,1"), slots; None or absent: as usual.

    Returns:
        id ("0", the baseline), session, env_id, state, takes, next (a command to type).

    Raises:
        UserError: the session or its settings cannot be used; one sentence says why.
    """
    return _begun(root, *_session(root, o))


def meant(root: Path, o: dict[str, Any]) -> tuple[str, Settings, bool]:
    """What flags mean: by tag, else the newest unfinished session; see `resolve_settings`."""
    typed = {name: o[name] for name in Settings.__dataclass_fields__ if o.get(name) is not None}
    if "cores" in typed:
        typed["cores"] = options.cores(typed["cores"])
    going_on = None if o.get("tag") else newest_unfinished(root, o.get("env_id"))
    return resolve_settings(root, typed, going_on.parent.name if going_on else o.get("tag"))


def _session(root: Path, o: dict[str, Any]) -> tuple[Path, SessionState, Settings]:
    """The session that the flags mean: by tag, else the newest unfinished one; else it is made."""
    tag, settings, exists = meant(root, o)
    if exists:
        path = find_session(root, tag)
        state = read_state(path)
        if settings != from_json(Settings, state.about.settings):
            raise UserError(
                f"The session {tag!r} was begun with another --cores or --sandbox: leave the flag "
                "out to continue it, or start another with --tag NAME."
            )
        return path, state, settings
    Cores(settings)
    check_env(settings.env_id, settings.env_kwargs)
    try_env(settings.env_id, settings.sandbox, settings.env_kwargs)
    session = open_session(root, tag, settings)
    session.close()
    return session.log.path, session.state, settings


def _begun(root: Path, path: Path, state: SessionState, settings: Settings) -> dict[str, Any]:
    """The baseline's standing, and a loop at work on it while it has no verdict."""
    tag, commit = path.parent.name, state.about.base[:10]
    answer = {"id": "0", "session": tag, "env_id": settings.env_id}
    if (base := state.attempts.get(0)) and base.verdict and base.outcome != "crash":
        best = state.incumbent() or base
        figures = {"incumbent": best.n, "incumbent_return": _six_digits(state.row(best).avg_return)}
        return answer | {"state": "decided"} | figures | {"next": _try(root, tag)}
    revive(root, path.parent, state)
    return answer | {
        "state": "running" if base else "queued",
        "baseline": f"train.py of commit {commit}, HEAD as the session began",
        "takes": takes(state, settings),
        "next": f"{program(root)} wait 0 --tag {tag} --timeout 540",
    }


def submit(root: Path, o: dict[str, Any]) -> dict[str, Any]:
    """Put ./train.py into a session's inbox and see that a loop works on it.

    Args:
        o: the flags of `begin` by name, and message: its first line is the title.

    Returns:
        id, session, state, takes, next (a command to type); of a file that is the baseline's still,
        what `begin` answers.

    Raises:
        UserError: the session, its settings or train.py cannot be used; one sentence says why.
    """
    source = Repository(root).working_source()
    if why := (found := look(source)).why:
        raise UserError(f"./train.py was not taken: {why}")
    path, state, settings = _session(root, o)
    base, inbox = state.attempts.get(0), Inbox(path.parent / "inbox")
    if found.key == state.about.baseline.key and not (base and base.verdict):
        return _begun(root, path, state, settings)
    waiting = inbox.waiting()
    _refuse_known(found.key, state, waiting)
    title, _, rest = plain(o["message"]).strip().partition("\n")
    best = state.incumbent()
    ticket = inbox.leave(
        Proposal(title, rest.strip(), source=source, proposer="person", base=best.n if best else 0)
    )
    try:
        revive(root, path.parent, state)
    except UserError:
        inbox.drop(ticket)  # refused is refused: nothing is measured later
        raise
    ahead = sum(a.n > 0 and a.outcome == "running" for a in state.attempts.values())
    return {
        "id": ticket,
        "session": path.parent.name,
        "state": "queued",
        "takes": takes(state, settings, ahead + len(waiting)),
        "next": f"{program(root)} wait {ticket} --timeout 540",
    }


def _refuse_known(key: str, state: SessionState, waiting: list[tuple[str, Proposal]]) -> None:
    """One program is measured once: say which experiment it is."""
    same = (a for a in state.attempts.values() if a.key == key and not a.cancelled)
    which = next((named(a.n) + (f" ({a.title})" if a.n else "") for a in same), "")
    queued = (t for t, p in waiting if p.source and look(p.source).key == key)
    if which := which or next((f"{ticket}, which is queued" for ticket in queued), ""):
        raise UserError(
            f"./train.py was not taken: it is the program of {which}, except perhaps for comments, "
            "docstrings, layout and names: change what it does, then try again."
        )


def cancel(root: Path, id: str, tag: str | None = None) -> dict[str, Any]:
    """Take an experiment back before its verdict: a queued one, or one whose runs are under way.

    Args:
        id: what `try` printed, or an experiment's number.
        tag: of the session, where two of them have that number.

    Returns:
        id, session, state ("cancelled"), reason, next (a command to type).

    Raises:
        UserError: there is none, it is the baseline, or it is decided.
    """
    watch = Watch(root, id, tag)
    answer, _ = watch.look()
    if watch.ticket == "0":
        raise UserError(
            "The baseline cannot be cancelled, every experiment is compared with it: end the "
            f"session with: {program(root)} stop --tag {answer['session']}"
        )
    if answer["state"] in ("decided", "refused"):
        raise UserError(f"{id} is {answer['state']} ({answer['reason']}): there is nothing to do.")
    folder = find_session(root, answer["session"]).parent
    Inbox(folder / "inbox").cancel(watch.ticket)
    end = time.monotonic() + CANCEL_SECONDS
    while holder(folder / "session.lock") and time.monotonic() < end:
        if watch.ticket not in Inbox(folder / "inbox").cancelled():
            break
        time.sleep(0.05)
    return watch.look()[0]


class Watch:
    """What is known of an experiment; each look reads only what is new in the journals.

    Args:
        ticket: the id that `try` printed, an experiment's number, or "baseline".
        tag: of the session; None: the one that changed last of those that know the id.

    Raises:
        UserError: there is no id.
    """

    def __init__(self, root: Path, ticket: str, tag: str | None = None):
        if not ticket.strip():
            raise UserError("`wait` needs the id that `try` printed.")
        self.root, self.tag = root, tag
        self.ticket = "0" if ticket == "baseline" else ticket
        self._known: dict[Path, tuple[Follower, SessionState]] = {}
        self.revived = ""

    def look(self) -> tuple[dict[str, Any], int]:
        """(answer, code): 0 decided, refused or cancelled, 4 under way, 1 nobody works on it.

        Raises:
            UserError: no session knows this id.
        """
        for path in journals(self.root):
            if self.tag not in (None, path.parent.name):
                continue
            follower, state = self._known.setdefault(path, (Follower(path), SessionState()))
            fold(follower.new(), state)
            if (found := self._look(path, state)) is not None:
                self.tag = path.parent.name  # a number means one session while it is watched
                return found
        raise UserError(
            f"No session knows the id {self.ticket}; `{program(self.root)} history` lists what "
            "there is."
        )

    def revive(self) -> None:
        """See that a loop works on the session that was looked at.

        Raises:
            UserError: a person stopped it, or see background.revive.
        """
        path = find_session(self.root, self.tag)
        state = self._known[path][1]
        if state.ended == STOPPED:
            raise UserError(f"A person stopped this session ({STOPPED}), so it was left so.")
        how = how_it_ended(state)
        revive(self.root, path.parent, state)
        self.revived = f"its loop had ended ({how}), so another was started"

    def _look(self, path: Path, state: SessionState) -> tuple[dict[str, Any], int] | None:
        """The answer of one session, None where it does not know the id."""
        ticket, folder, inbox = self.ticket, path.parent, Inbox(path.parent / "inbox")
        attempt, name = state.named(ticket), f"--tag {path.parent.name}"
        answer: dict[str, Any] = {"id": ticket, "session": folder.name}
        if self.revived:
            answer["note"] = self.revived
        if refused := next((r for r in state.refusals if r.ticket == ticket), None):
            what_next = "fix ./train.py and try again"
            return answer | {"state": "refused", "reason": refused.reason, "next": what_next}, 0
        if attempt is not None and _is_settled(state, attempt) and not attempt.cancelled:
            from autorl.cli.show import diagnosis  # it and what it imports: once, at the end

            answer |= {"state": "decided"} | _figures(state, attempt)
            answer |= diagnosis(self.root, state, attempt.n)
            return answer | _decision(self.root, state, attempt, folder.name), 0
        if (attempt and attempt.cancelled) or {ticket} & {*inbox.cancelled(), *state.cancelled}:
            reason = "Cancelled before its verdict; its code may be tried again."
            again = _try(self.root, folder.name)
            return answer | {"state": "cancelled", "reason": reason, "next": again}, 0
        queued = [id_ for id_, _ in inbox.waiting()]
        ahead = queued.index(ticket) if ticket in queued else 0
        if attempt is not None:
            so_far = _figures(state, attempt)
            so_far["so_far"] = so_far.pop("avg_return")  # the mean of a part is not the score
            del so_far["stderr"]
            answer |= {"state": "running"} | so_far
        elif ticket in queued or (ticket == "0" and state.created and not state.attempts):
            answer["state"] = "queued"
        else:
            return None
        if not holder(folder / "session.lock"):
            return answer | {
                "state": "waiting for a loop",
                "reason": f"no loop works on this session: {how_it_ended(state)}",
                "next": f"{program(self.root)} run {name} --inbox-only",
            }, 1
        if pending := state.pending():
            answer["measuring"] = f"experiment {pending[-1].attempt} ({pending[-1].purpose})"
        elif state.waits:
            answer["waits"] = state.waits
        settings: Settings = from_json(Settings, state.about.settings)
        answer["takes"] = takes(state, settings, ahead)
        which = "" if ticket.startswith("t") else f" {name}"
        again = f"{program(self.root)} wait {ticket}{which} --timeout 540"
        return answer | {"next": again}, 4


def wait_for(
    root: Path, ticket: str, timeout: float, tag: str | None = None
) -> tuple[dict[str, Any], int]:
    """Look about once a second, until it is decided, time is up, or nobody works on it and a loop
    cannot be started again, or a person stopped it.
    """
    watch, end, alone = Watch(root, ticket, tag), time.monotonic() + timeout, 0.0
    while True:
        answer, code = watch.look()
        if code == 0 or time.monotonic() >= end:
            return answer, code
        if alone > ALONE_SECONDS:
            try:
                watch.revive()
            except UserError as cause:
                return answer | {"reason": str(cause)}, code
            alone = 0.0
        pause = min(1.0, max(0.0, end - time.monotonic()))
        alone = alone + pause if code == 1 else 0.0
        time.sleep(pause)


def _try(root: Path, tag: str) -> str:
    return f'{program(root)} try --tag {tag} -m "title: what and why"'


def _figures(state: SessionState, attempt: Attempt) -> dict[str, Any]:
    row, best = state.row(attempt), state.incumbent()
    logs = [r.folder for r in state.every_run_of(attempt.n)]
    return {
        "experiment": attempt.n,
        "title": attempt.title,
        "commit": attempt.commit,
        "parent": attempt.parent,
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


def _decision(root: Path, state: SessionState, attempt: Attempt, tag: str) -> dict[str, Any]:
    row, most = state.row(attempt), len(attempt.source.encode()) + 1
    edited = read_text(root / "train.py", most) != attempt.source  # since it was left
    what_next, taken_back = "kept: go on from this ./train.py", _taken_back(state, attempt.n)
    fetch = f"git show autoresearch/{tag}:./train.py > train.py.best"
    fetch += " && mv train.py.best train.py"
    if not attempt.n:
        what_next = _try(root, tag)
        if attempt.outcome == "crash":
            what_next = f"fix train.py, commit it, then: {program(root)} begin --tag NAME"
    elif attempt is not _newest_keep(state):
        what_next = f"the best one is another: {fetch}; then the next idea"
        if attempt.outcome == "crash":
            its = f"its file (git show {attempt.commit[:10]}:./train.py)"
            what_next = f"fix {its if edited else './train.py'} and try again; or {what_next}"
    elif edited:
        what_next = f"kept: {fetch}; then the next idea"
    return {
        "outcome": "baseline" if attempt.outcome == "baseline" else row.status,
        "run_seconds": row.seconds,
        "reason": row.reason,
        **({"taken_back": taken_back} if taken_back else {}),
        "next": what_next,
    }


def _taken_back(state: SessionState, n: int) -> str:
    """What went with the verdict on experiment `n`: the keeps that it took back, and why."""
    verdicts = state.verdicts
    own = [i for i, v in enumerate(verdicts) if v.attempt == n and v.outcome != "taken back"]
    after = verdicts[own[-1] + 1 :] if own else []
    then = itertools.takewhile(lambda v: v.outcome == "taken back", after)
    return " ".join(v.reason for v in then)
