"""Runs that a file scripts instead of training: the fake at the Runner seam, for tests, soaks and demonstrations.

    uv run python agent_loop.py run --runner scripted --proposer replay --replay ideas.json

Everything of the loop is real but the measured run: a child process sleeps as long as the script in train.py says and
ends as it says. train.py holds one literal, and whatever else it likes:

    SCRIPT = {"return": 10.0, "noise": 1.0, "seconds": 0.02, "end": "ok"}

The return is drawn from the script and the seed, so the same commit on the same seed measures the same. `end` is one of
ok, raise, kill (by an out-of-memory killer), hang, nan, silent (exit 0 with no result), cuda, flood (endless output) and
interrupted (the machine's fault). "seed_blind": True fails the seed control. AUTORL_SCRIPTED_MACHINE names a JSON file with fields of MachineShare that runs
report: a test makes the machine slow or asleep with it.

What it does not do: train, evaluate, confine, or import train.py. Its records say `isolation: scripted`.
"""

import ast
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from autorl.records import Job, MachineShare, Progress, RunRecord, from_json, to_json
from autorl.system.faults import effect

LOG_BYTES = 64 * 1024  # of a run's output that are kept, head and tail

# A process of its own: dies with its parent, works its seconds, ends as told. argv: parent's pid, script as JSON.
CHILD = """
import ctypes, json, os, signal, sys, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL) if sys.platform == "linux" else None  # PR_SET_PDEATHSIG
script = json.loads(sys.argv[2])
if os.getppid() != int(sys.argv[1]):
    sys.exit(9)
end = time.monotonic() + script["seconds"]
while (left := end - time.monotonic()) > 0:
    time.sleep(min(left, 0.05))
what = script["end"]
if what == "raise":
    raise RuntimeError("the script says so")
if what == "cuda":
    raise RuntimeError("CUDA error: device-side assert triggered")
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
if what == "flood":
    for _ in range(200):
        os.write(1, b"\\x1b[31m\\xff\\x00no newline\\r" * 1000)
if what in ("ok", "nan", "flood"):
    with open("result.tmp", "w") as file:
        json.dump({"done": True}, file)
    os.replace("result.tmp", "result.json")
"""


class ScriptedRunner:
    """interfaces.Runner over scripts; `places` runs at once, each a real child process."""

    name = "scripted"
    survives_restart, owns_cores, invents_scores = False, True, True

    def __init__(self, places: int = 1):
        self.places = places
        self._running: dict[
            str, tuple[subprocess.Popen[bytes], Job, Path, dict[str, Any], float]
        ] = {}

    def worst_usd(self, job: Job) -> float:
        return 0.0

    def close(self) -> None:
        pass

    def start(self, job: Job, folder: Path) -> str:
        script = read_script(job.train_source)
        folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-I", "-S", "-c", CHILD, str(os.getpid()), json.dumps(script)]

        def begin() -> subprocess.Popen[bytes]:
            with open(folder / "output", "wb") as output:
                return subprocess.Popen(
                    argv,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={},
                    process_group=0,
                )

        self._running[str(folder)] = (
            effect("child start", begin),
            job,
            folder,
            script,
            time.monotonic(),
        )
        return str(folder)

    def poll(self, handle: str) -> RunRecord | None:
        process, job, folder, script, began = self._running[handle]
        seconds, code = time.monotonic() - began, process.poll()
        if code is None and seconds < job.time_budget:
            return None
        if code is None:
            process.kill()
            process.wait()
        del self._running[handle]
        output = _bounded(folder / "output")
        record = replace(
            _record(job, script, code, folder, output),
            training_seconds=round(seconds, 3),
            total_seconds=round(seconds, 3),
        )
        (folder / "run.log").write_text(output, encoding="utf-8")
        (folder / "record.json").write_text(json.dumps(to_json(record)), encoding="utf-8")
        for name in ("output", "result.json", "result.tmp"):
            (folder / name).unlink(missing_ok=True)
        return record

    def progress(self, handle: str) -> Progress | None:
        if handle not in self._running:
            return None
        _, job, _, _, began = self._running[handle]
        return Progress("training", time.monotonic() - began, job.time_budget)

    def attach(self, handle: str, job: Job, folder: Path) -> bool:
        """Never: a run dies with the loop that started it."""
        return False

    def cancel(self, handle: str) -> None:
        if handle in self._running:
            process = self._running.pop(handle)[0]
            process.kill()
            process.wait()


