"""What the system-call filters must answer to which call, by <linux/filter.h>, for two machines."""

import errno

ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*, <linux/audit.h>
MASK = (1 << 32) - 1
HIGH = 7 << 32  # what the kernel ignores in the register of an int
CLONE_VM, CLONE_VFORK, CLONE_THREAD, CLONE_NEWUSER = 0x100, 0x4000, 0x10000, 0x10000000

# name: its number on x86-64, on aarch64 (arch/x86/entry/syscalls/syscall_64.tbl,
# include/uapi/asm-generic/unistd.h); None: there is none
NUMBERS = {
    "read": (0, 63), "openat": (257, 56), "execve": (59, 221), "futex": (202, 98),
    "seccomp": (317, 277), "flock": (73, 32), "ftruncate": (77, 46), "pidfd_open": (434, 434),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "unshare": (272, 97), "setns": (308, 268), "perf_event_open": (298, 241), "bpf": (321, 280),
    "fanotify_init": (300, 262), "move_pages": (279, 239), "mincore": (27, 232),
    "cachestat": (451, 451), "clone3": (435, 435), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "inotify_init": (253, None),
    "inotify_init1": (294, 26), "userfaultfd": (323, 282), "memfd_secret": (447, 447),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "fallocate": (285, 47), "fadvise64": (221, 223), "fcntl": (72, 25), "clone": (56, 220),
    "madvise": (28, 233), "preadv2": (327, 286), "fork": (57, None), "vfork": (58, None),
}  # fmt: skip
EPERM, ENOSYS = ERROR | errno.EPERM, ERROR | errno.ENOSYS
REFUSED = {
    EPERM: "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp unshare "
    "setns perf_event_open bpf fanotify_init move_pages",
    ENOSYS: "mincore cachestat clone3 io_uring_setup io_uring_enter io_uring_register inotify_init "
    "inotify_init1 userfaultfd memfd_secret keyctl add_key request_key",
    ERROR | errno.EOPNOTSUPP: "fallocate",
    ERROR: "fadvise64",
    ALLOW: "read openat execve futex seccomp flock ftruncate pidfd_open fork vfork",
}
WANTED = [(name, (), answer) for answer, names in REFUSED.items() for name in names.split()]
WANTED += [
    ("fcntl", (3, 1024), EPERM),  # F_SETLEASE
    ("fcntl", (3, 1024 | HIGH), EPERM),
    ("fcntl", (3, 1026), EPERM),  # F_NOTIFY
    ("fcntl", (3, 1030), ALLOW),  # F_DUPFD_CLOEXEC
    ("fcntl", (3, 6), ALLOW),  # F_SETLK
    ("clone", (CLONE_NEWUSER,), EPERM),
    ("clone", (CLONE_VM | CLONE_THREAD,), ALLOW),
    ("clone", (CLONE_VM | CLONE_VFORK,), ALLOW),
    ("madvise", (0, 4096, 20), ERROR | errno.EINVAL),  # MADV_COLD
    ("madvise", (0, 4096, 21 | HIGH), ERROR | errno.EINVAL),  # MADV_PAGEOUT
    ("madvise", (0, 4096, 14), ALLOW),  # MADV_HUGEPAGE
    ("preadv2", (3, 0, 1, 0, 0, 8), ERROR | errno.EOPNOTSUPP),  # RWF_NOWAIT
    ("preadv2", (3, 0, 1, 0, 0, 9 | HIGH), ERROR | errno.EOPNOTSUPP),  # and RWF_HIPRI
    ("preadv2", (3, 0, 1, 0, 0, 0), ALLOW),
]
SERVING = [
    ("clone", (0,), EPERM),
    ("clone", (CLONE_VM | CLONE_VFORK,), EPERM),  # posix_spawn
    ("clone", (CLONE_VM | CLONE_THREAD,), ALLOW),
    ("clone", (CLONE_THREAD | HIGH,), ALLOW),
    ("clone3", (), ENOSYS),
    ("fork", (), EPERM),
    ("vfork", (), EPERM),
    ("read", (), ALLOW),
    ("execve", (), ALLOW),  # another program in this process, filtered as it is
]
