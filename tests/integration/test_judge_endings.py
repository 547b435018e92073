"""Nothing outlives a run: the judge or the loop killed, a sandbox left behind, a run cancelled."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from daemons import HANG, MARK, alive, gone

from autorl.interfaces import Runner
from autorl.judge import run_dir, sandbox
from autorl.records import Job
from autorl.runners.local import LocalRunner
from autorl.system.files import PROJECT


@pytest.mark.parametrize("mode", ["off", "auto"])
@pytest.mark.parametrize("who", ["judge", "loop"])
def test_kill_9_of_the_judge_or_of_the_loop_leaves_no_process(
    mode: str, who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORL_HOME", str(tmp_path / "home"))  # other tests look into the project's
    mark = f"autorl-killed-{mode}-{who}-{os.getpid()}"
    source = HANG.replace(MARK, mark)
    code = f"""
import sys, time
sys.path.insert(0, {str(PROJECT)!r})
from pathlib import Path
from autorl.records import Job
from autorl.runners.local import LocalRunner
runner = LocalRunner()
job = Job({source!r}, "Pendulum-v1", 1, 60.0, sandbox={mode!r})
handle = runner.start(job, Path({str(tmp_path)!r}))
print(handle, flush=True)
while (record := runner.poll(handle)) is None:
    time.sleep(0.05)
print(record.status, record.rule, flush=True)
"""
    loop = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert loop.stdout
    try:
        pid = int(loop.stdout.readline().split(":")[1])
        deadline = time.monotonic() + 60
        while not alive(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive(mark)
        os.kill(pid if who == "judge" else loop.pid, signal.SIGKILL)
        if who == "judge":
            assert loop.stdout.readline().split() == ["interrupted", "judge"]
        assert gone(mark) and gone(str(tmp_path))
    finally:
        loop.kill()
        loop.wait()
        loop.stdout.close()
    LocalRunner()  # the next one sweeps
    assert [p for p in run_dir.runs_folder().glob("run-*") if run_dir.is_dead(p)] == []


def test_a_sandbox_that_outlived_its_judge_is_swept(tmp_path: Path, box: sandbox.Sandbox) -> None:
    path = tmp_path / "runs" / "run-left"
    (path / "run").mkdir(parents=True)
    os.utime(path, (0, 0))  # long ago, and nobody holds its lock
    mark = f"3600.{os.getpid()}"
    argv = sandbox.wrap(box, ["/bin/sleep", mark], env={}, writable={path / "run": sandbox.RUN})
    left = subprocess.Popen(argv)
    other = subprocess.Popen(["/bin/sleep", "3600", str(path / "run")], stderr=subprocess.DEVNULL)
    try:
        while not alive(mark):
            time.sleep(0.02)
        code = "from autorl.judge import run_dir; run_dir.sweep()"
        env = os.environ | {"AUTORL_HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=env, check=True)
        assert left.wait(10) != 0 and gone(mark) and not path.exists()
    finally:
        left.kill()
        other.kill()
        other.wait()


def test_cancel_leaves_nothing_and_progress_tells_where_it_is(tmp_path: Path) -> None:
    mark = f"autorl-cancelled-{os.getpid()}"
    runner = LocalRunner()
    assert isinstance(runner, Runner)
    source = HANG.replace(MARK, mark).replace(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime",
        "log_metrics(5, sps=2.0, episode_return=-3.0)\ntime",
    )
    job = Job(source, "Pendulum-v1", 1, 60.0, sandbox="off")
    handle = runner.start(job, tmp_path / "run")
    deadline = time.monotonic() + 60
    while not (seen := runner.progress(handle)) or seen.step is None:
        assert time.monotonic() < deadline
        assert runner.poll(handle) is None
        time.sleep(0.05)
    assert (seen.phase, seen.step) == ("training", 5)
    assert (seen.steps_per_second, seen.episode_return) == (2.0, -3.0)
    assert not runner.attach(handle, job, tmp_path)
    runner.cancel(handle)
    assert gone(mark, 2)
    assert json.loads((tmp_path / "run" / "record.json").read_text())["status"] == "interrupted"
    assert not (tmp_path / "run" / "progress.json").exists()
