"""loop/quiet: waiting for a machine that others use, and what is repeated because of it."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from autorl.loop.quiet import QuietWait, disturbed, unusual, usual
from autorl.records import MachineShare
from autorl.system.hardware import affinity


def test_a_run_of_a_claim_is_compared_with_the_usual_share():
    shares = [0.97, 0.99, 0.98]
    assert not unusual(MachineShare(cpu_share=0.95), shares)
    assert "60 % of its cores" in unusual(MachineShare(cpu_share=0.60), shares)
    assert unusual(MachineShare(cpu_share=0.99), [0.5, 0.5, 0.5])  # more is another share, too
    assert not unusual(MachineShare(cpu_share=0.5), [])  # nothing to compare with yet
    assert "slept" in disturbed(MachineShare(cpu_share=0.99, suspended_seconds=7200))


def test_the_usual_share_is_that_of_the_newest_runs():
    assert usual([]) == 1.0
    assert usual([1.0] * 9 + [0.5] * 4) == 0.5
    assert usual([0.5] * 9 + [1.0] * 3) == 0.5


@pytest.fixture
def busy_core() -> Iterator[int]:
    """A core on which another program is at work."""
    core = affinity()[0]
    code = f"import os\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()  # it is at work
        yield core
        other.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="the share is read from /proc/stat")
def test_a_run_waits_for_a_busy_core_and_not_for_ever(busy_core: int):
    wait, began, said = QuietWait(1.0), time.monotonic(), set[str]()
    wait.window = 0.2
    while not wait.over([busy_core], 1.0):
        said.add(wait.why)
        time.sleep(0.02)
    assert 1.0 <= time.monotonic() - began < 20.0
    assert all(" of the cores went to others; waiting up to 1 s" in why for why in said - {""})
    assert said - {""}
    assert not wait.why


def test_where_the_machine_is_usually_that_busy_a_run_does_not_wait():
    wait, began = QuietWait(60.0), time.monotonic()
    while not wait.over([affinity()[0]], 0.0):
        time.sleep(0.02)
    assert time.monotonic() - began < 20.0
