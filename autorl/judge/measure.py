"""The judge: `measure(job, folder) -> RunRecord` trains and scores one train.py. The one truth about a run.

    uv run python evaluate.py          # one measured run of the train.py beside it

It owns the clock (monotonic, from the start of the process), the evaluation environments, their seeds (drawn when
training is over) and the returns. train.py runs as a confined child; its trained agent is handed over as a file that
only a second confined child ever loads; the judge steps the environments and asks that child for actions.

What it does not do: decide what a score means, touch git, or believe a word of what a run says of itself.
"""

import dataclasses
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autorl.environments import plausible_maximum
from autorl.judge import episodes, machine_share, process_tree, sandbox
from autorl.judge.child import Child, Fault, Log
from autorl.judge.isolated_python import judge_env
from autorl.judge.run_dir import private_directory
from autorl.records import Job, Progress, RunRecord, to_json
from autorl.system import files, hardware
from autorl.system.files import PROJECT

POLICY_BYTES = 512 * 1024 * 1024
METRICS_BYTES = 4 * 1024 * 1024
SERVER_PROCESSES = 2  # of a policy's server besides the policies: bubblewrap's two, or the guard
STRANGER_SECONDS = 1.0  # a library may ask a program for something while it is imported
SERVER_CPU_SECONDS = 30.0  # of the whole server: importing torch, loading the agent; on top, episodes.THINKING_SHARE of the budget a policy
STALL_SECONDS = 5.0  # a judge that was stopped this long cannot vouch for its deadline

OnProgress = Callable[[Progress], None]
Stopped = Callable[[], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How long a run may take, in words a train.py understands."""

    time_budget: float  # what evaluate.TIME_BUDGET says
    late_after: float  # when the tree is killed
    episodes: int
    updates: int = 0  # > 0: the harness's clock runs by updates (calls of log_metrics) instead: equal for equal programs


def plan(job: Job) -> Plan:
    """The clock of each kind of run. Late is after the budget and 2 % of it, at least 3 s."""
    if job.kind == "zero_budget":  # imports and one update
        return Plan(5.0, 120.0, min(job.num_eval_episodes, 20), updates=1)
    if job.kind == "seed_control":
        return Plan(20.0, 120.0, min(job.num_eval_episodes, 5), updates=2)
    return Plan(
        job.time_budget, job.time_budget + max(0.02 * job.time_budget, 3.0), job.num_eval_episodes
    )


def measure(
    job: Job,
    folder: Path,
    on_progress: OnProgress | None = None,
    stopped: Stopped | None = None,
    project: Path = PROJECT,
) -> RunRecord:
    """Train and score one train.py.

    Args:
        job: everything that matters, as a value.
        folder: is made; receives run.log, metrics.csv (bounded copies) and record.json.
        on_progress: called about once a second.
        stopped: asked all the time; True ends the run as interrupted. Given only by a process that is a judge and nothing
            else: whatever lives below it when the run is over is the run's, and is killed.
        project: the folder whose evaluate.py the run gets; private run directories live below it.

    Returns:
        What was measured. A train.py that fails is a record with a status and a reason and no score, never an exception.

    Raises:
        UserError: the job asks for a sandbox that does not work here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    box = sandbox.probe(job.sandbox)
    previous = hardware.affinity()
    if job.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job.cores)  # inherited by every child

    def one(job: Job, folder: Path, eval_seeds: tuple[int, ...] = ()) -> RunRecord:
        process_tree.new_session_keyring()  # what a run leaves in its own is gone with it
        with private_directory(project) as private:
            return _Run(
                job, folder, private, box, on_progress, stopped, project, eval_seeds
            ).measure()

    try:
        record = one(job, folder)
        if job.kind == "seed_control" and record.status == "ok":
            record = _other_seed(one, job, folder, record)
    finally:
        if job.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, previous)
    files.atomic_write(
        folder / "record.json", (json.dumps(to_json(record), indent=1) + "\n").encode()
    )
    return record


