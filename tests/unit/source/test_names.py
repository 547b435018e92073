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
    places = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)]
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
DIFFERENT = {
    "order of operands": ("a = 1\nb = 2\nprint(a - b)", "a = 1\nb = 2\nprint(b - a)"),
    "an outer variable or a new one": (
        "x = 1\ndef f():\n x = 2\nf()\nprint(x)",
        "x = 1\ndef f():\n global x\n x = 2\nf()\nprint(x)",
    ),
    "nonlocal or global": (
        "x = 1\ndef f():\n x = 2\n def g():\n  nonlocal x\n  x = 3\n g()\n return x",
        "x = 1\ndef f():\n x = 2\n def g():\n  global x\n  x = 3\n g()\n return x",
    ),
    "a walrus that stays": (
        "y = 0\nf = lambda a: [(y := v) for v in a] + [y]\n",
        "y = 0\nf = lambda a: [(z := v) for v in a] + [y]\n",
    ),
    "a comprehension's first iterable is outside": (
        "x = [1]\nprint([x for x in x])",
        "x = [1]\nprint([y for y in y])",
    ),
    "a class body's variable is no closure": (
        "x = 1\nclass A:\n x = 2\n def f(self):\n  return x\n",
        "x = 1\nclass A:\n x = 2\n def f(self):\n  return self.x\n",
    ),
    "x = x in a class body": (
        "x = 1\nclass A:\n x = x\n",
        "y = 1\nclass A:\n x = y\n",
    ),
    "a parameter that is passed by name": (
        "def f(a, b):\n return a - b\nprint(f(b=1, a=2))",
        "def f(b, a):\n return b - a\nprint(f(b=1, a=2))",
    ),
    "a parameter named in a mapping": (
        "def f(a, b):\n return a - b\nd = {'a': 1, 'b': 2}\nprint(f(**d))",
        "def f(b, a):\n return b - a\nd = {'a': 1, 'b': 2}\nprint(f(**d))",
    ),
    "a mapping of unknown names": (
        "import json\ndef f(a, b):\n return a - b\nprint(f(**json.load(open('x'))))",
        "import json\ndef f(b, a):\n return b - a\nprint(f(**json.load(open('x'))))",
    ),
    "what gymnasium calls by name": (
        "def reset(self, seed, options):\n return seed",
        "def reset(self, s, o):\n return s",
    ),
    "a method of a foreign base": (
        "import threading\nclass A(threading.Thread):\n def join(self, timeout):\n  return timeout",
        "import threading\nclass A(threading.Thread):\n def join(self, t):\n  return t",
    ),
    "a signature that is read": (
        "from scipy.optimize import minimize\nminimize(f, 0, None, lambda intermediate_result: 0)",
        "from scipy.optimize import minimize\nminimize(f, 0, None, lambda x: 0)",
    ),
    "an attribute, which is pickled": (
        "class A:\n def __init__(self):\n  self.mean = 1",
        "class A:\n def __init__(self):\n  self.half = 1",
    ),
    "the method of the contract": (
        "class A:\n def reset(self, mask):\n  pass",
        "class A:\n def clear(self, mask):\n  pass",
    ),
    "the field of a NamedTuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n a: int",
        "from typing import NamedTuple\nclass P(NamedTuple):\n b: int",
    ),
    "an import": ("import math as a\nprint(a.pi)", "import cmath as a\nprint(a.pi)"),
    "a built-in that may be hidden": (
        "if 0:\n max = min\nprint(max(1, 2))",
        "if 0:\n most = min\nprint(most(1, 2))",
    ),
    "a pattern that compares or binds": (
        "A = 1\nmatch 2:\n case 1: print(A)",
        "A = 1\nmatch 2:\n case A: print(A)",
    ),
    "an exception's name is gone afterwards": (
        "e = 1\ntry: 1 / 0\nexcept ZeroDivisionError as e: pass\nprint(e)",
        "e = 1\ntry: 1 / 0\nexcept ZeroDivisionError as f: pass\nprint(e)",
    ),
    "globals": ("A = 1\nprint(globals()['A'])", "B = 1\nprint(globals()['A'])"),
    "eval": ("A = 1\nprint(eval('A'))", "B = 1\nprint(eval('A'))"),
    "a name made while it runs": (
        "import evaluate\nA = 1\nprint(getattr(evaluate, 'A' + 'B'))",
        "import evaluate\nB = 1\nprint(getattr(evaluate, 'A' + 'B'))",
    ),
    "the module as an object": (
        "import sys\nA = 1\nprint(sys.modules['__main__'].A)",
        "import sys\nB = 1\nprint(sys.modules['__main__'].A)",
    ),
    "a function's own name": (
        "def a(): pass\nprint(a.__name__)",
        "def b(): pass\nprint(b.__name__)",
    ),
    "a name with a class's in it": (
        "class A:\n def __init__(self):\n  self.__x = 1\nprint(A()._A__x)",
        "class B:\n def __init__(self):\n  self.__x = 1\nprint(B()._A__x)",
    ),
    "everything of a module": (
        "from math import *\npi = 3\nprint(pi)",
        "from math import *\nx = 3\nprint(pi)",
    ),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_names_alone_make_no_difference(one, other) -> None:
    assert look(one).key == look(other).key


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_may_act_differently_is_another_program(one, other) -> None:
    assert not look(one).why and not look(other).why
    assert look(one).key != look(other).key


def test_a_file_made_to_be_slow_is_not() -> None:
    deep = "lambda:" * 300 + "(" + "a," * 60_000 + ")"
    began = time.process_time()
    assert look(deep).why == ""
    assert time.process_time() - began < 20
