"""The event log under kills and on disks that refuse: no half row, nothing lost."""

import os
import signal
import statistics
import time

import msgspec
import pytest
from event_logs import FIRST, REST, child, written

from autorl.errors import Paused
from autorl.records import RunRecord
from autorl.session import events as e
from autorl.session.event_log import EventLog, Follower, encode

APPEND = """
log, _ = EventLog.open(path, first)
print(0, flush=True)
for i in (1, 2):
    try:
        log.append(Note(event="n", detail="x" * 100))
        print(i, flush=True)
    except Paused as pause:
        print("PAUSED", pause)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "folder" / "j"


def test_kill_before_and_after_every_effect_of_a_young_log(tmp_path):
    """It reads back with exactly the events whose append returned, or one more."""
    for n in (1, 2, 3):
        for when in ("", ":after"):
            path = tmp_path / f"{n}{when}" / "j"
            code, out, _ = child(APPEND, path, AUTORL_KILL_AT=f"{n}{when}")
            assert code == -signal.SIGKILL and len(out.split()) == n - 1
            log, events = EventLog.open(path, FIRST)
            assert len(events) == max(1, n if when else n - 1) and log.recovered == ""
            assert log.append(REST[0]).seq == len(events)
            assert [p.name for p in path.parent.iterdir()] == ["j"]


def test_kill_between_keeping_and_cutting_a_torn_tail_is_repeated(path):
    data = written(path)
    for n in ("1", "1:after", "2", "2:after"):
        path.write_bytes(data + b"torn")
        assert child("EventLog.open(path)", path, AUTORL_KILL_AT=n)[0] == -signal.SIGKILL
        assert len(EventLog.open(path)[1]) == 5
        assert [p.read_bytes() for p in path.parent.glob("j.torn-*")] == [b"torn"]


def test_a_full_disk_is_tried_again_and_a_new_log_on_one_leaves_nothing(path):
    code, out, err = child(APPEND, path, AUTORL_FAIL_AT="1:ENOSPC:ever")
    assert code == 1 and out == "" and "Paused" in err and list(path.parent.iterdir()) == []
    assert child(APPEND, path, AUTORL_FAIL_AT="2:ENOSPC")[1] == "0\n1\n2\n"
    assert len(Follower(path).new()) == 3


@pytest.mark.parametrize(
    ("code", "word"),
    [("ENOSPC", "is full"), ("EIO", "I/O error"), ("EROFS", "read-only"), ("EACCES", "permission")],
)
def test_a_disk_that_refuses_for_ever_pauses_with_a_reason_and_no_half_row(path, code, word):
    _, out, _ = child(APPEND, path, AUTORL_FAIL_AT=f"2:{code}:ever")
    first, *paused = out.splitlines()
    assert first == "0" and len(paused) == 2
    assert all(line.startswith(f"PAUSED Cannot write {path}") and word in line for line in paused)
    assert len(Follower(path).new()) == 1 and path.read_bytes().endswith(b"\n")
    assert child(APPEND, path)[1] == "0\n1\n2\n"  # space is back: it goes on


def test_a_real_short_write_leaves_no_half_row(path):
    """The kernel writes the first part of a line and refuses the rest."""
    data = written(path)
    _, out, err = child(APPEND, path, file_bytes=len(data) + 30)
    assert out.count("PAUSED") == 2, err
    assert path.read_bytes() == data


def test_a_log_changed_by_somebody_else_pauses_instead_of_mixing(path):
    for harm in (
        path.unlink,
        lambda: path.rename(path.with_suffix(".old")),
        lambda: path.write_bytes(b""),
        lambda: os.truncate(path, path.stat().st_size + 1),
    ):
        path.unlink(missing_ok=True)
        log, _ = EventLog.open(path, FIRST)
        harm()
        for _ in range(2):
            with pytest.raises(Paused, match="somebody else"):
                log.append(REST[0])
        assert log.count == 1
        log.close()


def test_append_is_quick_and_ten_thousand_events_read_back_within_two_seconds(path):
    log, _ = EventLog.open(path, FIRST)
    record = RunRecord("ok", returns=(0.123456789,) * 100, log_tail="x" * 500)
    event = e.RunEnded(run=1, record=record)
    medians = []  # of the best of five batches: a busy machine is not what is measured
    for _ in range(5):
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            log.append(event)
            seconds.append(time.perf_counter() - start)
        medians.append(statistics.median(seconds))
    log.close()
    assert min(medians) < 0.005, medians
    rest = (msgspec.structs.replace(event, seq=seq) for seq in range(101, 10_000))
    with open(path, "ab") as file:
        file.writelines(map(encode, rest))
    start = time.process_time()
    assert len(EventLog.open(path)[1]) == 10_000
    assert time.process_time() - start < 2.0
