"""Evaluation: trusted workers step the judge's environments and ask a confined policy for actions.

    with Episodes(env_id, seeds, workers=2, cwd=...) as episodes:  # one fresh env per episode
        server = start(..., pass_fds=episodes.policy_fds)          # policy_server.serve, confined
        played = episodes.play(attend)                             # returns and lengths, or a Fault

Each worker process has a share of the rows and a socket of its own to a policy of its own, so
nothing but the two ends of that socket ever waits for each other, and on each core either an
environment or its policy is at work. A batch always holds all rows of its worker, finished ones
padded with their last observation, with a mask of the finished; so its shape never changes, and
neither do its results.

What comes back is raw frames of a size that is known beforehand. Dtype, exact shape and finiteness
are checked; then actions of a Box are clipped to the bounds, and those of a Discrete space must be
whole numbers 0 .. n - 1. What this file does not do: choose seeds, start the policy, or believe it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autorl.judge import isolated_python, process_tree
from autorl.judge.child import Fault
from autorl.judge.recording import Recorder
from autorl.judge.sandbox import FILTER_FD
from autorl.system.text import last_line

READY_SECONDS = 60.0  # to start Python and import torch: our own code, nothing of the agent
FIRST_ANSWER_SECONDS = 10.0  # loads the agent, on a GPU sets it up; too short to train in
ANSWER_SECONDS = 2.0  # each later answer
# All later answers of one worker together, and this share of the budget more: no second training.
THINKING_SECONDS, THINKING_SHARE = 20.0, 0.05
EVALUATION_SECONDS = 1800.0  # everything

# rows n, obs_dim; then requests: n bytes of reset mask, n*obs_dim float32
HELLO = struct.Struct("<II")
# dtype that get_action returned, dimensions, sizes of the first three; then all, float32
ANSWER = struct.Struct("<4s4I")
NUMBERS = {b"<f2", b"<f4", b"<f8", b"|i1", b"<i2", b"<i4", b"<i8", b"|u1", b"<u2", b"<u4", b"<u8"}
DIGESTED = 4  # answers that name the policy, for the seed control


class HungUp(Exception):
    """The policy's end of the socket is closed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """What became of the episodes, in the order of their seeds."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seconds: float  # from the first answer to the last return
    actions: str  # sha256 of the first answers: equal policies on equal episodes give equal ones


# -- The worker process (trusted, not confined) ----------------------------------------------------


def roll(
    env_id: str,
    kwargs: Mapping[str, Any],
    seeds: Sequence[int],
    ask: "Ask",
    recording_path: Path | None = None,
) -> Played:
    """Play one episode per seed to its end, in lockstep.

    Args:
        recording_path: where the states of the episodes go, for pictures; None = nowhere.

    Raises:
        Fault: the environment or the policy failed.
    """
    from autorl_worlds.vector import make_env  # Gymnasium takes a moment to import
    from autorl_worlds.wrappers import endless, longest_episode

    try:
        envs = [make_env(env_id, kwargs) for _ in seeds]
    except (Exception, SystemExit) as error:
        reason = f"the environment cannot be made: {type(error).__name__}: {error}"
        raise Fault("env", reason) from None
    num = len(envs)
    space: Any = envs[0].action_space  # a 1-D Box or a Discrete
    choices = int(getattr(space, "n", 0))  # of a Discrete
    if not choices:
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    try:
        first = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
        obs = np.stack([np.asarray(row, np.float32) for row in first])  # (N, obs_dim)
    except Exception as error:
        raise Fault("env", f"reset() failed: {type(error).__name__}: {error}") from None
    returns, lengths = [0.0] * num, [0] * num
    mask = np.ones(num, np.uint8)  # 1 where an episode begins or is over
    steps = [env.step for env in envs]
    running, step, limit = list(range(num)), 0, longest_episode(envs[0])
    recorder = Recorder(envs if recording_path else ())
    ask.hello(num, obs.shape[1], 1 if choices else space.shape[0], choices)
    began = math.inf
    while running:
        if step == limit:
            raise Fault("env", f"the environment does not end: {endless(limit)}")
        if not np.isfinite(obs).all():
            gave = f"the environment gave an observation that is not finite after step {step}"
            raise Fault("env", gave)
        answer = ask(mask, obs)
        # (N,) or (N, act_dim), a fresh array: an environment may keep its row
        if choices:
            actions = answer[:, 0].astype(space.dtype) + space.start
        else:
            actions = np.clip(answer, low, high)
        if not step:
            began = time.monotonic()
            mask[:] = 0
        step += 1
        ended = []
        try:
            for row in running:
                obs[row], reward, terminated, truncated, _ = steps[row](actions[row])
                returns[row] += float(reward)  # Python floats: no float32 accumulation
                if not math.isfinite(returns[row]):
                    raise ArithmeticError(f"a reward of {float(reward)}")
                if terminated or truncated:
                    ended.append(row)
        except Exception as error:
            where = f"at step {step} of the episode with seed {seeds[row]}"
            reason = f"the environment failed {where}: {type(error).__name__}: {error}"
            raise Fault("env", reason) from None
        recorder.take(step, running, ended, returns)
        for row in ended:
            running.remove(row)
            lengths[row], mask[row] = step, 1
            envs[row].close()
    if recording_path:
        recorder.save(recording_path)
    return Played(tuple(returns), tuple(lengths), time.monotonic() - began, ask.digest.hexdigest())


