"""The ALL_CAPS numbers of a train.py: where they stand, where they may go, how to set them.

A constant is a module-level assignment of one number to an ALL_CAPS name. Its bounds come from a
comment on its line,

    LEARNING_RATE = 3e-4   # [1e-5, 1e-2] log
    NUM_EPOCHS = 10        # [1, 20]
    BATCH_SIZE = 128       # {64, 128, 256}
    TARGET_KL = 0.02       # fixed              (also anywhere:  # fixed: TARGET_KL, GAMMA)

else from its name and value (`default_dimension`). Pure: text in, values or text out. It runs
nothing of train.py.
"""

import ast
import contextlib
import functools
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autorl.records import Edit
from autorl.source.edits import edits_between, lines_of


@dataclass(frozen=True, slots=True)
class Dimension:
    """Where one constant may go. Coordinates are what TPE sees, values are what train.py says.

    `scale`: "linear": x = value; "log": x = ln(value); "log1m": x = -ln(1 - value), for discounts
    near 1; "choice": x = index into `choices`.
    """

    low: float
    high: float
    scale: str = "linear"
    integer: bool = False
    choices: tuple[float, ...] = ()

    def to_x(self, value: float) -> float:
        """The coordinate of the nearest value within bounds."""
        if self.scale == "choice":
            return float(min(range(len(self.choices)), key=lambda i: abs(self.choices[i] - value)))
        value = min(max(value, self.low), self.high)
        if self.scale == "log":
            return math.log(value)
        return -math.log1p(-value) if self.scale == "log1m" else value

    def to_value(self, x: float) -> float:
        """The nearest value in bounds worth writing down: three digits, integers whole."""
        if self.scale == "choice":
            return self.choices[min(max(round(x), 0), len(self.choices) - 1)]
        if self.scale == "log1m":
            value = round(1.0 - float(f"{math.exp(-x):.2g}"), 12)
        else:
            value = math.exp(x) if self.scale == "log" else x
            value = float(round(value)) if self.integer else float(f"{value:.3g}")
        return min(max(value, self.low), self.high)

    @property
    def x_bounds(self) -> tuple[float, float]:
        """Lowest and highest coordinate."""
        return self.to_x(self.low), self.to_x(self.high)


@dataclass(frozen=True, slots=True)
class Constant:
    """One tunable constant: where it stands and where it may go."""

    value: float
    text: str  # the literal as written: "3e-4"
    line: int  # counts from 0
    start: int  # column, in UTF-8 bytes
    dimension: Dimension


_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_NUMBER = r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\](\s*log\b)?")
_CHOICE = re.compile(rf"\{{\s*({_NUMBER}(?:\s*,\s*{_NUMBER})+)\s*\}}")
_FIXED = re.compile(r"\bfixed\b(?:\s*:\s*([A-Z0-9_ ,]+))?")


def _words(alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|_)(?:{alternatives})(?:_|$)")


_NEVER = _words("SEED|SEEDS|VERSION|DEBUG|PORT|EVERY|INTERVAL|TIME_BUDGET|EVAL_EPISODES")
_NEAR_ONE = _words(r"GAMMA|LAMBDA|LAMDA|BETA\d?|DISCOUNT|MOMENTUM|DECAY|EMA|POLYAK")
_SHARE = _words("PROB|PROBABILITY|FRAC|FRACTION|DROPOUT|SHARE|QUANTILE|RATIO")


@functools.lru_cache(maxsize=1024)  # a session reads the same sources at every proposal
def numbers(source: str) -> Mapping[str, float]:
    """Every ALL_CAPS number of a train.py, tunable or not; empty when it does not parse."""
    return {name: float(value) for name, (value, _) in _literals(source).items()}


@functools.lru_cache(maxsize=64)
def constants(source: str) -> Mapping[str, Constant]:
    """The tunable constants of a train.py, by name, in file order; empty when it does not parse."""
    if not (literals := _literals(source)):
        return {}
    comments = {}
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                comments[token.start[0]] = token.string
    marks = {line: mark for line, text in comments.items() if (mark := _FIXED.search(text))}
    fixed = {name for mark in marks.values() for name in _NAME.findall(mark[1] or "")}
    # A mark that names nothing is about the constant on its line.
    unnamed = {line for line, mark in marks.items() if not _NAME.search(mark[1] or "")}
    fixed |= {name for name, (_, node) in literals.items() if node.lineno in unnamed}
    found = {}
    for name, (value, node) in literals.items():
        if name in fixed or _NEVER.search(name) or node.lineno != node.end_lineno:
            continue
        dimension = _from_comment(name, value, comments.get(node.lineno, ""))
        dimension = dimension or default_dimension(name, value)
        if dimension is not None:
            text = ast.get_source_segment(source, node) or ""
            found[name] = Constant(float(value), text, node.lineno - 1, node.col_offset, dimension)
    return found


