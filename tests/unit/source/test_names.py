"""Names that make no difference: copies under other names are one program, nothing else is."""

import ast
import contextlib
import io
import random
import time

import pytest
from conftest import PROJECT

from autorl.source.checks import look
from autorl.source.names import number_names

FILES = [PROJECT / "train.py", *sorted((PROJECT / "examples" / "algorithms").glob("*.py"))]

# Every way to bind or to reach a variable; what it prints is what it does.
PROGRAM = """\
import functools
import itertools as it
import math
from typing import NamedTuple

RATE: float = 0.5  # [0.1, 1.0]
count = total = 0
items = [3, 1, 2]
x = 10


class Point(NamedTuple):
    a: int
    b: int = 2


class Base:
    x = x
    scale, *rest = 2, 3, 4
    table = [scale_ * x for scale_ in range(scale)]

    def __init__(self, value, *, power=2):
        self.value, self.power = value, power

    @property
    def squared(self):
        return self.value**self.power

    def scale_by(self, factor, offset=RATE):
        def inner(y):
            nonlocal factor
            factor += 1
            return y * factor + offset + self.x

        return inner(self.value), inner(1), factor


class Child(Base):
    def scale_by(self, factor, offset=1):
        value = super().scale_by(factor, offset)
        return value, __class__ is Child


def traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        global count
        count += 1
        return function(*args, **kwargs)

    return wrapper


@traced
def mix(first, /, second, *others, third=3, **named):
    first, second = second, first
    return first - 2 * second + sum(others) * third + len(named)


def found(value):
    match value:
        case Point(a=0, b=high):
            return "zero", high
        case {"k": key, **remaining}:
            return key, sorted(remaining)
        case [head, *tail] if (length := len(tail)) > 1:
            return head, tail, length
        case int() | float() as whole:
            return whole
        case _:
            return None


def failing(divisor):
    global total
    try:
        total += 1 / divisor
    except ZeroDivisionError as error:
        message = str(error)
        return message
    else:
        return total
    finally:
        local = divisor
        del local


def numbers(limit):
    for i in range(limit):
        received = yield i
        if received:
            break


adders = [lambda y, i=i: y + i for i in range(3)]
pairs = {k: v for k, v in zip("abc", items)} | {"y": (last := items[-1])}
grid = [[x * y for y in range(x)] for x in range(4) if (seen := x) or True]
print(RATE, x, Base.x, Base.rest, Base.table, *Point(1), *Point(a=4), pairs, last, grid, seen)
print(Base(3).squared, Base(2, power=3).squared, Base(1).scale_by(2), Child(1).scale_by(factor=2))
print(mix(1, 2), mix(1, 2, 5, 6, third=1, fourth=4), mix(1, second=9), count)
print([found(each) for each in (Point(0, 7), {"k": 1, "z": 2}, [1, 2, 3], 5, "s")])
print(failing(0), failing(4), [add(10) for add in adders], list(it.islice(numbers(9), 2)))
print(f"{x=} {total:.{count}f} {math.floor(RATE)!r}", max((a - b for a, b in [(2, 1)]), default=x))
"""


def renamed(source: str, seed: int) -> str:
    """A copy whose names are drawn: new ones, others of the file, in any order."""
    tree, rng = ast.parse(source), random.Random(seed)
    pool = [f"{rng.choice('abcxyz')}{n}" for n in range(1000)]
    rng.shuffle(pool)
    assert number_names(tree, pool.__getitem__) > 30
    return ast.unparse(tree)


def printed(source: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(source, "program", "exec"), {"__name__": "program"})
    return out.getvalue()


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_under_other_names_does_the_same_and_is_the_same_program(seed) -> None:
    copy = renamed(PROGRAM, seed)
    assert copy != renamed(PROGRAM, seed + 1)
    assert printed(copy) == printed(PROGRAM)
    assert look(copy).key == look(PROGRAM).key
    assert "measured before" in look(copy, {look(PROGRAM).key}).why


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_renamed_copy_of_a_shipped_file_is_that_file(path) -> None:
    source = path.read_text(encoding="utf-8")
    assert look(renamed(source, 1)).key == look(source).key


def test_another_variable_in_one_place_is_another_program() -> None:
    rng, source = random.Random(3), FILES[0].read_text(encoding="utf-8")
    # "_" is never read: under another name it is the same program
    places = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name) and n.id != "_"]
    names = sorted({place.id for place in places})
    lines = source.splitlines()
    for place in rng.sample(places, 40):
        other = rng.choice([name for name in names if name != place.id])
        line = lines[place.lineno - 1].encode()
        end = place.col_offset + len(place.id)
        line = line[: place.col_offset] + other.encode() + line[end:]
        changed = [*lines[: place.lineno - 1], line.decode(), *lines[place.lineno :]]
        found = look("\n".join(changed))
        assert found.why or found.key != look(source).key, (place.lineno, place.id, other)


