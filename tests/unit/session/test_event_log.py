"""autorl/session/event_log.py: what was acknowledged is never lost, what was torn is cut, what is
damaged is refused.

Real files, real kills, real short writes (RLIMIT_FSIZE).
"""

import math
import os
import random
from typing import get_args

import msgspec
import numpy as np
import pytest
from event_logs import FIRST, REST, plain, sealed, started, written

from autorl import __version__
from autorl.errors import UserError
from autorl.records import Edit, RunRecord
from autorl.session import events as e
from autorl.session import read_state
from autorl.session.event_log import EventLog, Follower, encode


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "folder" / "j"


# -- round trip ------------------------------------------------------------------------------------


def test_every_event_is_read_back_as_it_was_written(path):
    assert {type(event) for event in (FIRST, *REST)} == set(get_args(e.AnyEvent))
    log, known = EventLog.open(path, FIRST)
    known += map(log.append, REST)
    log.close()
    again, events = EventLog.open(path)
    assert events == known == Follower(path).new() and again.recovered == ""
    assert [plain(event) for event in events] == [FIRST, *REST] and all(x.at for x in events)
    assert [event.seq for event in events] == list(range(len(events))) and again.count == log.count
    assert path.read_bytes().decode().count("\n") == len(events)  # a line each, valid UTF-8


def test_the_first_event_is_for_a_new_log_only_and_without_it_none_is_made(path):
    with pytest.raises(UserError, match="no session"):
        EventLog.open(path)
    assert not path.parent.exists() and Follower(path).new() == []
    data = written(path, 2)
    _, events = EventLog.open(path, msgspec.structs.replace(FIRST, env_id="Other-v0"))
    assert plain(events[0]) == FIRST and path.read_bytes() == data


def test_nan_and_infinity_become_null(path):
    log, _ = EventLog.open(path, FIRST)
    record = RunRecord("ok", avg_return=math.nan, std_return=math.inf, control={"a": [-math.inf]})
    told = log.append(e.RunEnded(run=1, record=record))
    assert told == Follower(path).new()[1]
    assert told.record == RunRecord("ok", control={"a": [None]})
    assert b"nan" not in (line := path.read_bytes().lower()) and b"inf" not in line


@pytest.mark.parametrize(
    "bad",
    [
        e.RunEnded(run=1, record=RunRecord("ok", diagnostics={"kl": math.nan})),  # null is no float
        e.Money(ticket="m", op="settle", usd=math.inf),
        e.Money(ticket="m", op="settle", usd=0.0, usage={"tokens": object()}),
        e.BaselineScores(band={"mean": np.float64(1.0)}),
        e.Note(event="n", detail=3),  # type: ignore[arg-type]
    ],
)
def test_what_could_not_be_read_back_is_refused_and_leaves_no_trace(path, bad):
    before = written(path, 2)
    log, _ = EventLog.open(path)
    with pytest.raises((ValueError, TypeError)):
        log.append(bad)
    assert path.read_bytes() == before
    assert log.append(REST[0]).seq == 2 and len(Follower(path).new()) == 3


def test_a_lone_surrogate_is_written_as_valid_text(path):
    log, _ = EventLog.open(path, FIRST)
    bad = {"title": "a \ud800 b", "edits": (Edit("\ud83d", "b"),)}
    told = [
        log.append(e.Money(ticket="m", op="settle", usd=0.5, usage={"\udfff": ["\ud800 🙂"]})),
        log.append(e.Attempted(n=1, parent=0, source="", key="k", **bad)),
        log.append(e.Note(event="n", detail="whole")),
    ]
    assert told == Follower(path).new()[1:] and told[0].usage == {"?": ["? 🙂"]}
    assert (told[1].title, told[1].edits) == ("a ? b", (Edit("?", "b"),))


# -- torn tails ------------------------------------------------------------------------------------


