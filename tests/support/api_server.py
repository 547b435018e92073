"""A scripted Messages API server: real HTTP on loopback, real server-sent events, faults on demand.

    steps = [Message([tool("propose_experiment", {...})]), Status(529, "overloaded_error")]
    with ApiServer(steps) as server:
        anthropic.Anthropic(api_key=KEY, base_url=server.url, max_retries=0)

Each request takes the next step of the script; a step may be a function of the request, and
`default` answers when the script is spent. Every request is recorded, and so is what the server
would bill. It counts a token for every four bytes and keeps a prompt cache as the real one does: by
exact prefix, up to the marked breakpoints. It is not the API: it does not check what a request
means, and its cache never expires.

    python tests/support/api_server.py          # serves one canned proposal, for a look by hand
"""

import hashlib
import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

KEY = "test-key"


# -- what a script is made of ----------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """A streamed reply.

    Attributes:
        content: blocks made by text(), thinking(), tool(), or broken_tool().
        cut_after: number of events after which the connection is reset; None = the whole reply.
        error_after: number of events after which an `error` event ends the stream.
        pause_seconds: silence before the stream begins; event_seconds: between any two events.
    """

    content: list[dict[str, Any]]
    stop_reason: str = "tool_use"
    stop_details: dict[str, Any] | None = None
    cut_after: int | None = None
    error_after: int | None = None
    pause_seconds: float = 0.0
    event_seconds: float = 0.0
    output_tokens: int | None = None  # None = a token for every four bytes of content


@dataclass(frozen=True)
class Status:
    """An error reply before any stream."""

    code: int
    type: str = "api_error"
    message: str = "scripted"
    headers: dict[str, str] = field(default_factory=dict)
    error_code: str = ""


@dataclass(frozen=True)
class Drop:
    """The connection is reset after the request was read, without an answer."""


@dataclass(frozen=True)
class Raw:
    """Whatever a gateway or a proxy answers: these bytes, with status 200 if nothing else."""

    body: bytes
    content_type: str = "text/event-stream"
    code: int = 200


Step = Message | Status | Drop | Raw
Script = Iterable[Step | Callable[[dict[str, Any]], Step]]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def thinking(words: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": "c2lnbmVk"}


def tool(name: str, given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "name": name, "json": json.dumps(given)}


def broken_tool(name: str, raw: str) -> dict[str, Any]:
    """A tool call whose input is these very characters."""
    return {"type": "tool_use", "name": name, "json": raw}


def propose(
    title: str, search: str, replace: str, hypothesis: str = "because", **more: Any
) -> Message:
    """The usual end of a conversation: some thinking, then one proposal."""
    given = {
        "lesson": "expected more, got less",
        "title": title,
        "hypothesis": hypothesis,
        "expected_effect": "a higher return",
        "edits": [{"search": search, "replace": replace}],
    }
    return Message([thinking("Let me see."), tool("propose_experiment", given)], **more)


# -- the server ------------------------------------------------------------------------------------


@dataclass
class Exchange:
    """One request as received, and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes
    at: float  # time.monotonic()
    step: Step | None = None
    usage: dict[str, Any] | None = None  # billed; None when no stream was begun
    whole: bool = False  # the client was sent everything
    events: list[dict[str, Any]] = field(default_factory=list)  # as sent


