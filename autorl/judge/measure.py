"""The judge: `measure(job, folder) -> RunRecord` trains and scores one train.py.

    uv run python evaluate.py          # one measured run of the train.py beside it

It owns the clock (monotonic, from the start of the process), the evaluation environments, their
seeds (drawn when training is over) and the returns. train.py runs as a confined child; its trained
agent is handed over as a file that only a second confined child ever loads; the judge steps the
environments and asks that child for actions.

What it does not do: decide what a score means, touch git, or trust what a run says of itself.
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from autorl.environments import env_module, plausible_maximum
from autorl.judge import process_tree, recording, sandbox
from autorl.judge.child import TAIL_BYTES, Child, Fault, Log
from autorl.judge.episodes import THINKING_SECONDS, THINKING_SHARE, Episodes, HungUp, Played
from autorl.judge.machine_share import Share, clock, count, ending, last_row, score, sentence
from autorl.judge.run_dir import private_directory, put_harness
from autorl.records import Job, MachineShare, Progress, RunRecord, to_json
from autorl.system import files, hardware
from autorl.system.files import PROJECT

POLICY_BYTES, METRICS_BYTES = 512 * 2**20, 4 * 2**20
SERVER_PROCESSES = 2  # of a policy's server besides the policies: bubblewrap's two, or the guard
EXTRA_PROCESS_SECONDS = 1.0  # a library may ask a program for something while it is imported
SERVER_CPU_SECONDS = 30.0  # imports torch, loads the agent; on top, a policy's THINKING_SHARE
NO_TRAINING = "while it was evaluated: a policy answers, it does not train"
GONE_SECONDS = 5.0  # after the policy's process has ended, for its last answers to be taken in
STALL_SECONDS = 5.0  # a judge that was stopped this long cannot keep its deadline

OnProgress = Callable[[Progress], None]
Stopped = Callable[[], bool]


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
        folder: is made; receives run.log and metrics.csv (bounded), record.json and recording.json.
        on_progress: called about once a second.
        stopped: asked all the time; True ends the run as interrupted. Given only by a process that
            is a judge and nothing else: whatever lives below it when the run is over is killed.
        project: the folder whose evaluate.py the run gets; private run directories live below it.

    Returns:
        What was measured. A train.py that fails is a record with a status and a reason and no
        score, never an exception.

    Raises:
        UserError: the job asks for a sandbox that does not work here.
    """
    box = sandbox.probe(job.sandbox)

    def once(job: Job, folder: Path, eval_seeds: tuple[int, ...] = ()) -> RunRecord:
        process_tree.new_session_keyring()  # what a run leaves in its own is gone with it
        with private_directory(project) as private:
            run = _Run(job, folder, private, box, project, on_progress, stopped, eval_seeds)
            return run.measure()

    with hardware.pinned(job.cores):
        record = once(job, folder)
        if job.kind == "seed_control" and record.status == "ok":
            # the same program and evaluation, another training seed: `control` holds both
            other = dataclasses.replace(job, seed=(job.seed ^ 0x2545F491) & 0x7FFFFFFF)
            second = once(other, folder / "other_seed", record.eval_seeds)
            if second.status == "ok":
                pairs = {key: [value, second.control[key]] for key, value in record.control.items()}
                pairs["seeds"] = [job.seed, other.seed]
                second = dataclasses.replace(record, control=pairs)
            record = second
    data = json.dumps(to_json(record), indent=1) + "\n"
    files.atomic_write(folder / "record.json", data.encode())
    return record