SAME = {
    "a constant and a local": ("RATE = 1\nx = RATE\n", "SPEED = 1\ny = SPEED\n"),
    "two names exchanged everywhere": ("a = 1\nb = 2\nprint(a - b)", "b = 1\na = 2\nprint(b - a)"),
    "one name or two, in two scopes": (
        "def f(a):\n return a\ndef g(a):\n return a",
        "def f(a):\n return a\ndef h(b):\n return b",
    ),
    "a name that hides another": (
        "x = 1\nf = lambda x: x\nprint(x)",
        "x = 1\nf = lambda y: y\nprint(x)",
    ),
    "nn.Module's own methods": (
        "from torch import nn\nclass A(nn.Module):\n def get_action(self, obs):\n  return obs",
        "from torch import nn\nclass B(nn.Module):\n def get_action(me, x):\n  return x",
    ),
    "a local that hides a built-in": ("def f(max):\n return max", "def f(most):\n return most"),
    "an attribute that is asked for by a constant": (
        "a = []\nprint(getattr(a, 'sort', None))",
        "b = []\nprint(getattr(b, 'sort', None))",
    ),
}
PARTS = {  # a program that has one text at @, or another
    "order of operands": ("a = 1\nb = 2\nprint(@)", "a - b", "b - a"),
    "an outer variable or a new one": (
        "x = 1\ndef f():\n @x = 2\nf()\nprint(x)", "", "global x\n ",
    ),
    "nonlocal or global": (
        "x = 1\ndef f():\n x = 2\n def g():\n  @ x\n  x = 3\n g()\n return x", "nonlocal", "global",
    ),
    "a walrus that stays": ("y = 0\nf = lambda a: [(@ := v) for v in a] + [y]\n", "y", "z"),
    "a comprehension's first iterable is outside": ("x = [1]\nprint([@ for @ in @])", "x", "y"),
    "a class body's variable is no closure": (
        "x = 1\nclass A:\n x = 2\n def f(self):\n  return @\n", "x", "self.x",
    ),
    "x = x in a class body": ("@ = 1\nclass A:\n x = @\n", "x", "y"),
    "a parameter that is passed by name": (
        "def f(@):\n return a - b\nprint(f(b=1, a=2))", "a, b", "b, a",
    ),
    "a parameter named in a mapping": (
        "def f(@):\n return a - b\nd = {'a': 1, 'b': 2}\nprint(f(**d))", "a, b", "b, a",
    ),
    "a mapping of unknown names": (
        "import json\ndef f(@):\n return a - b\nprint(f(**json.load(open('x'))))", "a, b", "b, a",
    ),
    "what gymnasium calls by name": ("def reset(self, @, o):\n return @", "seed", "s"),
    "a method of a foreign base": (
        "import threading\nclass A(threading.Thread):\n def join(self, @):\n  return @",
        "timeout", "t",
    ),
    "a signature that is read": (
        "from scipy.optimize import minimize\nminimize(f, 0, None, lambda @: 0)",
        "intermediate_result", "x",
    ),
    "an attribute, which is pickled": (
        "class A:\n def __init__(self):\n  self.@ = 1", "mean", "half",
    ),
    "the method of the contract": ("class A:\n def @(self, mask):\n  pass", "reset", "clear"),
    "the field of a NamedTuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n @: int", "a", "b",
    ),
    "an import": ("import @ as a\nprint(a.pi)", "math", "cmath"),
    "a built-in that may be hidden": ("if 0:\n @ = min\nprint(@(1, 2))", "max", "most"),
    "a pattern that compares or binds": ("A = 1\nmatch 2:\n case @: print(A)", "1", "A"),
    "an exception's name is gone afterwards": (
        "e = 1\ntry: 1 / 0\nexcept ZeroDivisionError as @: pass\nprint(e)", "e", "f",
    ),
    "globals": ("@ = 1\nprint(globals()['A'])", "A", "B"),
    "eval": ("@ = 1\nprint(eval('A'))", "A", "B"),
    "a name made while it runs": (
        "import evaluate\n@ = 1\nprint(getattr(evaluate, 'A' + 'B'))", "A", "B",
    ),
    "the module as an object": ("import sys\n@ = 1\nprint(sys.modules['__main__'].A)", "A", "B"),
    "a function's own name": ("def @(): pass\nprint(@.__name__)", "a", "b"),
    "a name with a class's in it": (
        "class @:\n def __init__(self):\n  self.__x = 1\nprint(@()._A__x)", "A", "B",
    ),
    "everything of a module": ("from math import *\n@ = 3\nprint(pi)", "pi", "x"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_names_alone_make_no_difference(one, other) -> None:
    assert look(one).key == look(other).key


@pytest.mark.parametrize(("program", "one", "other"), PARTS.values(), ids=PARTS.keys())
def test_what_may_act_differently_is_another_program(program, one, other) -> None:
    first, second = (look(program.replace("@", text)) for text in (one, other))
    assert not first.why and not second.why
    assert first.key != second.key


def test_a_file_made_to_be_slow_is_not() -> None:
    deep = "lambda:" * 300 + "(" + "a," * 60_000 + ")"
    began = time.process_time()
    assert look(deep).why == ""
    assert time.process_time() - began < 20
