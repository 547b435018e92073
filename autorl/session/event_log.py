"""The append-only event log of a session: the one truth on disk. Reading it back is resuming.

    log, events = EventLog.open(folder / "journal.jsonl", Created(env_id="Hopper-v5", ...))
    log.append(Pinned(n=3, commit="…"))
    Follower(path).new()          # in another process: what was not read yet

One event is one line of JSON that ends in its own checksum, written by one write() and one fsync():

    {"v":2,"type":"pinned","seq":4,"at":"2026-01-31T02:03:04Z","n":3,"commit":"…","crc":"9a0b…"}

An event that did not reach the disk whole never happened: a torn last line is cut, after a copy was
    put beside the log.
A damaged line before the last is never guessed at: it is refused by number. A log of another
version (`v`) is shown (`Follower`) and not continued.

What it does not do: interpret events, lock (the caller holds the tag's lock; reading needs none),
    rotate.
"""

import contextlib
import errno
import os
import re
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from autorl import __version__
from autorl.errors import Paused, UserError
from autorl.records import SCHEMA_VERSION
from autorl.session.events import AnyEvent, Event
from autorl.system.faults import effect, retry_when_full
from autorl.system.files import atomic_write, disk_trouble, fsync_folder, make_folder

WRITTEN_BY = {1: "0.1.0"}  # log version -> the autoRL that wrote it, where its lines do not say

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"}\Z')
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)


class EventLog:
    """The log of one session, open for writing.

    Attributes:
        count: how many events the file holds.
        recovered: one line about a tail that was cut at opening, else "".
        path: the file.
    """

    def __init__(self, path: Path, count: int, length: int):
        self.path, self.count, self.recovered = path, count, ""
        self._length = length  # bytes of the file that are whole events
        self._fd: int | None = None
        self._broken = ""

    @classmethod
    def open(cls, path: Path, first: Event | None = None) -> tuple["EventLog", list[AnyEvent]]:
        """The log and the events in it; the caller holds the tag's lock.

        Args:
            path: made, with its folders, when absent and `first` is given.
            first: the first event of a new log; unused when there is one already.

        Raises:
            UserError: no such session (and no first event), a damaged line, or a log of another
                version.
            Paused: the disk refuses.
        """
        data = _read_bytes(path)
        _refuse_other_version(data, path)
        events, length = parse(data, path)
        log = cls(path, len(events), length)
        # the first event comes with the file, whole: there is never an empty log to wonder about
        if not events:
            if first is None:
                raise UserError(
                    f"There is no session at {path.parent}: start one with the command `run`."
                )
            known, line = log._line(first)
            if data:
                log._keep_copy(data)
            atomic_write(path, line)
            log._length, log.count = len(line), 1
            log._open_file()
            return log, [known]
        log._open_file()
        if len(data) > length:
            log._cut(data[length:])
        return log, events

    def append(self, event: Event) -> AnyEvent:
        """Write one event; when this returns it is on the disk, when it raises there is no trace of
        it.

        Returns:
            The event with its `seq` and `at`, as it will be read back: NaN is None, a tuple in
            plain data is a list.

        Raises:
            TypeError, ValueError: it holds what could not be read back, for example NaN where there
                must be a number.
            Paused: the disk is full (after two more tries), failing or read-only, or somebody else
                changed the file.
        """
        if self._broken:
            raise Paused(self._broken)
        known, line = self._line(event)
        self._unchanged_by_others()
        try:
            retry_when_full(lambda: effect("journal append", lambda: self._write(line)))
        except OSError as error:
            self._broken = disk_trouble(error, self.path)
            raise Paused(self._broken) from error
        self._length += len(line)
        self.count += 1
        return known

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _line(self, event: Event) -> tuple[AnyEvent, bytes]:
        """The event as a reader will see it, and its line; what cannot be read back is refused."""
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = msgspec.structs.replace(event, seq=self.count, at=at)
        try:
            line = encode(event)
        except UnicodeEncodeError:  # a lone surrogate, from a model's reply for example
            line = encode(_valid_text(msgspec.to_builtins(event)))
        return _decoder.decode(line), line

    # -- the file ----------------------------------------------------------------------------------

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
        assert self._fd is not None, "the log is closed"
        try:
            if os.write(self._fd, line) != len(line):  # a short write: the disk is full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # where even this fails, the next opening cuts it
                os.ftruncate(self._fd, self._length)
            raise

    def _unchanged_by_others(self) -> None:
        assert self._fd is not None, "the log is closed"
        mine = os.fstat(self._fd)
        try:
            same = os.path.samestat(os.stat(self.path), mine) and mine.st_size == self._length
        except OSError:
            same = False
        if not same:
            self._broken = (
                f"{self.path} was moved, deleted or written by somebody else while the loop was "
                "using it: put it back as it was, then run the same command."
            )
            raise Paused(self._broken)

    def _keep_copy(self, tail: bytes) -> None:
        """Copy a torn tail beside the journal; the same tail twice is one copy."""
        copy, number = self.path.with_name(f"{self.path.name}.torn-{self.count}"), 1
        while copy.exists() and copy.read_bytes() != tail:
            number += 1
            copy = self.path.with_name(f"{self.path.name}.torn-{self.count}.{number}")
        atomic_write(copy, tail)
        self.recovered = (
            f"The last line of {self.path.name} was torn ({len(tail)} bytes): cut, and kept as "
            f"{copy.name}; {self.count} events are whole."
        )

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


