"""`try` and `wait`, as a coding agent uses them: through a shell, with exit codes and one block."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import clean_env, git, make_repo

from autorl.cli.check import between_runs
from autorl.records import Proposal
from autorl.session import Settings, read_state
from autorl.session.inbox import Inbox
from autorl.system.hardware import affinity
from autorl.system.locks import hold_cores, holder_pid

SCRIPT = 'SCRIPT = {{"return": {0}, "noise": 0.1, "seconds": {1}, "end": "{2}"}}\n'
SCRIPTED = ("--runner", "scripted", "--env-id", "Pendulum-v1")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    train = tmp_path / "train.py"
    train.write_text(SCRIPT.format(10.0, 0.05, "ok"))
    return make_repo(tmp_path / "repo", train)


def edit(repo: Path, value: float, seconds: float = 0.05, end: str = "ok") -> None:
    (repo / "train.py").write_text(SCRIPT.format(value, seconds, end))


def leave(autorl, message: str, *args: str) -> dict:
    began = time.monotonic()
    done = autorl("try", "-m", message, *SCRIPTED, "--json", *args)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 20  # at once: it does not wait for the measurement
    return json.loads(done.stdout)


def wait(autorl, ticket: str, timeout: float = 90) -> tuple[dict, int]:
    done = autorl("wait", ticket, "--timeout", str(timeout), "--json", timeout=timeout + 30)
    return json.loads(done.stdout), done.returncode


def test_an_edit_is_measured_decided_and_recorded_in_the_background(repo: Path, autorl) -> None:
    edit(repo, 20.0)
    left = leave(autorl, "twice as good\nbecause 20 is twice 10")
    answer, code = wait(autorl, left["id"])
    assert code == 0 and answer["state"] == "decided" and answer["outcome"] == "keep"
    assert answer["avg_return"] == pytest.approx(20.0, abs=1.0)
    assert "next" in answer and answer["reason"]
    kept = git(repo, "show", f"autoresearch/{left['session']}:train.py")
    assert kept == SCRIPT.format(20.0, 0.05, "ok").strip()
    # the second one goes to the same session and is held against the first
    edit(repo, 5.0)
    worse = leave(autorl, "half as good")
    answer, code = wait(autorl, worse["id"])
    assert worse["session"] == left["session"]
    assert code == 0 and answer["outcome"] == "discard"
    assert answer["incumbent_return"] == pytest.approx(20.0, abs=1.0)
    assert "git show" in answer["next"]
    history = json.loads(autorl("history", "--json").stdout)["experiments"]
    titles = [e["description"] for e in history]
    assert titles == ["baseline", "twice as good", "half as good"]
    assert history[1]["hypothesis"] == "because 20 is twice 10"


def test_a_keep_is_reported_once_the_branch_stands_there(repo: Path, autorl) -> None:
    edit(repo, 20.0)
    left = leave(autorl, "twice as good")
    assert wait(autorl, left["id"])[0]["outcome"] == "keep"
    branch = f"refs/heads/autoresearch/{left['session']}"
    journal = repo / "results/Pendulum-v1" / left["session"] / "journal.jsonl"
    while holder_pid(journal.parent / "session.lock") is not None:
        time.sleep(0.05)
    kept = git(repo, "rev-parse", branch)
    # as a kill between verdict and branch leaves it: written down, not moved
    events = journal.read_text().splitlines(keepends=True)
    spaceless = [line.replace(" ", "") for line in events]
    verdict = next(k for k, line in enumerate(spaceless) if '"outcome":"keep"' in line)
    journal.write_text("".join(events[: verdict + 1]))
    git(repo, "update-ref", branch, f"{kept}~1")
    answer, code = wait(autorl, left["id"], timeout=0)
    assert code == 1 and answer["state"] == "waiting for a loop" and "outcome" not in answer
    assert "killed" in answer["reason"]
    answer, code = wait(autorl, left["id"])
    assert code == 0 and answer["outcome"] == "keep" and git(repo, "rev-parse", branch) == kept
    assert answer["note"] == "its loop had ended (the loop was killed), so another was started"


def test_an_experiment_left_while_the_loop_closes_is_measured_all_the_same(
    repo: Path, autorl
) -> None:
    edit(repo, 20.0)
    left = leave(autorl, "the first")
    folder = repo / "results" / "Pendulum-v1" / left["session"]
    lock, end = folder / "session.lock", time.monotonic() + 60
    loop = holder_pid(lock)
    assert loop is not None
    while '"closed"' not in (folder / "journal.jsonl").read_text() and time.monotonic() < end:
        time.sleep(0.002)
    os.kill(loop, signal.SIGSTOP)  # it closes as slowly as this test needs
    # the loop has read its inbox for the last time and holds the session: `try` starts no other
    second = Inbox(folder / "inbox").leave(
        Proposal(title="the second", source=SCRIPT.format(30.0, 0.05, "ok"), proposer="person")
    )
    held = holder_pid(lock)
    os.kill(loop, signal.SIGCONT)
    assert held == loop
    answer, code = wait(autorl, second)
    assert code == 0 and answer["outcome"] == "keep" and answer["title"] == "the second"


def test_a_crash_is_a_verdict_with_a_reason(repo: Path, autorl) -> None:
    edit(repo, 20.0, end="raise")
    answer, code = wait(autorl, leave(autorl, "breaks")["id"])
    assert code == 0 and answer["outcome"] == "crash" and answer["avg_return"] is None
    assert answer["log"] and answer["next"].startswith("fix ./train.py and try again; or ")


def test_a_check_and_a_run_take_turns_on_the_same_cores(repo: Path, autorl) -> None:
    edit(repo, 20.0, seconds=2.0)
    left = leave(autorl, "a run of two seconds", "--budget", "30")
    journal = repo / "results" / "Pendulum-v1" / left["session"] / "journal.jsonl"
    while not any(run.attempt for run in read_state(journal).pending()):  # the one of two seconds
        time.sleep(0.05)
    with between_runs(repo, Settings(time_budget=30.0)) as alone:
        assert alone
        before = len(read_state(journal).runs)
        time.sleep(1.0)
        assert len(read_state(journal).runs) == before and not read_state(journal).pending()
    assert wait(autorl, left["id"])[0]["outcome"] == "keep"


def test_results_of_an_earlier_session_are_not_written_over(repo: Path, autorl) -> None:
    folder = repo / "results" / "Pendulum-v1" / "old"
    folder.mkdir(parents=True)
    (folder / "results.tsv").write_text("somebody's\n")
    done = autorl("begin", "--tag", "old", "--env-id", "Pendulum-v1", "--runner", "scripted")
    assert done.returncode == 2 and "holds results of another session" in done.stderr
    assert [p.name for p in folder.iterdir()] == ["results.tsv"]


def test_an_unchanged_first_try_begins_a_session_and_a_second_one_is_refused(
    repo: Path, autorl
) -> None:
    begun = leave(autorl, "nothing changed", "--budget", "60")
    assert begun["id"] == "0"
    first, then = begun["takes"].split("; then ")
    assert first == "4 runs of the baseline first: about 4 min" and "about 1 min a run" in then
    answer, code = wait(autorl, "baseline")
    assert code == 0 and answer["outcome"] == "baseline" and answer["runs"] == 4
    done = autorl("try", "-m", "nothing changed")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "the program of the baseline" in done.stderr


@pytest.mark.long
def test_a_killed_loop_starts_again_and_git_sees_a_session_once_it_is_shown(
    repo: Path, autorl
) -> None:
    begun = autorl("begin", "--tag", "mine", *SCRIPTED, "--json")
    assert begun.returncode == 0, begun.stderr
    assert "wait 0 --tag mine" in json.loads(begun.stdout)["next"]
    assert wait(autorl, "0")[0]["state"] == "decided"
    edit(repo, 20.0, seconds=2.0)
    left = leave(autorl, "twice as good")
    assert len(left["id"]) <= 9
    lock = repo / "results/Pendulum-v1/mine/session.lock"
    journal, end = lock.with_name("journal.jsonl"), time.monotonic() + 60
    while not read_state(journal).pending() and time.monotonic() < end:
        time.sleep(0.05)
    if (pid := holder_pid(lock)) is not None:
        os.kill(pid, signal.SIGKILL)
    while holder_pid(lock) is not None:
        time.sleep(0.05)
    assert "the loop was killed" in json.loads(autorl("status", "--json").stdout)["state"]
    answer, code = wait(autorl, left["id"])
    assert code == 0 and answer["outcome"] == "keep"
    while holder_pid(lock) is not None:  # it may calibrate what is far better
        time.sleep(0.05)

    assert git(repo, "status", "--porcelain") == "M train.py"
    assert autorl("report").returncode == 0
    assert git(repo, "status", "--porcelain").endswith("?? results/")
    git(repo, "add", "results/Pendulum-v1/mine")
    added = git(repo, "diff", "--cached", "--name-only", "--relative=results/Pendulum-v1/mine")
    names = {".gitignore", "journal.jsonl", "results.tsv", "progress.png", "report.html"}
    assert set(added.split()) == names


@pytest.mark.long
def test_what_is_cancelled_stops_and_may_be_tried_again(repo: Path, autorl) -> None:
    edit(repo, 20.0, seconds=60.0)
    slow = leave(autorl, "slow")
    edit(repo, 30.0)
    second = leave(autorl, "queued behind it")
    end = time.monotonic() + 60
    while wait(autorl, slow["id"], timeout=0)[0]["state"] == "queued" and time.monotonic() < end:
        time.sleep(0.1)
    queued = json.loads(autorl("status", "--json").stdout)["queued"]
    assert queued == [{"id": second["id"], "title": "queued behind it"}]
    for ticket in (second["id"], slow["id"]):
        done = autorl("cancel", ticket, "--json")
        answer = json.loads(done.stdout)
        assert done.returncode == 0 and answer["state"] == "cancelled"
        assert wait(autorl, ticket, timeout=0)[1] == 0
    again = leave(autorl, "not cancelled")
    answer, code = wait(autorl, again["id"])
    assert code == 0 and answer["outcome"] == "keep" and answer["experiment"] == 2
    done = autorl("cancel", again["id"])
    assert done.returncode == 2 and "decided" in done.stderr


def test_a_machine_on_which_others_measure_is_a_queue(repo: Path, autorl, tmp_path) -> None:
    cores, _ = hold_cores(affinity(), tmp_path / "autorl-home" / "slots")
    assert cores is not None
    core = str(affinity()[0])
    options = ["--env-id", "Pendulum-v1", "--cores", core, "--sandbox", "off", "--json"]
    begun = autorl("begin", *options)
    assert begun.returncode == 0, begun.stderr
    end, answer = time.monotonic() + 60, {}
    while "waits" not in answer and time.monotonic() < end:
        answer, code = wait(autorl, "0", timeout=0)
        assert code == 4 and answer["state"] == "queued"
    assert answer["waits"].startswith(f"core {core} is held by pid {os.getpid()}")
    cores.close()
    end = time.monotonic() + 60
    while answer["state"] == "queued" and time.monotonic() < end:
        answer, code = wait(autorl, "0", timeout=0)
    assert code == 4 and answer["state"] == "running"
    assert autorl("stop").returncode == 0


def test_waiting_runs_out_of_time_with_its_own_exit_code_and_stop_stops(repo: Path, autorl) -> None:
    edit(repo, 20.0, seconds=30.0)
    left = leave(autorl, "slow")
    answer, code = wait(autorl, left["id"], timeout=3)
    assert code == 4 and answer["state"] in ("queued", "running") and left["id"] in answer["next"]
    done = autorl("stop")
    assert done.returncode == 0 and "resume" in done.stdout
    answer, code = wait(autorl, left["id"], timeout=5)
    assert code == 1 and "run --tag" in answer["next"]


def test_a_shell_script_can_play_the_agent(repo: Path, tmp_path: Path) -> None:
    script = f"""
set -eu
sed -i 's/10.0/15.0/' train.py
autorl="{sys.executable} agent_loop.py"
id=$($autorl try -m fifteen --runner scripted --env-id Pendulum-v1 | sed -n 's/^id: *//p')
until $autorl wait "$id" --timeout 20 > verdict.txt; do
    [ $? -eq 4 ] || exit 1
done
cat verdict.txt
"""
    argv, env = ["bash", "-c", script], clean_env(tmp_path)
    done = subprocess.run(argv, cwd=repo, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    block = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    assert block["outcome"].strip() == "keep"
    assert float(block["avg_return"]) == pytest.approx(15.0, abs=1.0)
