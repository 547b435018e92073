"""Files that hurt a compiler, a terminal or a reader; thrown at the static look by the thousand.

    python tests/support/odd_sources.py 100000 [SEED]     # what came of each kind, and what is odd

Known ones, and mutations of honest files: bytes, lines and blocks swapped, deep, wide, doubled,
cut, with control characters, cookies and odd code points.
"""

import ast
import collections
import os
import random
import re
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
from autorl.source import checks  # noqa: E402


def finally_tower(depth: int, width: int) -> str:
    """Each `finally` is compiled twice: 2 ** depth times the innermost."""
    lines = ["def f():"]
    for d in range(depth):
        lines += [f"{' ' * (d + 1)}try: g()", f"{' ' * (d + 1)}finally:"]
    return "\n".join(lines + [f"{' ' * (depth + 1)}g()"] * width) + "\n"


# where each is refused, by the parser, the compiler or a limit, is Python's to say
KNOWN = {
    "sum": "b = " + "a+" * 20_000 + "a\n",
    "elif": "if a: pass\n" + "elif a: pass\n" * 9_000,
    "attributes": "a" + ".a" * 60_000 + "\n",
    "calls": "f" + "()" * 60_000 + "\n",
    "not": "not " * 30_000 + "a\n",
    "minus": "-" * 100_000 + "1\n",
    "brackets": "(" * 60_000 + ")" * 60_000 + "\n",
    "open brackets": "[" * 190 + "\n",
    "lambda": "lambda: " * 15_000 + "1\n",
    "comparison": "a" + "<a" * 60_000 + "\nx = " + "(" * 150 + "a" + "<a)" * 150 + "\n",
    "power": "2**" * 40_000 + "1\n",
    "f-string": 'f"' + "{a}" * 40_000 + '"\n' + "f'{f\"{" * 40 + "\n",
    "finally": finally_tower(18, 100),
    "returns": "def f():\n try:\n" + "  if a: return\n" * 3_000 + " finally:\n" + "  g()\n" * 9_000,
    "folding": "x = " + "(" * 60 + "1" + "<<9999)" * 60 + "\nx = ('a' * 4000) * 4000 * 9\n",
    "digits": "x = " + "9" * 100_000 + "\n",
    "annotation": "x" + ": a" * 20_000 + "\n",
    "decorators": "@a\n" * 40_000 + "def f(): pass\n",
    "indentation": "\n".join(" " * d + "if a:" for d in range(99)) + "\n" + " " * 99 + "pass\n",
}  # fmt: skip

PIECES = (
    "try:\n", "finally:\n", "except* E:\n", "match x:\n case [*_]:\n", "async def f():\n",
    "await x\n", "lambda *a, **k: ", "(yield)", "[x for x in ", "{**", "f'{x!r:{y}}'", "global x\n",
    "nonlocal x\n", "x := ", "print(", "*a, = b\n", "@", "\\\n", '"""', "'", "#", "0x", "1_",
    "# coding: latin-1\n", "9" * 5000, "is 1", "\\N{BELL}", "\\ud800", "b'\\xff'", "del x\n", "-",
    "assert (x, 'y')\n", "not ", "(", "[", "{", ":", ",", ".x", "()", " if x else ", "\t", "    ",
    "\n", "\u2028", "\u202e", "\u200b", "\u00e9", "\U0001f600", "\x1b[2J", "\x0c", "\x00", "\r",
    "import torch\n", "from gymnasium.envs.box2d.lunar_lander import *\n", "class A(metaclass=",
    "return\n", "break\n", "1e999",
)  # fmt: skip


