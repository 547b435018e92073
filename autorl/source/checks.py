"""The static check of a proposed train.py, before any run.

    why = vet(source, known_keys)   # "" or one sentence
    ast_key(source)                 # same key = same program: identical code is pooled

It turns away what cannot run, what was measured already and the plainest ways to bring a result
along. A determined author can pass it; then the controls of the judge and a person who reads the
diff remain. Pure; runs nothing.
"""

import ast
import hashlib
from collections.abc import Collection

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
NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)


def vet(source: str | bytes, known_keys: Collection[str] = ()) -> str:
    """One sentence why this file is not run, or "".

    Args:
        known_keys: `ast_key` of every file already measured.
    """
    data = _bytes(source)
    if len(data) > MAX_BYTES:
        return f"The file has {len(data)} bytes; the limit is {MAX_BYTES}."
    if data.startswith(b"\xef\xbb\xbf"):
        return "The file starts with a byte order mark; save it as plain UTF-8."
    if b"\0" in data:
        return "The file holds a NUL byte; it must be plain text."
    if b"\r" in data:
        return "The file has carriage returns; its lines must end with a newline alone."
    try:
        text = data.decode()
        tree = ast.parse(text)
        compile(text, "train.py", "exec", dont_inherit=True)
    except UnicodeDecodeError as error:
        return f"The file is not UTF-8 (byte {error.start})."
    except SyntaxError as error:
        return f"The file is not Python: {error.msg} (line {error.lineno})."
    except NOT_PYTHON as error:
        why = str(error) or type(error).__name__
        return f"The file is not Python that can be compiled: {why}."
    if not tree.body:
        return "The file is empty."
    if why := _oversized(tree) or _ready_made(tree):
        return why
    if known_keys and _key(tree) in known_keys:
        return (
            "This program was measured before (the same but for comments, docstrings and layout); "
            "propose a change of what it does."
        )
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
    """The key of a tree, whose docstrings are removed."""
    for node in _documented(tree):
        # A body that was nothing but a docstring does what `pass` does.
        node.body = node.body[1:] or [ast.Pass()]
    return _digest(ast.dump(tree, annotate_fields=False))


def ast_key(source: str | bytes) -> str:
    """A name for what the program does, whatever its comments, docstrings and layout.

    What is no Python is named by its bytes.
    """
    try:
        return _key(ast.parse(source))
    except NOT_PYTHON:
        return _digest(source)


def ast_nodes(source: str | bytes) -> int:
    """Size of the program in syntax nodes, docstrings not counted: the measure of "simpler"."""
    try:
        tree = ast.parse(source)
    except NOT_PYTHON:
        return 0
    return sum(1 for _ in ast.walk(tree)) - 2 * len(_documented(tree))


def _bytes(source: str | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")


def _digest(source: str | bytes) -> str:
    return hashlib.sha256(_bytes(source)).hexdigest()[:32]