class Ask:
    """The judge's end of a socket to a policy.

    Called with a reset mask (N,) and observations (N, obs_dim), it returns actions (N, act_dim).
    """

    def __init__(self, sock: socket.socket, thinking_seconds: float):
        self.socket, self.digest, self.thinking_seconds = sock, hashlib.sha256(), thinking_seconds
        self.answered, self.thinking = 0, 0.0
        self.num = self.act_dim = self.choices = 0
        self.buffer = bytearray()

    def hello(self, num: int, obs_dim: int, act_dim: int, choices: int = 0) -> None:
        """Tell the policy the shape of its batches, once it is ready.

        Args:
            choices: n of a Discrete action space, whose act_dim is 1; 0 for a Box.
        """
        self.num, self.act_dim, self.choices = num, act_dim, choices
        self.buffer = bytearray(ANSWER.size + 4 * num * act_dim)
        try:
            self._receive(memoryview(bytearray(1)), time.monotonic() + READY_SECONDS)
            self._send(HELLO.pack(num, obs_dim))
        except TimeoutError:
            reason = f"the policy's process did not start within {READY_SECONDS:g} s"
            raise Fault("not_ready", reason) from None

    def __call__(self, mask: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """One question, one answer.

        Raises:
            Fault: it is late, of another dtype or shape, not finite, or no choice that there is.
            HungUp: there is none to come.
        """
        asked = time.monotonic()
        allowed = ANSWER_SECONDS if self.answered else FIRST_ANSWER_SECONDS
        view = memoryview(self.buffer)
        try:
            self.socket.settimeout(allowed)
            self._send(mask.tobytes() + obs.tobytes())
            self._receive(view[: ANSWER.size], asked + allowed)
            self._check_header()
            self._receive(view[ANSWER.size :], asked + allowed)
        except TimeoutError:
            reason = f"the policy did not answer a batch of observations within {allowed:g} s"
            raise Fault("slow_answer", reason) from None
        if self.answered:
            self.thinking += time.monotonic() - asked
            if self.thinking > (limit := self.thinking_seconds):
                reason = f"the policy took more than {limit:g} s for all its answers together"
                raise Fault("slow_policy", reason)
        self.answered += 1
        actions = np.frombuffer(self.buffer, np.float32, offset=ANSWER.size)
        actions = actions.reshape(self.num, self.act_dim)
        if self.answered <= DIGESTED:
            self.digest.update(actions.tobytes())
        if not np.isfinite(actions).all():
            reason = "the policy answered with an action that is not finite (NaN or infinity)"
            raise Fault("nan", reason)
        if self.choices:
            wrong = (actions % 1 != 0) | (actions < 0) | (actions >= self.choices)
            if wrong.any():
                got = f"{actions[wrong][0]:g} among actions of shape {self.shape}"
                raise self._misfit(got)
        return actions

    def _misfit(self, got: str) -> Fault:
        due = f"numbers of shape ({self.num}, {self.act_dim})"
        if self.choices:
            due = f"whole numbers from 0 to {self.choices - 1} of shape ({self.num},)"
            due += f" or ({self.num}, 1)"
        return Fault("frame", f"get_action returned {got}; the contract is {due}")

    def _check_header(self) -> None:
        dtype, ndim, *sizes = ANSWER.unpack_from(self.buffer)
        dtype = dtype.rstrip(b"\0")
        if dtype not in NUMBERS:
            name = "".join(chr(b) if 32 < b < 127 else "?" for b in dtype)
            raise self._misfit(f"dtype {name}")
        self.shape = tuple(sizes[:ndim])
        fits = self.shape == (self.num, self.act_dim) or (
            self.choices and self.shape == (self.num,)
        )
        if ndim > len(sizes) or not fits:
            shape = f"{ndim} dimensions" if ndim > len(sizes) else f"shape {self.shape}"
            raise self._misfit(f"{shape} for {self.num} observations")

    def _send(self, data: bytes) -> None:
        """All of it within the socket's timeout, or a TimeoutError."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise HungUp from None

    def _receive(self, view: memoryview, deadline: float) -> None:
        """Fill `view`, or raise a TimeoutError."""
        while view:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            try:
                count = self.socket.recv_into(view)
            except ConnectionResetError:
                raise HungUp from None
            if not count:
                raise HungUp
            view = view[count:]


def worker_main() -> None:
    """Entry of a worker: its task is JSON on standard input, its result JSON on standard output."""
    process_tree.prctl(process_tree.PR_SET_PDEATHSIG, signal.SIGKILL)
    task = json.loads(sys.stdin.readline())
    result: dict[str, Any]
    with open(os.dup(1), "w") as answer, socket.socket(fileno=task["socket"]) as sock:
        os.dup2(2, 1)  # what an environment prints, from C too, is no result
        try:
            ask = Ask(sock, task["thinking_seconds"])
            path = Path(task["recording_path"]) if task["recording_path"] else None
            played = roll(task["env_id"], task["env_kwargs"], task["seeds"], ask, path)
            result = dataclasses.asdict(played)
        except Fault as fault:
            result = {"rule": fault.rule, "reason": fault.reason}
        except HungUp:
            result = {"rule": "hung_up", "reason": ""}
        # before the socket closes: the policy ends when it does
        print(json.dumps(result), file=answer, flush=True)


# -- The judge's side ------------------------------------------------------------------------------


class Episodes(contextlib.ExitStack):
    """Workers with a share of the rows each, and the descriptors that their policies inherit.

    Args:
        cwd: the workers' current folder.
        thinking_seconds: for all answers of one policy together, the first left out.
        env_kwargs: of the environment's constructor.
        record: keep what there is to see, in files of `cwd`.

    Attributes:
        recordings: one file per worker, if there was anything to see, for recording.write.
    """

    def __init__(
        self,
        env_id: str,
        seeds: Sequence[int],
        workers: int,
        cwd: Path,
        thinking_seconds: float = THINKING_SECONDS,
        env_kwargs: Mapping[str, Any] | None = None,
        record: bool = False,
    ):
        super().__init__()
        num = len(seeds)
        workers = max(1, min(workers, num))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.recordings = [cwd / f"recording{w}.npz" for w in range(workers if record else 0)]
        self._policy_ends: list[socket.socket] = []
        self._errors = self.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        for w in range(workers):
            ours, low = socket.socketpair()
            theirs = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, FILTER_FD + 1))
            low.close()
            self._policy_ends.append(self.enter_context(theirs))
            task = {
                "env_id": env_id,
                "env_kwargs": dict(env_kwargs or {}),
                "seeds": [int(s) for s in seeds[num * w // workers : num * (w + 1) // workers]],
                "socket": ours.fileno(),
                "thinking_seconds": thinking_seconds,
                "recording_path": str(self.recordings[w]) if record else "",
            }
            with ours:
                process = isolated_python.start(
                    "from autorl.judge.episodes import worker_main; worker_main()",
                    task,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    cwd=cwd,
                    pass_fds=(ours.fileno(),),
                )
            self.processes.append(self.enter_context(process))
            self.callback(process.kill)  # before it is waited for

    @property
    def policy_fds(self) -> list[int]:
        """To be inherited by the policy's process."""
        return [s.fileno() for s in self._policy_ends]

    def play(self, attend: Callable[[], None]) -> Played:
        """Wait for every worker.

        Args:
            attend: called at least every 0.1 s; may raise.

        Raises:
            Fault: an episode cannot be completed.
            HungUp: the policy is gone.
        """
        for end in self._policy_ends:  # the policy's process has its own copies
            end.close()
        deadline = time.monotonic() + EVALUATION_SECONDS
        open_pipes = {p.stdout.fileno(): w for w, p in enumerate(self.processes) if p.stdout}
        output = [b""] * len(self.processes)
        played: dict[int, Played] = {}  # by worker
        while open_pipes:
            for fd in select.select(list(open_pipes), [], [], 0.1)[0]:
                data = os.read(fd, 1 << 20)
                worker = open_pipes[fd]
                output[worker] += data
                if not data:
                    del open_pipes[fd]
                    played[worker] = self._result(output[worker])
            attend()
            if time.monotonic() > deadline:
                reason = f"the evaluation took more than {EVALUATION_SECONDS:g} s"
                raise Fault("evaluation_cap", reason)
        parts = [played[worker] for worker in sorted(played)]
        return Played(
            returns=tuple(x for part in parts for x in part.returns),
            lengths=tuple(x for part in parts for x in part.lengths),
            seconds=max(part.seconds for part in parts),
            actions=hashlib.sha256("".join(part.actions for part in parts).encode()).hexdigest(),
        )

    def _result(self, line: bytes) -> Played:
        """What a worker printed, unless it is a failure."""
        try:
            result = json.loads(line)
        except ValueError:
            self._errors.seek(0)
            died = f"the environment's process died: {last_line(self._errors.read())}"
            raise Fault("env", died) from None
        if result.get("rule") == "hung_up":
            raise HungUp
        if "rule" in result:
            raise Fault(result["rule"], result["reason"])
        return Played(**result)