def read_script(source: str) -> dict[str, Any]:
    """The literal SCRIPT of a train.py with its defaults; without one, the run raises."""
    script: dict[str, Any] = {"return": 0.0, "noise": 0.0, "seconds": 0.0, "end": "raise"}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCRIPT":
            script |= {"end": "ok"} | ast.literal_eval(node.value)
    return script


def scores(script: dict[str, Any], seed: int, episodes: int) -> tuple[float, ...]:
    """Returns of the episodes of one run, (episodes,): one draw of the run's own, and a little for each episode."""
    rng = random.Random(f"{seed} {json.dumps(script, sort_keys=True)}")
    mean = script["return"] + script["noise"] * rng.gauss(0.0, 1.0)
    return tuple(mean + 0.1 * script["noise"] * rng.gauss(0.0, 1.0) for _ in range(episodes))


def _record(
    job: Job, script: dict[str, Any], code: int | None, folder: Path, output: str
) -> RunRecord:
    """What became of a run: `code` is its exit code, None when it was late."""
    common: dict[str, Any] = {
        "env_id": job.env_id,
        "seed": job.seed,
        "time_budget": job.time_budget,
        "isolation": "scripted",
        "hardware": "scripted",
        "log_tail": output[-4096:],
        "machine": _machine(),
    }
    last = output.strip().splitlines()[-1][-300:] if output.strip() else ""
    if script["end"] == "interrupted":
        return RunRecord("interrupted", "machine", "The machine failed, the script says.", **common)
    if code is None:
        return RunRecord("crash", "late", f"Not done after {job.time_budget:g} s.", **common)
    if code != 0:
        return RunRecord(
            "crash",
            "exit",
            f"Ended with exit code {code}: {last}" if last else f"Ended with exit code {code}.",
            **common,
        )
    if not (folder / "result.json").is_file():
        return RunRecord("crash", "handover", "Ended without a result.", **common)
    if script["end"] == "nan":
        return RunRecord("crash", "action", "The actions are not finite.", **common)
    if job.kind == "seed_control":
        common["control"] = {
            "actions": [0.0, 0.0 if script.get("seed_blind") else 1.0],
            "updates": [1, 1],
        }
    returns = scores(script, job.seed, job.num_eval_episodes)
    return RunRecord(
        "ok",
        avg_return=statistics.fmean(returns),
        std_return=statistics.pstdev(returns),
        min_return=min(returns),
        max_return=max(returns),
        returns=returns,
        lengths=(1,) * len(returns),
        eval_seeds=tuple(int.from_bytes(os.urandom(4), "big") for _ in returns),
        total_timesteps=1000,
        num_updates=1,
        **common,
    )


def _machine() -> MachineShare:
    try:
        share: MachineShare = from_json(
            MachineShare,
            json.loads(Path(os.environ["AUTORL_SCRIPTED_MACHINE"]).read_text(encoding="utf-8")),
        )
        return share
    except (KeyError, OSError, ValueError):
        return MachineShare(cpu_share=1.0)


def _bounded(path: Path) -> str:
    """Head and tail of a file as valid UTF-8."""
    with open(path, "rb") as file:
        head, size = file.read(LOG_BYTES // 2), path.stat().st_size
        if size <= LOG_BYTES:
            return (head + file.read()).decode("utf-8", "replace")
        file.seek(size - LOG_BYTES // 2)
        return (
            head.decode("utf-8", "replace")
            + f"\n[{size - LOG_BYTES} bytes left out]\n"
            + file.read().decode("utf-8", "replace")
        )