def test_a_log_cut_at_any_byte_loses_only_its_torn_line(path):
    """Whole lines survive, the rest is kept beside the log, and writing goes on."""
    data = written(path)
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    near = {end + d for end in ends for d in (-1, 0, 1)} - {ends[0] - 1, ends[-1] + 1}
    for cut in sorted({*range(ends[0], len(data), 7), *near}):
        path = path.with_name(f"cut{cut}")
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        torn = data[ends[whole - 1] : cut]
        assert len(Follower(path).new()) == whole
        log, events = EventLog.open(path)
        assert len(events) == log.count == whole
        copies = list(path.parent.glob(f"cut{cut}.torn-*"))
        assert [copy.read_bytes() for copy in copies] == ([torn] if torn else [])
        said = all(word in log.recovered for word in ("torn", *(c.name for c in copies)))
        assert said if torn else log.recovered == ""
        log.append(e.Opened(pid=1))
        log.close()
        assert len(EventLog.open(path)[1]) == whole + 1


@pytest.mark.parametrize(
    "tail", [b"\0" * 4096, b'{"v":2,"seq' + b"\0" * 99, b"\n", b"\xff\xfe garbage", b"\0\n", b"\r"]
)
def test_a_tail_of_nul_or_garbage_is_cut_and_kept_and_a_second_one_beside_it(path, tail):
    data = written(path)
    for torn in (tail, b"second", tail):
        path.write_bytes(data + torn)
        assert len(EventLog.open(path)[1]) == 5
        assert path.read_bytes() == data
    copies = sorted(p.read_bytes() for p in path.parent.glob("j.torn-5*"))
    assert copies == sorted([tail, b"second"])


def test_a_first_line_that_was_torn_begins_anew_with_the_rest_kept(tmp_path):
    (tmp_path / "j").write_bytes(b'{"v":2,"se')
    log, events = EventLog.open(tmp_path / "j", FIRST)
    assert [plain(event) for event in events] == [FIRST] and "torn" in log.recovered
    assert (tmp_path / "j.torn-0").read_bytes() == b'{"v":2,"se'


# -- damage ----------------------------------------------------------------------------------------


def test_any_flipped_bit_before_the_last_line_is_refused_by_line(path):
    data, version = written(path), len(b'{"v":')  # its digit cannot be told from another version's
    starts = [0, *(i + 1 for i, byte in enumerate(data) if byte == 10)]
    rng = random.Random(1)
    for line in (1, 2, 3, 4):
        for at in [version, *(rng.randrange(*starts[line - 1 : line + 1]) for _ in range(40))]:
            damaged = bytearray(data)
            damaged[at] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            for read in (lambda: EventLog.open(path), Follower(path).new):
                said = r"^Line 1 |log version \d" if at == version else rf"^Line {line} "
                if at != version or read.__name__ != "new":
                    with pytest.raises(UserError, match=said):
                        read()
            assert path.read_bytes() == damaged  # refused means untouched


def test_an_edited_last_line_is_not_taken_for_a_torn_one(path):
    path.write_bytes(written(path).replace(b'"event":"4"', b'"event":"5"'))
    with pytest.raises(UserError, match=r"Line 5 .* checksum"):
        EventLog.open(path)


def test_lost_doubled_and_swapped_lines_are_refused(path):
    lines = written(path).splitlines(keepends=True)
    for order, line in (([0, 2, 3, 4], 2), ([0, 1, 1, 2], 3), ([0, 2, 1], 2), ([1, 2], 1)):
        path.write_bytes(b"".join(lines[i] for i in order))
        with pytest.raises(UserError, match=rf"Line {line} .* sequence number"):
            EventLog.open(path)


def test_what_is_no_event_is_refused_by_line_and_named(path):
    data = written(path, 3)
    for odd, name in (({"type": "later"}, "'later'"), ({"type": "note", "event": 3}, r"\$\.event")):
        path.write_bytes(data + encode({"seq": 3, **odd}))
        for read in (lambda: EventLog.open(path), Follower(path).new):
            with pytest.raises(UserError, match=rf"^Line 4 .* no event .*{name}"):
                read()


