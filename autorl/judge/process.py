"""A judge as a process of its own, the caller's side.

process = launch(job, folder, pycache)       # folder/progress.json while it works
record = collect(process, folder, job)       # None until it has ended
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path

from autorl.judge import isolated_python, machine_share
from autorl.records import Job, Progress, RunRecord, from_json, to_json
from autorl.system.files import PROJECT, read_regular, read_text
from autorl.system.text import last_line

RECORD_BYTES = 16 * 1024 * 1024


def launch(
    job: Job, folder: Path, pycache: Path, project: Path = PROJECT
) -> "subprocess.Popen[bytes]":
    """Start a judge as a child of this process, in a session of its own.

    Args:
        pycache: an existing empty folder for bytecode, or one that only judges have written to.
        project: the folder whose evaluate.py the run gets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("record.json", "progress.json"):
        (folder / name).unlink(missing_ok=True)
    task = {
        "job": to_json(job),
        "folder": str(folder.resolve()),
        "parent": os.getpid(),
        "project": str(project.resolve()),
    }
    with open(folder / "judge.err", "wb") as errors:
        return isolated_python.start(
            "from autorl.judge.worker import main; sys.exit(main())",
            task,
            str(pycache),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            start_new_session=True,
        )


def read_progress(folder: Path) -> Progress | None:
    """The judge's latest report on a run under way."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        data = read_regular(folder / "progress.json", 1 << 15)
        return from_json(Progress, json.loads(data))
    return None


def collect(process: "subprocess.Popen[bytes]", folder: Path, job: Job) -> RunRecord | None:
    """The record of a judge that has ended, None while it works.

    A judge that died is an interrupted run, not a crash.
    """
    if process.poll() is None:
        return None
    errors = read_text(folder / "judge.err", 4000, tail=True).strip()
    for name in ("progress.json", "judge.err", ".room"):
        (folder / name).unlink(missing_ok=True)
    if process.returncode == 0:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            data = read_regular(folder / "record.json", RECORD_BYTES)
            return from_json(RunRecord, json.loads(data))
    reason = f"the judge {machine_share.ending(process.returncode)}: {last_line(errors)}"
    return RunRecord(
        status="interrupted",
        rule="judge",
        reason=machine_share.sentence(reason),
        env_id=job.env_id,
        seed=job.seed,
        time_budget=job.time_budget,
        log_tail=errors[-2000:],
    )
