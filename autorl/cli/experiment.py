"""`try` and `wait`: a person or a coding agent uses the loop's own machinery.

`try` puts ./train.py into a session's inbox, starts a loop in the background if none works on it,
and returns an id; `wait` asks for that id. What it does not do: measure or decide.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from autorl.environments import check_env, load_harness
from autorl.errors import UserError
from autorl.git.repository import Workspace
from autorl.records import Proposal, from_json
from autorl.session.inbox import Inbox
from autorl.session.session import (
    Settings,
    find_session,
    journals,
    open_session,
    program,
    read_ledger,
)
from autorl.session.state import Attempt, Ledger
from autorl.source.checks import ast_key, vet
from autorl.system.locks import holder, holder_pid


def submit(root: Path, o: dict[str, Any]) -> dict[str, Any]:
    """Put ./train.py into a session's inbox and see that a loop works on it.

    Args:
        o: the flags of `try`.

    Raises:
        UserError: the session, its settings or train.py cannot be used; one sentence says why.
    """
    workspace = Workspace(root)
    source = workspace.working_source()
    names = {"budget": "time_budget", "episodes": "num_eval_episodes"}
    flags = ("budget", "episodes", "rigor", "sandbox", "env_id", "runner")
    asked = {names.get(flag, flag): o[flag] for flag in flags if o[flag] is not None}
    folder, ledger = _find(root, o["tag"], o["env_id"]) or _open(
        root, o["tag"], asked, workspace, source
    )
    kept = ledger.session["settings"]
    if clash := next((k for k, v in asked.items() if kept[k] != v), None):
        raise UserError(
            f"The session {folder.name!r} was begun with {clash.replace('_', ' ')} {kept[clash]}, "
            f"not {asked[clash]}: leave the flag out, or give --tag NAME for a session of its own."
        )
    inbox = Inbox(folder / "inbox")
    known = {a.key for a in ledger.attempts.values()} or {ledger.session["baseline"]["key"]}
    _vet(source, known | {ast_key(p.source) for _, p in inbox.waiting() if p.source})
    title, _, rest = o["message"].strip().partition("\n")
    ticket = inbox.leave(
        Proposal(title=title, hypothesis=rest.strip(), source=source, proposer="person")
    )
    try:
        if holder_pid(folder / "session.lock") is None:
            start_loop(root, folder)
    except UserError:
        inbox.drop(ticket)  # refused is refused: nothing is measured later
        raise
    takes = f"about {ledger.session['settings']['time_budget'] * 1.05 / 60:.0f} minutes a run"
    if sum(r.counted for r in ledger.runs.values()) < 4:
        takes += "; the first experiment of a session waits for 4 runs of the baseline"
    else:
        takes += ", up to 6 runs"
    return {
        "id": ticket,
        "session": folder.name,
        "state": "queued",
        "takes": takes,
        "next": f"{program(root)} wait {ticket} --timeout 540",
    }


def _find(root: Path, tag: str | None, env_id: str | None) -> tuple[Path, Ledger] | None:
    """The session that is meant (its folder, its ledger); None where a new one has to be made."""
    try:
        path = find_session(root, tag, env_id)
        ledger = read_ledger(path)
    except UserError:
        return None
    return None if tag is None and ledger.finished else (path.parent, ledger)


def _open(
    root: Path, tag: str | None, asked: dict[str, Any], workspace: Workspace, source: str
) -> tuple[Path, Ledger]:
    """Make a session with the settings that were asked for; what cannot work is refused before."""
    harness = load_harness(root)
    defaults = {
        "env_id": harness.ENV_ID,
        "time_budget": harness.TIME_BUDGET,
        "num_eval_episodes": harness.NUM_EVAL_EPISODES,
    }
    settings = from_json(Settings, defaults | asked)
    check_env(settings.env_id, root)
    if not 0 < settings.time_budget < float("inf"):
        budget = settings.time_budget
        raise UserError(f"The budget must be more than 0 seconds, not {budget:g}.")
    if settings.num_eval_episodes < 1:
        episodes = settings.num_eval_episodes
        raise UserError(f"At least one evaluation episode is needed, not {episodes}.")
    _vet(source, {ast_key(workspace.head_source())})
    session = open_session(root, tag, settings, new=tag is None, given=frozenset(asked))
    session.close()
    return session.folder, session.ledger


def _vet(source: str, known: set[str]) -> None:
    if why := vet(source, known):
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
                why = (text.splitlines() or ["it printed nothing"])[-1].removeprefix("autorl: ")
                raise UserError(f"The loop for {folder.name!r} could not start: {why}")
            return
        time.sleep(0.05)


def look_up(root: Path, ticket: str) -> tuple[dict[str, Any], int]:
    """What is known of an experiment now, and the exit code of `wait`.

    Args:
        ticket: the id that `try` printed, or an experiment's number.

    Returns:
        (answer, code): 0 decided or refused, 4 under way, 1 nobody works on it.

    Raises:
        UserError: no session knows this id.
    """
    if not ticket.strip():
        raise UserError("`wait` needs the id that `try` printed.")
    for path in journals(root):
        ledger = read_ledger(path)
        attempt = _by_ticket(ledger, ticket)
        answer = {"id": ticket, "session": path.parent.name}
        if refused := next((r for r in ledger.refusals if r.get("ticket") == ticket), None):
            reason, what_next = refused["reason"], "fix ./train.py and try again"
            return answer | {"state": "refused", "reason": reason, "next": what_next}, 0
        if attempt is not None:
            answer |= {"state": "running"} | _figures(ledger, attempt)
            if _is_settled(ledger, attempt):
                return answer | _decision(ledger, attempt, path.parent.name), 0
            if pending := ledger.pending():
                answer["measuring"] = f"experiment {pending[-1].attempt} ({pending[-1].purpose})"
        elif (path.parent / "inbox" / f"{ticket}.json").is_file():
            answer["state"] = "queued"
        else:
            continue
        if holder(path.parent / "session.lock"):
            return answer | {"next": f"{program(root)} wait {ticket} --timeout 540"}, 4
        ended = f": {ledger.ended}" if ledger.ended else ""
        return answer | {
            "state": "waiting for a loop",
            "reason": f"no loop works on this session{ended}",
            "next": f"{program(root)} run --tag {path.parent.name} --inbox-only",
        }, 1
    raise UserError(
        f"No session knows the id {ticket}; `{program(root)} history` lists what there is."
    )


def _by_ticket(ledger: Ledger, ticket: str) -> Attempt | None:
    """The newest attempt with this id or number; a superseded one is measured again."""
    found = [
        a
        for a in ledger.attempts.values()
        if a.ticket == ticket or (ticket.isdecimal() and a.n == int(ticket))
    ]
    live = [a for a in found if a.state != "superseded"]
    return (live or found)[-1] if found else None


def _figures(ledger: Ledger, attempt: Attempt) -> dict[str, Any]:
    row, best = ledger.row(attempt), incumbent(ledger)
    logs = [r.folder for r in ledger.runs.values() if r.attempt == attempt.n]
    return {
        "experiment": attempt.n,
        "title": attempt.title,
        "commit": attempt.commit,
        "avg_return": row.avg_return,
        "stderr": row.stderr,
        "runs": row.runs,
        "incumbent": best.n if best else None,
        "incumbent_return": ledger.row(best).avg_return if best else None,
        "log": f"{logs[-1]}/run.log" if logs else None,
    }


def _newest_keep(ledger: Ledger) -> Attempt | None:
    for a in reversed(ledger.attempts.values()):
        if a.verdict and a.verdict.outcome == "keep" and a.state != "undone":
            return a
    return None


def _is_settled(ledger: Ledger, attempt: Attempt) -> bool:
    """Decided, and where it was kept the branch has moved there."""
    if attempt.verdict is None or attempt.state == "superseded":
        return False
    return attempt.commit == ledger.tip or attempt is not _newest_keep(ledger)


def _decision(ledger: Ledger, attempt: Attempt, tag: str) -> dict[str, Any]:
    row = ledger.row(attempt)
    what_next = "kept: go on from this ./train.py"
    if attempt is not _newest_keep(ledger):
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


def incumbent(ledger: Ledger) -> Attempt | None:
    """The attempt at the tip of the research branch, else the baseline."""
    return next(
        (a for a in reversed(ledger.attempts.values()) if a.commit and a.commit == ledger.tip),
        ledger.attempts.get(0),
    )
