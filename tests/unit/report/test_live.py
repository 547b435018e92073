"""`serve`: read-only and on this machine only. `--notify`: a person's command hears of the end."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_session import EVIL, make_session

from autorl.cli.console import Notifier
from autorl.cli.serve import HOST, Answer, Watched, serve_page
from autorl.errors import UserError
from autorl.session import find_session, read_state
from autorl.session.events import Claimed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A session of six experiments whose last ones come later, and the address of its server."""
    path = make_session(tmp_path, 6, rows=10) / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(True)[:12]))
    (tmp_path / "later").write_bytes(whole)
    watched = Watched(tmp_path, None)
    with ThreadingHTTPServer((HOST, 0), partial(Answer, watched)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield path, f"http://{HOST}:{http.server_port}/"
        http.shutdown()


def get(url: str, **more: Any) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, **more), timeout=10) as answer:
        data: bytes = answer.read()
        return data


def test_the_served_page_grows_with_the_journal_and_says_when_it_is_damaged(server) -> None:
    path, url = server
    assert b"data.json" in get(url)
    first = json.loads(get(f"{url}now.json"))
    data = json.loads(get(f"{url}data.json"))
    assert data["version"] == first["version"] == 12 and first["state"] == "not running"
    with open(path, "ab") as file:
        file.write((path.parents[3] / "later").read_bytes()[path.stat().st_size :])
    assert json.loads(get(f"{url}now.json"))["version"] > 12
    assert len(json.loads(get(f"{url}data.json"))["experiments"]) == 6 > len(data["experiments"])
    with open(path, "ab") as file:
        file.write(b"{damaged}\n{damaged}\n")
    assert "restore the file from a copy" in json.loads(get(f"{url}now.json"))["error"]


def test_it_answers_only_to_its_own_name_and_only_to_get(server) -> None:
    _, url = server
    for request in (
        {"headers": {"Host": "evil.example:80"}},
        {"method": "POST", "data": b"x"},
        {"method": "DELETE"},
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{url}now.json", **request)
        with refused.value as answer:
            assert answer.code in (404, 501)
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{url}../../../etc/passwd")
    refused.value.close()


def test_a_port_in_use_is_one_sentence(tmp_path) -> None:
    make_session(tmp_path, 2, rows=5)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(UserError, match=r"Port \d+ cannot be used .*--port 0"):
            serve_page(tmp_path, None, taken.getsockname()[1])


def test_a_command_gets_the_summary_and_its_failure_is_only_said(tmp_path) -> None:
    make_session(tmp_path, 6, rows=5, evil=True)
    state = read_state(find_session(tmp_path, None))
    settings = SimpleNamespace(env_id="Walker2d-v5")
    session: Any = SimpleNamespace(
        root=tmp_path, tag="made", state=state, settings=settings, observers=[]
    )
    said: list[str] = []
    notifier = Notifier("sh -c 'echo $AUTORL_EVENT $AUTORL_TAG > heard; cat >> heard'")
    notifier.tell(session, "end", f"out of time {EVIL}", said.append)
    heard = (tmp_path / "heard").read_text()
    assert heard.startswith("end made\nautoRL end: made on Walker2d-v5\nout of time")
    assert "5 experiments" in heard and "baseline: #0" in heard and "\x1b" not in heard
    notifier.watch(session, said.append)
    session.observers[0](Claimed(claim={"claim": {"sentence": "Shown: 3 better."}}))
    assert (tmp_path / "heard").read_text().splitlines()[1:3] == [
        "autoRL claim: made on Walker2d-v5",
        "Shown: 3 better.",
    ]
    Notifier("sh -c 'echo no such host >&2; exit 3'").tell(session, "end", "", said.append)
    assert said == ["--notify ended with exit code 3: no such host"]
    Notifier(None).tell(session, "end", "", said.append)
    for wrong in ("no-such-program-here x", "mail 'oops"):
        with pytest.raises(UserError, match="--notify"):
            Notifier(wrong)
