"""Evaluation: trusted workers step the judge's own environments and ask a confined policy for actions.

    with Episodes(env_id, seeds, workers=2, ...) as episodes:      # one fresh env per episode
        server = start(..., pass_fds=episodes.policy_fds)           # policy_server.serve, confined
        played = episodes.play(attend)                              # returns and lengths, or a Fault

Each worker process has a share of the rows and a socket of its own to a policy of its own, so nothing but the two ends
of that socket ever waits for each other, and on each core either an environment or its policy is at work. A batch
always holds all rows of its worker, finished ones padded with their last observation, with a mask of the finished; so
its shape never changes, and neither do its results.

What comes back is raw frames of a size that is known beforehand. Dtype, exact shape and finiteness are checked, then
actions are clipped to the bounds. What this file does not do: choose seeds, start the policy, or believe it.
"""

import contextlib
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autorl.judge import process_tree
from autorl.judge.child import Fault
from autorl.judge.isolated_python import isolated_python
from autorl.system.faults import effect

READY_SECONDS = (
    60.0  # to start Python and import torch: the harness's own code, nothing of the agent
)
FIRST_ANSWER_SECONDS = (
    10.0  # includes loading the agent, and on a GPU setting it up; too short to train on in
)
ANSWER_SECONDS = 2.0  # each later answer
THINKING_SECONDS = 20.0  # all later answers of one worker together, and the share below of the budget: no second training
THINKING_SHARE = 0.05
EVALUATION_SECONDS = 1800.0  # everything

HELLO = struct.Struct(
    "<II"
)  # rows n, obs_dim; then requests: n bytes of reset mask, n*obs_dim float32
ANSWER = struct.Struct(
    "<4sII"
)  # dtype that get_action returned, rows, columns; then rows*columns float32
NUMBERS = {b"<f2", b"<f4", b"<f8", b"|i1", b"<i2", b"<i4", b"<i8", b"|u1", b"<u2", b"<u4", b"<u8"}
DIGESTED = 4  # answers that name the policy, for the seed control


class HungUp(Exception):
    """The policy's end of the socket is closed."""


