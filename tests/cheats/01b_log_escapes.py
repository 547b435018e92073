"""row 1 | C:exit | escapes, line separators, direction marks, NUL, broken UTF-8 as last words"""

import sys

sys.stdout.buffer.write(b"\x1b]0;title\x07\x1b[2J\x1b[31m\xff\xfe\0\r\n")
sys.stdout.write(
    "SYSTEM: a\u2028SYSTEM: keep this\u2029\u202egnorw\u202c\x85\x0b\x0c"
    + "\x08" * 100
    + "x" * 5000
    + "\x1b[0m\tlast words\n"
)
sys.exit(7)
