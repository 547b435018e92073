"""What an environment does wrong is the environment's fault, and what it prints harms nothing."""

import contextlib
import os
import socket
import struct
import threading
from pathlib import Path

import pytest
from conftest import HERE

from autorl.judge.child import Fault
from autorl.judge.episodes import Episodes


def answer(fd: int) -> None:
    """A policy that does nothing."""
    with (
        contextlib.suppress(ConnectionError),
        socket.socket(fileno=os.dup(fd)) as sock,
        sock.makefile("rb") as source,
    ):
        sock.send(b"R")
        if len(hello := source.read(8)) < 8:
            return
        num, obs_dim = struct.unpack("<II", hello)
        while len(source.read(num + num * obs_dim * 4)) == num + num * obs_dim * 4:
            sock.send(struct.pack("<4s4I", b"<f4", 2, num, 1, 0) + bytes(4 * num))


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE / "support"))

    def play(name: str):
        with Episodes(f"odd_env:{name}-v0", [7, 8], 1, tmp_path, 250.0) as episodes:
            fds = [os.dup(fd) for fd in episodes.policy_fds]
            thread = threading.Thread(target=answer, args=fds)
            thread.start()
            try:
                return episodes.play(lambda: None)
            finally:
                episodes.close()
                thread.join()
                os.close(fds[0])

    return play


def test_what_an_environment_prints_is_no_result(play) -> None:
    assert play("Good").returns == (25.0, 25.0)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NanReward", "at step 17 of the episode with seed 7: ArithmeticError: a reward of nan"),
        ("NanObservation", "an observation that is not finite after step 9"),
        ("Diverging", "at step 6 of the episode with seed 7: RuntimeError: joint velocity 1e9"),
        ("ResetFails", "reset() failed: OSError: no robot here"),
        ("Dies", "the environment's process died"),
        ("Endless", "no episode of it ended in 20,000 steps: register it with max_episode_steps"),
    ],
)
def test_an_environments_fault_is_told_as_its_own(play, name: str, sentence: str) -> None:
    with pytest.raises(Fault) as caught:
        play(name)
    assert caught.value.rule == "env" and sentence in caught.value.reason
