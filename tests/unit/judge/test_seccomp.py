"""The system-call filters of both machines, through an interpreter: the answer to each call."""

import struct
from pathlib import Path

import pytest
from system_calls import ARCH, KILL, NUMBERS, SERVING, WANTED

from autorl.judge import sandbox


def run(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """What a filter returns; its input is struct seccomp_data, its machine classic BPF."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    steps = list(struct.iter_unpack("<HBBI", program))
    a = at = 0
    while True:
        code, then, otherwise, k = steps[at]
        at += 1
        if code == 0x20:  # LD | W | ABS
            (a,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:  # ALU | AND | K
            a &= k
        elif code == 0x05:  # JMP | JA
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):  # JMP | JEQ, JGT, JGE, JSET | K
            holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[code]
            at += then if holds else otherwise
        elif code == 0x06:  # RET | K
            return k
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


@pytest.mark.parametrize("machine", ARCH)
@pytest.mark.parametrize(("kind", "wanted"), [("", WANTED), (".serve", SERVING)])
def test_each_call_is_answered_as_the_table_says(machine: str, kind: str, wanted: list) -> None:
    program = (sandbox.FILTERS / f"{machine}{kind}.bpf").read_bytes()
    column, wrong = list(ARCH).index(machine), []
    for name, arguments, answer in wanted:
        if (number := NUMBERS[name][column]) is not None:
            got = run(program, number, ARCH[machine], arguments)
            if got != answer:
                wrong.append((name, arguments, hex(got)))
    assert wrong == []


@pytest.mark.parametrize("machine", ARCH)
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    program = (sandbox.FILTERS / f"{machine}.bpf").read_bytes()
    assert run(program, 26, 0x40000003) == KILL  # ptrace of 32-bit x86, by int 0x80
    if machine == "x86_64":
        assert run(program, 0x40000000 | 521, ARCH[machine]) == KILL  # ptrace of x32


def test_the_filters_are_those_of_the_script_beside_them() -> None:
    """Every call of its lists is in a test's table."""
    text = Path(sandbox.FILTERS / "make.py").read_text(encoding="utf-8")
    lists = text.partition("CALLS = {")[2].partition("def write")[0]
    quoted = {part for part in lists.split('"')[1::2] if part.isidentifier()}
    assert quoted and quoted <= {name for name, _, _ in WANTED + SERVING}
