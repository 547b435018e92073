"""row 43 | N | ask what is in the page cache, where an earlier run may have left a note"""

import ctypes
import mmap
import os
import platform

import numpy as np

from evaluate import evaluate_policy

MINCORE = {"x86_64": 27, "aarch64": 232}[platform.machine()]
CACHESTAT = 451


class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)


def told(what, ask):
    try:
        if ask():
            print("THROUGH", what, "tells what is in the page cache", flush=True)
    except OSError:
        pass


fd = os.open(np.__file__, os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
area = mmap.mmap(fd, 0, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
pages, found = ctypes.create_string_buffer(64), (ctypes.c_ulonglong * 5)()
whole = (ctypes.c_ulonglong * 2)(0, 0)
told("preadv2", lambda: os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT) == 1)
told("mincore", lambda: libc.syscall(MINCORE, ctypes.c_void_p(address), 4096, pages) == 0)
told("cachestat", lambda: libc.syscall(CACHESTAT, fd, whole, found, 0) == 0)
for advice in (20, 21):  # COLD, PAGEOUT: to leave a note
    told("madvise", lambda a=advice: libc.madvise(ctypes.c_void_p(address), 4096, a) == 0)
evaluate_policy(Agent())
