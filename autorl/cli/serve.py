"""`serve`: report.html from a server on this machine, growing while the session runs.

It listens on the loopback address only, answers GET and nothing else, changes no file, and can be
ended and started at any time: all it knows it reads from the journal and the folders of runs, and
only when a browser asks.
"""

import threading
import zlib
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from autorl import report
from autorl.cli.page import page_data, running
from autorl.cli.status import newest, solved_at
from autorl.errors import UserError
from autorl.session import SessionState, fold
from autorl.session.event_log import Follower
from autorl.system.locks import holder

HOST = "127.0.0.1"


class Watched:
    """A session as the browser asks for it; each look reads only what is new in its journal."""

    def __init__(self, root: Path, tag: str | None):
        self.root, (self.folder, state) = root, newest(root, tag)
        self.goal = solved_at(state)
        self.follower, self.state = Follower(self.folder / "journal.jsonl"), SessionState()
        self.events, self.known = 0, dict[int, tuple[Any, dict[str, Any]]]()
        self.replay = ""  # a page of its own: asked for only when it is another
        self.mutex = threading.Lock()

    def now(self) -> dict[str, Any]:
        """How far the journal is, and what runs; `error` in place of it where it is damaged."""
        with self.mutex:
            try:
                events = self.follower.new()
            except UserError as error:
                return {"error": str(error)}
            self.events += len(events)
            fold(events, self.state)
            who = holder(self.folder / "session.lock")
            stands = f"finished: {self.state.finished}" if self.state.finished else "not running"
            runs = running(self.root, self.state) if who else []
            return {"version": self.events, "state": "running" if who else stands, "running": runs}

    def data(self) -> dict[str, Any]:
        """The page's data as of the last `now`."""
        with self.mutex:
            data = page_data(self.root, self.folder, self.state, self.goal, self.known)
            self.replay = data.pop("replay") or ""
            at = f"replay.html?{zlib.crc32(self.replay.encode())}" if self.replay else None
            return data | {"version": self.events, "replay_at": at}


class Answer(BaseHTTPRequestHandler):
    """GET of the page, its data, and what runs now."""

    def __init__(self, watched: Watched, *about: Any):
        self.watched = watched
        super().__init__(*about)

    def do_GET(self) -> None:
        watched, json, html = self.watched, "application/json", "text/html; charset=utf-8"
        answers: dict[str, tuple[str, Callable[[], bytes]]] = {
            "/": (html, lambda: report.report_html(None).encode()),
            "/replay.html": (html, lambda: watched.replay.encode()),
            "/data.json": (json, lambda: report.data_json(watched.data())),
            "/now.json": (json, lambda: report.data_json(watched.now())),
        }
        host = self.headers.get("Host", "").rpartition(":")[0]  # another name: a foreign page asks
        found = answers.get(self.path.partition("?")[0])
        if found is None or host not in (HOST, "localhost"):
            self.send_error(404)
            return
        kind, body = found[0], found[1]()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a browser asks every two seconds."""


def serve_page(root: Path, tag: str | None, port: int) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: no session; the port is taken.
    """
    watched = Watched(root, tag)
    watched.now()
    try:
        server = ThreadingHTTPServer((HOST, port), partial(Answer, watched))
    except OSError as error:
        raise UserError(
            f"Port {port} cannot be used ({error.strerror}): give another one, such as --port "
            f"{port % 65535 + 1}, or --port 0 for any that is free."
        ) from None
    with server:
        click.echo(
            f"{watched.folder.name}: http://{HOST}:{server.server_port}/ (read-only, on this "
            "machine only; Ctrl-C ends it, the session goes on)"
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("")