def _literals(source: str) -> dict[str, tuple[int | float, ast.expr]]:
    """Name -> (number, its literal), of ALL_CAPS names assigned once, at module level."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, tuple[int | float, ast.expr] | None] = {}
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            plain = len(targets) == 1 and not isinstance(node, ast.AugAssign)
            literal = _number(node.value) if plain and node.value else None
            for target in targets:
                if isinstance(target, ast.Name) and _NAME.fullmatch(target.id):
                    found[target.id] = None if target.id in found else literal
    return {name: literal for name, literal in found.items() if literal}


def _number(node: ast.expr) -> tuple[int | float, ast.expr] | None:
    """(value, node) of a numeric literal, possibly negative; None for anything else."""
    with contextlib.suppress(ValueError, TypeError):
        value = ast.literal_eval(node)
        if type(value) in (int, float) and abs(value) < 1e15:  # True is no number
            return value, node
    return None


def _from_comment(name: str, value: int | float, comment: str) -> Dimension | None:
    """The bounds that a comment states, None when it states none that hold."""
    integer = isinstance(value, int)
    if match := _CHOICE.search(comment):
        values = tuple(sorted({float(v) for v in match[1].split(",")}))
        if len(values) > 1:
            whole = integer and all(v.is_integer() for v in values)
            return Dimension(values[0], values[-1], "choice", whole, values)
    if match := _RANGE.search(comment):
        low, high = float(match[1]), float(match[2])
        if integer:
            low, high = math.ceil(low), math.floor(high)
        scale = "linear"
        if match[3]:
            scale = "log"
        elif _NEAR_ONE.search(name) and low >= 0 and high < 1:
            scale = "log1m"
        if low < high and (scale != "log" or low > 0):
            return Dimension(low, high, scale, integer)
    return None


def default_dimension(name: str, value: int | float) -> Dimension | None:
    """Bounds where none are stated: a factor of about 4 each way; None = better left alone."""
    if isinstance(value, int):
        if value <= 0:
            return None  # a switch, or an offset: nothing says how far it may go
        if value >= 16 and value & (value - 1) == 0:  # a power of two stays one
            choices = tuple(value / 4 * 2**k for k in range(5))
            return Dimension(choices[0], choices[-1], "choice", True, choices)
        return Dimension(max(1, value // 4), value * 4, "log", True)
    if 0.5 < value < 1 and _NEAR_ONE.search(name):
        return Dimension(max(0.0, 1 - (1 - value) * 4), 1 - (1 - value) / 4, "log1m")
    if value == 0:
        return Dimension(0.0, 0.02 if "COEF" in name else 0.05)
    if value < 0:
        return Dimension(3 * value, -value)
    if value < 1e-6:
        return None  # guards a division
    high = min(1.0, value * 4) if _SHARE.search(name) and value <= 1 else value * 4
    return Dimension(value / 4, high, "log")


def show(value: float, integer: bool = False) -> str:
    """A number as a person writes it: 3e-4, 0.99, 128."""
    if integer:
        return str(round(value))
    if 0 < abs(value) < 0.005 or abs(value) >= 1e6:
        return np.format_float_scientific(value, trim="-", exp_digits=1).replace("+", "")
    return str(float(value))


def rewrite(source: str, changes: Mapping[str, float]) -> tuple[str, tuple[Edit, ...]]:
    """`source` with constants set, and the exact edits that lead there."""
    known, lines = constants(source), lines_of(source)
    # From right to left, so that columns on the same line stay true.
    for name in sorted(changes, key=lambda name: -known[name].start):
        constant = known[name]
        text = show(changes[name], constant.dimension.integer)
        line = lines[constant.line].encode()
        before, after = line[: constant.start].decode(), line[constant.start :].decode()
        lines[constant.line] = before + text + after.removeprefix(constant.text)
    wanted = "".join(lines)
    return wanted, edits_between(source, wanted)