@pytest.mark.parametrize(
    ("line", "writer"),
    [
        (sealed(1, '{"seq":0,"type":"session"}'), "0.1.0"),
        (sealed(3, '{"seq":0,"type":"session","autorl":"0.3.1"}'), "0.3.1"),
        (b'{"v":4,"seq":0,"kind":"session","sum":"sha256:00"}\n', "of another version"),
    ],
)
def test_another_version_is_refused_in_a_sentence_that_names_who_reads_it(tmp_path, line, writer):
    path, ours = tmp_path / "j", written(tmp_path / "ours")
    for data in (line, line * 2, line + ours, line[:-5]):
        path.write_bytes(data)
        said = (
            rf"autoRL {writer} .*this is autoRL {__version__} .* with autoRL {writer}, or [^\n]*$"
        )
        with pytest.raises(UserError, match=said):
            EventLog.open(path, FIRST)
        assert path.read_bytes() == data


def test_what_is_understood_of_another_version_is_shown_once(tmp_path):
    idea = (
        '{"seq":%d,"type":"attempt","n":%d,"parent":0,"source":"","title":"%s","key":"","nodes":1}'
    )
    verdict = '{"seq":%d,"type":"verdict","verdict":{"attempt":0,"outcome":"%s","reason":"","s":1}}'
    lines = (
        '{"seq":0,"type":"session","env_id":"Toy-v0","tag":"t","settings":{"rigor":"bold"},'
        '"root_seed":1,"base":"","baseline":{"source":"","key":"","nodes":1}}',
        idea % (1, 0, "baseline"),
        idea % (2, 1, r"a lone \ud800"),  # valid in version 1, and not read by this one
        '{"seq":3,"type":"pinned","n":1,"commit":"c"}',
        verdict % (4, "certified"),
        verdict % (5, "baseline"),
    )
    path = tmp_path / "j"
    path.write_bytes(b"".join(sealed(1, line) for line in lines) + b'{"v":1,"seq":6,"half')
    follower, state = Follower(path), read_state(path)
    assert [event.seq for event in follower.new()] == [0, 1, 3, 5] and follower.new() == []
    rows = [(row.n, row.description, row.status) for row in state.rows(decided_only=False)]
    assert state.about.env_id == "Toy-v0" and rows == [(0, "baseline", "keep")]


# -- reading while somebody else writes ------------------------------------------------------------


def test_a_follower_reads_only_what_is_new(path):
    log, known = EventLog.open(path, FIRST)
    follower = Follower(path)
    assert follower.new() == known and follower.new() == []
    with open(path, "r+b") as file:
        file.write(b"what was read before is not looked at again")
    told = [log.append(REST[0]), log.append(REST[1])]
    assert follower.new() == told and follower.new() == []
    with pytest.raises(UserError, match=r"^Line 1 "):
        Follower(path).new()


def test_a_half_line_is_left_alone_and_comes_whole_later(path):
    data, line = written(path, 3), encode(msgspec.structs.replace(REST[0], seq=3))
    follower = Follower(path)
    for end, new in ((10, 3), (len(line) - 1, 0), (len(line), 1), (len(line), 0)):
        path.write_bytes(data + line[:end])
        assert len(follower.new()) == new and path.read_bytes() == data + line[:end]
        assert [p.name for p in path.parent.iterdir()] == ["j"]


def test_a_replaced_log_is_said(path):
    other = path.with_name("other")
    for harm in (
        lambda: (written(other, 9), os.replace(other, path)),
        lambda: os.truncate(path, path.stat().st_size // 2),
    ):
        path.unlink(missing_ok=True)
        written(path)
        follower = Follower(path)
        follower.new()
        harm()
        with pytest.raises(UserError, match="replaced while"):
            follower.new()


def test_a_log_that_another_process_writes_is_followed_without_gap_or_repeat(path):
    code = """
log, _ = EventLog.open(path, first)
for i in range(1, 400):
    log.append(Note(event=str(i), detail="x" * 5000))
    time.sleep(0.002)  # so that the follower has its turn, however busy the machine
"""
    follower, reads = Follower(path), []
    with started(code, path) as writer:
        while writer.poll() is None:
            reads.append(follower.new())
        reads.append(follower.new())
    assert [event.seq for new in reads for event in new] == list(range(400))
    assert writer.returncode == 0 and sum(map(bool, reads)) > 10  # it came bit by bit