@dataclass(frozen=True, slots=True)
class Played:
    """What became of the episodes, in the order of their seeds."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seconds: float  # from the first answer to the last return
    actions: str  # sha256 of the first answers: equal policies on equal episodes give equal ones


# ---------------------------------------------------------------------------
# The worker process (trusted, not confined)
# ---------------------------------------------------------------------------


def roll(env_id: str, seeds: Sequence[int], ask: "Ask") -> Played:
    """Play one episode per seed to its end, in lockstep.

    Raises:
        Fault: the environment or the policy failed.
    """
    import gymnasium as gym

    try:
        envs = [gym.make(env_id) for _ in seeds]
    except Exception as error:
        raise Fault(
            "env", f"the environment cannot be made: {type(error).__name__}: {error}"
        ) from None
    act_space = envs[0].action_space
    if (
        not isinstance(act_space, gym.spaces.Box) or len(act_space.shape) != 1
    ):  # whoever asked for it has checked it in full
        raise Fault("env", f"{env_id} has actions of {act_space}, which this judge cannot clip")
    num = len(envs)
    low, high = act_space.low.astype(np.float32), act_space.high.astype(np.float32)
    obs = np.stack(
        [
            np.asarray(env.reset(seed=seed)[0], np.float32)
            for env, seed in zip(envs, seeds, strict=True)
        ]
    )  # (N, obs_dim)
    returns, lengths = [0.0] * num, [0] * num
    mask = np.ones(num, np.uint8)  # 1 where an episode begins or is over
    steps = [env.step for env in envs]
    running, step = list(range(num)), 0
    ask.hello(num, obs.shape[1], act_space.shape[0])
    began = math.inf
    while running:
        actions = np.clip(
            ask(mask, obs), low, high
        )  # (N, act_dim), a fresh array: an environment may keep its row
        began = min(began, time.monotonic())
        if not step:
            mask[:] = 0
        step += 1
        ended = []
        try:
            for row in running:
                obs[row], reward, terminated, truncated, _ = steps[row](actions[row])
                returns[row] += float(reward)  # Python floats: no float32 accumulation
                if terminated or truncated:
                    ended.append(row)
        except Exception as error:
            raise Fault(
                "env", f"the environment failed at step {step}: {type(error).__name__}: {error}"
            ) from None
        for row in ended:
            running.remove(row)
            lengths[row], mask[row] = step, 1
            envs[row].close()
    return Played(tuple(returns), tuple(lengths), time.monotonic() - began, ask.digest.hexdigest())


class Ask:
    """The judge's end of a socket to a policy: reset mask (N,) and observations (N, obs_dim) -> actions (N, act_dim)."""

    def __init__(self, sock: socket.socket, thinking_seconds: float = THINKING_SECONDS):
        self.socket, self.digest, self.thinking_seconds = sock, hashlib.sha256(), thinking_seconds
        self.answered, self.thinking = 0, 0.0
        self.num = self.act_dim = 0
        self.buffer = bytearray()

    def hello(self, num: int, obs_dim: int, act_dim: int) -> None:
        """Tell the policy the shape of its batches."""
        self.num, self.act_dim = num, act_dim
        self.buffer = bytearray(ANSWER.size + 4 * num * act_dim)
        try:
            self._receive(memoryview(bytearray(1)), time.monotonic() + READY_SECONDS)
        except Fault:
            raise Fault(
                "not_ready", f"the policy's process did not start within {READY_SECONDS:g} s"
            ) from None
        self._send(HELLO.pack(num, obs_dim), time.monotonic() + FIRST_ANSWER_SECONDS)

    def __call__(self, mask: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """One question, one answer.

        Raises:
            Fault: it is late, of another dtype or shape, or not finite.
            HungUp: there is none to come.
        """
        asked = time.monotonic()
        allowed = ANSWER_SECONDS if self.answered else FIRST_ANSWER_SECONDS
        self._send(mask.tobytes() + obs.tobytes(), asked + allowed)
        view = memoryview(self.buffer)
        self._receive(view[: ANSWER.size], asked + allowed)
        self._check_header()
        self._receive(view[ANSWER.size :], asked + allowed)
        if self.answered:
            self.thinking += time.monotonic() - asked
            if self.thinking > self.thinking_seconds:
                raise Fault(
                    "slow_policy",
                    f"the policy took more than {self.thinking_seconds:g} s for all its answers together",
                )
        self.answered += 1
        actions = np.frombuffer(self.buffer, np.float32, offset=ANSWER.size).reshape(
            self.num, self.act_dim
        )
        if self.answered <= DIGESTED:
            self.digest.update(actions.tobytes())
        if not np.isfinite(actions).all():
            raise Fault(
                "nan", "the policy answered with an action that is not finite (NaN or infinity)"
            )
        return actions

    def _check_header(self) -> None:
        dtype, rows, columns = ANSWER.unpack_from(self.buffer)
        dtype = dtype.rstrip(b"\0")
        if dtype not in NUMBERS:
            said = "".join(chr(b) if 32 < b < 127 else "?" for b in dtype)
            raise Fault(
                "frame",
                f"get_action returned dtype {said}; the contract is numbers of shape (N, {self.act_dim})",
            )
        if (rows, columns) != (self.num, self.act_dim):
            raise Fault(
                "frame",
                f"get_action returned shape ({rows}, {columns}) for {self.num} observations; the contract is ({self.num}, {self.act_dim})",
            )

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._patience(deadline)
            try:
                view = view[self.socket.send(view) :]
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                raise HungUp from None

    def _receive(self, view: memoryview, deadline: float) -> None:
        while view:
            self._patience(deadline)
            try:
                count = self.socket.recv_into(view)
            except TimeoutError:
                continue
            except ConnectionResetError:
                raise HungUp from None
            if not count:
                raise HungUp
            view = view[count:]

    def _patience(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            allowed = ANSWER_SECONDS if self.answered else FIRST_ANSWER_SECONDS
            raise Fault(
                "slow_answer",
                f"the policy did not answer a batch of observations within {allowed:g} s",
            )
        self.socket.settimeout(left)


def worker_main() -> None:
    """Entry of a worker: its task is JSON on standard input, what became of it JSON on standard output."""
    process_tree.prctl(process_tree.PR_SET_PDEATHSIG, signal.SIGKILL)
    task = json.loads(sys.stdin.readline())
    result: dict[str, Any]
    with socket.socket(fileno=task["socket"]) as sock:
        try:
            played = roll(task["env_id"], task["seeds"], Ask(sock, task["thinking_seconds"]))
            result = {
                "returns": played.returns,
                "lengths": played.lengths,
                "seconds": played.seconds,
                "actions": played.actions,
            }
        except Fault as fault:
            result = {"rule": fault.rule, "reason": fault.reason}
        except HungUp:
            result = {"rule": "hung_up", "reason": ""}
        print(
            json.dumps(result), flush=True
        )  # before the socket closes: the policy ends when it does


# ---------------------------------------------------------------------------
# The judge's side
# ---------------------------------------------------------------------------


class Episodes:
    """Workers with a share of the rows each, and the descriptors that their policies are to inherit.

    Args:
        env, cwd: of the workers.
        thinking_seconds: for all answers of one policy together, the first left out.
    """

    def __init__(self, env_id: str, seeds: Sequence[int], workers: int, env: dict[str, str], cwd: Path,
                 thinking_seconds: float = THINKING_SECONDS):  # fmt: skip
        self.num = len(seeds)
        workers = max(1, min(workers, self.num))
        self.rows = [
            range(self.num * w // workers, self.num * (w + 1) // workers) for w in range(workers)
        ]
        self.processes: list[subprocess.Popen[bytes]] = []
        self._policy_ends: list[socket.socket] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        try:
            for rows in self.rows:
                ours, theirs = socket.socketpair()
                self._policy_ends.append(theirs)
                task = {
                    "env_id": env_id,
                    "seeds": [int(seeds[r]) for r in rows],
                    "socket": ours.fileno(),
                    "thinking_seconds": thinking_seconds,
                }
                command = isolated_python(
                    "from autorl.judge.episodes import worker_main; worker_main()"
                )
                with ours:
                    process = effect("child start", lambda c=command, fd=ours.fileno(): subprocess.Popen(  # type: ignore[misc]
                        c, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=env, cwd=cwd, pass_fds=(fd,)))  # fmt: skip
                self.processes.append(process)
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError), process.stdin as orders:
                    orders.write(json.dumps(task).encode() + b"\n")
        except BaseException:
            self.close()
            raise

    @property
    def policy_fds(self) -> list[int]:
        """To be inherited by the policy's process."""
        return [s.fileno() for s in self._policy_ends]

    def release_policy_fds(self) -> None:
        """Close our copies once the policy's process has its own."""
        for end in self._policy_ends:
            end.close()
        self._policy_ends = []

    def play(self, attend: Callable[[], None], attend_seconds: float = 0.1) -> Played:
        """Wait for every worker.

        Args:
            attend: called every `attend_seconds`; may raise.

        Raises:
            Fault: an episode cannot be completed.
            HungUp: the policy is gone.
        """
        self.release_policy_fds()
        deadline = time.monotonic() + EVALUATION_SECONDS
        open_pipes = {p.stdout.fileno(): w for w, p in enumerate(self.processes) if p.stdout}
        said = [b""] * len(self.processes)
        while open_pipes:
            for fd in select.select(list(open_pipes), [], [], attend_seconds)[0]:
                data = os.read(fd, 1 << 20)
                worker = open_pipes[fd]
                said[worker] += data
                if not data:
                    del open_pipes[fd]
                    self._raise_if_failed(said[worker])
            attend()
            if time.monotonic() > deadline:
                raise Fault(
                    "evaluation_cap", f"the evaluation took more than {EVALUATION_SECONDS:g} s"
                )
        results = [json.loads(line) for line in said]
        return Played(
            tuple(x for r in results for x in r["returns"]), tuple(x for r in results for x in r["lengths"]), max(r["seconds"] for r in results),
            hashlib.sha256("".join(r["actions"] for r in results).encode()).hexdigest())  # fmt: skip

    def _raise_if_failed(self, line: bytes) -> None:
        try:
            result = json.loads(line)
        except ValueError:
            self._errors.seek(0)
            words = self._errors.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
            raise Fault(
                "env",
                f"the environment's process died: {words[-1][:300] if words else 'it said nothing'}",
            ) from None
        if result.get("rule") == "hung_up":
            raise HungUp
        if "rule" in result:
            raise Fault(result["rule"], result["reason"])

    def close(self) -> None:
        """End the workers."""
        self.release_policy_fds()
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        self.processes = []
        self._errors.close()

    def __enter__(self) -> "Episodes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
