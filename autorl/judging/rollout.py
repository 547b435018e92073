"""Evaluation: the judge steps its own environments and asks a served policy for actions.

    episodes = Episodes(env_id, seeds, dims, workers=2)     # one fresh env per episode, in worker processes
    returns, lengths = play(episodes, server_socket, ...)   # or a Fault

Environments live in worker processes, rows split evenly; observations, actions and returns lie in one shared block of
memory, and one byte over a pipe says "go" and "done". Rows are played in groups (two by default), each a batch of its
own with a policy of its own, so that the server thinks about one group while the workers step the other. Every batch
of a group holds all its rows, finished ones padded with their last observation, with a mask of the finished; so its
shape never changes and neither do its results.

What this file does not do: choose seeds, start the policy, or trust a byte of what comes back.
"""

import contextlib
import hashlib
import json
import mmap
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autorl.effects import effect
from autorl.judging import tree
from autorl.judging.child import Fault

GROUPS = 2  # batches in flight: one is thought about while the other is stepped
FIRST_ANSWER_SECONDS = 60.0  # includes starting Python, importing torch and loading the policy
ANSWER_SECONDS = 2.0  # each later answer
THINKING_SECONDS = 120.0  # all answers together
EVALUATION_SECONDS = 1800.0  # everything

DIGESTED = 4  # answers of each group that name the policy, for the seed control

REQUEST = struct.Struct("<I")  # group; then n bytes of reset mask and n*obs_dim float32
ANSWER = struct.Struct("<4sII")  # dtype that get_action returned, rows, columns; then rows*columns float32
NUMBERS = {b"<f2", b"<f4", b"<f8", b"|i1", b"<i2", b"<i4", b"<i8", b"|u1", b"<u2", b"<u4", b"<u8"}

FIELDS = (("obs", np.float32), ("actions", np.float32), ("returns", np.float64), ("lengths", np.int64), ("running", np.uint8))


