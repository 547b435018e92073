"""The judge's parts alone: controls, what is read of a child, and `python evaluate.py`."""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT, python
from played_alone import NOTHING

from autorl.decision.controls import band_verdict
from autorl.environments import check_env, plausible_maximum, sanity_band
from autorl.errors import UserError
from autorl.judge import machine_share
from autorl.judge.child import Fault, Log
from autorl.judge.episodes import Ask, roll
from autorl.judge.machine_share import clock
from autorl.records import Job, Limits, RunRecord
from autorl.system import files

# -- controls --------------------------------------------------------------------------------------

BAND = {
    "nothing": {"mean": -100.0, "std": 10.0, "min": -120.0, "max": -90.0},
    "random": {"mean": -110.0, "std": 20.0, "min": -150.0, "max": -80.0},
    "upper": -80.0,
}


@pytest.mark.parametrize(
    ("score", "trained", "passes"),
    [
        (-90.0, 300.0, True),
        (100.0, 300.0, True),
        (150.0, 300.0, False),
        (-19.0, None, False),
        (-21.0, None, True),
    ],
)
def test_zero_budget_control_measures_far_above_in_what_training_gains(
    score, trained, passes
) -> None:
    # upper -80; margin max(3 * 20, half of 380 = 190) -> above 110 with a trained score of 300,
    # above -20 without one
    record = RunRecord("ok", avg_return=score, env_id="Mine-v0")
    assert band_verdict("zero_budget", record, BAND, trained)[0] is passes


def test_a_control_that_crashed_does_not_pass() -> None:
    assert not band_verdict("zero_budget", RunRecord("crash", "exit", "It fell."), BAND)[0]


def test_sanity_band_of_a_known_environment() -> None:
    band = sanity_band("InvertedPendulum-v5", episodes=5)
    low, mean, high = (band["random"][name] for name in ("min", "mean", "max"))
    assert 1 <= low <= mean <= high <= band["upper"] < 200
    assert band == sanity_band("InvertedPendulum-v5", episodes=5)


def test_a_score_above_the_plausible_maximum_is_one_that_no_honest_run_reaches() -> None:
    assert plausible_maximum("InvertedPendulum-v5") >= 1000.0
    assert plausible_maximum("InvertedPendulum-v5") < 1000.1
    assert plausible_maximum("Mine-v0") is None
    assert plausible_maximum("CartPole-v1") is not None
    assert plausible_maximum("CartPole-v1", {"max_episode_steps": 9}) is None


# -- what a policy answers -------------------------------------------------------------------------


@contextlib.contextmanager
def asking(policy: Callable[[Any], Any]) -> Iterator[Ask]:
    """The judge's end of a real socket to the real server of a policy."""
    from autorl.judge import policy_server

    class Agent:
        def get_action(self, obs):
            return policy(obs)

    ours, theirs = socket.socketpair()
    os.write(theirs.fileno(), b"R")
    server = threading.Thread(target=policy_server._answer, args=(theirs.detach(), Agent(), "cpu"))
    server.start()
    with ours:
        try:
            yield Ask(ours, 10.0)
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            server.join()


def answered(actions: np.ndarray, choices: int) -> np.ndarray:
    """What the judge takes of a policy that answers this to 3 observations."""
    with asking(lambda _: actions) as ask:
        ask.hello(3, 2, 1, choices)
        return ask(np.ones(3, np.uint8), np.zeros((3, 2), np.float32)).copy()


def test_nested_observations_and_choices_with_a_start_are_played() -> None:
    seen = []

    def policy(obs):
        seen.append(obs.numpy().copy())
        return np.full(len(obs), 2)

    with asking(policy) as ask:
        played = roll("various_env:Various-v0", {"steps": 3}, (7, 8), ask)
    assert played.returns == (21.0, 21.0) and played.lengths == (3, 3)  # 2 is action 7
    assert [obs.shape for obs in seen] == [(2, 6)] * 3
    assert [obs[0, 4] for obs in seen] == [0, 1, 2]  # steps taken, the first of "where"


def test_discrete_actions_come_as_whole_numbers_of_either_shape() -> None:
    for shape in ((3,), (3, 1)):
        for dtype in (np.int64, np.uint8, np.float32):
            found = answered(np.array([0, 4, 2], dtype).reshape(shape), 5)
            assert found.tolist() == [[0], [4], [2]]


@pytest.mark.parametrize(
    ("actions", "choices", "words"),
    [
        ([0, 0.5, 1], 2, r"returned 0.5 among actions of shape \(3,\); .* from 0 to 1"),
        ([[0], [1], [2]], 2, r"returned 2 among actions of shape \(3, 1\)"),
        ([0, -1, 1], 2, "returned -1 among"),
        ([0, 1], 2, r"shape \(2,\) for 3 observations; .*\(3,\) or \(3, 1\)"),
        ([[0, 1], [0, 1], [0, 1]], 2, r"shape \(3, 2\) for 3"),
        ([[[0]], [[0]], [[0]]], 2, r"shape \(3, 1, 1\) for 3"),
        (1, 2, r"shape \(\) for 3"),
        ([0.0, 0.1, 0.2], 0, r"shape \(3,\) for 3 observations; .* numbers of shape \(3, 1\)"),
    ],
)
def test_actions_that_are_none_are_a_frame_fault_with_the_shape_that_came(
    actions, choices, words
) -> None:
    with pytest.raises(Fault, match=words) as fault:
        answered(np.array(actions), choices)
    assert fault.value.rule == "frame" and "\n" not in fault.value.reason


