"""A loop that is stopped: once, twice, from elsewhere, for good; one that finds another at work.

Real processes, real kills, real git; runs are scripted (autorl/runners/scripted.py).
"""

import contextlib
import os
import pty
import random
import signal
import subprocess
import sys
import time

import pytest
from ground import PROJECT, Site, children_in, script, types, until

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture
def long_run(tmp_path, forge):
    """A loop in the middle of a run of half a minute."""
    site = Site.new(tmp_path / "site", [{"title": "slow", "source": script(12.0, seconds=30.0)}])
    process = forge.start(site.repo, site.argv("--budget", "60"), site.env)
    assert until(
        lambda: any(
            e.get("attempt") == 1 and e["type"] == "started"
            for e in (site.events() if types(site) else [])
        )
    )
    assert until(lambda: bool(children_in(site.folder)))
    yield site, process
    if not process.ended.is_set():
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_the_record_and_says_how_to_resume(long_run, how):
    site, process = long_run
    began = time.monotonic()
    os.kill(process.pid, how)
    code, _, err = process.wait()
    assert code == 130 and time.monotonic() - began < 5
    assert "Resume with: uv run python agent_loop.py run --tag t" in err and "Traceback" not in err
    assert site.broken_invariants() == []
    last = [e for e in site.events() if e["type"] == "run"][-1]
    assert last["record"]["status"] == "interrupted" and types(site)[-1] == "closed"


def test_two_signals_end_it_at_once_and_lose_nothing(long_run):
    site, process = long_run
    began = time.monotonic()
    while not process.ended.wait(0.01) and time.monotonic() - began < 20:
        with contextlib.suppress(ProcessLookupError):  # two at once are one to the kernel
            os.kill(process.pid, signal.SIGINT)
    code, _, err = process.wait()
    assert code == 130 and time.monotonic() - began < 2 and "Traceback" not in err
    assert site.broken_invariants(ended=False) == []


@pytest.mark.parametrize("seed", range(8))
def test_two_signals_at_any_instant_end_it_without_a_traceback_or_a_deadlock(tmp_path, forge, seed):
    rng = random.Random(seed)
    ideas = [{"title": f"idea {k}", "source": script(5.0 + k)} for k in range(30)]
    site = Site.new(tmp_path, ideas)
    process = forge.start(site.repo, site.argv(), site.env)
    assert until(lambda: site.folder.exists() and "opened" in types(site))
    time.sleep(rng.uniform(0.0, 1.0))
    for _ in range(2):
        with contextlib.suppress(ProcessLookupError):  # one was enough
            os.kill(process.pid, rng.choice((signal.SIGINT, signal.SIGTERM)))
        time.sleep(rng.uniform(0.0, 0.01))
    code, _, err = process.wait(20)
    assert code == 130 and "Traceback" not in err, err
    assert site.broken_invariants(ended=False) == []


def test_two_signals_on_a_terminal_show_its_cursor_again(tmp_path):
    site = Site.new(tmp_path, [{"title": "slow", "source": script(12.0, seconds=30.0)}])
    leader, terminal = pty.openpty()
    env = os.environ | site.env | {"PYTHONPATH": str(PROJECT), "TERM": "xterm-256color"}
    command = [sys.executable, "agent_loop.py", *site.argv("--budget", "60")]
    process = subprocess.Popen(
        command, cwd=site.repo, env=env, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen = b""
    while b"/60 s" not in seen:
        seen += os.read(leader, 65536)
    process.send_signal(signal.SIGINT)
    time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # EIO: nothing holds the terminal any more
        while data := os.read(leader, 65536):
            seen += data
    os.close(leader)
    assert process.wait(20) == 130 and seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l") >= 0


def test_stop_from_another_terminal_is_one_signal(long_run, forge):
    site, process = long_run
    code, out, err = forge.run(site.repo, ["stop", "--tag", "t"], site.env)
    assert code == 0 and "resume with" in out.lower(), err
    assert process.wait()[0] == 130 and site.broken_invariants() == []
    code, _, err = forge.run(site.repo, ["stop", "--tag", "t"], site.env)
    assert code == 2 and "nothing to stop" in err


def test_a_second_loop_is_refused_by_pid_and_the_first_goes_on(long_run, forge):
    site, process = long_run
    code, _, err = forge.run(site.repo, site.argv("--budget", "60"), site.env)
    assert code == 2 and f"pid {process.pid}" in err
    assert not process.ended.is_set() and children_in(site.folder)


def test_kill_9_takes_the_run_along_and_it_is_repeated_once_on_the_same_seed(long_run, forge):
    site, process = long_run
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert until(lambda: not children_in(site.folder), 3)
    again = forge.start(site.repo, site.argv("--budget", "60"), site.env)
    assert until(
        lambda: sum(e.get("attempt") == 1 and e["type"] == "started" for e in site.events()) == 2
    )
    os.kill(again.pid, signal.SIGTERM)
    again.wait()
    first, second = [e for e in site.events() if e["type"] == "started" and e["attempt"] == 1][:2]
    assert first["seed"] == second["seed"]
    ends = {e["run"]: e["record"] for e in site.events() if e["type"] == "run"}
    assert ends[first["run"]]["status"] == "interrupted"


@pytest.mark.long
def test_when_every_candidate_crashes_it_stops_with_a_reason_and_what_was_kept_is_still_proved(
    tmp_path, forge
):
    crashes = [{"title": f"crash {k}", "source": script(3.0 + k, "raise")} for k in range(7)]
    site = Site.new(tmp_path, [{"title": "far better", "source": script(20.0)}, *crashes])
    code, out, err = forge.run(site.repo, site.argv("--confirm-runs", "2"), site.env)
    assert code == 1 and "the ideas are at fault" in out + err, out + err
    assert "experiments in a row crashed; experiment 1, run again, did not" in out + err
    state = site.state()
    assert sum(v.outcome == "crash" for v in state.verdicts) == 5
    assert state.claim is not None and state.claim["champion"] == 1
    assert site.broken_invariants() == []
