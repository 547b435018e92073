"""`try` and `wait`: a person or a coding agent at the keyboard uses the loop's own machinery.

`try` leaves ./train.py in a session's inbox, starts a loop in the background if none is working on it, and returns an
id; `wait` looks at that id. What it does not do: measure or decide.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from autorl.environments import check_env, load_harness
from autorl.errors import UserError
from autorl.git.repository import Repository
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


def leave(root: Path, o: dict[str, Any]) -> dict[str, Any]:
    """Put ./train.py into a session's inbox and see that a loop works on it."""
    workspace = Repository(root)
    source = workspace.working_source()
    title, _, rest = o["message"].strip().partition("\n")
    given = {
        "time_budget": o["budget"],
        "num_eval_episodes": o["episodes"],
        "rigor": o["rigor"],
        "sandbox": o["sandbox"],
        "env_id": o["env_id"],
        "runner": o["runner"],
    }
    asked = {k: v for k, v in given.items() if v is not None}
    harness = load_harness(root)
    defaults = {
        "env_id": harness.ENV_ID,
        "time_budget": harness.TIME_BUDGET,
        "num_eval_episodes": harness.NUM_EVAL_EPISODES,
    }
    settings = from_json(Settings, defaults | asked)
    try:
        path = find_session(root, o["tag"], o["env_id"])
        if o["tag"] is None and read_ledger(path).finished:
            raise UserError("finished")
        ledger = read_ledger(path)
    except UserError:
        check_env(settings.env_id, root)
        if not 0 < settings.time_budget < float("inf"):
            raise UserError(
                f"The budget must be more than 0 seconds, not {settings.time_budget:g}."
            ) from None
        if settings.num_eval_episodes < 1:
            raise UserError(
                f"At least one evaluation episode is needed, not {settings.num_eval_episodes}."
            ) from None
        if why := vet(source, {ast_key(workspace.head_source())}):
            raise UserError(f"./train.py was not taken: {why}") from None
        session = open_session(
            root, o["tag"], settings, new=o["tag"] is None, given=frozenset(asked)
        )
        session.close()
        path, ledger = session.folder / "journal.jsonl", session.ledger
    kept, known = (
        ledger.session["settings"],
        {a.key for a in ledger.attempts.values()} or {ledger.session["baseline"]["key"]},
    )
    if clash := next((k for k, v in asked.items() if kept[k] != v), None):
        raise UserError(
            f"The session {path.parent.name!r} was begun with {clash.replace('_', ' ')} {kept[clash]}, not {asked[clash]}: leave the flag out, or give --tag NAME for a session of its own."
        )
    inbox = Inbox(path.parent / "inbox")
    known |= {ast_key(p.source) for _, p in inbox.waiting() if p.source}
    if why := vet(source, known):
        raise UserError(f"./train.py was not taken: {why}")
    ticket = inbox.leave(
        Proposal(title=title, hypothesis=rest.strip(), source=source, proposer="person")
    )
    try:
        if holder_pid(path.parent / "session.lock") is None:
            start_loop(root, path.parent)
    except UserError:
        inbox.drop(ticket)  # refused is refused: nothing is measured later
        raise
    runs = sum(r.counted for r in ledger.runs.values())
    minutes = ledger.session["settings"]["time_budget"] * 1.05 / 60
    return {
        "id": ticket,
        "session": path.parent.name,
        "state": "queued",
        "takes": f"about {minutes:.0f} minutes a run; the first experiment of a session waits for 4 runs of the baseline"
        if runs < 4
        else f"about {minutes:.0f} minutes a run, up to 6 runs",
        "next": f"{program(root)} wait {ticket} --timeout 540",
    }


