"""Small values between rooms: records as JSON, edits of a source, shares of a machine.

Run: uv run pytest tests/unit/session/test_records.py
"""

import math

import pytest

from autorl.decision.pooling import is_steady
from autorl.errors import EditMiss
from autorl.records import Edit, MachineShare, RunRecord, from_json, to_json
from autorl.source.edits import apply_edits, edits_between
from autorl.system.hardware import partition


def test_partition_is_disjoint_and_covers_the_cores():
    groups = partition((0, 1, 2, 3, 4), 2)
    assert groups == [(0, 1, 2), (3, 4)]
    assert partition((4, 6), 2) == [(4,), (6,)]


def test_a_run_with_much_less_machine_is_not_steady():
    peers = [MachineShare(cpu_share=s) for s in (0.97, 0.99, 0.98)]
    assert is_steady(MachineShare(cpu_share=0.95), peers)[0]
    assert not is_steady(MachineShare(cpu_share=0.60), peers)[0]
    assert not is_steady(MachineShare(cpu_share=0.99, suspended_seconds=7200), peers)[0]
    assert is_steady(MachineShare(cpu_share=0.45), [])[0]  # nothing to compare with yet
    # late on a machine that was busy with something else: not the program's fault
    late, why = is_steady(MachineShare(cpu_share=0.45), [], late=True)
    assert not late and "45%" in why
    assert is_steady(MachineShare(cpu_share=0.55), [], late=True)[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\nb\nc\n", "a\nB\nc\n"),
        ("x\nx\nx\ny\nx\n", "x\nx\nz\ny\nx\nx\n"),
        ("a\n", "a\nb\nc\n"),
        ("a\nb\n", "b\n"),
        ("a = 1\nb = 1\n" * 5, "a = 1\nb = 1\n" * 2 + "a = 2\n" + "a = 1\nb = 1\n" * 3),
    ],
)
def test_edits_between_turn_one_into_the_other(old: str, new: str):
    assert apply_edits(old, edits_between(old, new)) == new


def test_edits_are_all_or_nothing_and_a_miss_quotes_the_nearest_lines():
    source = "lr = 3e-4\ngamma = 0.99\n"
    with pytest.raises(EditMiss, match=r"gamma = 0\.99"):
        apply_edits(source, (Edit("lr = 3e-4", "lr = 1e-3"), Edit("gamma = 0.9\n", "gamma = 1\n")))
    with pytest.raises(EditMiss, match="2 times"):
        apply_edits("a\na\n", (Edit("a", "b"),))
    with pytest.raises(EditMiss, match="empty"):
        apply_edits(source, (Edit("", "b"),))


def test_records_survive_json():
    record = RunRecord(
        status="ok",
        avg_return=1.5,
        returns=(1.0, 2.0),
        diagnostics={"kl": 0.1},
        machine=MachineShare(cpu_share=0.9),
    )
    assert from_json(RunRecord, to_json(record)) == record
    assert (
        to_json(RunRecord(status="ok", avg_return=math.nan))["avg_return"] is None
    )  # never NaN, never 0


@pytest.mark.parametrize("value", [True, 1, math.nan, math.inf, None, "7"])
def test_only_a_finite_float_is_a_score(value):
    assert not RunRecord(status="ok", avg_return=value).scored
    assert not RunRecord(status="crash", avg_return=3.0).scored
