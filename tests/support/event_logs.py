"""Event logs for tests: one event of every kind, a log on the disk; another process writing one."""

import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import msgspec

from autorl.records import Edit, MachineShare, RunRecord, Verdict
from autorl.session import events as e
from autorl.session.event_log import EventLog
from autorl.system.files import PROJECT

TEXT = "tab\t newline\n\r \u2028\u2029 \0 \x1b[31m emoji 🙂 =1+1"
FIRST = e.Created(env_id="Toy-v0", tag="t", settings={"a": [1]}, root_seed=1, base="",
    baseline=e.Baseline(TEXT, "k"))  # fmt: skip
RECORD = RunRecord("ok", avg_return=0.1 + 0.2, returns=(1e300, -0.0), diagnostics={"kl": 1e-9},
    machine=MachineShare(cpu_share=0.9), log_tail=TEXT, control={"a": [1, None, "x"]})  # fmt: skip
REST = (
    e.Attempted(n=1, parent=0, source=TEXT, title=TEXT, key="k", params=(("LR", 1 / 3),),
        edits=(Edit("a", "b"),), retry_of=(4, 2)),
    e.Lesson(n=1, text=TEXT), e.Pinned(n=1, commit="c"),
    e.Refused(title=TEXT, reason="r", proposer="p", retry_of=(3,)), e.Cancelled(ticket="t1", n=3),
    e.RunStarted(run=1, attempt=1, purpose="candidate", kind="measure", seed_index=0, seed=2**31,
        epoch=0, folder="f", cores=(0, 1), mono=2 / 3),
    e.RunHandle(run=1, handle="h"), e.RunEnded(run=1, record=RECORD, steady=False, why=TEXT),
    e.ControlEnded(run=1, attempt=1, kind="seed_control", passed=True),
    e.Decided(verdict=Verdict(1, "taken back", TEXT, gain=1 / 7, seeds=(1, 2), taken_back=(1,))),
    e.BranchMoved(commit="c"), e.EpochBegan(epoch=1, why="w", hardware="h", versions={"a": "1"}),
    e.BaselineScores(band={"nothing": {"mean": -1.5}}), e.Note(event="n", detail=TEXT),
    e.Money(ticket="m1", op="settle", usd=0.01, usage={"input_tokens": 2**40}),
    e.Claimed(claim={"claim": {"shown": True}}), e.Opened(pid=1), e.Closed(why="w", finished="f"),
)  # fmt: skip
START = """
import sys
import time
from pathlib import Path
from autorl.session.event_log import *
from autorl.session.events import *
baseline, path = Baseline("", ""), Path(sys.argv[1])
first = Created(env_id="", tag="t", settings={}, root_seed=1, base="", baseline=baseline)
"""


def started(code: str, path: Path, file_bytes: int = -1, **env: str) -> subprocess.Popen[str]:
    """A process that runs `code`, with effect variables; its files stay within `file_bytes`."""
    return subprocess.Popen(
        [sys.executable, "-c", START + code, str(path)],
        env={**os.environ, "PYTHONPATH": str(PROJECT), **env},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def child(code: str, path: Path, **more: Any) -> tuple[int, str, str]:
    """Its exit code, output and errors."""
    process = started(code, path, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def written(path: Path, count: int = 5) -> bytes:
    log, _ = EventLog.open(path, FIRST)
    for i in range(1, count):
        log.append(e.Note(event=str(i), detail=TEXT))
    log.close()
    return path.read_bytes()


def plain(event: e.Event) -> e.Event:
    """Without what appending adds."""
    return msgspec.structs.replace(event, seq=-1, at="")


def sealed(version: int, text: str) -> bytes:
    """A line of a log of some version."""
    body = b'{"v":%d,' % version + text.encode()[1:]
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)