def start_loop(root: Path, folder: Path, patience: float = 30.0) -> None:
    """Start a loop in the background on what waits in a session's inbox, and see it take the session.

    Raises:
        UserError: it ended at once; its last line says why.
    """
    with open(folder / "loop.log", "ab") as log:
        loop = subprocess.Popen(
            [sys.executable, *_program_file(root), "run", "--tag", folder.name, "--inbox-only"],
            cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + patience
    while time.monotonic() < end and holder_pid(folder / "session.lock") is None:
        if (code := loop.poll()) is not None:
            if code not in (0, 130) and holder_pid(folder / "session.lock") is None:
                lines = (folder / "loop.log").read_text(
                    encoding="utf-8", errors="replace"
                ).splitlines() or ["it said nothing"]
                raise UserError(
                    f"The loop for {folder.name!r} could not start: {lines[-1].removeprefix('autorl: ')}"
                )
            return
        time.sleep(0.05)


def _program_file(root: Path) -> list[str]:
    """Arguments of Python that start the command line on this project."""
    script = root / "agent_loop.py"
    return [str(script)] if script.is_file() else ["-c", "from autorl.cli import main; main()"]


def look_at(root: Path, ticket: str) -> tuple[dict[str, Any], int]:
    """(what is known of an experiment, exit code: 0 decided, 4 under way, 1 nobody works on it).

    Raises:
        UserError: no session knows this id.
    """
    if not ticket.strip():
        raise UserError("`wait` needs the id that `try` printed.")
    for path in journals(root):
        ledger = read_ledger(path)
        attempt = _by_ticket(ledger, ticket)
        refused = next((r for r in ledger.refusals if r.get("ticket") == ticket), None)
        queued = (path.parent / "inbox" / f"{ticket}.json").is_file()
        if attempt is None and refused is None and not queued:
            continue
        tag = path.parent.name
        answer: dict[str, Any] = {"id": ticket, "session": tag, "state": "running"}
        ended = f": {ledger.ended}" if ledger.ended else ""
        if refused is not None:
            return answer | {
                "state": "refused",
                "reason": refused["reason"],
                "next": "mend ./train.py and try again",
            }, 0
        alive = holder(path.parent / "session.lock")
        resume, again = (
            f"{program(root)} run --tag {tag} --inbox-only",
            f"{program(root)} wait {ticket} --timeout 540",
        )
        if attempt is None:
            return _under_way(answer | {"state": "queued"}, alive, ended, resume, again)
        row, tip = ledger.row(attempt), incumbent(ledger)
        best = ledger.row(tip) if tip else None
        answer |= {
            "experiment": attempt.n,
            "title": attempt.title,
            "commit": attempt.commit,
            "avg_return": row.avg_return,
            "stderr": row.stderr,
            "runs": row.runs,
        }
        answer |= {
            "incumbent": tip.n if tip else None,
            "incumbent_return": best.avg_return if best else None,
        }
        logs = [r.folder for r in ledger.runs.values() if r.attempt == attempt.n]
        answer["log"] = f"{logs[-1]}/run.log" if logs else None
        stand = (
            a
            for a in reversed(ledger.attempts.values())
            if a.verdict and a.verdict.outcome == "keep" and a.state != "undone"
        )
        kept = next(stand, None)
        arriving = (
            attempt is kept and attempt.commit != ledger.tip
        )  # kept, and the branch is about to move there
        if attempt.verdict is None or attempt.state == "superseded" or arriving:
            pending = [r for r in ledger.pending()]
            if pending:
                answer["measuring"] = f"experiment {pending[-1].attempt} ({pending[-1].purpose})"
            return _under_way(answer, alive, ended, resume, again)
        answer |= {
            "state": "decided",
            "outcome": row.status,
            "seconds": row.seconds,
            "reason": row.reason,
        }
        answer["next"] = (
            "kept: go on from this ./train.py" if attempt is kept
            else f"the best one is another: git show autoresearch/{tag}:./train.py > train.py.best && mv train.py.best train.py; then the next idea"
        )  # fmt: skip
        return answer, 0
    raise UserError(
        f"No session knows the id {ticket}; `{program(root)} history` lists what there is."
    )


def _by_ticket(ledger: Ledger, ticket: str) -> Attempt | None:
    """The newest attempt with this id (a superseded one is measured again under the same id), or by its number."""
    found = [
        a
        for a in ledger.attempts.values()
        if a.ticket == ticket or (ticket.isdecimal() and a.n == int(ticket))
    ]
    live = [a for a in found if a.state != "superseded"]
    return (live or found)[-1] if found else None


def _under_way(
    answer: dict[str, Any], alive: str, ended: str, resume: str, again: str
) -> tuple[dict[str, Any], int]:
    if not alive:
        return answer | {
            "state": "waiting for a loop",
            "reason": f"no loop works on this session{ended}",
            "next": resume,
        }, 1
    return answer | {"next": again}, 4


def incumbent(ledger: Ledger) -> Attempt | None:
    return next(
        (a for a in reversed(ledger.attempts.values()) if a.commit and a.commit == ledger.tip),
        ledger.attempts.get(0),
    )
