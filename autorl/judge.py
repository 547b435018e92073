"""The judge: `measure(job, folder) -> RunRecord` trains and scores one train.py. The one truth about a run.

    uv run python evaluate.py          # one measured run of the train.py beside it

It owns the clock (monotonic, from the start of the process), the evaluation environments, their seeds (drawn when
training is over) and the returns. train.py runs as a confined child; its trained agent is handed over as a file that
only a second confined child ever loads; the judge steps the environments and asks that child for actions.

What it does not do: decide what a score means, touch git, or believe a word of what a run says of itself.
"""

import contextlib
import csv
import fcntl
import io
import json
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autorl import sandbox
from autorl.effects import effect
from autorl.judging import files, rollout, tree
from autorl.judging.child import Child, Fault, Log
from autorl.records import Job, MachineShare, Progress, RunRecord, from_json, to_json

ROOT = Path(__file__).resolve().parent.parent
POLICY_BYTES = 512 * 1024 * 1024
METRICS_BYTES = 4 * 1024 * 1024
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "AUTORL_HOME",
    "AUTORL_REQUIRE_SANDBOX",
)

TRAIN = "import runpy, sys; sys.path[:0] = [{harness!r}]; sys.argv = ['train.py']; runpy.run_path('train.py', run_name='__main__')"
SERVE = "import sys; sys.path[:0] = [{harness!r}]; import evaluate; evaluate._serve({fd}, {seed})"


def grace_seconds(time_budget: float) -> float:
    """How much later than the budget is still in time: 2 %, at least 3 s."""
    return max(0.02 * time_budget, 3.0)


# ---------------------------------------------------------------------------
# The measured run
# ---------------------------------------------------------------------------


def measure(job: Job, folder: Path, on_progress: Callable[[Progress], None] | None = None) -> RunRecord:
    """Train and score one train.py.

    Args:
        job: everything that matters, as a value.
        folder: is made; receives run.log, metrics.csv (bounded copies) and record.json.
        on_progress: called about once a second.

    Returns:
        What was measured. A train.py that fails is a record with a status and a reason and no score, never an exception.
    """
    folder.mkdir(parents=True, exist_ok=True)
    box = sandbox.probe(job.sandbox)
    with _private_directory() as private:
        record = _Run(job, folder, private, box, on_progress).measure()
    files.write_atomic(folder / "record.json", (json.dumps(to_json(record), indent=1) + "\n").encode())
    return record


