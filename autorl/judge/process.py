"""A judge as a process of its own, the caller's side.

process = launch(job, folder, pycache)       # folder/progress.json while it works
record = collect(process, folder, job)       # None until it has ended
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path

from autorl.effects import effect
from autorl.judge import machine_share
from autorl.judge.isolated_python import isolated_python, judge_env
from autorl.records import Job, Progress, RunRecord, from_json, to_json
from autorl.system import files
from autorl.system.files import PROJECT


def launch(job: Job, folder: Path, pycache: Path, project: Path = PROJECT) -> "subprocess.Popen[bytes]":
    """Start a judge as a child of this process, in a session of its own and an empty current folder.

    Args:
        pycache: an existing empty folder for bytecode, or one that only judges have written to.
        project: the folder whose evaluate.py the run gets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("record.json", "progress.json"):
        (folder / name).unlink(missing_ok=True)
    command = isolated_python("from autorl.judge.worker import main; sys.exit(main())", str(pycache))
    with open(folder / "judge.err", "wb") as errors:
        process = effect("child start", lambda: subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
            env=judge_env(), cwd="/", start_new_session=True))  # fmt: skip
    assert process.stdin is not None
    task = {"job": to_json(job), "folder": str(folder.resolve()), "parent": os.getpid(), "project": str(project.resolve())}
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps(task).encode() + b"\n")
    return process


def read_progress(folder: Path) -> Progress | None:
    """The judge's last look at a run under way."""
    data = files.read_regular(folder / "progress.json", 4096)
    with contextlib.suppress(ValueError, TypeError):
        return from_json(Progress, json.loads(data)) if data else None
    return None


def collect(process: "subprocess.Popen[bytes]", folder: Path, job: Job) -> RunRecord | None:
    """The record of a judge that has ended, None while it works. A judge that died is an interrupted run, not a crash."""
    if process.poll() is None:
        return None
    data = files.read_regular(folder / "record.json", 16 * 1024 * 1024)
    complaint = (files.read_regular(folder / "judge.err", 4000, tail=True) or b"").decode("utf-8", "replace").strip()
    for name in ("progress.json", "progress.tmp", "judge.err"):
        (folder / name).unlink(missing_ok=True)
    if data and process.returncode == 0:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return from_json(RunRecord, json.loads(data))
    last = complaint.splitlines()[-1] if complaint else "it said nothing"
    return RunRecord(status="interrupted", rule="judge", reason=machine_share.sentence(f"the judge {machine_share.ending(process.returncode)}: {last}"),
                     env_id=job.env_id, seed=job.seed, time_budget=job.time_budget, log_tail=complaint[-2000:])  # fmt: skip