class ApiServer:
    """See the head of this file. `exchanges` may be read at any time."""

    def __init__(
        self, script: Script = (), default: Step | Callable[[dict[str, Any]], Step] | None = None
    ):
        self.exchanges: list[Exchange] = []
        self._script, self._default = list(script), default
        self._prefixes: set[str] = set()
        self._lock = threading.Lock()
        outer = self

        class Connection(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "ApiServer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, *steps: Step | Callable[[dict[str, Any]], Step]) -> None:
        self._script.extend(steps)

    def forget(self) -> None:
        """Drop the steps that nobody asked for."""
        self._script.clear()

    # -- one exchange --------------------------------------------------------

    def _answer(self, connection: http.server.BaseHTTPRequestHandler) -> None:
        raw = connection.rfile.read(int(connection.headers.get("content-length", 0)))
        headers = {k.lower(): v for k, v in connection.headers.items()}
        body = json.loads(raw or b"{}")
        exchange = Exchange(connection.path, headers, body, raw, time.monotonic())
        with self._lock:
            self.exchanges.append(exchange)
            step: Any = self._script.pop(0) if self._script else self._default
        bearer = headers.get("authorization", "").removeprefix("Bearer ")  # newer clients
        if KEY not in (headers.get("x-api-key"), bearer):
            step = Status(401, "authentication_error", "invalid x-api-key")
        elif connection.path != "/v1/messages":
            step = Status(404, "not_found_error", connection.path)
        elif callable(step):
            step = step(exchange.body)
        elif step is None:
            step = Status(400, "invalid_request_error", "the script is spent")
        exchange.step = step
        try:
            if isinstance(step, Drop):
                _reset(connection)
            elif isinstance(step, Raw):
                connection.send_response(step.code)
                connection.send_header("content-type", step.content_type)
                connection.send_header("content-length", str(len(step.body)))
                connection.end_headers()
                connection.wfile.write(step.body)
            elif isinstance(step, Status):
                self._send_status(connection, step)
            else:
                self._send_stream(connection, exchange, step)
        except (BrokenPipeError, ConnectionResetError):
            connection.close_connection = True

    def _send_status(self, connection: http.server.BaseHTTPRequestHandler, step: Status) -> None:
        error: dict[str, Any] = {"type": step.type, "message": step.message}
        if step.error_code:
            error["details"] = {"error_code": step.error_code}
        body = json.dumps({"type": "error", "error": error, "request_id": "req_test"}).encode()
        connection.send_response(step.code)
        sent = {"content-type": "application/json", "content-length": str(len(body))}
        for name, value in (sent | {"request-id": "req_test"} | step.headers).items():
            connection.send_header(name, value)
        connection.end_headers()
        connection.wfile.write(body)

    def _send_stream(
        self, connection: http.server.BaseHTTPRequestHandler, exchange: Exchange, step: Message
    ) -> None:
        time.sleep(step.pause_seconds)
        with self._lock:
            usage = self._usage(exchange.body)
        size = sum(len(json.dumps(block)) for block in step.content)
        output = step.output_tokens if step.output_tokens is not None else 1 + size // 4
        exchange.usage = {**usage, "output_tokens": output}
        connection.send_response(200)
        connection.send_header("content-type", "text/event-stream; charset=utf-8")
        connection.send_header("request-id", f"req_{len(self.exchanges)}")
        connection.send_header("transfer-encoding", "chunked")
        connection.end_headers()
        events = _events(exchange.body["model"], usage, output, step, len(self.exchanges))
        for count, event in enumerate(events):
            if step.cut_after is not None and count >= step.cut_after:
                return _reset(connection)
            if step.error_after is not None and count >= step.error_after:
                overloaded = {"type": "overloaded_error", "message": "Overloaded"}
                event = {"type": "error", "error": overloaded}
            time.sleep(step.event_seconds)
            exchange.events.append(event)
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            connection.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            connection.wfile.flush()
            if event["type"] == "error":
                break
        else:
            exchange.whole = True
        connection.wfile.write(b"0\r\n\r\n")

    def _usage(self, body: dict[str, Any]) -> dict[str, Any]:
        """Input tokens by kind, by a cache of exact prefixes of tools, system and messages."""
        blocks = [*body.get("tools", []), *body.get("system", [])]
        for message in body["messages"]:
            content = message["content"]
            blocks += (
                [text(content)]
                if isinstance(content, str)
                else [{"role": message["role"], **block} for block in content]
            )
        marks = [block.get("cache_control") for block in blocks]
        if body.get("cache_control"):
            marks[-1] = marks[-1] or body["cache_control"]
        assert sum(mark is not None for mark in marks) <= 4, "the API allows four cache breakpoints"
        digest, prefixes, sizes = hashlib.sha256(), [], []
        for block in blocks:
            bare = {k: v for k, v in block.items() if k != "cache_control"}
            data = json.dumps(bare, sort_keys=True).encode()
            digest.update(data + b"\n")
            prefixes.append(digest.hexdigest())
            sizes.append(1 + len(data) // 4)
        known = [i + 1 for i, prefix in enumerate(prefixes) if prefix in self._prefixes]
        read = max(known, default=0)
        written, start = {"5m": 0, "1h": 0}, read
        for i, mark in enumerate(marks):
            if mark is None:
                continue
            self._prefixes.add(prefixes[i])
            written[mark.get("ttl", "5m")] += sum(sizes[start : i + 1])
            start = max(start, i + 1)
        return {
            "input_tokens": sum(sizes[start:]),
            "cache_creation_input_tokens": sum(written.values()),
            "cache_read_input_tokens": sum(sizes[:read]),
            "cache_creation": {f"ephemeral_{ttl}_input_tokens": n for ttl, n in written.items()},
            "service_tier": "standard",
            "inference_geo": "global",
        }


def _events(
    model: str, usage: dict[str, Any], output: int, step: Message, serial: int
) -> Iterable[dict[str, Any]]:
    """The events of one reply, in the order and shape in which the API streams them."""
    head: dict[str, Any] = {"id": f"msg_{serial:06}", "type": "message", "role": "assistant"}
    head |= {"model": model, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**head, "usage": {**usage, "output_tokens": 1}}}
    for index, block in enumerate(step.content):
        if block["type"] == "text":
            start, parts = text(""), _parts(block["text"])
            deltas = [{"type": "text_delta", "text": part} for part in parts]
        elif block["type"] == "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            parts = _parts(block["thinking"])
            deltas = [{"type": "thinking_delta", "thinking": part} for part in parts]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            start = {"type": "tool_use", "id": f"toolu_{serial:06}_{index}", "name": block["name"]}
            start["input"] = {}
            parts = ["", *_parts(block["json"])]
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        yield {"type": "content_block_start", "index": index, "content_block": start}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": step.stop_reason, "stop_sequence": None}
    if step.stop_details is not None:
        known = {"type": "refusal", "category": None, "explanation": None}
        delta["stop_details"] = {**known, **step.stop_details}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}}
    yield {"type": "message_stop"}


def _parts(whole: str, size: int = 48) -> list[str]:
    return [whole[i : i + size] for i in range(0, len(whole), size)]


def _reset(connection: http.server.BaseHTTPRequestHandler) -> None:
    """Close with RST, as a dying machine on the way does."""
    connection.wfile.flush()
    connection.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.connection.shutdown(socket.SHUT_RD)
    connection.connection.close()
    connection.close_connection = True


if __name__ == "__main__":
    idea = {"title": "nothing yet", "hypothesis": "", "expected_effect": "", "edits": []}
    canned = Message([text("Here is one idea."), tool("propose_experiment", idea)])
    with ApiServer(default=canned) as served:
        print(f"export ANTHROPIC_BASE_URL={served.url} ANTHROPIC_API_KEY={KEY}", flush=True)
        threading.Event().wait()