class _Run:
    """One run under way."""

    def __init__(self, job: Job, folder: Path, private: Path, box: sandbox.Sandbox, on_progress: Callable[[Progress], None] | None):
        self.job, self.folder, self.private, self.box, self.on_progress = job, folder, private, box, on_progress
        self.run_dir, self.harness, self.judge_dir = private / "run", private / "harness", private / "judge"
        for path in (self.run_dir, self.harness, self.judge_dir):
            path.mkdir(mode=0o700)
        (self.run_dir / "train.py").write_text(job.train_source, encoding="utf-8", newline="")
        shutil.copyfile(ROOT / "evaluate.py", self.harness / "evaluate.py")
        os.chmod(self.harness / "evaluate.py", 0o444)
        self.cores = tuple(job.cores) or _affinity()
        self.threads = job.threads or len(self.cores)
        self.log = Log(folder / "run.log")
        self.children: list[Child] = []
        self.started = time.monotonic()
        self.next_progress = 0.0
        self.phase: Any = "starting"
        self.facts: dict[str, Any] = {}

    def measure(self) -> RunRecord:
        before = _clocks()
        try:
            self._train()
            self._evaluate()
            status, rule, reason = "ok", "", ""
        except Fault as fault:
            status, rule, reason = fault.status, fault.rule, fault.reason
        finally:
            for child in self.children:
                child.end()
            self.log.close()
        suspended = max(0.0, (_clocks()[1] - before[1]) - (_clocks()[0] - before[0]))
        gap = max((c.max_gap_seconds for c in self.children), default=0.0)
        if status == "ok" and suspended > 1.0:
            status, rule, reason = "interrupted", "suspended", f"the machine slept for {suspended:.0f} s during the run"
        if status != "ok":
            for key in ("avg_return", "std_return", "min_return", "max_return", "returns", "lengths"):
                self.facts.pop(key, None)
        metrics = files.read_regular(self.run_dir / "metrics.csv", METRICS_BYTES) or b""
        if metrics:
            (self.folder / "metrics.csv").write_bytes(metrics)
        last = _last_row(files.read_regular(self.run_dir / "metrics.csv", 65_536, tail=True) or b"", metrics[:4096])
        return RunRecord(
            status=status, rule=rule, reason=_sentence(reason), env_id=self.job.env_id, seed=self.job.seed, time_budget=self.job.time_budget,
            total_seconds=time.monotonic() - self.started, total_timesteps=_count(last.get("step")), num_updates=_count(last.get("num_updates")),
            diagnostics=last, peak_memory_bytes=max((c.peak_memory_bytes for c in self.children), default=None),
            cpu_seconds=sum(c.cpu_seconds for c in self.children), isolation=self.box.name,
            machine=MachineShare(suspended_seconds=suspended, max_gap_seconds=gap), hardware=_hardware(), cores=len(self.cores), gpu=self.job.gpu,
            versions=_versions(), log_tail=self.log.tail(), **self.facts)  # fmt: skip

    # -- train -------------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        budget = self.job.time_budget
        self.phase = "training"
        child = self._start(TRAIN.format(harness=str(self.harness)), {"AUTORL_HANDOVER": "1"})
        deadline = self.started + budget + grace_seconds(budget)
        while child.running and not child.breach and time.monotonic() <= deadline:
            child.wait(min(0.1, max(0.0, deadline - time.monotonic())))
            self._report()
        child.running  # noqa: B018 (notes the time)
        ended = child.ended_at
        breach, why = child.breach, child.reason
        child.end()
        if breach:
            raise Fault(breach, f"the run was stopped: {why}")
        if ended is None or ended > deadline:
            if child.max_gap_seconds > 5:
                raise Fault("stalled", f"the judge itself was stopped for {child.max_gap_seconds:.0f} s", "interrupted")
            raise Fault("late", f"it had not handed an agent over {grace_seconds(budget):.0f} s after its budget of {budget:g} s was spent")
        seconds = ended - self.started
        if child.exit_code != 0:
            raise Fault("exit", f"train.py {_ending(child.exit_code)} after {seconds:.1f} s: {self.log.last_line() or 'it said nothing'}")
        fd = files.open_regular(self.run_dir / "policy.pkl")
        if fd is None:
            raise Fault(
                "no_policy", f"train.py ended after {seconds:.1f} s without handing an agent over (it must end with evaluate_policy)"
            )
        try:
            if os.fstat(fd).st_size > POLICY_BYTES:
                raise Fault("policy_size", f"the agent handed over has {os.fstat(fd).st_size} bytes; the limit is {POLICY_BYTES}")
        finally:
            os.close(fd)
        self.facts["training_seconds"] = seconds

    # -- evaluate ----------------------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        began = time.monotonic()
        self.phase = "evaluating"
        seeds = [int.from_bytes(os.urandom(4), "little") >> 1 for _ in range(self.job.num_eval_episodes)]
        self.facts["eval_seeds"] = tuple(seeds)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                server = self._start(SERVE.format(harness=str(self.harness), fd=theirs.fileno(), seed=seeds[0]), {}, [theirs.fileno()])

            def attend() -> None:
                server.attend()
                self._report()
                if server.breach:
                    raise Fault(server.breach, f"the run was stopped during evaluation: {server.reason}")
                if not server.running:
                    raise Fault(
                        "exit",
                        f"the policy's process {_ending(server.exit_code)} during evaluation: {self.log.last_line() or 'it said nothing'}",
                    )

            episodes = rollout.Episodes(self.job.env_id, seeds, len(self.cores), _python(), _judge_env(), self.judge_dir)
            try:
                episodes.open(attend)
                watch = [fd for fd in (server.exit_fd,) if fd is not None]
                returns, lengths = rollout.play(episodes, ours, attend, watch)
            except Fault as fault:
                if fault.rule == "exit" and "ended during" in fault.reason:
                    server.wait(1.0)
                    attend()
                raise
            finally:
                episodes.close()
        server.end()
        self.facts["evaluation_seconds"] = time.monotonic() - began
        if not all(map(math.isfinite, returns)):
            raise Fault("nan_return", "an episode's return is not finite")
        mean = math.fsum(returns) / len(returns)
        self.facts.update(
            returns=tuple(returns), lengths=tuple(lengths), avg_return=mean, min_return=min(returns), max_return=max(returns),
            std_return=math.sqrt(math.fsum((r - mean) ** 2 for r in returns) / len(returns)))  # fmt: skip

    # -- both --------------------------------------------------------------------------------------------------------

    def _start(self, code: str, extra: dict[str, str], pass_fds: Sequence[int] = ()) -> Child:
        started = time.monotonic()
        if not self.children:
            self.started = started
        env = self._child_env() | extra | {"AUTORL_START": repr(started)}
        argv = sandbox.wrap(self.box, [sys.executable, "-P", "-u", "-c", code], run_dir=self.run_dir, harness=self.harness, env=env)
        child = Child(argv, env=env, cwd=self.run_dir, run_dir=self.run_dir, limits=self.job.limits, log=self.log, pass_fds=pass_fds,
                      cores=self.cores if self.job.cores else ())  # fmt: skip
        self.children.append(child)
        return child

    def _child_env(self) -> dict[str, str]:
        """The allow-list: nothing of the user's environment but where the libraries are."""
        job = self.job
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.run_dir), "TMPDIR": "/tmp", "LANG": "C.UTF-8", "USER": "autorl", "LOGNAME": "autorl",
            "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads),
            "AUTORL_TIME_BUDGET": repr(float(job.time_budget)), "AUTORL_ENV_ID": job.env_id, "AUTORL_NUM_EVAL_EPISODES": str(job.num_eval_episodes),
            "AUTORL_SEED": str(job.seed), "AUTORL_THREADS": str(self.threads), "AUTORL_RUN_DIR": str(self.run_dir),
            "CUDA_VISIBLE_DEVICES": job.gpu or os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        }  # fmt: skip
        if not env["CUDA_VISIBLE_DEVICES"]:
            del env["CUDA_VISIBLE_DEVICES"]
        for name in ("LD_LIBRARY_PATH", "TZ"):
            if name in os.environ:
                env[name] = os.environ[name]
        return env

    def _report(self) -> None:
        now = time.monotonic()
        if self.on_progress is None or now < self.next_progress:
            return
        self.next_progress = now + 1.0
        tail = files.read_regular(self.run_dir / "metrics.csv", 8192, tail=True) or b""
        head = files.read_regular(self.run_dir / "metrics.csv", 4096) or b""
        row = _last_row(tail, head)
        self.on_progress(
            Progress(
                self.phase, now - self.started, self.job.time_budget, _count(row.get("step")), row.get("sps"), row.get("episode_return")
            )
        )


