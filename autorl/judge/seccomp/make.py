"""Make the system-call filters beside this file; only needed when the lists below change.

    python3 autorl/judge/seccomp/make.py      # apt-get install python3-seccomp; not a run's Python

MACHINE.bpf        bubblewrap loads it: what a run may not ask of the kernel
MACHINE.serve.bpf  a policy's process loads it, too, once the agent is loaded: no new process

A filter is what seccomp(2) takes: an array of struct sock_filter. What is not named is allowed;
calls of another architecture (32 bits, x32) end the process.
"""

import errno
from pathlib import Path
from typing import Any

import seccomp
from seccomp import MASKED_EQ, Arch, Arg, Attr, SyscallFilter

MACHINES = {"x86_64": Arch.X86_64, "aarch64": Arch.AARCH64}
CLONE_THREAD, CLONE_NEWUSER = 0x10000, 0x10000000
F_SETLEASE, F_NOTIFY = 1024, 1026  # who opens a leased file waits for the holder
MADV_COLD, MADV_PAGEOUT = 20, 21
RWF_NOWAIT = 8
INT = 0xFFFFFFFF  # the kernel ignores the upper half of an int's register: so must a comparison

# error -> calls: what is no attack when somebody else asks for it looks unsupported
CALLS = {
    errno.EPERM: (
        # other processes: process 1 of the sandbox is bubblewrap's
        "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
        # a run needs no namespaces, no profile of the kernel and no program in it
        "unshare", "setns", "perf_event_open", "bpf", "fanotify_init", "move_pages",
    ),
    # what is in the page cache outlives a run: notes for the next one could lie there
    errno.ENOSYS: (
        "mincore", "cachestat", "clone3",  # the C library falls back to clone, whose flags we see
        "io_uring_setup", "io_uring_enter", "io_uring_register",  # any call, past any filter
        "inotify_init", "inotify_init1",  # few for each user: enough for the user's editor
        "userfaultfd", "memfd_secret", "keyctl", "add_key", "request_key",
    ),
    errno.EOPNOTSUPP: ("fallocate",),  # 10 GiB between two looks of the judge
    0: ("fadvise64",),  # advice need not be taken
}  # fmt: skip
WITH_ARGUMENTS = (
    (errno.EPERM, "fcntl", Arg(1, MASKED_EQ, INT, F_SETLEASE)),
    (errno.EPERM, "fcntl", Arg(1, MASKED_EQ, INT, F_NOTIFY)),
    (errno.EPERM, "clone", Arg(0, MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER)),
    (errno.EINVAL, "madvise", Arg(2, MASKED_EQ, INT, MADV_COLD)),
    (errno.EINVAL, "madvise", Arg(2, MASKED_EQ, INT, MADV_PAGEOUT)),
    (errno.EOPNOTSUPP, "preadv2", Arg(5, MASKED_EQ, RWF_NOWAIT, RWF_NOWAIT)),
)
NO_PROCESS = (
    (errno.EPERM, "clone", Arg(0, MASKED_EQ, CLONE_THREAD, 0)),
    (errno.EPERM, "fork"),
    (errno.EPERM, "vfork"),
    (errno.ENOSYS, "clone3"),
)


def write(path: Path, arch: Arch, rules: list[tuple[Any, ...]]) -> None:
    """One filter as a file."""
    wanted = SyscallFilter(seccomp.ALLOW)
    wanted.set_attr(Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    if not wanted.exist_arch(arch):  # it begins with that of this machine
        wanted.add_arch(arch)
        wanted.remove_arch(Arch())
    for error, call, *arguments in rules:
        if seccomp.resolve_syscall(arch, call) >= 0:  # aarch64 has no fork
            wanted.add_rule(seccomp.ERRNO(error), call, *arguments)
    with open(path, "wb") as file:
        wanted.export_bpf(file)


if __name__ == "__main__":
    here = Path(__file__).parent
    run = [(error, call) for error, calls in CALLS.items() for call in calls]
    for machine, arch in MACHINES.items():
        write(here / f"{machine}.bpf", arch, [*run, *WITH_ARGUMENTS])
        write(here / f"{machine}.serve.bpf", arch, list(NO_PROCESS))
