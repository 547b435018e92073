"""The ALL_CAPS numeric constants of a train.py: where they stand, where they may go, and how to set them.

A constant is a module-level assignment of one number to an ALL_CAPS name. Its bounds come from a comment on its line,

    LEARNING_RATE = 3e-4   # [1e-5, 1e-2] log
    NUM_EPOCHS = 10        # [1, 20]
    BATCH_SIZE = 128       # {64, 128, 256}
    TARGET_KL = 0.02       # fixed              (also anywhere:  # fixed: TARGET_KL, GAMMA)

else from its name and value (`default_dimension`). Pure: text in, values or text out. It runs nothing of train.py.
"""

import ast
import functools
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from autorl.records import Edit
from autorl.source.edits import edits_between, lines_of


@dataclass(frozen=True, slots=True)
class Dimension:
    """Where one constant may go. Coordinates are what TPE sees, values are what train.py says.

    `scale`: "linear": x = value; "log": x = ln(value); "log1m": x = -ln(1 - value), for discounts near 1;
    "choice": x = index into `choices`.
    """

    low: float
    high: float
    scale: str = "linear"
    integer: bool = False
    choices: tuple[float, ...] = ()

    def to_x(self, value: float) -> float:
        if self.scale == "choice":
            return float(min(range(len(self.choices)), key=lambda i: abs(self.choices[i] - value)))
        value = min(max(value, self.low), self.high)
        return (
            math.log(value)
            if self.scale == "log"
            else -math.log1p(-value)
            if self.scale == "log1m"
            else value
        )

    def to_value(self, x: float) -> float:
        """The nearest value worth writing down: integers whole, floats to three significant digits, within bounds."""
        if self.scale == "choice":
            return self.choices[min(max(round(x), 0), len(self.choices) - 1)]
        value = (
            math.exp(x) if self.scale == "log" else -math.expm1(-x) if self.scale == "log1m" else x
        )
        if self.integer:
            value = float(round(value))
        elif self.scale == "log1m":
            value = round(1.0 - float(f"{1.0 - value:.2g}"), 12)
        else:
            value = float(f"{value:.3g}")
        return min(max(value, self.low), self.high)

    @property
    def x_bounds(self) -> tuple[float, float]:
        if self.scale == "choice":
            return 0.0, float(len(self.choices) - 1)
        return self.to_x(self.low), self.to_x(self.high)


@dataclass(frozen=True, slots=True)
class Constant:
    """One tunable constant: where it stands and where it may go. `line` counts from 0, columns are characters."""

    name: str
    value: float
    text: str  # the literal as written: "3e-4"
    line: int
    start: int
    end: int
    dimension: Dimension


_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_NUMBER = r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\](\s*log\b)?")
_CHOICE = re.compile(rf"\{{\s*({_NUMBER}(?:\s*,\s*{_NUMBER})+)\s*\}}")
_FIXED = re.compile(r"\bfixed\b(?:\s*:\s*([A-Z0-9_ ,]+))?")
_NEVER = re.compile(
    r"(?:^|_)(?:SEED|SEEDS|VERSION|DEBUG|PORT|EVERY|INTERVAL|TIME_BUDGET|EVAL_EPISODES)(?:_|$)"
)
_NEAR_ONE = re.compile(
    r"(?:^|_)(?:GAMMA|LAMBDA|LAMDA|BETA\d?|DISCOUNT|MOMENTUM|DECAY|EMA|POLYAK)(?:_|$)"
)
_SHARE = re.compile(
    r"(?:^|_)(?:PROB|PROBABILITY|FRAC|FRACTION|DROPOUT|SHARE|QUANTILE|RATIO)(?:_|$)"
)


@functools.lru_cache(maxsize=1024)  # a night reads the same sources at every proposal
def numbers(source: str) -> Mapping[str, float]:
    """Every ALL_CAPS number of a train.py, tunable or not; empty when it does not parse."""
    try:
        return MappingProxyType(
            {name: float(value) for name, (value, _) in _literals(ast.parse(source)).items()}
        )
    except (SyntaxError, ValueError):
        return MappingProxyType({})


