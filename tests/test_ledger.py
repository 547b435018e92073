"""The ledger is a fold: what the journal says is what a session knows; small rooms beside it."""

import math

import pytest

from autorl.decision.pooling import is_steady
from autorl.errors import EditMiss, Paused
from autorl.loop.budget import JournalPurse
from autorl.records import Edit, MachineShare, Proposal, RunRecord, Verdict, from_json, to_json
from autorl.session.inbox import Inbox
from autorl.session.state import CONFIRM_SEEDS, Ledger, seed_for
from autorl.source.edits import apply_edits, edits_between
from autorl.system.hardware import partition


def attempt(n: int, parent: int | None, title: str = "idea") -> dict:
    return {
        "type": "attempt",
        "n": n,
        "parent": parent,
        "source": f"X = {n}\n",
        "title": title,
        "key": str(n),
        "nodes": 3,
        "seq": n,
    }


def started(run: int, of: int, index: int, purpose: str = "candidate") -> dict:
    return {"type": "started", "run": run, "attempt": of, "purpose": purpose, "kind": "measure", "seed_index": index, "seed": index, "epoch": 0, "folder": "f"}  # fmt: skip


def ended(run: int, score: float | None, status: str = "ok", steady: bool = True) -> dict:
    record = RunRecord(status=status, avg_return=score, total_seconds=2.0)  # type: ignore[arg-type]
    return {"type": "run", "run": run, "record": to_json(record), "steady": steady}


def ledger(*events: dict) -> Ledger:
    one = Ledger()
    for event in ({"type": "session", "root_seed": 5, "settings": {}}, attempt(0, None), *events):
        one.fold(event)
    return one


def test_a_row_is_the_mean_and_standard_error_of_counted_runs() -> None:
    one = ledger(
        started(1, 0, 0),
        ended(1, 10.0),
        started(2, 0, 1),
        ended(2, 14.0),
        started(3, 0, 2),
        ended(3, 99.0, steady=False),
    )
    row = one.row(one.attempts[0])
    assert row.avg_return == 12.0 and row.runs == 2
    assert row.stderr == pytest.approx(math.sqrt((4 + 4) / 1 / 2))  # sample variance 8, over 2 runs


def test_a_crash_has_no_score_even_if_another_replicate_had_one() -> None:
    verdict = {"type": "verdict", "verdict": to_json(Verdict(1, "crash", "it crashed"))}
    one = ledger(
        attempt(1, 0),
        started(1, 1, 0),
        ended(1, 500.0),
        started(2, 1, 1),
        ended(2, None, "crash"),
        verdict,
    )
    row = one.row(one.attempts[1])
    assert row.avg_return is None and row.status == "crash"


def test_a_result_that_arrives_twice_counts_once() -> None:
    one = ledger(started(1, 0, 0), ended(1, 10.0), ended(1, 777.0))
    assert one.row(one.attempts[0]).avg_return == 10.0


def test_an_interrupted_run_gives_its_seed_back_and_a_counted_one_does_not() -> None:
    one = ledger(started(1, 0, 0), ended(1, 10.0), started(2, 0, 1), ended(2, None, "interrupted"))
    assert one.next_seed_index() == 1
    one.fold(started(3, 0, 1))
    assert one.next_seed_index() == 2  # taken by the run under way


def test_confirmation_seeds_are_never_a_decisions() -> None:
    one = ledger(
        started(1, 0, 0), ended(1, 1.0), started(2, 0, CONFIRM_SEEDS, "confirm 0"), ended(2, 50.0)
    )
    assert one.next_seed_index(CONFIRM_SEEDS) == CONFIRM_SEEDS + 1
    assert one.row(one.attempts[0]).avg_return == 1.0  # the claim's runs are not the search's


def test_seeds_differ_and_fit_31_bits() -> None:
    seeds = {seed_for(5, i) for i in range(1000)} | {seed_for(6, i) for i in range(1000)}
    assert len(seeds) == 2000 and all(0 <= s < 2**31 for s in seeds)


def test_an_undone_keep_says_so_and_a_certified_one_certifies_its_ancestors() -> None:
    keep = [{"type": "verdict", "verdict": to_json(Verdict(n, "keep", ""))} for n in (1, 2)]
    one = ledger(
        attempt(1, 0),
        attempt(2, 1),
        *keep,
        {"type": "verdict", "verdict": to_json(Verdict(2, "certified", ""))},
    )
    assert [a.state for a in one.attempts.values()][1:] == ["certified", "certified"]
    one = ledger(
        attempt(1, 0),
        attempt(2, 1),
        *keep,
        {"type": "verdict", "verdict": to_json(Verdict(2, "undone", "", undone=(1, 2)))},
    )
    assert [a.state for a in one.attempts.values()][1:] == ["undone", "undone"]


def test_money_is_never_under_counted() -> None:
    one = ledger()

    def record(kind: str, **fields: object) -> None:
        one.fold({"type": kind, **fields})

    purse = JournalPurse(record, one, max_usd=1.0)
    first = purse.reserve(0.6, "a call")
    assert one.spent() == 0.6  # the worst case counts until it is settled
    with pytest.raises(Paused):
        purse.reserve(0.5, "one too many")
    purse.settle(first, 0.1, {})
    assert one.spent() == pytest.approx(0.1)
    purse.reserve(0.5, "now it fits")


def test_partition_is_disjoint_and_covers_the_cores() -> None:
    groups = partition((0, 1, 2, 3, 4), 2)
    assert groups == [(0, 1, 2), (3, 4)]
    assert partition((4, 6), 2) == [(4,), (6,)]


def test_a_run_with_much_less_machine_is_not_steady() -> None:
    peers = [MachineShare(cpu_share=s) for s in (0.97, 0.99, 0.98)]
    assert is_steady(MachineShare(cpu_share=0.95), peers)[0]
    assert not is_steady(MachineShare(cpu_share=0.60), peers)[0]
    assert not is_steady(MachineShare(cpu_share=0.99, suspended_seconds=7200), peers)[0]
    assert is_steady(MachineShare(cpu_share=0.5), [])[0]  # nothing to compare with yet


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
def test_edits_between_turn_one_into_the_other(old: str, new: str) -> None:
    assert apply_edits(old, edits_between(old, new)) == new


def test_edits_are_all_or_nothing_and_a_miss_quotes_the_nearest_lines() -> None:
    source = "lr = 3e-4\ngamma = 0.99\n"
    with pytest.raises(EditMiss, match=r"gamma = 0\.99"):
        apply_edits(source, (Edit("lr = 3e-4", "lr = 1e-3"), Edit("gamma = 0.9\n", "gamma = 1\n")))
    with pytest.raises(EditMiss, match="2 times"):
        apply_edits("a\na\n", (Edit("a", "b"),))
    with pytest.raises(EditMiss, match="empty"):
        apply_edits(source, (Edit("", "b"),))


def test_the_inbox_gives_proposals_back_oldest_first(tmp_path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    assert inbox.waiting() == []
    first = inbox.leave(Proposal("one", source="x = 1\n"))
    second = inbox.leave(Proposal("two", edits=(Edit("a", "b"),)))
    assert [(t, p.title) for t, p in inbox.waiting()] == [(first, "one"), (second, "two")]
    assert inbox.waiting()[1][1].edits == (Edit("a", "b"),)
    inbox.drop(first)
    assert [t for t, _ in inbox.waiting()] == [second]


def test_records_survive_json() -> None:
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
def test_only_a_finite_float_is_a_score(value) -> None:
    assert not RunRecord(status="ok", avg_return=value).scored
    assert not RunRecord(status="crash", avg_return=3.0).scored
