"""`try --check`: does ./train.py run at all? The judge trains it for two updates and lets it play.

Takes seconds, in the sandbox like a run, on cores that no session measures on where there are
such, else between two runs where these are short. What it does not do:
make or need a session, score, or keep anything.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from autorl.cli.cores import idle
from autorl.cli.experiment import meant
from autorl.environments import check_env
from autorl.errors import AutoRLError
from autorl.git import Repository
from autorl.records import RunRecord
from autorl.runners.local import LocalRunner
from autorl.session import SessionState, Settings, fold, journals, program
from autorl.session.event_log import Follower
from autorl.session.experiment import crash_in
from autorl.session.inbox import CHECK_LOCK
from autorl.source.checks import look
from autorl.system.bytecode import compile_packages
from autorl.system.files import read_text
from autorl.system.hardware import partition
from autorl.system.locks import FileLock, holder
from autorl.system.text import plain

UPDATES, EPISODES = 2, 2
PATIENCE = 60.0  # seconds that a run on the same cores is waited for
LOG_CHARS = 1_500
FEW = "It logged {} of 2 updates: log_metrics is wanted after each, control runs count them."


def check(root: Path, o: dict[str, Any]) -> dict[str, Any]:
    """What a smoke run of ./train.py saw, or what broke, with the line.

    Args:
        o: the flags of `try`; settings are the session's, where there is one.

    Raises:
        UserError: the settings cannot be used, or there is no train.py.
        AutoRLError: the judge did not live to the end of the run.
    """
    source = Repository(root).working_source()
    _, settings, _ = meant(root, o)
    check_env(settings.env_id, settings.env_kwargs)
    began = time.monotonic()
    if why := look(source).why:
        record, updates = RunRecord("crash", "look", f"It is refused before any run: {why}"), 0
        alone = True
    else:
        with idle(len(partition(settings.cores, 1)[0])) as cores:
            settings = replace(settings, cores=cores or settings.cores)
            with contextlib.nullcontext(True) if cores else between_runs(root, settings) as alone:
                record, updates = _run(root, source, settings)
    if record.status == "interrupted":
        raise AutoRLError(f"The check came to no end: {record.reason}")
    crash, fine = crash_in(source, record), record.status == "ok"
    few = fine and updates < UPDATES
    return {
        "state": "fine" if fine else "broken",
        "env_id": settings.env_id,
        "isolation": record.isolation if record.total_seconds else None,
        "seconds": round(time.monotonic() - began, 1),
        "first_update": record.first_update_seconds,
        "updates": updates,
        "returns": [float(f"{value:.6g}") for value in record.returns],
        "reason": FEW.format(updates) if few else record.reason,
        "line": None if fine else crash.line,
        "code": None if fine else plain(crash.code)[:200],
        "note": None if alone else "a session measures on these cores: its runs got less of them",
        "log": None if fine else plain(record.log_tail)[-LOG_CHARS:],
        "next": f'{program(root)} try -m "title: what and why"' if fine else "fix ./train.py",
    }


@contextlib.contextmanager
def between_runs(root: Path, settings: Settings) -> Iterator[bool]:
    """Between two runs of the sessions that measure here, whose loops wait meanwhile; False where
    their runs take longer than is waited for: what a check takes of those is little.
    """
    busy = [p for p in journals(root) if holder(p.parent / "session.lock")]
    locks = [FileLock(path.parent / CHECK_LOCK) for path in busy]
    known, end = [(Follower(p), SessionState()) for p in busy], time.monotonic() + 2 * PATIENCE
    try:
        while True:
            ours = all([lock.acquire("try --check") for lock in locks])
            for follower, state in known:
                fold(follower.new(), state)
            alone = ours and not any(state.pending() for _, state in known)
            if alone or settings.time_budget > PATIENCE or time.monotonic() > end:
                break
            time.sleep(0.2)
        yield alone
    finally:
        for lock in locks:
            lock.release()


def _run(root: Path, source: str, settings: Settings) -> tuple[RunRecord, int]:
    """One run of kind `check`, and how many updates it logged."""
    compile_packages()
    with tempfile.TemporaryDirectory(prefix="autorl-", ignore_cleanup_errors=True) as scratch:
        folder, runner = Path(scratch) / "run", LocalRunner(1, root)
        gpu = settings.gpu if settings.runner == "local" else ""
        job = settings.job(
            source, 1, num_eval_episodes=EPISODES, budget_steps=0, gpu=gpu, kind="check"
        )
        handle = runner.start(job, folder)
        judge = runner.runs[handle].process
        try:
            if judge is not None:  # a run that is being measured goes first
                os.setpriority(os.PRIO_PROCESS, judge.pid, 5)
            while (record := runner.poll(handle)) is None:
                time.sleep(0.1)
        finally:
            runner.cancel(handle)
            runner.close()
        logged = read_text(folder / "metrics.csv", 1 << 20)
        return record, max(0, logged.count("\n") - 1)
