"""Runs that a file scripts instead of training: the fake at the Runner seam, for tests and demos.

    uv run python agent_loop.py run --runner scripted --proposer replay --replay ideas.json

Everything of the loop is real but the measured run: a child process sleeps as long as the script in
train.py says and ends as it says. train.py holds one literal, and whatever else it likes:

    SCRIPT = {"return": 10.0, "noise": 1.0, "seconds": 0.02, "end": "ok"}

The return is drawn from the script and the seed, so the same commit on the same seed measures the
same. `end` is one of ok, raise, kill (by an out-of-memory killer), hang, nan, silent (exit 0 with
no result), cuda, flood (endless output) and interrupted (the machine's fault). "seed_blind": True
fails the seed control. AUTORL_SCRIPTED_MACHINE names a JSON file with fields of MachineShare that
runs report: a test makes the machine slow or asleep with it.

What it does not do: train, evaluate, confine, or import train.py. Its records say `isolation:
scripted`.
"""

import ast
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from autorl.judge.child import Log
from autorl.judge.machine_share import score
from autorl.records import Job, MachineShare, RunRecord, from_json, to_json
from autorl.runners.base import Run, Runs
from autorl.system.faults import effect

# A process of its own: dies with its parent, works its seconds, ends as the script says.
# argv: parent's pid, script as JSON.
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


class ScriptedRunner(Runs):
    """interfaces.Runner over scripts; `places` runs at once, each a real child process."""

    invents_scores = True

    def start(self, job: Job, folder: Path) -> str:
        """Begin a run; its handle is its folder."""
        script = json.dumps(read_script(job.train_source))
        folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-I", "-S", "-c", CHILD, str(os.getpid()), script]

        def begin() -> "subprocess.Popen[bytes]":
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

        self.runs[str(folder)] = Run(job, folder, effect("child start", begin))
        return str(folder)

    def poll(self, handle: str) -> RunRecord | None:
        """The record when the child has ended or its time is over, else None."""
        run = self.runs[handle]
        assert run.process is not None
        seconds, code = run.elapsed, run.process.poll()
        if code is None and seconds < run.job.time_budget:
            return None
        self.cancel(handle)
        record = _record(run, code, seconds)
        (run.folder / "record.json").write_text(json.dumps(to_json(record)), encoding="utf-8")
        for name in ("output", "result.json", "result.tmp"):
            (run.folder / name).unlink(missing_ok=True)
        return record

    def cancel(self, handle: str) -> None:
        """Kill the child, if it is still there."""
        run = self.runs.pop(handle, None)
        if run is not None and run.process is not None:
            run.process.kill()
            run.process.wait()


def read_script(source: str) -> dict[str, Any]:
    """The literal SCRIPT of a train.py with its defaults; without one, the run raises."""
    script: dict[str, Any] = {"return": 0.0, "noise": 0.0, "seconds": 0.0, "end": "raise"}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCRIPT":
            script |= {"end": "ok"} | ast.literal_eval(node.value)
    return script


def scores(script: dict[str, Any], seed: int, episodes: int) -> tuple[float, ...]:
    """Returns of the episodes of one run, (episodes,).

    One draw of the run's own, and a little for each episode.
    """
    rng = random.Random(f"{seed} {json.dumps(script, sort_keys=True)}")
    mean = script["return"] + script["noise"] * rng.gauss(0.0, 1.0)
    return tuple(mean + 0.1 * script["noise"] * rng.gauss(0.0, 1.0) for _ in range(episodes))


def _record(run: Run, code: int | None, seconds: float) -> RunRecord:
    """What became of a run: `code` is its exit code, None when it was late."""
    job, script = run.job, read_script(run.job.train_source)
    log = Log(run.folder / "run.log")
    with open(run.folder / "output", "rb") as output:
        while data := output.read(1 << 16):
            log.write(data)
    log.close()
    common: dict[str, Any] = {
        "env_id": job.env_id,
        "seed": job.seed,
        "time_budget": job.time_budget,
        "training_seconds": round(seconds, 3),
        "total_seconds": round(seconds, 3),
        "isolation": "scripted",
        "hardware": "scripted",
        "log_tail": log.tail(),
        "machine": _machine(),
    }
    if script["end"] == "interrupted":
        return RunRecord("interrupted", "machine", "The machine failed, the script says.", **common)
    if code is None:
        return RunRecord("crash", "late", f"Not done after {job.time_budget:g} s.", **common)
    if code != 0:
        last = f": {log.last_line()}" if log.total else "."
        return RunRecord("crash", "exit", f"Ended with exit code {code}{last}", **common)
    if not (run.folder / "result.json").is_file():
        return RunRecord("crash", "handover", "Ended without a result.", **common)
    if script["end"] == "nan":
        return RunRecord("crash", "action", "The actions are not finite.", **common)
    if job.kind == "seed_control":
        actions = [0.0, 0.0 if script.get("seed_blind") else 1.0]
        common["control"] = {"actions": actions, "updates": [1, 1]}
    returns = scores(script, job.seed, job.num_eval_episodes)
    return RunRecord(
        "ok",
        **score(returns, (1,) * len(returns)),
        eval_seeds=tuple(int.from_bytes(os.urandom(4), "big") for _ in returns),
        total_timesteps=1000,
        num_updates=1,
        **common,
    )


def _machine() -> MachineShare:
    try:
        text = Path(os.environ["AUTORL_SCRIPTED_MACHINE"]).read_text(encoding="utf-8")
        return from_json(MachineShare, json.loads(text))
    except (KeyError, OSError, ValueError):
        return MachineShare(cpu_share=1.0)
