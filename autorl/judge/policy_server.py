"""The confined end of an evaluation: loads the handed-over agent and answers what the judge asks.

A copy of this file lies beside evaluate.py in a run; it imports that and nothing of autoRL. The
wire, on each socket:

    server -> judge   R                                  about to load the agent
    judge -> server   <II rows n, obs_dim                once
    judge -> server   n bytes of reset mask, n * obs_dim float32
    server -> judge   <4s4I dtype, dimensions, sizes of the first three; then all, float32

The judge checks all that it reads (judge/episodes.py). Before the agent is loaded this process
gives up starting others, for good; threads it may start.
"""

import copy
import ctypes
import os
import struct
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch

import evaluate

SECCOMP = {"x86_64": 317, "aarch64": 277}  # number of the system call, by machine


def serve(fds: list[int]) -> None:
    """Answer action requests over inherited sockets, in raw frames of known size, until they close.

    Each socket has a batch of its own and an agent of its own: in a process that is forked before
    the agent is loaded, or on a GPU, where each process would need memory of its own, in a thread.
    """
    torch.set_num_threads(1)  # small batches; the other cores are at work too
    for fd in fds:
        os.write(fd, b"R")  # ready: from here on it is the agent's time
    device = evaluate.RUN_DIR / "policy.device"
    if device.is_file() and device.read_text().startswith("cuda"):
        agent, on = _load(0)
        threads = [
            threading.Thread(target=_answer, args=(fd, copy.deepcopy(agent), on)) for fd in fds[1:]
        ]
        for thread in threads:
            thread.start()
        _answer(fds[0], agent, on)
        for thread in threads:
            thread.join()
        return
    children = []
    for i, fd in enumerate(fds[1:], 1):
        if (child := os.fork()) == 0:
            for other in fds[:i] + fds[i + 1 :]:
                os.close(other)
            _answer(fd, *_load(i))
            return
        os.close(fd)
        children.append(child)
    _answer(fds[0], *_load(0))
    for child in children:
        os.waitpid(child, 0)


def _load(seed: int) -> tuple[Any, Any]:
    """The agent and its device; whatever it is, it cannot start a process."""
    _no_new_process()
    with open(evaluate.RUN_DIR / "policy.pkl", "rb") as file:
        handed = cloudpickle.load(file)
    torch.manual_seed(seed)  # a policy that draws is reproducible too
    np.random.seed(seed)
    return handed["agent"], handed["device"]


class _Program(ctypes.Structure):
    """struct sock_fprog of seccomp(2)."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _no_new_process() -> None:
    """Load the filter beside this file for every thread of this process, where Linux can."""
    machine = os.uname().machine
    path, number = Path(__file__).with_name(f"{machine}.serve.bpf"), SECCOMP.get(machine)
    if number and path.is_file():
        code = path.read_bytes()
        libc, program = ctypes.CDLL(None), _Program(len(code) // 8, code)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        libc.syscall(number, 1, 1, ctypes.byref(program))  # SECCOMP_SET_MODE_FILTER, TSYNC


def _answer(fd: int, agent: Any, device: Any) -> None:
    """Serve one socket until it closes."""
    act = evaluate.actor(agent, device)
    with open(fd, "rb", buffering=1 << 16) as source:
        if len(hello := source.read(8)) < 8:
            return
        num, obs_dim = struct.unpack("<II", hello)
        size = num + num * obs_dim * 4
        while len(frame := source.read(size)) == size:
            mask = np.frombuffer(frame, bool, num)  # (N,)
            obs = np.frombuffer(frame, np.float32, offset=num).reshape(num, obs_dim).copy()
            actions = act(obs, mask)  # (N, act_dim) or (N,), if it keeps to the contract
            dtype = actions.dtype.str[:4].encode("ascii", "replace")
            sizes = [min(size, 2**32 - 1) for size in (*actions.shape, 0, 0, 0)[:3]]
            answer = struct.pack("<4s4I", dtype, actions.ndim, *sizes)
            if actions.ndim in (1, 2) and actions.dtype.kind in "fiu":
                answer += np.ascontiguousarray(actions, np.float32).tobytes()
            view = memoryview(answer)
            while view:
                view = view[os.write(fd, view) :]
