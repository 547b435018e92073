"""The static look: what is turned away before a run, what is the same program, what is simpler."""

import resource

import odd_sources
import pytest
from conftest import PROJECT, TOYS

from autorl.source.checks import CPU_SECONDS, MAX_BYTES, MAX_NUMBERS, look

GOOD = "import numpy as np\nX = 1\n\n\ndef f(a):\n    '''Doc.'''\n    return a + X  # comment\n"


@pytest.mark.parametrize(
    "path", [PROJECT / "train.py", *sorted(TOYS.glob("train*.py"))], ids=lambda p: p.name
)
def test_honest_files_pass(path) -> None:
    assert look(path.read_bytes()).why == ""


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), "byte order mark"),
        (GOOD.replace("\n", "\r\n"), "carriage returns"),
        (GOOD + "\0", "NUL"),
        (b"x = '\xff'\n", "UTF-8"),
        ("def f(:\n", "not Python"),
        ("return 1\n", "not Python"),
        ("x = 1\n" + "#" * MAX_BYTES, "bytes"),
        ("", "empty"),
        ("# only a comment\n", "empty"),
        (f"W = [{', '.join(['0.5'] * (MAX_NUMBERS + 1))}]\n", "numbers"),
        (f"W = '{'a' * 10_000}'\n", "characters"),
        (f"W = {'9' * 400}\n", "bits"),
        (
            "from gymnasium.envs.box2d.bipedal_walker import BipedalWalkerHeuristics as B\n",
            "ready-made",
        ),
        (
            "import gymnasium.envs.box2d.bipedal_walker as b\nb.BipedalWalkerHeuristics()\n",
            "ready-made",
        ),
        ("(" * 300 + ")" * 300 + "\n", "not Python"),
    ],
)
def test_one_sentence_for_each_thing_that_is_not_run(source, word) -> None:
    why = look(source).why
    assert word in why and why.endswith(".") and "\n" not in why


def test_lone_surrogate_in_a_string_is_refused_not_raised() -> None:
    assert "UTF-8" in look("x = '\ud800'\n").why


def test_same_program_in_other_clothes_is_recognised() -> None:
    dressed = (
        '"""A docstring."""\n\nimport numpy as np\n\nX   =   1\n\n\ndef f(a):\n    return (a + X)\n'
    )
    assert look(dressed).key == look(GOOD).key
    assert "measured before" in look(dressed, {look(GOOD).key}).why
    assert look(GOOD.replace("X = 1", "X = 2"), {look(GOOD).key}).why == ""


@pytest.mark.parametrize(
    "change",
    [
        ("X = 1", "X = 1.0"),
        ("a + X", "X + a"),
        ("X = 1", "X = True"),
        ("'''Doc.'''", "print('Doc.')"),
    ],
)
def test_what_may_act_differently_has_another_key(change) -> None:
    assert look(GOOD.replace(*change)).key != look(GOOD).key


def test_a_body_of_a_docstring_alone_is_pass() -> None:
    assert look("class A:\n    '''Doc.'''\n").key == look("class A:\n    pass\n").key


@pytest.mark.parametrize("name", odd_sources.KNOWN)
def test_what_hurts_a_compiler_is_looked_at_in_bounded_time(name, capfd) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = look(odd_sources.KNOWN[name])
    assert odd_sources.wrong(found) == ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < CPU_SECONDS + 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("# -*- coding: utf-7 -*-\nx = 1\n#+AAo-raise SystemExit(7)\n", "encoding"),
        ("x = 1\n# vim: set fileencoding=raw_unicode_escape\n", "encoding"),
        ("x = 1  # \x1b[2J\n", "U+001B"),
        ("x = 1\n\x0c\ny = 2\n", "Line 2"),
        ("x = 1  # \u202e1 = x\n", "U+202E"),
        ("f(" + "a" * 500 + "=1, " + "a" * 500 + "=2)\n", "not Python"),
    ],
)
def test_what_python_or_a_terminal_reads_otherwise_than_a_person_is_refused(source, word) -> None:
    why = look(source).why
    assert word in why and len(why) <= 400


def test_utf_8_may_be_named_and_a_warning_is_nobodys(capfd) -> None:
    assert look("# -*- coding: UTF-8 -*-\nx = 1\ny = x is 1  # ä\n").why == ""
    assert capfd.readouterr() == ("", "")


def test_whatever_the_bytes_the_look_ends_in_a_reason() -> None:
    """A seed of `tests/support/odd_sources.py COUNT`."""
    count, odd = odd_sources.fuzz(300, seed=1)
    assert count == 300 and odd == []
