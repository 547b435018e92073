"""The constants of a train.py: found as a person would, kept in bounds, set by exact edits."""

import itertools
import random

import pytest

from autorl.proposers.search_space import Dimension, constants, default_dimension, rewrite, show
from autorl.source.edits import apply_edits

SOURCE = '''"""Docstring with FAKE = 1 in it."""
import evaluate
LEARNING_RATE = 3e-4  # [1e-5, 1e-2] log; Adam
LR = 3e-4
NUM_EPOCHS: int = 10  # [1, 20]
GAMMA = 0.99
BATCH = 128  # {64, 128, 256}
ENT_COEF = 0.0
LOG_STD = -0.5
WIDTH = 48
SEED = 1
EPS = 1e-8
FLAG = True
TARGET_KL = 0.02  # fixed
SPARE = 0.3  # fixed: kept for the end
A = B = 3.0
PAIR = (1, 2)
TWICE = 1.0
TWICE = 2.0
GROWN = 1.0
GROWN *= 2
# fixed: CLIP, OTHER
CLIP = 0.2
lower = 5.0
def f():
    INNER = 3.0
'''


def test_constants_are_those_a_person_would_tune() -> None:
    names = "LEARNING_RATE LR NUM_EPOCHS GAMMA BATCH ENT_COEF LOG_STD WIDTH"
    assert list(constants(SOURCE)) == names.split()


def test_bounds_come_from_the_comment_else_from_name_and_value() -> None:
    found = {name: c.dimension for name, c in constants(SOURCE).items()}
    assert found["LEARNING_RATE"] == Dimension(1e-5, 1e-2, "log")
    assert found["LR"] == Dimension(3e-4 / 4, 3e-4 * 4, "log")
    assert found["NUM_EPOCHS"] == Dimension(1, 20, "linear", integer=True)
    gamma = found["GAMMA"]
    assert gamma.scale == "log1m" and (gamma.low, gamma.high) == pytest.approx((0.96, 0.9975))
    assert found["BATCH"].choices == (64, 128, 256) and found["BATCH"].integer
    assert (found["LOG_STD"].low, found["LOG_STD"].high) == (-1.5, 0.5)
    assert found["WIDTH"] == Dimension(12, 192, "log", integer=True)


@pytest.mark.parametrize(
    "comment", ["# [3, 1]", "# [a, b] log", "# [0, 1] log", "# {64}", "# []", "# [1e-5 1e-2]"]
)
def test_a_comment_that_is_no_range_falls_back_to_the_default(comment: str) -> None:
    assert constants(f"X = 0.5  {comment}\n")["X"].dimension == default_dimension("X", 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("GAMMA", 0.99), ("WIDTH", 64), ("LR", 3e-4), ("BONUS", 0.0), ("OFFSET", -2.0), ("N", 1)],
)
def test_defaults_hold_the_value_and_room_on_a_side(name: str, value: float) -> None:
    dimension = default_dimension(name, value)
    assert dimension.low <= value <= dimension.high and dimension.low < dimension.high


@pytest.mark.parametrize("value", [0, -3, 1e-8])
def test_switches_and_guards_are_left_alone(value: float) -> None:
    assert default_dimension("X", value) is None


def test_every_value_stays_within_bounds_and_survives_being_written() -> None:
    rng = random.Random(0)
    for name, constant in constants(SOURCE).items():
        low, high = constant.dimension.x_bounds
        for x in [low, high, *(rng.uniform(low, high) for _ in range(200))]:
            value = constant.dimension.to_value(x)
            assert constant.dimension.low <= value <= constant.dimension.high, name
            text = show(value, constant.dimension.integer)
            assert float(text) == value, (name, text)
            assert ("." in text or "e" in text) != constant.dimension.integer, (name, text)


def test_not_python_has_no_constants() -> None:
    assert constants("LR = = 3\n") == {} and constants("LR = 3e-4\n\x00") == {}


LOOKALIKE = (
    "ACTOR_LR = 3e-4\nLR = 3e-4\nif True:\n    LR2 = 1\n    LR = 3e-4\n\n"
    "LR3 = 3e-4 # α, [1e-5, 1e-2] log\r\nN = 8; M = 12\n"
)


@pytest.mark.parametrize(
    "source", [LOOKALIKE, LOOKALIKE * 1 + LOOKALIKE.replace("LR", "XR"), SOURCE, "A = 1.5"]
)
def test_edits_are_exact_unique_and_all_that_changes(source: str) -> None:
    known = constants(source)
    for count in range(1, min(3, len(known)) + 1):
        for names in itertools.combinations(known, count):
            changes = {n: known[n].dimension.high for n in names}
            wanted, edits = rewrite(source, changes)
            assert apply_edits(source, edits) == wanted
            values = {n: changes.get(n, c.value) for n, c in known.items()}
            assert {n: c.value for n, c in constants(wanted).items()} == values
            lines = zip(source.split("\n"), wanted.split("\n"), strict=True)
            changed = {i for i, (a, b) in enumerate(lines) if a != b}
            assert changed <= {known[n].line for n in names}
