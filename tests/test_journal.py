"""autorl/session/event_log.py: what was acknowledged is never lost, what was torn is cut, what is damaged is refused.

Real files, real kills, real short writes (RLIMIT_FSIZE). Run: uv run pytest tests/test_journal.py
"""

import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from autorl.errors import Paused, UserError
from autorl.session.event_log import Journal, decode, encode
from autorl.system.files import atomic_write

ROOT = Path(__file__).parents[1]


def child(code: str, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, with the effect variables of `env`."""
    argv = [
        sys.executable,
        "-c",
        "from pathlib import Path\nfrom autorl.session.event_log import *\n"
        + textwrap.dedent(code),
        *map(str, args),
    ]
    return subprocess.run(
        argv,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def written(path: Path, count: int = 5) -> bytes:
    journal = Journal.open(path, {"env_id": "Toy-v0"})
    for i in range(1, count):
        journal.append(
            "fact", i=i, text="tab\t newline\n \u2028 \0 emoji 🙂 lone \ud800", score=i / 3
        )
    journal.close()
    return path.read_bytes()


# -- round trip ------------------------------------------------------------------------------------------------------


def test_events_read_back_are_the_events_written(tmp_path):
    path = tmp_path / "new" / "folder" / "journal.jsonl"
    journal = Journal.open(path, {"env_id": "Toy-v0"})
    journal.append(
        "fact",
        seeds=(1, 2),
        score=0.1 + 0.2,
        missing=None,
        text="\t\n\r\u2028\u2029\0\x1b[31m🙂\ud800 =1+1",
    )
    journal.close()
    again = Journal.open(path, None)
    assert again.events == journal.events == Journal.read(path)
    assert again.events[1]["seeds"] == [1, 2] and again.events[1]["score"] == 0.1 + 0.2
    assert [e["seq"] for e in again.events] == [0, 1] and [e["type"] for e in again.events] == [
        "session",
        "fact",
    ]
    assert again.of("fact") == again.events[1:] and again.recovered == ""
    assert path.read_bytes().count(b"\n") == 2 and path.read_bytes().isascii()


def test_what_is_forgotten_stays_on_the_disk_and_the_numbering_goes_on(tmp_path):
    journal = Journal.open(tmp_path / "j", {})
    journal.append("run", n=1)
    journal.append("fact", n=2)
    journal.forget("run")
    assert journal.append("run", n=3)["seq"] == 3
    assert (
        [e["type"] for e in journal.events] == ["session", "fact"]
        and journal.count == 4
        and journal.of("run") == []
    )
    assert [e.get("n") for e in Journal.read(tmp_path / "j")] == [None, 1, 2, 3]


def test_meta_is_for_a_new_journal_only(tmp_path):
    written(tmp_path / "j", 2)
    assert Journal.open(tmp_path / "j", {"env_id": "Other-v0"}).events[0]["env_id"] == "Toy-v0"


def test_no_session_and_no_meta_is_refused_and_nothing_is_made(tmp_path):
    with pytest.raises(UserError, match="no session"):
        Journal.open(tmp_path / "results" / "journal.jsonl", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), {1, 2}, b"bytes"])
def test_what_strict_json_cannot_say_is_refused_and_leaves_no_trace(tmp_path, bad):
    journal = Journal.open(tmp_path / "j", {})
    before = (tmp_path / "j").read_bytes()
    with pytest.raises((ValueError, TypeError)):
        journal.append("fact", value=bad)
    with pytest.raises(ValueError, match="reserved"):
        journal.append("fact", seq=7)
    assert (tmp_path / "j").read_bytes() == before
    assert journal.append("fact", value=1)["seq"] == 1


# -- torn tails ------------------------------------------------------------------------------------------------------


def test_a_journal_cut_at_any_byte_loses_only_its_torn_line(tmp_path):
    """Every prefix of a real journal: the whole lines in it survive, the rest is kept beside it, writing goes on."""
    data = written(tmp_path / "whole")
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    for cut in [
        *range(ends[0], len(data), 7),
        *(end + d for end in ends[:-1] for d in (-1, 0, 1)),
        len(data) - 1,
    ]:
        path = tmp_path / f"cut{cut}"
        path.write_bytes(data[:cut])
        if cut < ends[0]:
            continue
        journal = Journal.open(path, None)
        whole = sum(end <= cut for end in ends)
        assert len(journal.events) == whole
        torn = data[ends[whole - 1] : cut]
        copies = list(tmp_path.glob(f"cut{cut}.torn-*"))
        assert [copy.read_bytes() for copy in copies] == ([torn] if torn else [])
        assert (
            ("torn" in journal.recovered and copies[0].name in journal.recovered)
            if torn
            else journal.recovered == ""
        )
        journal.append("after")
        journal.close()
        assert len(Journal.open(path, None).events) == whole + 1


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 4096, b'{"v":1,"seq":5' + b"\0" * 100, b"\n", b"\xff\xfe garbage", b"\0\n", b"\r"],
)
def test_a_tail_of_nul_or_garbage_is_cut_and_kept(tmp_path, tail):
    data = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(data + tail)
    assert len(Journal.open(tmp_path / "j", None).events) == 5
    assert (tmp_path / "j").read_bytes() == data
    assert (tmp_path / "j.torn-5").read_bytes() == tail


def test_a_second_tear_at_the_same_place_keeps_both_copies(tmp_path):
    data = written(tmp_path / "j")
    for tail in (b"first", b"second", b"first"):
        (tmp_path / "j").write_bytes(data + tail)
        Journal.open(tmp_path / "j", None).close()
    assert sorted(p.read_bytes() for p in tmp_path.glob("j.torn-*")) == [b"first", b"second"]


def test_a_first_line_that_was_torn_begins_anew_with_the_rest_kept(tmp_path):
    (tmp_path / "j").write_bytes(b'{"v":1,"se')
    journal = Journal.open(tmp_path / "j", {"env_id": "Toy-v0"})
    assert [e["type"] for e in journal.events] == ["session"] and "torn" in journal.recovered
    assert (tmp_path / "j.torn-0").read_bytes() == b'{"v":1,"se'


def test_reading_beside_a_writer_changes_nothing(tmp_path):
    data = written(tmp_path / "j") + b'{"v":1,"seq":5,"half'
    (tmp_path / "j").write_bytes(data)
    assert len(Journal.read(tmp_path / "j")) == 5
    assert (tmp_path / "j").read_bytes() == data and [p.name for p in tmp_path.iterdir()] == ["j"]


# -- damage ----------------------------------------------------------------------------------------------------------


def test_any_flipped_bit_before_the_last_line_is_refused_by_line(tmp_path):
    data = written(tmp_path / "j")
    starts = [0, *(i + 1 for i, byte in enumerate(data) if byte == 10)]
    rng = random.Random(1)
    for line in (1, 2, 3, 4):
        for _ in range(40):
            at = rng.randrange(starts[line - 1], starts[line])
            damaged = bytearray(data)
            damaged[at] ^= 1 << rng.randrange(8)
            (tmp_path / "j").write_bytes(damaged)
            with pytest.raises(UserError, match=rf"^Line {line} "):
                Journal.open(tmp_path / "j", None)
            assert (tmp_path / "j").read_bytes() == damaged  # refused means untouched


def test_an_edited_last_line_is_not_taken_for_a_torn_one(tmp_path):
    data = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(data.replace(b'"i":4', b'"i":5'))
    with pytest.raises(UserError, match=r"Line 5 .* checksum"):
        Journal.open(tmp_path / "j", None)


def test_lost_doubled_and_swapped_lines_are_refused(tmp_path):
    lines = written(tmp_path / "j").splitlines(keepends=True)
    for order, line in (([0, 2, 3, 4], 2), ([0, 1, 1, 2], 3), ([0, 2, 1], 2), ([1, 2], 1)):
        (tmp_path / "j").write_bytes(b"".join(lines[i] for i in order))
        with pytest.raises(UserError, match=rf"Line {line} "):
            Journal.open(tmp_path / "j", None)


def test_a_journal_of_a_newer_version_is_refused_with_a_message(tmp_path):
    newer = encode({"v": 2, "seq": 0, "at": "", "type": "session"})
    other_format = b'{"v":3,"seq":0,"kind":"session","sum":"sha256:00"}\n'
    for data in (newer, other_format, newer * 2, other_format + newer):
        (tmp_path / "j").write_bytes(data)
        for read in (
            lambda: Journal.open(tmp_path / "j", None),
            lambda: Journal.read(tmp_path / "j"),
        ):
            with pytest.raises(UserError, match="newer autoRL"):
                read()
        assert (tmp_path / "j").read_bytes() == data


def test_decode_refuses_what_encode_would_not_write():
    line = encode({"v": 1, "seq": 0, "at": "", "type": "x", "a": 1.5})[:-1]
    assert decode(line) == {"v": 1, "seq": 0, "at": "", "type": "x", "a": 1.5}
    for bad in (
        b"",
        b"{}",
        line[:-1],
        line + b" ",
        line.replace(b"1.5", b"NaN"),
        line[:-11] + b'"00000000"}',
    ):
        assert decode(bad) is None


# -- kills -----------------------------------------------------------------------------------------------------------


def test_kill_before_and_after_every_effect_of_a_young_journal(tmp_path):
    """Opening, two appends, a view: the journal reads back with exactly the events whose append returned, or one more."""
    code = """
    import sys
    journal = Journal.open(Path(sys.argv[1]) / "journal.jsonl", {"a": 1})
    print(0, flush=True)
    for i in (1, 2):
        journal.append("fact", i=i)
        print(i, flush=True)
    atomic_write(Path(sys.argv[1]) / "view", b"x" * 100_000)
    """
    for n in range(1, 5):
        for when in ("", ":after"):
            folder = tmp_path / f"{n}{when}"
            folder.mkdir()
            killed = child(code, folder, AUTORL_KILL_AT=f"{n}{when}")
            assert killed.returncode == -signal.SIGKILL
            acknowledged = len(killed.stdout.split())
            journal = Journal.open(folder / "journal.jsonl", {"a": 1})
            assert len(journal.events) in (max(1, acknowledged), acknowledged + 1)
            assert len(journal.events) == max(1, n if when and n < 4 else acknowledged)
            view = folder / "view"
            assert not view.exists() or view.read_bytes() == b"x" * 100_000
            atomic_write(view, b"y")
            assert [
                p.name for p in folder.glob(".*")
            ] == []  # no temporary file outlives the next write


def test_kill_between_keeping_and_cutting_a_torn_tail_is_repeated(tmp_path):
    data = written(tmp_path / "j")
    code = "import sys; Journal.open(Path(sys.argv[1]), None)"
    for n in ("1", "1:after", "2", "2:after"):
        (tmp_path / "j").write_bytes(data + b"torn")
        assert child(code, tmp_path / "j", AUTORL_KILL_AT=n).returncode == -signal.SIGKILL
        assert len(Journal.open(tmp_path / "j", None).events) == 5
        assert [p.read_bytes() for p in tmp_path.glob("j.torn-*")] == [b"torn"]


def test_a_killed_atomic_write_leaves_the_old_file_whole(tmp_path):
    view = tmp_path / "results.tsv"
    view.write_bytes(b"old")
    view.chmod(0o640)
    code = 'import sys; atomic_write(Path(sys.argv[1]), b"new")'
    assert child(code, view, AUTORL_KILL_AT="1").returncode == -signal.SIGKILL
    assert view.read_bytes() == b"old"
    assert child(code, view, AUTORL_KILL_AT="1:after").returncode == -signal.SIGKILL
    assert view.read_bytes() == b"new" and view.stat().st_mode & 0o777 == 0o640


# -- disks -----------------------------------------------------------------------------------------------------------

APPEND = """
import sys
journal = Journal.open(Path(sys.argv[1]), {"a": 1})
try:
    journal.append("fact", i=1)
except Paused as pause:
    print("PAUSED", pause)
    try:
        journal.append("fact", i=2)
    except Paused as pause:
        print("STILL", pause)
print(len(journal.events))
"""


def test_disk_full_once_is_retried(tmp_path):
    assert child(APPEND, tmp_path / "j", AUTORL_FAIL_AT="2:ENOSPC").stdout == "2\n"
    assert len(Journal.read(tmp_path / "j")) == 2


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("ENOSPC", "disk is full"),
        ("EIO", "I/O error"),
        ("EROFS", "read-only"),
        ("EACCES", "permission"),
    ],
)
def test_a_disk_that_refuses_for_ever_pauses_with_a_reason_and_no_half_row(tmp_path, code, word):
    done = child(APPEND, tmp_path / "j", AUTORL_FAIL_AT=f"2:{code}:ever")
    assert (
        f"PAUSED Cannot write {tmp_path}" in done.stdout
        and word in done.stdout
        and "STILL" in done.stdout
        and done.stdout.endswith("\n1\n")
    )
    assert len(Journal.read(tmp_path / "j")) == 1 and (tmp_path / "j").read_bytes().endswith(b"\n")
    assert child(APPEND, tmp_path / "j").stdout == "2\n"  # space is back: it goes on


def test_a_new_journal_on_a_full_disk_pauses_and_leaves_nothing(tmp_path):
    done = child(APPEND, tmp_path / "j", AUTORL_FAIL_AT="1:ENOSPC:ever")
    assert done.returncode == 1 and "Paused" in done.stderr and list(tmp_path.iterdir()) == []


def test_a_real_short_write_leaves_no_half_row(tmp_path):
    """RLIMIT_FSIZE makes the kernel write the first part of a line and refuse the rest."""
    data = written(tmp_path / "j")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(data) + 30, len(data) + 30))

    code = f"from pathlib import Path\nfrom autorl.session.event_log import *\n{APPEND}"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j")], env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=limit, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert "PAUSED" in done.stdout, done.stderr
    assert (tmp_path / "j").read_bytes() == data


def test_a_journal_changed_by_somebody_else_pauses_instead_of_mixing(tmp_path):
    for harm in (
        lambda p: p.unlink(),
        lambda p: p.rename(p.with_suffix(".old")),
        lambda p: p.write_bytes(b""),
        lambda p: os.truncate(p, p.stat().st_size + 1),
    ):
        path = tmp_path / "j"
        path.unlink(missing_ok=True)
        journal = Journal.open(path, {})
        harm(path)
        with pytest.raises(Paused, match="somebody else"):
            journal.append("fact")
        assert len(journal.events) == 1
        journal.close()


def test_atomic_write_on_a_full_disk_keeps_the_old_file(tmp_path):
    view = tmp_path / "results.tsv"
    view.write_bytes(b"old")
    done = child(
        'import sys; atomic_write(Path(sys.argv[1]), b"new")', view, AUTORL_FAIL_AT="1:ENOSPC:ever"
    )
    assert "Paused" in done.stderr and "the disk is full" in done.stderr
    assert view.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["results.tsv"]


# -- figures ---------------------------------------------------------------------------------------------------------


def test_append_is_quick_and_ten_thousand_events_read_back_within_two_seconds(tmp_path):
    journal = Journal.open(tmp_path / "j", {"env_id": "Toy-v0"})
    medians = []  # of the best of five batches: a busy machine is not what is measured
    for _ in range(5):
        seconds = []
        for i in range(20):
            start = time.perf_counter()
            journal.append("fact", i=i, returns=[0.5] * 100)
            seconds.append(time.perf_counter() - start)
        medians.append(statistics.median(seconds))
    journal.close()
    assert min(medians) < 0.005, medians
    with open(tmp_path / "j", "ab") as file:
        for seq in range(101, 10_000):
            file.write(
                encode(
                    {
                        "v": 1,
                        "seq": seq,
                        "at": "2026-01-01T00:00:00Z",
                        "type": "run",
                        "record": {"returns": [0.123456789] * 100, "log_tail": "x" * 500},
                    }
                )
            )
    start = time.process_time()
    assert len(Journal.open(tmp_path / "j", None).events) == 10_000
    assert time.process_time() - start < 2.0
    assert json.loads((tmp_path / "j").read_bytes().splitlines()[-1])["seq"] == 9_999