# ---------------------------------------------------------------------------
# Small facts
# ---------------------------------------------------------------------------


def _affinity() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else tuple(range(os.cpu_count() or 1))


def _clocks() -> tuple[float, float]:
    """(monotonic, monotonic and sleep) seconds."""
    now = time.monotonic()
    return now, time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else now


def _ending(code: int | None) -> str:
    if code is not None and (code < 0 or code > 128):
        return f"was killed by signal {-code if code < 0 else code - 128}"
    return f"ended with exit code {code}"


def _sentence(text: str) -> str:
    text = " ".join(text.split())[:600]
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")


def _last_row(tail: bytes, head: bytes) -> dict[str, float]:
    """The last complete row of metrics.csv as finite numbers; {} when there is none. Self-reported, never trusted."""
    names = next(csv.reader(io.StringIO(head.decode("utf-8", "replace").partition("\n")[0])), [])
    lines = tail.decode("utf-8", "replace").split("\n")
    for line in reversed(lines[:-1] if len(lines) > 1 else []):
        values = next(csv.reader(io.StringIO(line[:4096].replace("\0", ""))), [])
        if len(values) == len(names) and values != names:
            row = {}
            for name, value in zip(names[:64], values, strict=False):
                with contextlib.suppress(ValueError):
                    if math.isfinite(number := float(value)):
                        row[name[:64]] = number
            return row
    return {}


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and 0 <= value < 1e15 else None


