"""The append-only event log of a session: the one truth on disk. Reading it back is resuming.

    journal = Journal.open(folder / "journal.jsonl", {"env_id": "Hopper-v5", "tag": "demo"})
    journal.append("attempt", n=3, sha="…")
    journal.of("attempt")

One event is one line of strict ASCII JSON that ends in its own checksum, written by one write() and one fsync():

    {"v":1,"seq":4,"at":"2026-01-31T02:03:04Z","type":"attempt","n":3,"sha":"…","crc":"9a0b1c2d"}

`seq` counts lines from 0 and is the only order; `at` is the wall clock, for people. An event that did not reach the disk
whole never happened: a torn last line is cut, after a copy was put beside the journal. A damaged line before the last
is never guessed at: it is refused by number.

What it does not do: interpret events, lock (the caller holds the tag's lock; `Journal.read` needs none), rotate.
"""

import contextlib
import errno
import json
import os
import re
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autorl.errors import Paused, UserError
from autorl.records import SCHEMA_VERSION
from autorl.system.faults import effect, retry_when_full
from autorl.system.files import atomic_write, disk_trouble, fsync_folder, make_folder

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"}\Z')
_RESERVED = frozenset({"v", "seq", "at", "type", "crc"})


class Journal:
    """The events of one session, in memory and on disk alike.

    Attributes:
        events: every event, oldest first, as a fresh reader would read it; without the types that `forget` named.
        count: how many events the file holds.
        recovered: one line about a tail that was cut at opening, else "".
        path: the file.
    """

    def __init__(self, path: Path, events: list[dict[str, Any]], length: int, recovered: str = ""):
        self.path, self.events, self.count, self.recovered = path, events, len(events), recovered
        self._forgotten: set[str] = set()
        self._length = length  # bytes of the file that are whole events
        self._fd: int | None = None
        self._broken = ""

    @classmethod
    def open(cls, path: Path, meta: dict[str, Any] | None) -> "Journal":
        """Read the journal back for writing; the caller holds the tag's lock.

        Args:
            path: the journal. Made, with its folders, when absent and `meta` is given.
            meta: the fields of the first event ("session") of a new journal; unused when there is one already.

        Raises:
            UserError: no such session (and no meta), a damaged line, or a journal of a newer autoRL.
            Paused: the disk refuses.
        """
        data = _read_bytes(path)
        events, length = parse(data, path) if data else ([], 0)
        if not events and meta is None:
            raise UserError(
                f"There is no session at {path.parent}: start one with the command `run`."
            )
        journal = cls(path, events, length)
        if not events:  # the first event comes with the file, whole: there is never an empty journal to wonder about
            line = journal._line("session", meta or {})
            if data:
                journal._keep_copy(data)
            atomic_write(path, line)
            journal._take(line)
            journal._open_file()
            return journal
        journal._open_file()
        if len(data) > length:
            journal._cut(data[length:])
        return journal

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """The events of a journal that another process may be writing: nothing is changed, a half line is left alone."""
        data = _read_bytes(path)
        return parse(data, path)[0] if data else []

    def append(self, type: str, **fields: Any) -> dict[str, Any]:
        """Write one event; when this returns it is on the disk, when it raises there is no trace of it.

        Raises:
            ValueError: a field that strict JSON cannot say (NaN, Infinity), or a reserved name.
            Paused: the disk is full (after two more tries), failing or read-only, or somebody else changed the file.
        """
        if self._broken:
            raise Paused(self._broken)
        line = self._line(type, fields)
        self._unchanged_by_others()
        try:
            retry_when_full(lambda: effect("journal append", lambda: self._write(line)))
        except OSError as error:
            self._broken = disk_trouble(error, self.path)
            raise Paused(self._broken) from error
        return self._take(line)

    def of(self, type: str) -> list[dict[str, Any]]:
        """The events of one type, oldest first."""
        return [event for event in self.events if event["type"] == type]

    def forget(self, *types: str) -> None:
        """Keep events of these types on the disk only: the caller has folded them, and a long night has many."""
        self._forgotten |= set(types)
        self.events = [event for event in self.events if event["type"] not in self._forgotten]

    def close(self) -> None:
        """Close the file; the journal can still be read in memory."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _line(self, type: str, fields: dict[str, Any]) -> bytes:
        if clash := _RESERVED & fields.keys():
            raise ValueError(f"reserved field names: {sorted(clash)}")
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return encode({"v": SCHEMA_VERSION, "seq": self.count, "at": at, "type": type, **fields})

    def _take(self, line: bytes) -> dict[str, Any]:
        """A line that is on the disk becomes an event, as a reader would see it (tuples are lists)."""
        event: dict[str, Any] = json.loads(line)
        del event["crc"]
        self._length += len(line)
        self.count += 1
        if event["type"] not in self._forgotten:
            self.events.append(event)
        return event

    # -- the file ----------------------------------------------------------------------------------------------------

    def _open_file(self) -> None:
        try:
            make_folder(self.path.parent)
            self._fd = os.open(
                self.path,
                os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o644,
            )
            fsync_folder(self.path.parent)
        except OSError as error:
            raise Paused(disk_trouble(error, self.path)) from error

    def _write(self, line: bytes) -> None:
        """One write and one fsync; on any trouble the file is cut back to its last whole event."""
        assert self._fd is not None, "the journal is closed"
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(
                    errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)
                )  # short write: the disk is full
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(
                OSError
            ):  # when even this fails, the next opening cuts the tail
                os.ftruncate(self._fd, self._length)
            raise

    def _unchanged_by_others(self) -> None:
        assert self._fd is not None, "the journal is closed"
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
            same = (there.st_ino, there.st_dev) == (
                mine.st_ino,
                mine.st_dev,
            ) and mine.st_size == self._length
        except OSError:
            same = False
        if not same:
            self._broken = f"{self.path} was moved, deleted or written by somebody else while the loop was using it: put it back as it was, then run the same command."
            raise Paused(self._broken)

    def _keep_copy(self, tail: bytes) -> None:
        """Copy a torn tail beside the journal; the same tail twice is one copy."""
        copy, number = self.path.with_name(f"{self.path.name}.torn-{self.count}"), 1
        while copy.exists() and copy.read_bytes() != tail:
            number += 1
            copy = self.path.with_name(f"{self.path.name}.torn-{self.count}.{number}")
        atomic_write(copy, tail)
        whole = f"{self.count} events are whole"
        self.recovered = f"The last line of {self.path.name} was torn ({len(tail)} bytes): cut, and kept as {copy.name}; {whole}."

    def _cut(self, tail: bytes) -> None:
        """Copy a torn tail beside the journal, then cut it."""
        assert self._fd is not None
        fd = self._fd

        def cut() -> None:
            os.ftruncate(fd, self._length)
            os.fsync(fd)

        self._keep_copy(tail)
        try:
            retry_when_full(lambda: effect("journal cut", cut))
        except OSError as error:
            raise Paused(disk_trouble(error, self.path)) from error


# ---------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------


def encode(event: dict[str, Any]) -> bytes:
    """One event as its line: strict ASCII JSON, checksum last, newline. Raises ValueError on NaN and Infinity."""
    body = json.dumps(event, allow_nan=False, separators=(",", ":")).encode("ascii")
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


def decode(line: bytes) -> dict[str, Any] | None:
    """The event of a line without its newline, or None when the line is damaged."""
    if not (match := _CRC.search(line)):
        return None
    body = line[: match.start()] + b"}"
    if zlib.crc32(body) != int(match[1], 16):
        return None
    try:
        event = json.loads(body, parse_constant=_refuse_constant)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None


def parse(data: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole events of a journal's bytes and the length in bytes that they fill; what follows is a torn tail.

    Raises:
        UserError: a newer schema; a damaged line that is not the torn last one; sequence numbers out of order.
    """
    events: list[dict[str, Any]] = []
    length = 0
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces, 1):
        whole = number < len(pieces)  # it ended in a newline
        event = decode(piece) if whole else None
        if event is None:
            _refuse_newer(piece, number, path)
            rest = b"".join(pieces[number:])
            if rest.strip(b"\0 \r") or (whole and _is_json(piece)):
                raise UserError(
                    f"Line {number} of {path} is damaged and is not the last: restore the file from a copy, or start a new session with `--new`."
                    if rest.strip(b"\0 \r")
                    else f"Line {number} of {path} does not fit its checksum (edited by hand?): restore the file from a copy, or start a new session with `--new`."
                )
            return events, length
        if event.get("v") != SCHEMA_VERSION:
            _refuse_newer(piece, number, path)
            raise UserError(
                f"Line {number} of {path} has the schema version {event.get('v')!r}, which autoRL does not know."
            )
        if event.get("seq") != len(events):
            raise UserError(
                f"Line {number} of {path} has the sequence number {event.get('seq')!r} where {len(events)} belongs: lines were lost or doubled; restore the file from a copy."
            )
        events.append(event)
        length += len(piece) + 1
    return events, length


def _refuse_newer(piece: bytes, number: int, path: Path) -> None:
    try:
        version = json.loads(piece).get("v")
    except (ValueError, AttributeError):
        return
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(
            f"Line {number} of {path} was written by a newer autoRL (schema {version}, this one knows {SCHEMA_VERSION}): update autoRL to go on with this session."
        )


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _is_json(piece: bytes) -> bool:
    try:
        return isinstance(json.loads(piece), dict)
    except ValueError:
        return False


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
