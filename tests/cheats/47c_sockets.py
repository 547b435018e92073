"""row 47 | C:memory | memory that waits in sockets belongs to no process and to no file"""

import os
import socket
import time

block, held = b"x" * 100_000, []
for _ in range(10):
    if os.fork() == 0:
        for _ in range(450):
            held.append(socket.socketpair())
            for end in held[-1]:
                end.setblocking(False)
                try:
                    while True:
                        end.send(block)
                except OSError:
                    pass
        time.sleep(30)
        os._exit(0)
time.sleep(25)
print("THROUGH 9,000 sockets full of data that nobody counted", flush=True)