# -- small parts -----------------------------------------------------------------------------------


def test_what_a_child_leaves_is_read_as_a_regular_file_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    assert files.read_regular(tmp_path / "file", 4) == b"0123"
    assert files.read_regular(tmp_path / "file", 4, tail=True) == b"6789"
    for name in ("link", "fifo", "folder", "absent"):
        with pytest.raises(OSError):
            files.read_regular(tmp_path / name, 10)
        assert files.read_text(tmp_path / name, 10) == ""
    with pytest.raises(OSError, match="not a regular file"):
        files.read_regular("/dev/zero", 10)
    assert files.read_regular(tmp_path / "sparse", 1000) == b"\0" * 1000
    assert files.disk_usage(tmp_path)[0] < 1 << 20 and files.disk_usage(tmp_path)[1] == 5


def test_a_log_keeps_its_head_and_tail_in_constant_memory(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    for i in range(3000):
        log.write(b"%06d" % i + b"\xff" * 1000 + b"\r")
    log.write("last words \u00e9\x1b[0m\n".encode())
    log.close()
    data = (tmp_path / "log").read_bytes()
    assert data.startswith(b"000000")
    assert data.endswith(b"\x1b[0m\n")
    assert len(data) < 600_000
    assert b"bytes left out" in data
    assert log.tail().endswith("last words \u00e9") and len(log.tail().encode()) <= 3 * 4096
    assert log.last_line() == "last words \u00e9"


@pytest.mark.parametrize(
    "tail",
    [b"a,b\n", b"", b"a,b\n1", b"a,b\nx,y\n", b"\0\r\n,,,\n", b"a,b\n1,2,3\n", b"a,b\n1e999,nan\n"],
)
def test_nonsense_in_metrics_is_no_number(tail: bytes) -> None:
    assert machine_share.last_row(tail, b"a,b\n") == {}


def test_the_last_whole_row_of_metrics_counts() -> None:
    assert machine_share.last_row(b"rn\n1,2\n3,4\n5,", b"a,b\n") == {"a": 3.0, "b": 4.0}


@pytest.mark.parametrize(
    ("env_id", "word"),
    [
        ("Nonsense-v0", "cannot make"),
        ("CarRacing-v3", "shows images"),
        ("no_module:X-v0", "needs the module 'no_module'"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused_in_one_sentence(
    env_id: str, word: str
) -> None:
    with pytest.raises(UserError, match=word) as error:
        check_env(env_id)
    assert "\n" not in str(error.value)


# -- python evaluate.py ----------------------------------------------------------------------------


def evaluate_py(*args: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return python("evaluate.py", *args, **more)


def trained(folder: Path, source: str, *args: str) -> subprocess.CompletedProcess[str]:
    """evaluate.py with this train.py on Pendulum, three episodes."""
    (folder / "t.py").write_text(source)
    usual = ("--env-id", "Pendulum-v1", "--episodes", "3", *args)
    return evaluate_py("--train", folder / "t.py", *usual)


def test_evaluate_py_prints_the_summary_block(tmp_path: Path) -> None:
    source = NOTHING + "log_metrics(40, num_updates=4)\nevaluate_policy(Agent())\n"
    done = trained(tmp_path, source, "--budget", "120")
    assert done.returncode == 0, done.stderr
    names = "--- avg_return std_return min_return max_return total_timesteps training_seconds"
    names += " total_seconds num_updates"
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == names.split()
    assert "total_timesteps:  40" in done.stdout


def test_evaluate_py_says_why_there_is_no_score(tmp_path: Path) -> None:
    done = trained(tmp_path, "import evaluate\n", "--budget", "120", "--sandbox", "off")
    assert (done.returncode, done.stdout) == (1, "")
    assert "without handing an agent over" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--budget", "-1"), "--budget"),
        (("--budget", "nan"), "--budget"),
        (("--episodes", "0"), "--episodes"),
        (("--seed", "-3"), "--seed"),
        (("--train", "no such file.py"), "no such file.py"),
        (("--env-id", "CarRacing-v3"), "shows images"),
        (("--train", "LICENSE"), "not Python"),
    ],
)
def test_evaluate_py_refuses_bad_input_in_one_sentence(args: tuple[str, ...], word: str) -> None:
    done = evaluate_py(*args)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_evaluate_py_tries_an_environment_before_it_trains() -> None:
    path = str(PROJECT / "tests" / "support")
    done = evaluate_py("--env-id", "odd_env:OldStep-v0", "--budget", "600", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "step() gives 4 values; Gymnasium's gives 5" in done.stderr.splitlines()[-1]


def test_evaluate_py_reads_a_train_py_that_is_no_file_or_endless_and_goes_on(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo.py")
    with open(tmp_path / "large.py", "wb") as file:
        file.truncate(20 * 2**30)
    for name, word in (("fifo.py", "not a regular file"), ("large.py", "more than 131072 bytes")):
        done = evaluate_py("--train", tmp_path / name)
        assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr


def test_limits_are_values_that_travel() -> None:
    assert clock(Job("", "X", 1, 720.0)).late_after == pytest.approx(720 + 14.4)
    assert clock(Job("", "X", 1, 10.0)).late_after == 13.0
    assert Limits().processes > 0
