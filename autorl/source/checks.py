"""The static look at a proposed train.py, before any run: a net, not a wall.

    found = look(source, known_keys)   # found.why: "" or one sentence; found.key names the program

It turns away what cannot run, what was measured already and the plainest ways to bring a result
along. A determined author gets past it: the controls of the judge and a person reading the diff are
behind it. Pure; runs nothing; parses a file once.
"""

import ast
import functools
import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from autorl.source.names import number_names

MAX_BYTES = 128 * 1024
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
    if why := _not_plain_text(data):
        return Look(why, _digest(data))
    try:
        tree = ast.parse(data.decode())
        compile(tree, "train.py", "exec", dont_inherit=True)
    except UnicodeDecodeError as error:
        return Look(f"The file is not UTF-8 (byte {error.start}).", _digest(data))
    except SyntaxError as error:
        why = f"The file is not Python: {error.msg} (line {error.lineno})."
        return Look(why, _digest(data))
    except (ValueError, RecursionError, MemoryError) as error:
        why = str(error) or type(error).__name__
        return Look(f"The file is not Python that can be compiled: {why}.", _digest(data))
    why = _oversized(tree) or _ready_made(tree) if tree.body else "The file is empty."
    return Look(why, _key(tree))


def _not_plain_text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        return f"The file has {len(data)} bytes; the limit is {MAX_BYTES}."
    if data.startswith(b"\xef\xbb\xbf"):
        return "The file starts with a byte order mark; save it as plain UTF-8."
    if b"\0" in data:
        return "The file holds a NUL byte; it must be plain text."
    if b"\r" in data:
        return "The file has carriage returns; its lines must end with a newline alone."
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
