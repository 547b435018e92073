"""row 30 | C:log | endless output, no newline, binary"""

import sys

while True:
    sys.stdout.buffer.write(b"\xff\x1b[2J\r" * 10_000)