@functools.lru_cache(maxsize=64)
def constants(source: str) -> Mapping[str, Constant]:
    """The tunable constants of a train.py, by name, in file order; empty when it does not parse."""
    try:
        literals = _literals(ast.parse(source))
        comments = {
            t.start[0] - 1: t.string
            for t in tokenize.generate_tokens(io.StringIO(source).readline)
            if t.type == tokenize.COMMENT
        }
    except (SyntaxError, ValueError, tokenize.TokenError):
        return MappingProxyType({})
    lines = lines_of(source)
    marks = [match for comment in comments.values() if (match := _FIXED.search(comment))]
    fixed = {name for match in marks for name in re.findall(r"[A-Z][A-Z0-9_]*", match[1] or "")}
    found: dict[str, Constant] = {}
    for name, (value, literal) in literals.items():
        line = literal.lineno - 1
        comment = comments.get(line, "")
        mark = _FIXED.search(comment)
        if (
            literal.lineno != literal.end_lineno
            or name in fixed
            or _NEVER.search(name)
            or (mark and not mark[1])
        ):
            continue
        if (
            dimension := _from_comment(name, value, comment) or default_dimension(name, value)
        ) is None:
            continue
        raw = lines[line].encode()
        start, end = (
            len(raw[: literal.col_offset].decode()),
            len(raw[: literal.end_col_offset].decode()),
        )
        found[name] = Constant(
            name, float(value), lines[line][start:end], line, start, end, dimension
        )
    return MappingProxyType(found)


def _literals(tree: ast.Module) -> dict[str, tuple[int | float, ast.expr]]:
    """Name -> (number, its literal), for ALL_CAPS names assigned once, at module level, to one number."""
    found: dict[str, tuple[int | float, ast.expr]] = {}
    assigned: set[str] = set()
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, (ast.AnnAssign, ast.AugAssign))
            else []
        )
        for target in targets:
            if not isinstance(target, ast.Name) or not _NAME.match(target.id):
                continue
            value = (
                _number(node.value)
                if len(targets) == 1
                and isinstance(node, (ast.Assign, ast.AnnAssign))
                and node.value
                else None
            )
            if target.id in assigned:
                found.pop(target.id, None)
            elif value is not None and isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
                found[target.id] = (value, node.value)
            assigned.add(target.id)
    return found


def _number(node: ast.expr) -> int | float | None:
    """The value of a numeric literal, possibly negative; None for anything else (True is no number)."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return value
    return None


def _from_comment(name: str, value: int | float, comment: str) -> Dimension | None:
    integer = isinstance(value, int)
    if match := _CHOICE.search(comment):
        values = tuple(sorted({float(v) for v in match[1].split(",")}))
        if len(values) > 1:
            return Dimension(
                values[0],
                values[-1],
                "choice",
                integer and all(v.is_integer() for v in values),
                values,
            )
    if match := _RANGE.search(comment):
        low, high = float(match[1]), float(match[2])
        if integer:
            low, high = math.ceil(low), math.floor(high)
        if low < high:
            if match[3]:
                return Dimension(low, high, "log", integer) if low > 0 else None
            return Dimension(
                low,
                high,
                "log1m" if _NEAR_ONE.search(name) and low >= 0 and high < 1 else "linear",
                integer,
            )
    return None


def default_dimension(name: str, value: int | float) -> Dimension | None:
    """Bounds for a constant that states none: a factor of about 4 each way; None = better left alone."""
    if isinstance(value, int):
        if value <= 0:
            return None  # a switch, or an offset: nothing says how far it may go
        if value >= 16 and value & (value - 1) == 0:  # a power of two stays one
            return Dimension(
                value // 4,
                value * 4,
                "choice",
                True,
                tuple(float(value * 4) / 2**k for k in range(4, -1, -1)),
            )
        return Dimension(max(1, value // 4), value * 4, "log", True)
    if 0.5 < value < 1 and _NEAR_ONE.search(name):
        return Dimension(max(0.0, 1 - (1 - value) * 4), 1 - (1 - value) / 4, "log1m")
    if value == 0:
        return Dimension(0.0, 0.02 if "COEF" in name else 0.05)
    if value < 0:
        return Dimension(value - 2 * abs(value), value + 2 * abs(value))
    if value < 1e-6:
        return None  # guards a division
    return Dimension(
        value / 4, min(1.0, value * 4) if _SHARE.search(name) and value <= 1 else value * 4, "log"
    )


def show(value: float, integer: bool = False) -> str:
    """A number as a person writes it: 3e-4, 0.99, 128."""
    if integer:
        return str(round(value))
    text = f"{value:.6g}" if value == float(f"{value:.6g}") else repr(value)
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}"
    if 0 < abs(value) < 0.005 and float(scientific := f"{value:.5e}") == value:
        mantissa, _, exponent = scientific.partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text if "." in text else text + ".0"


def rewrite(source: str, changes: Mapping[str, float]) -> tuple[str, tuple[Edit, ...]]:
    """`source` with constants set, and the exact edits that lead there."""
    known = constants(source)
    lines = lines_of(source)
    for constant in sorted((known[name] for name in changes), key=lambda c: -c.start):
        text = show(changes[constant.name], constant.dimension.integer)
        line = lines[constant.line]
        lines[constant.line] = line[: constant.start] + text + line[constant.end :]
    wanted = "".join(lines)
    return wanted, edits_between(source, wanted)
