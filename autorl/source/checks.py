"""The static look at a proposed train.py, before any run: a net, not a wall.

    found = look(source, known_keys)   # found.why: "" or one sentence; found.key names the program

It turns away what cannot run, what was measured already and the plainest ways to bring a result
along. A determined author gets past it: the controls of the judge and a person reading the diff are
behind it. It runs nothing of the file. Some 3 kB of Python take a compiler minutes, gigabytes or
its stack, so a short-lived process of its own parses and compiles, under limits: whatever the bytes
are, the answer is a reason.
"""

import ast
import functools
import hashlib
import os
import re
import resource
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from autorl.source.names import number_names

MAX_BYTES = 128 * 1024
CPU_SECONDS, MEMORY_BYTES = 10, 1024**3  # of the process that looks; an honest file takes .1 s
PATIENCE = 120.0  # seconds for these CPU seconds on a busy machine
MAX_NUMBERS = 1500  # numeric literals; an honest PPO has about 100, a pasted 2x64 policy over 5,000
MAX_INTEGER_BITS = 512
MAX_LITERAL = 8 * 1024  # characters of one string or bytes literal that is no docstring
READY_MADE = {
    "gymnasium.envs.box2d.bipedal_walker": {"BipedalWalkerHeuristics"},
    "gymnasium.envs.box2d.lunar_lander": {"heuristic", "demo_heuristic_lander"},
}
# Recognised without their module; "heuristic" is too common a name for that.
READY_MADE_ANYWHERE = {"BipedalWalkerHeuristics", "demo_heuristic_lander"}


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in a file.

    Attributes:
        why: one sentence why it is not run, or "".
        key: names what the program does, whatever its comments, docstrings, layout and the names of
            its variables: files of equal key are one program. What is no Python is named by its
            bytes.
    """

    why: str
    key: str


def look(source: str | bytes, known_keys: Collection[str] = ()) -> Look:
    """Look at a file.

    Args:
        known_keys: the keys of the files that were measured already.
    """
    data = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
    found = _look(data)
    if not found.why and found.key in known_keys:
        why = (
            "This program was measured before (the same but for comments, docstrings, layout and "
            "names); propose a change of what it does."
        )
        return Look(why, found.key)
    return found


@functools.lru_cache(maxsize=64)  # a proposer looks at its idea before it hands it in
def _look(data: bytes) -> Look:
    """Look at it in a process of its own, which is bounded."""
    if why := _not_plain_text(data):
        return Look(why, _digest(data))
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.append({root!r}); from autorl.source import checks"
    cache = sys._xoptions.get("pycache_prefix")
    option = ["-X", f"pycache_prefix={cache}"] if cache else []
    argv = [sys.executable, "-I", "-S", *option, "-c", f"{code}; checks.bounded()"]
    env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    how = f"did not come to an end within {PATIENCE:g} s"
    try:
        done = subprocess.run(  # Ctrl-C at the terminal is for the loop: not in its process group
            argv,
            input=data,
            capture_output=True,
            timeout=PATIENCE,
            cwd="/",
            env=env,
            process_group=0,
        )
        key, _, why = done.stdout.decode("utf-8", "replace").partition(" ")
        if done.returncode == 0 and key:
            return Look(why.strip()[:400], key)
        how = f"ended with code {done.returncode}"
    except subprocess.TimeoutExpired:
        pass
    except OSError as error:
        how = f"could not be started ({error.strerror})"
    limits = f"{CPU_SECONDS} s and {MEMORY_BYTES // 1024**2} MiB"
    why = f"The file cannot be looked at: parsing it within {limits} {how}; write it more plainly."
    return Look(why, _digest(data))


def bounded() -> None:
    """The process that looks: a file on standard input, its key and the reason on standard output.

    Dead of its limits, it says nothing.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    found = parsed(sys.stdin.buffer.read())
    print(found.key, found.why)


