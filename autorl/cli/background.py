"""The loop in the background that measures what `begin` and `try` leave: started, started again.

    revive(root, folder, state)          # a loop works on the session, or UserError says why not
    takes(state, settings, ahead=2)      # "4 runs of the baseline first: about 52 min; …"

What it does not do: measure, or decide when it is asked for.
"""

import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

from autorl.decision import Rules
from autorl.decision.rules import TOLERANCE
from autorl.errors import UserError
from autorl.loop.quiet import usual
from autorl.report import duration
from autorl.session import SessionState, Settings, program
from autorl.session.inbox import Inbox
from autorl.system.locks import holder_pid
from autorl.system.text import last_line

REVIVALS = 3  # of a loop that ends without a verdict or a refusal
EVALUATION = 1.05  # of the budget, what a run takes with its evaluation, until one has shown it
RULES = Rules()


def takes(state: SessionState, settings: Settings, ahead: int = 0) -> str:
    """How long a verdict takes: from what runs took here, else from budget and evaluation.

    Args:
        ahead: experiments that come before it.
    """
    ended = [r.record for r in state.runs.values() if r.record and r.kind == "measure"]
    took = [r.total_seconds for r in ended if r.status == "ok" and r.total_seconds]
    one = statistics.median(took) if took else EVALUATION * settings.time_budget
    each, left = f"about {duration(one)} a run, 1 to {RULES.max_runs} runs", 0
    shares = [r.machine.cpu_share for r in ended if r.machine.cpu_share is not None]
    if usual(shares) < TOLERANCE or state.waits:
        each += " (others use the machine: it may take longer)"
    if 0 not in state.attempts or state.attempts[0].outcome == "running":
        left = max(0, RULES.calibration_runs - sum(r.counted for r in state.runs_of(0)))
    if ahead:
        rounds = math.ceil(left / settings.slots) + ahead // settings.slots + 1
        each += f", after {ahead} other experiment{'s' if ahead > 1 else ''}"
        each += f": in {duration(rounds * one)} at the earliest"
    if not left:
        return each
    first = f"{left} run{'s' if left > 1 else ''} of the baseline first"
    first += f", {settings.slots} at once" if min(left, settings.slots) > 1 else ""
    return f"{first}: about {duration(math.ceil(left / settings.slots) * one)}; then {each}"


def how_it_ended(state: SessionState) -> str:
    """Why no loop works on a session where none does."""
    begun = state.starts or state.attempts
    return state.ended or ("the loop was killed" if begun else "no loop has begun")


def revive(root: Path, folder: Path, state: SessionState) -> None:
    """See that a loop works on a session; one that ended without a result starts again, three times
    in a row.

    Raises:
        UserError: it has ended too often, or cannot start; the cause, and what to do.
    """
    if holder_pid(folder / "session.lock") is not None:
        return
    tag, why = folder.name, how_it_ended(state).rstrip(".")
    again = f"{program(root)} run --tag {tag} --inbox-only"
    if (base := state.attempts.get(0)) and base.outcome == "crash":
        raise UserError(
            f"The baseline of {tag!r} has no score ({why}): fix train.py, commit it and begin "
            f"another session with --tag NAME, or run this one again with: {again}"
        )
    # what was cancelled may have been the cause
    if state.starts > REVIVALS and not Inbox(folder / "inbox").cancelled():
        raise UserError(
            f"The loop of {tag!r} has ended {state.starts} times in a row without a verdict, the "
            f"last time: {why}. See to that ({folder.relative_to(root)}/loop.log tells more) and "
            f"type: {again}; or take the experiment back with `cancel`."
        )
    start_loop(root, folder)


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
