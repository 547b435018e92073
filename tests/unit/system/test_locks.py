"""autorl/system/locks.py: one loop per tag, one run per core, and locks die with their holder.

Real processes and real flocks. Run: uv run pytest tests/unit/system/test_locks.py
"""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT, python

from autorl.errors import Paused, UserError
from autorl.system.locks import hold_cores, holder, holder_pid, lock_session, slots_folder

HOLD = """
import subprocess, sys, time
from pathlib import Path
from autorl.system.locks import *
what, path = sys.argv[1], Path(sys.argv[2])
held = lock_session(path, "demo") if what == "tag" else hold_cores((0, 1), path)
if "child" in sys.argv:
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    print(sleeper.pid, flush=True)
else:
    print("held", flush=True)
time.sleep(60)
"""


def started(*args: str) -> subprocess.Popen[str]:
    """This Python with these arguments, whose output is read later."""
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    argv = [sys.executable, *args]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def hold():
    """Start a process that holds a lock; all are killed at the end."""
    holders = []

    def start(what: str, path: Path, *more: str) -> tuple[subprocess.Popen[str], str]:
        process = started("-c", HOLD, what, str(path), *more)
        holders.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in holders:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_second_loop_on_a_tag_is_refused_naming_the_pid(tmp_path, hold):
    first, _ = hold("tag", tmp_path / "demo" / "session.lock")
    why = rf"demo is being worked on by pid {first.pid} .*stop --tag demo"
    with pytest.raises(UserError, match=why):
        lock_session(tmp_path / "demo" / "session.lock", "demo")
    assert holder_pid(tmp_path / "demo" / "session.lock") == first.pid


def test_the_lock_dies_with_its_holder_by_kill_9(tmp_path, hold):
    first, _ = hold("tag", tmp_path / "session.lock")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert holder_pid(tmp_path / "session.lock") is None
    lock = lock_session(tmp_path / "session.lock", "demo")
    assert holder_pid(tmp_path / "session.lock") == os.getpid()
    lock.release()


def test_a_started_child_that_outlives_its_loop_does_not_keep_the_lock(tmp_path, hold):
    """Even one started without closing its descriptors."""
    for what, path in (("tag", tmp_path / "session.lock"), ("cores", tmp_path / "slots")):
        first, orphan = hold(what, path, "child")
        try:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            os.kill(int(orphan), 0)  # it lives
            if what == "tag":
                lock_session(path, "demo").release()
            else:
                assert hold_cores((0, 1), path)[0] is not None
        finally:
            os.kill(int(orphan), signal.SIGKILL)


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    lock = lock_session(tmp_path / "session.lock", "demo")
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    try:
        lock.release()
        lock_session(tmp_path / "session.lock", "demo").release()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_forked_childs_exit_does_not_free_the_parents_lock(tmp_path, hold):
    lock = lock_session(tmp_path / "session.lock", "demo")
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    code = "import pathlib, sys; from autorl.system.locks import holder_pid"
    code += "; print(holder_pid(pathlib.Path(sys.argv[1])))"
    other = python("-c", code, tmp_path / "session.lock")
    assert other.stdout.strip() == str(os.getpid())
    lock.release()


def test_asking_who_holds_a_lock_does_not_make_or_take_it(tmp_path):
    assert holder(tmp_path / "absent.lock") == "" and not (tmp_path / "absent.lock").exists()
    lock_session(tmp_path / "session.lock", "demo").release()
    assert holder(tmp_path / "session.lock") == "" and holder_pid(tmp_path / "session.lock") is None


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "session.lock").symlink_to(precious)
    with pytest.raises(Paused, match="Cannot lock"):
        lock_session(tmp_path / "session.lock", "demo")
    assert precious.read_text() == "mine"


def test_two_loops_never_hold_the_same_core(tmp_path, hold):
    first, _ = hold("cores", tmp_path)
    held, who = hold_cores((1, 2), tmp_path)
    assert held is None and f"core 1 is held by pid {first.pid}" in who
    # all or nothing: core 2 was not kept by the refused call
    free, who = hold_cores((2, 3), tmp_path)
    assert free is not None and who == ""
    assert hold_cores((3,), tmp_path)[0] is None
    free.close()
    again, _ = hold_cores((3,), tmp_path)
    assert again is not None
    again.close()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert hold_cores((0, 1), tmp_path)[0] is not None


def test_many_processes_fighting_for_one_core_never_overlap(tmp_path):
    code = """
import sys, time
from pathlib import Path
from autorl.system.locks import *
folder, won = Path(sys.argv[1]), 0
end = time.monotonic() + 1.5
while time.monotonic() < end:
    if (held := hold_cores((0,), folder / "slots")[0]) is None:
        continue
    (folder / "inside").mkdir()  # fails when another is inside
    (folder / "inside").rmdir()
    held.close()
    won += 1
print(won)
"""
    processes = [started("-c", code, str(tmp_path)) for _ in range(4)]
    won = [int(process.communicate(timeout=60)[0] or -1) for process in processes]
    assert all(process.returncode == 0 for process in processes) and sum(won) > 0


def test_the_slots_are_the_same_place_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTORL_HOME", raising=False)
    usual = slots_folder()
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert slots_folder() == usual
    monkeypatch.setenv("AUTORL_HOME", str(tmp_path))
    assert slots_folder() == tmp_path / "slots"
    held, _ = hold_cores((0,))
    assert held is not None and stat.S_IMODE((tmp_path / "slots").stat().st_mode) == 0o700
    held.close()


def test_a_slots_folder_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="AUTORL_HOME"):
        hold_cores((0,), tmp_path / "file" / "slots")