@dataclasses.dataclass
class _Run:
    """One run under way."""

    job: Job
    folder: Path
    private: Path
    box: sandbox.Sandbox
    project: Path
    on_progress: OnProgress | None
    stopped: Stopped | None
    eval_seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        self.clock = clock(self.job)
        names = ("run", "harness", "home", "judge", "modules")
        folders = [self.private / name for name in names]
        self.run_dir, self.harness, self.home, self.judge_dir, self.modules = folders
        for path in folders:
            path.mkdir(mode=0o700)
        if module := env_module(self.job.env_id):
            (self.modules / module.name).symlink_to(module)
        train_py = self.run_dir / "train.py"
        train_py.write_text(self.job.train_source, encoding="utf-8", newline="")
        put_harness(self.project, self.harness)
        self.cores = tuple(self.job.cores) or hardware.affinity()
        self.threads = self.job.threads or len(self.cores)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(self.folder / "run.log")
        self.room = self.folder / ".room"  # on the disk, for what is written at the end
        with contextlib.suppress(OSError, AttributeError), open(self.room, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, METRICS_BYTES + 2 * TAIL_BYTES)
        self.children: list[Child] = []
        self.phase: Literal["starting", "training", "evaluating", "done"] = "starting"
        self.started = time.monotonic()
        self.next_report = 0.0
        self.known: dict[str, Any] = {}  # fields of the record, as they become known
        self.machine: MachineShare | None = None  # what training got

    def measure(self) -> RunRecord:
        """Train, evaluate, and put what is known into a record."""
        self.share, self.cpu_before = Share(self.cores), sum(os.times()[:4])
        fault: Fault | None = None
        try:
            self._train()
            played = self._evaluate()
        except Fault as error:
            fault = error
        finally:
            for child in self.children:
                child.end()
            self.room.unlink(missing_ok=True)
            self.log.close()
            self._kill_strays()
        machine = self.machine or self._machine()
        if not fault and machine.suspended_seconds > 1.0:
            slept = f"the machine slept for {machine.suspended_seconds:.0f} s during the run"
            fault = Fault("suspended", slept, "interrupted")
        metrics = self._metrics(METRICS_BYTES)
        if metrics:
            (self.folder / "metrics.csv").write_bytes(metrics)
        last, job = self._last_metrics(), self.job
        first = last_row(b"\n".join([*metrics.split(b"\n", 2)[:2], b""]), metrics[:4096])
        if not fault:
            self.known |= score(played.returns, played.lengths)
            if job.kind != "measure":
                self.known["control"] = {
                    "actions": played.actions,
                    "updates": max(0, metrics.count(b"\n") - 1),
                    "avg_return": self.known["avg_return"],
                }
        return RunRecord(
            status=fault.status if fault else "ok",
            rule=fault.rule if fault else "",
            reason=sentence(fault.reason if fault else ""),
            env_id=job.env_id,
            seed=job.seed,
            time_budget=self.clock.time_budget,
            env_kwargs=job.env_kwargs,
            budget_steps=job.budget_steps,
            total_seconds=time.monotonic() - self.started,
            total_timesteps=count(last.get("step")),
            num_updates=count(last.get("num_updates")),
            first_update_seconds=first.get("seconds"),
            diagnostics=last,
            peak_memory_bytes=max((c.peak_memory_bytes for c in self.children), default=0) or None,
            cpu_seconds=round(sum(c.cpu_seconds for c in self.children), 2),
            machine=machine,
            isolation=self.box.name,
            flags=self._flags(),
            hardware=hardware.processor(),
            cores=len(self.cores),
            gpu=job.gpu,
            versions=hardware.versions(),
            log_tail=self.log.tail(),
            **self.known,
        )

    def _flags(self) -> tuple[str, ...]:
        """What a person should look at."""
        flags = []
        best = plausible_maximum(self.job.env_id, self.job.env_kwargs)
        mean = self.known.get("avg_return")
        if best is not None and mean is not None and mean > best:
            flags.append(f"above the plausible maximum of {best:g} for {self.job.env_id}")
        if any(child.widened for child in self.children):
            flags.append("it tried to use cores that were not its own")
        over = self.known.get("training_seconds", 0.0) - self.clock.time_budget
        if over > 1.0 and not self.clock.updates:
            flags.append(f"it trained {over:.1f} s longer than its budget, within the slack")
        return tuple(flags)

    # -- train -------------------------------------------------------------------------------------

    def _train(self) -> None:
        self.phase = "training"
        extra = {"AUTORL_HANDOVER": "1", "AUTORL_CLOCK_UPDATES": str(self.clock.updates)}
        child = self._start(["train.py"], extra)
        late_after = self.clock.late_after
        deadline = self.started + late_after
        while child.running and not child.breach and time.monotonic() <= deadline:
            child.wait(max(0.0, min(0.1, deadline - time.monotonic())))
            self._report()
        ended = child.ended_at
        child.end()
        self._kill_strays()
        self.machine = self._machine()
        if child.breach:
            raise Fault(child.breach, f"the run was stopped: {child.reason}")
        if ended is None or ended > deadline:
            if child.max_gap_seconds > STALL_SECONDS:
                stalled = f"the judge itself was stopped for {child.max_gap_seconds:.0f} s"
                raise Fault("stalled", stalled, "interrupted")
            late = f"it had not handed an agent over {late_after:g} s after its start"
            logged = self._last_metrics().get("seconds")
            last = "no update" if logged is None else f"its last update after {logged:.1f} s"
            raise Fault("late", f"{late} (budget {self.clock.time_budget:g} s); it logged {last}")
        seconds = self.known["training_seconds"] = ended - self.started
        if child.exit_code != 0:
            how = f"train.py {ending(child.exit_code)} after {seconds:.1f} s"
            raise Fault("exit", f"{how}: {self.log.last_line()}")
        try:
            with open(files.open_regular(self.run_dir / "policy.pkl"), "rb") as file:
                size = os.fstat(file.fileno()).st_size
        except OSError:
            how = f"train.py ended after {seconds:.1f} s without handing an agent over"
            must = "it must end with evaluate_policy(agent, device)"
            raise Fault("no_policy", f"{how}: {must}") from None
        if size > POLICY_BYTES:
            large = f"the agent handed over has {size} bytes; the limit is {POLICY_BYTES}"
            raise Fault("policy_size", large)

    # -- evaluate ----------------------------------------------------------------------------------

    def _evaluate(self) -> Played:
        began = time.monotonic()
        self.phase = "evaluating"
        seeds = self.known["eval_seeds"] = self.eval_seeds or tuple(
            int.from_bytes(os.urandom(4), "little") >> 1 for _ in range(self.clock.episodes)
        )
        share = THINKING_SHARE * self.clock.time_budget
        width, thinking = min(len(self.cores), self.threads), THINKING_SECONDS + share
        job, record = self.job, self.job.kind == "measure"
        with Episodes(
            job.env_id, seeds, width, self.judge_dir, thinking, job.env_kwargs, record
        ) as workers:
            policies = len(workers.policy_fds)
            # The policy can read its command line: nothing on it depends on the evaluation seeds.
            code = f"import policy_server; policy_server.serve({workers.policy_fds})"
            server = self._start(["-c", code], {}, workers.policy_fds)
            cpu_seconds = SERVER_CPU_SECONDS + policies * share
            alone = time.monotonic()  # when no process was there but the server's own

            def attend() -> None:
                nonlocal alone
                server.attend()
                self._report()
                if server.ended_at and time.monotonic() - server.ended_at > GONE_SECONDS:
                    raise HungUp  # whatever answers there is not what is watched
                if server.processes <= policies + SERVER_PROCESSES:
                    alone = time.monotonic()
                elif time.monotonic() - alone > EXTRA_PROCESS_SECONDS:
                    started = "the policy started processes of its own"
                    raise Fault("processes", f"{started} {NO_TRAINING}")
                if server.cpu_seconds > cpu_seconds:
                    used = f"the policy used more than {cpu_seconds:.0f} s of CPU"
                    raise Fault("slow_policy", f"{used} {NO_TRAINING}")
                if server.breach:
                    stopped = f"the run was stopped during evaluation: {server.reason}"
                    raise Fault(server.breach, stopped)

            try:
                played = workers.play(attend)
            except HungUp:
                server.wait_for_end(0.5)
                attend()
                how = "closed its connection" if server.running else ending(server.exit_code)
                why = self.log.last_line()
                why += " (it may start or trace no process)" if "not permitted" in why else ""
                said = f"the policy's process {how} during evaluation: {why}"
                raise Fault("exit", said) from None
        server.end()
        recording.write(self.folder, workers.recordings, job.env_id, played.returns, played.lengths)
        self.known["evaluation_seconds"] = time.monotonic() - began
        return played

    # -- both --------------------------------------------------------------------------------------

    def _start(
        self, arguments: Sequence[str], extra: dict[str, str], pass_fds: Sequence[int] = ()
    ) -> Child:
        # Not confined: its own path as run directory, so that a later sweep can tell whose it was.
        run_dir, harness, modules = map(str, (self.run_dir, self.harness, self.modules))
        if self.box.confined:
            run_dir, harness, modules = sandbox.RUN, sandbox.HARNESS, sandbox.MODULES
        started = time.monotonic()
        if not self.children:
            self.started = started
        env = self._child_env() | extra
        env |= {"AUTORL_START": repr(started), "AUTORL_RUN_DIR": run_dir}
        env["PYTHONPATH"] = f"{harness}:{modules}"
        argv = sandbox.wrap(
            self.box,
            [sys.executable, "-P", "-u", *arguments],
            env=env,
            tmpfs_bytes=min(sandbox.TMPFS_BYTES, self.job.limits.memory_bytes // 4),
            processes=self.job.limits.processes + 16,  # the judge sees it and names the limit
            writable={self.run_dir: run_dir},
            readable={self.harness: harness}
            | {path.resolve(): f"{modules}/{path.name}" for path in self.modules.iterdir()},
            chdir=run_dir,
        )
        child = Child(
            argv,
            env=env,
            run_dir=self.run_dir,
            limits=self.job.limits,
            log=self.log,
            pass_fds=pass_fds,
            cores=self.job.cores,
            guarded=not self.box.confined,
        )
        self.children.append(child)
        return child

    def _child_env(self) -> dict[str, str]:
        """The allow-list: nothing of the user's environment but where the libraries are."""
        job, threads, home = self.job, str(self.threads), str(self.home)
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "USER": "autorl",
            "LOGNAME": "autorl",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "AUTORL_TIME_BUDGET": repr(float(self.clock.time_budget)),
            "AUTORL_ENV_ID": job.env_id,
            "AUTORL_ENV_KWARGS": json.dumps(job.env_kwargs),
            "AUTORL_BUDGET_STEPS": str(job.budget_steps),
            "AUTORL_NUM_EVAL_EPISODES": str(self.clock.episodes),
            "AUTORL_SEED": str(job.seed),
            "AUTORL_THREADS": threads,
        }
        for name in ("LD_LIBRARY_PATH", "TZ", "CUDA_VISIBLE_DEVICES"):
            if value := os.environ.get(name):
                env[name] = value
        return env | ({"CUDA_VISIBLE_DEVICES": job.gpu} if job.gpu else {})

    def _kill_strays(self) -> None:
        """A judge that is nothing else ends whatever was reparented to it."""
        if self.stopped:
            process_tree.kill_tree(os.getpid(), itself=False)

    def _machine(self) -> MachineShare:
        ours = max(sum(os.times()[:4]) - self.cpu_before, sum(c.cpu_seconds for c in self.children))
        return self.share.end(ours, max((c.max_gap_seconds for c in self.children), default=0.0))

    def _metrics(self, at_most: int, tail: bool = False) -> bytes:
        """What the run left as metrics.csv; b"" when it is no regular file."""
        try:
            return files.read_regular(self.run_dir / "metrics.csv", at_most, tail)
        except OSError:
            return b""

    def _last_metrics(self) -> dict[str, float]:
        return last_row(self._metrics(16_384, tail=True), self._metrics(4096))

    def _report(self) -> None:
        if self.stopped and self.stopped():
            raise Fault("stopped", "the judge was told to stop", "interrupted")
        now = time.monotonic()
        if self.on_progress is None or now < self.next_report:
            return
        self.next_report = now + 1.0
        elapsed, row = now - self.started, self._last_metrics()
        step, sps, mean = count(row.get("step")), row.get("sps"), row.get("episode_return")
        self.on_progress(Progress(self.phase, elapsed, self.clock.time_budget, step, sps, mean))