def _hardware() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    from importlib import metadata

    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("torch", "numpy", "gymnasium", "envpool", "mujoco", "box2d-py", "box2d", "cloudpickle"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# ---------------------------------------------------------------------------
# Private directories
# ---------------------------------------------------------------------------


def runs_folder(root: Path = ROOT) -> Path:
    """Where private run directories live."""
    return Path(os.environ["AUTORL_HOME"]) / "runs" if os.environ.get("AUTORL_HOME") else root / ".autorl" / "runs"


@contextlib.contextmanager
def _private_directory() -> Iterator[Path]:
    """A fresh directory that is ours while we hold its lock, and gone afterwards."""
    home = runs_folder()
    home.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def is_dead(path: Path) -> bool:
    """True when no living judge owns this private run directory."""
    try:
        fd = os.open(path / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        with contextlib.suppress(OSError):
            return time.time() - path.lstat().st_mtime > 60
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------
# Starting an isolated judge: python -I, fresh bytecode, allow-listed environment; it dies with its parent
# ---------------------------------------------------------------------------


def _python() -> list[str]:
    """argv prefix of an isolated interpreter that can import autorl; the code to run is to be appended to its last item."""
    prefix = [sys.executable, "-I"]
    if "pycache_prefix" in sys._xoptions:
        prefix += ["-X", f"pycache_prefix={sys._xoptions['pycache_prefix']}"]
    return [*prefix, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "]


def _judge_env() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"OMP_NUM_THREADS": "1"}


def launch(job: Job, folder: Path, pycache: Path) -> subprocess.Popen[bytes]:
    """Start a judge as a child of this process; it writes folder/progress.json while it works and folder/record.json at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-I", "-X", f"pycache_prefix={pycache}", "-c",
               f"import sys; sys.path.insert(0, {str(ROOT)!r}); from autorl.judge import child_main; sys.exit(child_main())"]  # fmt: skip
    cwd = Path(tempfile.gettempdir())
    with open(folder / "judge.err", "wb") as errors:
        process = effect("child start", lambda: subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=_judge_env(), cwd=cwd, start_new_session=True))  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps({"job": to_json(job), "folder": str(folder.resolve()), "parent": os.getpid()}).encode() + b"\n")
    return process


def child_main() -> int:
    """The judge as a process: job on standard input, record in its folder."""
    tree.prctl(tree.PR_SET_PDEATHSIG, 9)
    task = json.loads(sys.stdin.readline())
    if os.getppid() != task["parent"]:
        return 1
    folder = Path(task["folder"])
    measure(from_json(Job, task["job"]), folder, lambda p: _write_progress(folder, p))
    return 0


def _write_progress(folder: Path, progress: Progress) -> None:
    temporary = folder / "progress.tmp"
    temporary.write_text(json.dumps(to_json(progress)))
    os.replace(temporary, folder / "progress.json")


def read_progress(folder: Path) -> Progress | None:
    """The judge's last look at a run under way."""
    data = files.read_regular(folder / "progress.json", 4096)
    with contextlib.suppress(ValueError, TypeError):
        return from_json(Progress, json.loads(data)) if data else None
    return None


def collect(process: subprocess.Popen[bytes], folder: Path, job: Job) -> RunRecord | None:
    """The record of a judge that has ended, None while it works. A judge that died is an interrupted run."""
    if process.poll() is None:
        return None
    data = files.read_regular(folder / "record.json", 16 * 1024 * 1024)
    complaint = (files.read_regular(folder / "judge.err", 4000, tail=True) or b"").decode("utf-8", "replace").strip()
    for name in ("progress.json", "progress.tmp", "judge.err"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        if data and process.returncode == 0:
            return from_json(RunRecord, json.loads(data))
    last = complaint.splitlines()[-1] if complaint else "it said nothing"
    return RunRecord(status="interrupted", rule="judge", reason=_sentence(f"the judge {_ending(process.returncode)}: {last}"), env_id=job.env_id,
                     seed=job.seed, time_budget=job.time_budget, log_tail=complaint[-2000:])  # fmt: skip


def control_passed(kind: str, record: RunRecord, band: dict[str, Any] | None) -> tuple[bool, str]:
    """Whether a control run speaks for its file, and why."""
    return True, ""


def main(argv: list[str]) -> int:
    """`python evaluate.py`: one measured run of the train.py beside it."""
    import argparse

    import evaluate

    parser = argparse.ArgumentParser(prog="evaluate.py", description="One measured run of train.py, scored by the judge.")
    parser.add_argument("--train", default="train.py", metavar="FILE", help="the file to train and score (default: train.py)")
    parser.add_argument("--env-id", default=evaluate.ENV_ID)
    parser.add_argument("--seed", type=int, default=evaluate.SEED)
    parser.add_argument("--budget", type=float, default=evaluate.TIME_BUDGET, help="seconds of training (default: %(default)g)")
    parser.add_argument("--episodes", type=int, default=evaluate.NUM_EVAL_EPISODES, help="evaluation episodes (default: %(default)s)")
    parser.add_argument("--sandbox", choices=("auto", "bwrap", "off"), default="auto")
    parser.add_argument("--json", action="store_true", help="print the whole record instead of the summary block")
    options = parser.parse_args(argv)
    job = Job(
        Path(options.train).read_text(encoding="utf-8"),
        options.env_id,
        options.seed,
        options.budget,
        options.episodes,
        sandbox=options.sandbox,
    )
    with tempfile.TemporaryDirectory(prefix="autorl-") as scratch:
        folder = Path(scratch) / "run"
        process = launch(job, folder, Path(scratch) / "pycache")
        while (record := collect(process, folder, job)) is None:
            time.sleep(0.1)
    if options.json:
        print(json.dumps(to_json(record), indent=1))
    if record.status != "ok":
        print(record.reason, file=sys.stderr)
        return 1
    if not options.json:
        print(evaluate.summary_block(record.avg_return, record.std_return, record.min_return, record.max_return, record.total_timesteps,
                                     record.training_seconds, record.total_seconds, record.num_updates))  # fmt: skip
    return 0