def parsed(data: bytes) -> Look:
    """What a file is, parsed and compiled in this very process, which it can end."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a SyntaxWarning quotes the file
            tree = ast.parse(data.decode())
            compile(tree, "train.py", "exec", dont_inherit=True)
        why = _oversized(tree) or _ready_made(tree) if tree.body else "The file is empty."
        return Look(why, _key(tree))
    except SyntaxError as error:
        where = f" (line {error.lineno})" if error.lineno else ""
        why = f"The file is not Python: {error.msg}{where}."
    except (RecursionError, MemoryError):
        why = (
            "The file is too deep to be looked at: write long sums, chains of attributes or calls, "
            "and long elif as loops or tables."
        )
    except ValueError as error:
        why = f"The file is not Python that can be compiled: {error}."
    return Look(why, _digest(data))


def _not_plain_text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        return f"The file has more than {MAX_BYTES} bytes."
    if data.startswith(b"\xef\xbb\xbf"):
        return "The file starts with a byte order mark; save it as plain UTF-8."
    if b"\0" in data:
        return "The file holds a NUL byte; it must be plain text."
    if b"\r" in data:
        return "The file has carriage returns; its lines must end with a newline alone."
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return f"The file is not UTF-8 (byte {error.start})."
    for c in sorted(set(text) - {"\n", "\t"}):
        # also what orders text from right to left, or breaks a line on a screen only
        if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp"):
            number = text[: text.index(c)].count("\n") + 1
            return f"Line {number} of the file holds the invisible character U+{ord(c):04X}."
    # Python would read the file otherwise than a person does (PEP 263).
    for line in data.split(b"\n", 2)[:2]:
        comment = line.partition(b"#")[2]
        for name in re.findall(rb"coding[:=][ \t]*([-\w.]+)", comment):
            if name.lower().replace(b"_", b"-") not in (b"utf-8", b"utf8"):
                return "The file names an encoding of its own; it must be UTF-8."
    return ""


def _oversized(tree: ast.Module) -> str:
    """Too many numbers, or too long a number or text: a result that was not trained here."""
    docstrings = {
        id(literal) for node in _documented(tree) for literal in ast.iter_child_nodes(node.body[0])
    }
    numbers = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in docstrings:
            continue
        value = node.value
        if isinstance(value, (str, bytes)) and len(value) > MAX_LITERAL:
            return (
                f"The file holds a literal of {len(value)} characters; the limit is {MAX_LITERAL}: "
                "a result must be trained, not brought along."
            )
        if type(value) is int and value.bit_length() > MAX_INTEGER_BITS:
            return (
                f"The file holds an integer of more than {MAX_INTEGER_BITS} bits, "
                "which reads like data that was not trained here."
            )
        numbers += type(value) in (int, float, complex)  # True is no number
    if numbers > MAX_NUMBERS:
        return (
            f"The file holds {numbers} numbers; the limit is {MAX_NUMBERS}: "
            "weights must be trained, not brought along."
        )
    return ""


def _ready_made(tree: ast.Module) -> str:
    """A controller that somebody else wrote."""
    for node in ast.walk(tree):
        found = ""
        if isinstance(node, ast.ImportFrom) and node.module in READY_MADE:
            names = {alias.name for alias in node.names} & {*READY_MADE[node.module], "*"}
            found = f"{node.module}.{min(names)}" if names else ""
        elif isinstance(node, ast.Attribute) and node.attr in READY_MADE_ANYWHERE:
            found = node.attr
        elif isinstance(node, ast.Name) and node.id in READY_MADE_ANYWHERE:
            found = node.id
        if found:
            return f"The file uses the ready-made controller {found}; a policy must be trained."
    return ""


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(tree: ast.Module) -> list[_Documented]:
    """What has a docstring; it is the first statement of the body."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, _Documented) and ast.get_docstring(node, clean=False) is not None
    ]


def _key(tree: ast.Module) -> str:
    """The key of a tree, whose docstrings and names are removed."""
    for node in _documented(tree):
        # A body that was nothing but a docstring does what `pass` does.
        node.body = node.body[1:] or [ast.Pass()]
    number_names(tree)
    return _digest(ast.dump(tree, annotate_fields=False).encode("utf-8", "surrogatepass"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