def odd_bytes(rng: random.Random, honest: list[bytes]) -> bytes:
    """One input: a piece of an honest file, mutated a few times."""
    data = bytearray(rng.choice(honest))
    if rng.random() < 0.6:
        start = rng.randrange(len(data))
        data = data[start : start + rng.choice((40, 400, 4000))]
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(8)
        if what == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            piece = rng.choice(PIECES).encode("utf-8", "surrogatepass")
            data[at:at] = piece * rng.choice((1, 1, 1, 5, 50, 300))
        elif what == 2:
            del data[at : at + rng.choice((1, 10, 100))]
        elif what == 3:
            lines = bytes(data).split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        elif what == 4:
            block = data[at : at + rng.choice((3, 30, 300))]
            data[at:at] = block * rng.choice((2, 20, 200))
        elif what == 5:
            data = bytearray(b"\n".join(b" " + line for line in bytes(data).split(b"\n")))
        elif what == 6:
            depth = rng.choice((5, 30, 99, 300))
            opened = rng.choice(
                (b"(", b"[", b"{", b"f(", b"not ", b"-", b"lambda: ", b"a if b else ")
            )
            data[at:at] = opened * depth
        else:
            data[at:at] = finally_tower(rng.randrange(1, 13), rng.randrange(1, 9)).encode()
    return bytes(data[:200_000])


def wrong(found: checks.Look) -> str:
    """What is wrong with an answer, "" when nothing is."""
    if len(found.key) != 32 or not set(found.key) <= set("0123456789abcdef"):
        return f"key {found.key!r}"
    if not found.why.isprintable() and found.why:
        return f"a reason that is no line of text: {found.why!r}"
    return "" if len(found.why) <= 4000 else f"a reason of {len(found.why)} characters"


def fuzz(count: int, seed: int, batch: int = 100) -> tuple[int, list[str]]:
    """(inputs looked at, what is odd). In forked processes with the limits of the real one: where
    a batch dies of them, its inputs are looked at one by one, as `look` does.
    """
    honest = [
        p.read_bytes() for p in (PROJECT / "train.py", *(PROJECT / "tests/toys").glob("*.py"))
    ]
    rng, looked, odd = random.Random(seed), 0, []
    for start in range(0, count, batch):
        inputs = [odd_bytes(rng, honest) for _ in range(min(batch, count - start))]
        answers = list(_forked(inputs))
        for data in inputs[len(answers) :]:
            answers.append(checks.look(data))
        for data, answer in zip(inputs, answers, strict=True):
            looked += 1
            KINDS[re.sub(r"\d+|'.+'", "_", answer.why)[:50] or "passed"] += 1
            if answer.why == "" and (error := _compiles(data)):
                odd.append(f"passed, but {error}: {data[:200]!r}")
            if trouble := wrong(answer):
                odd.append(f"{trouble}: {data[:200]!r}")
    return looked, odd


KINDS: collections.Counter[str] = collections.Counter()


def _compiles(data: bytes) -> str:
    """Why Python does not compile these bytes, "" when it does: what passes must."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(data, "train.py", "exec", dont_inherit=True)
        except Exception as error:
            return repr(error)
    return ""


def _forked(inputs: list[bytes]) -> Iterator[checks.Look]:
    """The answers up to the one at which the process died."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (checks.CPU_SECONDS,) * 2)
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + checks.MEMORY_BYTES,) * 2)
            with open(write, "w", encoding="utf-8", errors="surrogateescape") as file:
                for data in inputs:
                    why = checks._not_plain_text(data)
                    found = checks.Look(why, "0" * 32) if why else checks.parsed(data)
                    print(found.key, repr(found.why), file=file, flush=True)
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().split("\n")[:-1]
    os.waitpid(pid, 0)
    for line in lines:
        key, _, why = line.partition(" ")
        yield checks.Look(ast.literal_eval(why), key)


if __name__ == "__main__":
    began = time.monotonic()
    total, found = fuzz(int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0]))
    for kind, times in KINDS.most_common(40):
        print(f"{times:8d}  {kind}")
    print(f"{total} inputs, {time.monotonic() - began:.0f} s, {len(found)} odd")
    print("\n".join(found[:20]))
