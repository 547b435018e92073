"""Starts agent_loop.py as real processes, quickly: imported once, then forked for each request.

    forge = Forge()
    rc, out, err = forge.run(repo, ["run", "--tag", "t", ...], {"AUTORL_KILL_AT": "17"})

Each loop is a process of its own, killed by a real SIGKILL; only its imports are shared.
What it does not do: run the judge (whose place on disk follows from its own file).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent

SERVER = """
import json, os, runpy, select, signal, sys
sys.path[:0] = [{project!r}]
import evaluate, gymnasium, matplotlib.figure, optuna, rich.console
import anthropic, autorl.proposers.claude
import autorl.cli.run, autorl.cli.experiment, autorl.cli.status, autorl.report
import autorl.proposers.replay, autorl.proposers.search, autorl.runners.scripted
from autorl import report
from autorl.records import Row
report.progress_png((Row(0, "0" * 40, 1.0, "keep", "warm"),), "Toy-v0")
waiting, alive = {{}}, {{}}
print("ready", flush=True)
buffer = b""
while True:
    if select.select([0], [], [], 0.01)[0]:
        data = os.read(0, 65536)
        if not data:
            for pid in alive: os.kill(pid, signal.SIGKILL)
            sys.exit()
        buffer += data
    *lines, buffer = buffer.split(b"\\n")
    for line in lines:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            for name in list(os.environ):
                if name.startswith(("AUTORL_", "GIT_", "ANTHROPIC_")): del os.environ[name]
            os.environ.update(order["env"])
            os.setsid()
            os.chdir(order["cwd"])
            for fd, path in ((1, order["out"]), (2, order["err"])):
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, fd); os.close(file)
            null = os.open("/dev/null", os.O_RDONLY); os.dup2(null, 0); os.close(null)
            signal.set_wakeup_fd(-1)
            sys.argv = ["agent_loop.py", *order["argv"]]
            code = 70
            try:
                runpy.run_path(os.path.join(order["cwd"], "agent_loop.py"), run_name="__main__")
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except BaseException:
                import traceback; traceback.print_exc()
                code = 1
            finally:
                sys.stdout.flush(); sys.stderr.flush(); os._exit(code)
        alive[pid] = order["id"]
        print(json.dumps({{"id": order["id"], "pid": pid}}), flush=True)
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0: break
        if pid in alive:
            rc = os.waitstatus_to_exitcode(status)
            print(json.dumps({{"id": alive.pop(pid), "rc": rc}}), flush=True)
"""


class Process:
    """A loop that the forge started. `pid` is real; `wait()` gives (exit code, stdout, stderr)."""

    def __init__(self, number: int, folder: Path):
        self.out, self.err = folder / f"{number}.out", folder / f"{number}.err"
        self.pid, self.rc = 0, None
        self.started, self.ended = threading.Event(), threading.Event()

    def wait(self, timeout: float = 120) -> tuple[int, str, str]:
        if not self.ended.wait(timeout):
            os.kill(self.pid, signal.SIGKILL)
            said = self.err.read_text(errors="replace")[-2000:]
            raise TimeoutError(f"the loop did not end within {timeout} s; it said: {said}")
        assert self.rc is not None
        out, err = self.out.read_text(errors="replace"), self.err.read_text(errors="replace")
        self.out.unlink()
        self.err.unlink()
        return self.rc, out, err


class Forge:
    """See the head of the file. Thread-safe; close it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forge-")
        clean = ("AUTORL_", "GIT_", "ANTHROPIC_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(clean)}
        env |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        argv, pipe = [sys.executable, "-c", SERVER.format(project=str(PROJECT))], subprocess.PIPE
        self._server = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, env=env, cwd=self._folder.name
        )
        assert self._server.stdout is not None and self._server.stdin is not None
        assert self._server.stdout.readline() == b"ready\n"
        self._processes: dict[int, Process] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, repo: Path, argv: list[str], env: dict[str, str]) -> Process:
        with self._lock:
            number = len(self._processes)
            process = self._processes[number] = Process(number, Path(self._folder.name))
            order = {"id": number, "cwd": str(repo), "argv": argv, "env": env}
            order |= {"out": str(process.out), "err": str(process.err)}
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps(order).encode() + b"\n")
            self._server.stdin.flush()
        assert process.started.wait(60)
        return process

    def run(
        self, repo: Path, argv: list[str], env: dict[str, str], timeout: float = 120
    ) -> tuple[int, str, str]:
        return self.start(repo, argv, env).wait(timeout)

    def close(self) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(30)
        self._reader.join(30)
        self._server.stdout.close()
        self._folder.cleanup()

    def _read(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            word = json.loads(line)
            process = self._processes[word["id"]]
            if "pid" in word:
                process.pid = word["pid"]
                process.started.set()
            else:
                process.rc = word["rc"]
                process.ended.set()