def _other_seed(
    one: Callable[..., RunRecord], job: Job, folder: Path, first: RunRecord
) -> RunRecord:
    """The same program with another training seed and the same evaluation: `control` tells both."""
    other = dataclasses.replace(job, seed=(job.seed ^ 0x2545F491) & 0x7FFFFFFF)
    second = one(other, folder / "other_seed", first.eval_seeds)
    if second.status != "ok":
        return second
    control = {key: [first.control[key], second.control[key]] for key in first.control}
    return dataclasses.replace(first, control=control | {"seeds": [job.seed, other.seed]})


class _Run:
    """One run under way."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        private: Path,
        box: sandbox.Sandbox,
        on_progress: OnProgress | None,
        stopped: Stopped | None,
        project: Path,
        eval_seeds: tuple[int, ...],
    ):
        self.job, self.folder, self.box, self.on_progress, self.eval_seeds = (
            job,
            folder,
            box,
            on_progress,
            eval_seeds,
        )
        self.stopped = stopped
        self.plan = plan(job)
        self.run_dir, self.harness, self.home, self.judge_dir = (
            private / name for name in ("run", "harness", "home", "judge")
        )
        for path in (self.run_dir, self.harness, self.home, self.judge_dir):
            path.mkdir(mode=0o700)
        (self.run_dir / "train.py").write_text(job.train_source, encoding="utf-8", newline="")
        for source in (project / "evaluate.py", Path(__file__).with_name("policy_server.py")):
            shutil.copyfile(source, self.harness / source.name)
            os.chmod(self.harness / source.name, 0o444)
        self.cores = tuple(job.cores) or hardware.affinity()
        self.threads = job.threads or len(self.cores)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(folder / "run.log")
        self.children: list[Child] = []
        self.phase: Any = "starting"
        self.started = time.monotonic()
        self.next_report = 0.0
        self.known: dict[str, Any] = {}  # fields of the record, as they become known

    def measure(self) -> RunRecord:
        self.share, self.cpu_before = (
            machine_share.Share(self.cores),
            machine_share.own_cpu_seconds(),
        )
        status, rule, reason = "ok", "", ""
        try:
            self._train()
            self._evaluate()
        except Fault as fault:
            status, rule, reason = fault.status, fault.rule, fault.reason
        finally:
            for child in self.children:
                child.end()
            self.log.close()
            if self.stopped:
                process_tree.kill_below(os.getpid())
        machine = self.known.pop("machine", None) or self._machine()
        if machine.suspended_seconds > 1.0 and status == "ok":
            status, rule, reason = (
                "interrupted",
                "suspended",
                f"the machine slept for {machine.suspended_seconds:.0f} s during the run",
            )
        if status != "ok":
            for name in (
                "avg_return",
                "std_return",
                "min_return",
                "max_return",
                "returns",
                "lengths",
            ):
                self.known.pop(name, None)
        metrics = _left_behind(self.run_dir / "metrics.csv", METRICS_BYTES)
        if metrics:
            (self.folder / "metrics.csv").write_bytes(metrics)
        last = self._last_metrics()
        if self.job.kind != "measure" and status == "ok":
            self.known["control"] = {
                "actions": self.known.pop("actions"),
                "updates": max(0, metrics.count(b"\n") - 1),
                "avg_return": self.known["avg_return"],
            }
        self.known.pop("actions", None)
        return RunRecord(
            status=status, rule=rule, reason=machine_share.sentence(reason), env_id=self.job.env_id, seed=self.job.seed, time_budget=self.plan.time_budget,  # type: ignore[arg-type]
            total_seconds=time.monotonic() - self.started, total_timesteps=machine_share.count(last.get("step")), num_updates=machine_share.count(last.get("num_updates")),
            diagnostics=last, peak_memory_bytes=max((c.peak_memory_bytes for c in self.children), default=0) or None,
            cpu_seconds=round(sum(c.cpu_seconds for c in self.children), 2), isolation=self.box.name, machine=machine, hardware=hardware.processor(),
            cores=len(self.cores), gpu=self.job.gpu, versions=hardware.versions(), log_tail=self.log.tail(), flags=self._flags(), **self.known)  # fmt: skip

    def _flags(self) -> tuple[str, ...]:
        """What a person should look at."""
        flags = []
        best, mean = plausible_maximum(self.job.env_id), self.known.get("avg_return")
        if best is not None and mean is not None and mean > best:
            flags.append(f"above the plausible maximum of {best:g} for {self.job.env_id}")
        if any(child.widened for child in self.children):
            flags.append("it tried to use cores that were not its own")
        if (
            self.known.get("training_seconds", 0.0) > self.plan.time_budget + 1.0
            and not self.plan.updates
        ):
            flags.append(
                f"it trained {self.known['training_seconds'] - self.plan.time_budget:.1f} s longer than its budget, within the slack"
            )
        return tuple(flags)

    # -- train -------------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        self.phase = "training"
        env = {"AUTORL_HANDOVER": "1"} | (
            {"AUTORL_CLOCK_UPDATES": str(self.plan.updates)} if self.plan.updates else {}
        )
        child = self._start(["train.py"], env)
        deadline = self.started + self.plan.late_after
        while child.running and not child.breach and time.monotonic() <= deadline:
            child.wait(max(0.0, min(0.1, deadline - time.monotonic())))
            self._report(child)
        ended = child.ended_at if not child.running else None
        child.end()
        if self.stopped:
            process_tree.kill_below(os.getpid())
        self.known["machine"] = self._machine()
        if child.breach:
            raise Fault(child.breach, f"the run was stopped: {child.reason}")
        if ended is None or ended > deadline:
            if child.max_gap_seconds > STALL_SECONDS:
                raise Fault(
                    "stalled",
                    f"the judge itself was stopped for {child.max_gap_seconds:.0f} s",
                    "interrupted",
                )
            raise Fault(
                "late",
                f"it had not handed an agent over {self.plan.late_after:g} s after its start (budget {self.plan.time_budget:g} s)",
            )
        seconds = self.known["training_seconds"] = ended - self.started
        if child.exit_code != 0:
            raise Fault(
                "exit",
                f"train.py {machine_share.ending(child.exit_code)} after {seconds:.1f} s: {self.log.last_line() or 'it said nothing'}",
            )
        try:
            fd = files.open_regular(self.run_dir / "policy.pkl")
        except OSError:
            raise Fault(
                "no_policy",
                f"train.py ended after {seconds:.1f} s without handing an agent over: it must end with evaluate_policy(agent, device)",
            ) from None
        size = os.fstat(fd).st_size
        os.close(fd)
        if size > POLICY_BYTES:
            raise Fault(
                "policy_size",
                f"the agent handed over has {size} bytes; the limit is {POLICY_BYTES}",
            )

    # -- evaluate ----------------------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        began = time.monotonic()
        self.phase = "evaluating"
        seeds = self.eval_seeds or tuple(
            int.from_bytes(os.urandom(4), "little") >> 1 for _ in range(self.plan.episodes)
        )
        self.known["eval_seeds"] = seeds
        share = episodes.THINKING_SHARE * self.plan.time_budget
        thinking = episodes.THINKING_SECONDS + share
        with episodes.Episodes(
            self.job.env_id,
            seeds,
            min(len(self.cores), self.threads),
            judge_env(),
            self.judge_dir,
            thinking,
        ) as workers:
            policies, alone = len(workers.policy_fds), time.monotonic()
            # The policy can read its command line: nothing on it depends on the evaluation seeds.
            server = self._start(
                ["-c", f"import policy_server; policy_server.serve({workers.policy_fds})"],
                {},
                workers.policy_fds,
            )

            def attend() -> None:
                server.attend()
                self._report(server)
                nonlocal alone
                if server.processes <= policies + SERVER_PROCESSES:
                    alone = time.monotonic()
                elif time.monotonic() - alone > STRANGER_SECONDS:
                    raise Fault(
                        "processes",
                        "the policy started processes of its own while it was evaluated: a policy answers, it does not train",
                    )
                if server.cpu_seconds > (allowed := SERVER_CPU_SECONDS + policies * share):
                    raise Fault(
                        "slow_policy",
                        f"the policy used more than {allowed:.0f} s of CPU while it was evaluated: a policy answers, it does not train",
                    )
                if server.breach:
                    raise Fault(
                        server.breach, f"the run was stopped during evaluation: {server.reason}"
                    )

            try:
                played = workers.play(attend)
            except episodes.HungUp:
                server.wait_for_end(0.5)
                attend()
                how = "hung up" if server.running else machine_share.ending(server.exit_code)
                raise Fault(
                    "exit",
                    f"the policy's process {how} during evaluation: {self.log.last_line() or 'it said nothing'}",
                ) from None
        server.end()
        self.known["evaluation_seconds"] = time.monotonic() - began
        returns = played.returns
        if not all(map(math.isfinite, returns)):
            raise Fault("nan_return", "an episode's return is not a finite number")
        mean = math.fsum(returns) / len(returns)
        self.known.update(
            returns=returns, lengths=played.lengths, avg_return=mean, min_return=min(returns), max_return=max(returns), actions=played.actions,
            std_return=math.sqrt(math.fsum((r - mean) ** 2 for r in returns) / len(returns)))  # fmt: skip

    # -- both --------------------------------------------------------------------------------------------------------

    def _start(
        self, arguments: Sequence[str], extra: dict[str, str], pass_fds: Sequence[int] = ()
    ) -> Child:
        run_dir, harness = (
            (sandbox.RUN, sandbox.HARNESS)
            if self.box.confined
            else (str(self.run_dir), str(self.harness))
        )
        started = time.monotonic()
        if not self.children:
            self.started = started
        env = (
            self._child_env()
            | extra
            | {"AUTORL_START": repr(started), "AUTORL_RUN_DIR": run_dir, "PYTHONPATH": harness}
        )
        argv = [sys.executable, "-P", "-u", *arguments]
        if self.box.confined:
            argv = sandbox.wrap(
                self.box,
                argv,
                env=env,
                tmpfs_bytes=min(sandbox.TMPFS_BYTES, self.job.limits.memory_bytes // 4),
                writable={self.run_dir: run_dir},
                readable={self.harness: harness},
                chdir=run_dir,
            )
        # Not confined: its own path as run directory, so that a later sweep can tell whose it was.
        child = Child(argv, env=env, cwd=self.run_dir, run_dir=self.run_dir, limits=self.job.limits, log=self.log, pass_fds=pass_fds,
                      cores=self.job.cores, guarded=not self.box.confined)  # fmt: skip
        self.children.append(child)
        return child

    def _child_env(self) -> dict[str, str]:
        """The allow-list: nothing of the user's environment but where the libraries are."""
        job, threads = self.job, str(self.threads)
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "TMPDIR": str(self.home), "LANG": "C.UTF-8", "USER": "autorl", "LOGNAME": "autorl",
            "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
            "AUTORL_TIME_BUDGET": repr(float(self.plan.time_budget)), "AUTORL_ENV_ID": job.env_id, "AUTORL_NUM_EVAL_EPISODES": str(self.plan.episodes),
            "AUTORL_SEED": str(job.seed), "AUTORL_THREADS": threads,
        }  # fmt: skip
        for name in ("LD_LIBRARY_PATH", "TZ", "CUDA_VISIBLE_DEVICES"):
            if os.environ.get(name):
                env[name] = os.environ[name]
        return env | ({"CUDA_VISIBLE_DEVICES": job.gpu} if job.gpu else {})

    def _machine(self) -> Any:
        ours = max(
            machine_share.own_cpu_seconds() - self.cpu_before,
            sum(c.cpu_seconds for c in self.children),
        )
        return self.share.end(ours, max((c.max_gap_seconds for c in self.children), default=0.0))

    def _last_metrics(self) -> dict[str, float]:
        path = self.run_dir / "metrics.csv"
        return machine_share.last_row(
            _left_behind(path, 16_384, tail=True), _left_behind(path, 4096)
        )

    def _report(self, child: Child) -> None:
        if self.stopped and self.stopped():
            raise Fault("stopped", "the judge was told to stop", "interrupted")
        now = time.monotonic()
        if self.on_progress is None or now < self.next_report:
            return
        self.next_report = now + 1.0
        row = self._last_metrics()
        self.on_progress(
            Progress(
                self.phase,
                now - self.started,
                self.plan.time_budget,
                machine_share.count(row.get("step")),
                row.get("sps"),
                row.get("episode_return"),
            )
        )


def _left_behind(path: Path, at_most: int, tail: bool = False) -> bytes:
    """What the run left under this name; b"" when it is no regular file."""
    try:
        return files.read_regular(path, at_most, tail)
    except OSError:
        return b""
