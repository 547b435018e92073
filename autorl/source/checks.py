"""The static look at a proposed train.py, before any run: a net, not a wall.

    why = vet(source, known_keys)   # "" or one sentence
    ast_key(source)                 # same key = same program: identical code is pooled, never re-rolled

It turns away what cannot run, what was measured already and the plainest ways to bring a result along. A determined
author gets past it: the controls of the judge and a person reading the diff are behind it. Pure; runs nothing.
"""

import ast
import hashlib
from collections.abc import Collection

MAX_BYTES = 128 * 1024
MAX_NUMBERS = 1500  # numeric literals; an honest PPO has about 100, a pasted 2x64 policy over 5,000
MAX_LITERAL = 8 * 1024  # characters of one string or bytes literal that is no docstring
READY_MADE = {"gymnasium.envs.box2d.bipedal_walker": {"BipedalWalkerHeuristics"}, "gymnasium.envs.box2d.lunar_lander": {"heuristic", "demo_heuristic_lander"}}  # fmt: skip


def vet(source: str | bytes, known_keys: Collection[str] = ()) -> str:
    """One sentence why this file is not run, or "".

    Args:
        known_keys: `ast_key` of every file already measured.
    """
    data = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        return f"The file has {len(data)} bytes; the limit is {MAX_BYTES}."
    if data.startswith(b"\xef\xbb\xbf"):
        return "The file starts with a byte order mark; save it as plain UTF-8."
    if b"\0" in data:
        return "The file holds a NUL byte; it must be plain text."
    if b"\r" in data:
        return "The file has carriage returns; its lines must end with a newline alone."
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"The file is not UTF-8 (byte {error.start})."
    try:
        tree = ast.parse(text)
        compile(text, "train.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"The file is not Python: {error.msg} (line {error.lineno})."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"The file is not Python that can be compiled: {error or type(error).__name__}."
    if not tree.body:
        return "The file is empty."
    if why := _brings_along(tree):
        return why
    if known_keys and _key(tree) in known_keys:
        return "This program was measured before (the same but for comments, docstrings and layout); propose a change of what it does."
    return ""


def _brings_along(tree: ast.Module) -> str:
    """Too many numbers, too long a string, or a controller that somebody else wrote."""
    docstrings = {id(d.value) for d in _docstrings(tree)}
    numbers = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, (int, float, complex)) and not isinstance(node.value, bool):
                numbers += 1
                if isinstance(node.value, int) and node.value.bit_length() > 512:
                    return "The file holds an integer of more than 512 bits, which reads like data that was not trained here."
            elif (
                isinstance(node.value, (str, bytes))
                and len(node.value) > MAX_LITERAL
                and id(node) not in docstrings
            ):
                return f"The file holds a literal of {len(node.value)} characters; the limit is {MAX_LITERAL}: a result must be trained, not brought along."
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if alias.name in READY_MADE.get(node.module, ()) or (
                    alias.name == "*" and node.module in READY_MADE
                ):
                    return _ready(f"{node.module}.{alias.name}")
        elif (isinstance(node, ast.Attribute) and node.attr in _READY_NAMES) or (
            isinstance(node, ast.Name) and node.id in _READY_NAMES
        ):
            return _ready(node.attr if isinstance(node, ast.Attribute) else node.id)
    if numbers > MAX_NUMBERS:
        return f"The file holds {numbers} numbers; the limit is {MAX_NUMBERS}: weights must be trained, not brought along."
    return ""


_READY_NAMES = {"BipedalWalkerHeuristics", "demo_heuristic_lander"}


def _ready(name: str) -> str:
    return f"The file uses the ready-made controller {name}; a policy must be trained."


def _docstrings(tree: ast.AST) -> list[ast.Expr]:
    """Statements that are docstrings."""
    found = []
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and node.body
        ):
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                found.append(first)
    return found


def _key(tree: ast.Module) -> str:
    docstrings = {id(d) for d in _docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            # A body that was nothing but a docstring does what `pass` does.
            node.body = [d for d in node.body if id(d) not in docstrings] or [ast.Pass()]
    return hashlib.sha256(
        ast.dump(tree, annotate_fields=False).encode("utf-8", "surrogatepass")
    ).hexdigest()[:32]


def ast_key(source: str | bytes) -> str:
    """A name for what the program does: equal for files that differ in comments, docstrings and layout only.

    What is no Python is named by its bytes.
    """
    try:
        return _key(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        data = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
        return hashlib.sha256(data).hexdigest()[:32]


def ast_nodes(source: str | bytes) -> int:
    """Size of the program in syntax nodes, docstrings not counted: the measure of "simpler"."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    return sum(1 for _ in ast.walk(tree)) - 2 * len(_docstrings(tree))