def encode(event: Event | dict[str, Any]) -> bytes:
    """One event, or what `msgspec.to_builtins` made of it, as its line: version first, checksum
    last, newline. NaN and infinity become null: a missing value is missing.
    """
    body = b'{"v":%d,' % SCHEMA_VERSION + _encoder.encode(event)[1:]
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


def checked(line: bytes) -> bytes | None:
    """The JSON of a line without its newline and checksum, or None when the line is damaged."""
    if not (match := _CRC.search(line)):
        return None
    body = line[: match.start()] + b"}"
    return body if zlib.crc32(body) == int(match[1], 16) else None


def parse(data: bytes, path: Path, first: int = 0) -> tuple[list[AnyEvent], int]:
    """The whole events of a log's bytes and the length in bytes that they fill; what follows is a
    torn tail.

    Args:
        first: the sequence number of the first line.

    Raises:
        UserError: a damaged line that is not the torn last one; an event that is not known;
            sequence numbers out of order.
    """
    events: list[AnyEvent] = []
    length = 0
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces, first + 1):
        last = number - first == len(pieces)  # it did not end in a newline
        body = None if last else checked(piece)
        if body is None:
            if b"".join(pieces[number - first :]).strip(b"\0 \r"):
                raise _damaged(number, path, "is damaged and is not the last")
            if not last and piece.endswith(b"}"):
                raise _damaged(number, path, "does not fit its checksum (edited by hand?)")
            return events, length
        try:
            event = _decoder.decode(body)
        except msgspec.DecodeError as error:
            odd = f"holds no event that this autoRL knows ({error})"
            raise _damaged(number, path, odd) from None
        if event.seq != (due := first + len(events)):
            odd = f"has the sequence number {event.seq} where {due} belongs"
            raise _damaged(number, path, odd)
        events.append(event)
        length += len(piece) + 1
    return events, length


def _damaged(number: int, path: Path, what: str) -> UserError:
    return UserError(
        f"Line {number} of {path} {what}: restore the file from a copy, or start a new session "
        "with `--new`."
    )


def version(data: bytes) -> int:
    """The version of a log that begins with these bytes; this one's where they do not say."""
    match = re.match(rb'{"v":(\d{1,9}),', data)
    return int(match[1]) if match else SCHEMA_VERSION


def _refuse_other_version(data: bytes, path: Path) -> None:
    if (v := version(data)) == SCHEMA_VERSION:
        return
    named = re.search(rb'"autorl":"([0-9A-Za-z.+-]{1,32})"', data.partition(b"\n")[0])
    writer = named[1].decode() if named else WRITTEN_BY.get(v, "of another version")
    raise UserError(
        f"The session {path.parent.name!r} was written by autoRL {writer} (log version {v}); this "
        f"is autoRL {__version__} (log version {SCHEMA_VERSION}): continue it with autoRL {writer},"
        " or start a new one with --new; `status` and `report` still show it."
    )


# ---------------------------------------------------------------------------
# Reading while somebody else writes
# ---------------------------------------------------------------------------


class Follower:
    """A log that another process may be writing, read on from where it was left."""

    def __init__(self, path: Path):
        self.path = path
        self._inode, self._offset, self._count = 0, 0, 0

    def new(self) -> list[AnyEvent]:
        """The events that have come since the last call; all of them at the first. Nothing is
        changed.

        Raises:
            UserError: a damaged line; the file was replaced by another.
        """
        try:
            with open(self.path, "rb") as file:
                info = os.fstat(file.fileno())
                if self._count and (info.st_ino != self._inode or info.st_size < self._offset):
                    raise UserError(
                        f"{self.path} was replaced while it was being read: run the same command "
                        "again."
                    )
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"Cannot read {self.path}: {error.strerror}.") from error
        if not self._count and version(data) != SCHEMA_VERSION:
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            return _understood(whole)
        events, length = parse(data, self.path, self._count)
        self._inode, self._offset = info.st_ino, self._offset + length
        self._count += len(events)
        return events


def _understood(data: bytes) -> list[AnyEvent]:
    """What can be understood of a log of another version, for showing it."""
    events = []
    for line in data.split(b"\n"):
        with contextlib.suppress(msgspec.DecodeError, TypeError):
            events.append(_decoder.decode(checked(line)))  # type: ignore[arg-type]
    return events


def _valid_text(value: Any) -> Any:
    """Plain data with every text in it made encodable."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_valid_text(k): _valid_text(v) for k, v in value.items()}
    return [_valid_text(v) for v in value] if isinstance(value, list | tuple) else value


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