@dataclass(frozen=True, slots=True)
class Shape:
    """What one policy batch looks like."""

    num: int  # N
    obs_dim: int
    act_dim: int

    def sizes(self) -> dict[str, tuple[int, ...]]:
        return {
            "obs": (self.num, self.obs_dim),
            "actions": (self.num, self.act_dim),
            "returns": (self.num,),
            "lengths": (self.num,),
            "running": (self.num,),
        }

    def nbytes(self) -> int:
        return sum(-(-int(np.prod(size)) * np.dtype(dict(FIELDS)[name]).itemsize // 64) * 64 for name, size in self.sizes().items())


class Block:
    """The shared arrays: obs (N, obs_dim) float32, actions (N, act_dim) float32, returns (N,) float64, lengths, running (N,)."""

    def __init__(self, shape: Shape, fd: int):
        self.map = mmap.mmap(fd, shape.nbytes())
        offset = 0
        for name, dtype in FIELDS:
            size = shape.sizes()[name]
            count = int(np.prod(size))
            setattr(self, name, np.frombuffer(self.map, dtype, count, offset).reshape(size))
            offset += -(-count * np.dtype(dtype).itemsize // 64) * 64

    obs: np.ndarray
    actions: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    running: np.ndarray


# ---------------------------------------------------------------------------
# The worker process (trusted, not confined): steps its rows of every group
# ---------------------------------------------------------------------------


def worker(env_id: str, seeds: list[int], rows: list[list[int]], shared: int, orders: int, answers: int) -> None:
    """Make one environment for each row, say what their spaces are, then step rows[g] when told "g"; end with the order pipe.

    Args:
        seeds: one per episode, of all N.
        shared, orders, answers: descriptors of the shared block, of the pipe to read and of the one to write.
    """
    import gymnasium as gym

    envs = {row: gym.make(env_id) for group in rows for row in group}
    env = next(iter(envs.values()))
    obs, act = env.observation_space, env.action_space
    for what, space in (("observations", obs), ("actions", act)):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise SystemExit(f"{env_id} has {what} of {space}; autoRL needs 1-D Box {what}.")
    assert isinstance(act, gym.spaces.Box)
    shape = Shape(len(seeds), obs.shape[0], act.shape[0])  # type: ignore[index]
    said = {"obs_dim": shape.obs_dim, "act_dim": shape.act_dim, "low": act.low.tolist(), "high": act.high.tolist()}
    os.write(answers, json.dumps(said).encode() + b"\n")
    if not os.read(orders, 1):
        return
    block = Block(shape, shared)
    lengths, returns = dict.fromkeys(envs, 0), dict.fromkeys(envs, 0.0)
    live = [list(group) for group in rows]
    actions, observations = block.actions, block.obs
    for row, env in envs.items():
        observations[row] = env.reset(seed=seeds[row])[0]
    os.write(answers, b"R")
    while order := os.read(orders, 1):
        group = order[0]
        ended = []
        for row in live[group]:
            obs_now, reward, terminated, truncated, _ = envs[row].step(actions[row].copy())
            observations[row] = obs_now
            returns[row] += float(reward)  # Python floats: no float32 accumulation
            lengths[row] += 1
            if terminated or truncated:
                ended.append(row)
        for row in ended:
            live[group].remove(row)
            block.returns[row], block.lengths[row], block.running[row] = returns[row], lengths[row], 0
            envs.pop(row).close()
        os.write(answers, order)


def worker_main() -> None:
    """Entry of the worker process: its task is one line of JSON on standard input."""
    tree.prctl(tree.PR_SET_PDEATHSIG, signal.SIGKILL)
    task = json.loads(sys.stdin.readline())
    worker(task["env_id"], task["seeds"], task["rows"], task["shared"], task["orders"], task["answers"])


class HungUp(Exception):
    """The other end of the socket is closed."""


@dataclass(frozen=True, slots=True)
class Played:
    """What became of the episodes."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    actions: str  # sha256 of the first answers: equal policies on equal episodes give equal ones


class Episodes:
    """N fresh environments in worker processes, in groups of rows.

    Args:
        python: argv of an isolated interpreter; the code to run is appended to its last item.
        env, cwd: of the workers.
    """

    low: np.ndarray  # (act_dim,) float32
    high: np.ndarray
    block: Block
    shape: Shape

    def __init__(self, env_id: str, seeds: Sequence[int], workers: int, python: Sequence[str], env: dict[str, str], cwd: Path):
        num = self.num = len(seeds)
        groups = min(GROUPS, num)
        self.rows = [np.arange(num)[num * g // groups : num * (g + 1) // groups] for g in range(groups)]  # contiguous
        workers = max(1, min(workers, num // groups))
        self.shared = _anonymous()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.orders: list[int] = []
        self.answers: list[int] = []
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        try:
            for w in range(workers):
                their_orders, orders = os.pipe()
                answers, their_answers = os.pipe()
                self.orders.append(orders)
                self.answers.append(answers)
                task = {"env_id": env_id, "seeds": [int(s) for s in seeds], "rows": [r[w::workers].tolist() for r in self.rows],
                        "shared": self.shared, "orders": their_orders, "answers": their_answers}  # fmt: skip
                try:
                    process = effect("child start", lambda f=(self.shared, their_orders, their_answers): subprocess.Popen(  # type: ignore[misc]
                        [*python[:-1], python[-1] + "from autorl.judging.rollout import worker_main; worker_main()"], stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL, stderr=self.errors, env=env, cwd=cwd, pass_fds=f))  # fmt: skip
                finally:
                    os.close(their_orders)
                    os.close(their_answers)
                self.processes.append(process)
                assert process.stdin is not None
                process.stdin.write(json.dumps(task).encode() + b"\n")
                process.stdin.close()
        except BaseException:
            self.close()
            raise

    def open(self, attend: Callable[[], None], patience: float = 300.0) -> None:
        """Wait until the environments are made, then lay out the shared block.

        Raises:
            Fault: they cannot be made.
        """
        deadline = time.monotonic() + patience
        for fd in self.answers:
            line = b""
            while not line.endswith(b"\n"):
                if select.select([fd], [], [], 0.1)[0]:
                    if not (data := os.read(fd, 65_536)):
                        raise Fault("env", f"the environment cannot be made: {self.complaint() or 'a worker died'}")
                    line += data
                attend()
                if time.monotonic() > deadline:
                    raise Fault("env", f"the environments were not made within {patience:g} s")
        said = json.loads(line)
        self.low, self.high = np.array(said["low"], np.float32), np.array(said["high"], np.float32)
        self.shape = Shape(self.num, said["obs_dim"], said["act_dim"])
        os.ftruncate(self.shared, self.shape.nbytes())
        self.block = Block(self.shape, self.shared)
        self.block.running[:] = 1
        for fd in self.orders:
            os.write(fd, b"G")

    def __enter__(self) -> "Episodes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def order(self, group: int) -> None:
        """Tell every worker to step its running rows of a group with the actions in the block."""
        for fd in self.orders:
            os.write(fd, bytes([group]))

    def complaint(self) -> str:
        """The last line a worker said on standard error."""
        self.errors.seek(0)
        lines = self.errors.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def close(self) -> None:
        """End the workers."""
        for fd in (*self.orders, *self.answers):
            os.close(fd)
        self.orders, self.answers = [], []
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []
        self.errors.close()
        os.close(self.shared)


def _anonymous() -> int:
    """A descriptor of memory that no name leads to; its size is set later."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("autorl", 0)
    else:
        fd, path = tempfile.mkstemp()
        os.unlink(path)
    os.set_inheritable(fd, True)
    return fd


def play(episodes: Episodes, server: socket.socket, attend: Callable[[], None],
         watch: Sequence[int] = (), attend_seconds: float = 0.1) -> Played:  # fmt: skip
    """Play every episode to its end with the actions that come over `server`.

    Args:
        attend: called at least every `attend_seconds`; raises Fault when the server is gone or broke a limit.
        watch: descriptors whose readiness calls `attend` at once (the server's log, its exit).

    Returns:
        returns and lengths, one per episode, in the order of the seeds.

    Raises:
        Fault: an answer was late or wrong, a worker died, time ran out.
        HungUp: the server closed its end.
    """
    block, rows = episodes.block, episodes.rows
    num_groups = len(rows)
    slices = [slice(int(r[0]), int(r[-1]) + 1) for r in rows]
    server.setblocking(False)
    outgoing, incoming = bytearray(), bytearray()
    waiting: deque[int] = deque()  # groups whose answer is awaited, in order
    pending = [len(episodes.answers)] * num_groups  # workers that have not answered
    begin = [True] * num_groups
    left = num_groups
    started = time.monotonic()
    head_since, thinking, answered = started, 0.0, 0
    next_attend = 0.0
    digest = hashlib.sha256()

    outgoing += struct.pack(f"<II{num_groups}I", num_groups, episodes.shape.obs_dim, *(len(r) for r in rows))
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ | selectors.EVENT_WRITE, "server")
        for index, fd in enumerate(episodes.answers):
            selector.register(fd, selectors.EVENT_READ, index)
        for fd in watch:
            selector.register(fd, selectors.EVENT_READ, "watch")

        def send() -> None:
            with contextlib.suppress(BlockingIOError):
                while outgoing:
                    try:
                        sent = server.send(outgoing)
                    except (BrokenPipeError, ConnectionResetError):
                        raise HungUp from None
                    del outgoing[:sent]
            selector.modify(server, selectors.EVENT_READ | (selectors.EVENT_WRITE if outgoing else 0), "server")

        def ask(group: int) -> None:
            nonlocal head_since
            running = block.running[slices[group]]
            mask = np.ones(len(running), np.uint8) if begin[group] else 1 - running  # True where an episode begins or is over
            begin[group] = False
            if not waiting:
                head_since = time.monotonic()
            waiting.append(group)
            outgoing.extend(REQUEST.pack(group) + mask.tobytes() + block.obs[slices[group]].tobytes())
            send()

        send()
        while left:
            events = selector.select(attend_seconds)
            now = time.monotonic()
            for key, mask in events:
                if isinstance(key.data, int):
                    done = os.read(key.fd, 64)
                    if not done:
                        raise Fault("env", f"the environment failed while stepping: {episodes.complaint() or 'a worker died'}")
                    ready = range(num_groups) if done == b"R" else done
                    for group in ready:
                        pending[group] -= 1
                        if pending[group]:
                            continue
                        if block.running[slices[group]].any():
                            ask(group)
                        else:
                            left -= 1
                elif key.data == "server":
                    if mask & selectors.EVENT_WRITE:
                        send()
                    if mask & selectors.EVENT_READ:
                        try:
                            data = server.recv(1 << 20)
                        except BlockingIOError:
                            continue
                        except ConnectionResetError:
                            data = b""
                        if not data:
                            raise HungUp
                        incoming += data
                        while waiting and (size := _complete(incoming, len(rows[waiting[0]]), episodes.shape.act_dim)):
                            group = waiting.popleft()
                            actions = np.frombuffer(incoming, np.float32, offset=ANSWER.size, count=(size - ANSWER.size) // 4).reshape(
                                -1, episodes.shape.act_dim
                            )
                            if answered < DIGESTED * num_groups:
                                digest.update(actions.tobytes())
                            if not np.isfinite(actions).all():
                                raise Fault("nan", "the policy answered with an action that is not finite (NaN or infinity)")
                            np.clip(actions, episodes.low, episodes.high, out=block.actions[slices[group]])
                            del actions
                            del incoming[:size]
                            if answered:
                                thinking += now - head_since
                            answered, head_since = answered + 1, now
                            pending[group] = len(episodes.answers)
                            episodes.order(group)
                        if not waiting and incoming:
                            raise Fault("frame", "the policy answered without being asked")
                else:
                    next_attend = 0.0
            if now >= next_attend:
                attend()
                next_attend = now + attend_seconds
            allowed = ANSWER_SECONDS if answered >= num_groups else FIRST_ANSWER_SECONDS
            if waiting and now - head_since > allowed:
                raise Fault("slow_answer", f"the policy did not answer a batch of observations within {allowed:g} s")
            if thinking > THINKING_SECONDS:
                raise Fault("slow_policy", f"the policy took more than {THINKING_SECONDS:g} s for all its answers together")
            if now - started > EVALUATION_SECONDS:
                raise Fault("evaluation_cap", f"the evaluation took more than {EVALUATION_SECONDS:g} s")
    return Played(tuple(map(float, block.returns)), tuple(map(int, block.lengths)), digest.hexdigest())


def _complete(buffer: bytearray, rows: int, columns: int) -> int:
    """Size of the complete answer at the buffer's start, 0 while bytes are missing.

    Raises:
        Fault: the header promises another dtype or shape than (rows, columns) numbers.
    """
    if len(buffer) < ANSWER.size:
        return 0
    dtype, said_rows, said_columns = ANSWER.unpack_from(buffer)
    dtype = dtype.rstrip(b"\0")
    if dtype not in NUMBERS:
        raise Fault("frame", f"get_action returned dtype {_readable(dtype)}; the contract is numbers of shape (N, {columns})")
    if (said_rows, said_columns) != (rows, columns):
        raise Fault(
            "frame",
            f"get_action returned an array of shape ({said_rows}, {said_columns}) for {rows} observations; the contract is ({rows}, {columns})",
        )
    size = ANSWER.size + 4 * rows * columns
    return size if len(buffer) >= size else 0


def _readable(data: bytes) -> str:
    return "".join(chr(b) if 32 < b < 127 else "?" for b in data)
