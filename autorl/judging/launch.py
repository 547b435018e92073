"""A judge as a process of its own: isolated Python, job on standard input, record in its folder, dead with its parent.

    process = launch(job, folder, pycache)       # folder/progress.json while it works
    record = collect(process, folder, job)       # None until it has ended

Isolated: `-I` (no user site, no PYTHON* variables, no current folder on the path), a bytecode cache that only judges
write, an allow-listed environment, a session of its own, and an empty current folder.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from autorl.effects import effect
from autorl.judging import facts, files, tree
from autorl.judging.private import ROOT
from autorl.records import Job, Progress, RunRecord, from_json, to_json

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "AUTORL_HOME")
DEDICATED: list[str] = []  # not empty: this process is a judge and nothing else; "stop": it was told to stop


def isolated_python() -> list[str]:
    """argv of an isolated interpreter that can import autorl; what it shall run is appended to the last item."""
    prefix = sys._xoptions.get("pycache_prefix")
    cache = ["-X", f"pycache_prefix={prefix}"] if prefix else []
    return [sys.executable, "-I", *cache, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "]


def judge_env() -> dict[str, str]:
    """What of our environment a judge and its workers see: no key, no token."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if "AUTORL_HOME" in env:
        env["AUTORL_HOME"] = os.path.abspath(env["AUTORL_HOME"])  # a judge's current folder is another
    return env | {"OMP_NUM_THREADS": "1"}


def launch(job: Job, folder: Path, pycache: Path) -> "subprocess.Popen[bytes]":
    """Start a judge as a child of this process.

    Args:
        pycache: an existing empty folder for bytecode, or one that only judges have written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("record.json", "progress.json"):
        (folder / name).unlink(missing_ok=True)
    command = [sys.executable, "-I", "-X", f"pycache_prefix={pycache}", "-c",
               f"import sys; sys.path.insert(0, {str(ROOT)!r}); from autorl.judging.launch import child_main; sys.exit(child_main())"]  # fmt: skip
    with open(folder / "judge.err", "wb") as errors:
        process = effect("child start", lambda: subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=judge_env(), cwd="/", start_new_session=True))  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps({"job": to_json(job), "folder": str(folder.resolve()), "parent": os.getpid()}).encode() + b"\n")
    return process


def child_main() -> int:
    """The judge's process."""
    tree.prctl(tree.PR_SET_PDEATHSIG, signal.SIGKILL)
    tree.prctl(tree.PR_SET_CHILD_SUBREAPER, 1)
    task = json.loads(sys.stdin.readline())
    if os.getppid() != task["parent"]:
        return 1  # our parent died before we could ask to die with it
    DEDICATED.append("judge")
    signal.signal(signal.SIGTERM, lambda *_: DEDICATED.append("stop"))
    from autorl.judge import measure

    folder = Path(task["folder"])
    measure(from_json(Job, task["job"]), folder, lambda progress: _write_progress(folder, progress))
    return 0


def _write_progress(folder: Path, progress: Progress) -> None:
    temporary = folder / "progress.tmp"
    temporary.write_text(json.dumps(to_json(progress)))
    os.replace(temporary, folder / "progress.json")


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
    return RunRecord(status="interrupted", rule="judge", reason=facts.sentence(f"the judge {facts.ending(process.returncode)}: {last}"),
                     env_id=job.env_id, seed=job.seed, time_budget=job.time_budget, log_tail=complaint[-2000:])  # fmt: skip
