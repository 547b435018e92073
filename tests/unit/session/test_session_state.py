"""autorl/session/: a session is a fold over its log, whoever records; what cannot be continued is
refused.

Real repositories, a real loop with scripted runs.
"""

import math
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Fake
from typing import Any

import msgspec
import pytest
from plain_git import git, new_repository

from autorl import decision
from autorl.errors import Paused, UserError
from autorl.loop import Loop
from autorl.loop.budget import SpendLimit
from autorl.records import Edit, Proposal, RunRecord, Verdict
from autorl.runners.scripted import ScriptedRunner
from autorl.session import (
    Bounds,
    Session,
    SessionState,
    Settings,
    fold,
    open_session,
    read_state,
)
from autorl.session import events as e
from autorl.session.event_log import Follower, encode
from autorl.session.inbox import Inbox
from autorl.session.state import CONFIRM_SEEDS, seed_for

ROOT = Path(__file__).resolve().parents[3]
FIRST = e.Created(
    env_id="Toy-v0", tag="t", settings={}, root_seed=5, base="", baseline=e.Baseline("", "")
)
SETTINGS = Settings("Pendulum-v1", 5.0, 3, "off", "scripted")


def attempt(n: int, parent: int | None, **more: Any) -> e.Attempted:
    return e.Attempted(n=n, parent=parent, source="", title="idea", key=str(n), **more)


def run(n: int, of: int, index: int, score: float | None, status: Any = "ok", **more: Any):
    """The two events of a run: its start, and its end unless `status` is empty."""
    purpose, steady = more.get("purpose", "candidate"), more.get("steady", True)
    yield e.RunStarted(run=n, attempt=of, purpose=purpose, kind="measure", seed_index=index,
        seed=index, epoch=0, folder="f")  # fmt: skip
    if status:
        record = RunRecord(status, avg_return=score, total_seconds=2.0)
        yield e.RunEnded(run=n, record=record, steady=steady)


def decided(n: int, outcome: Any, **more: Any) -> e.Decided:
    return e.Decided(verdict=Verdict(n, outcome, f"{outcome}.", **more))


def after(*events: e.Event) -> SessionState:
    state = SessionState()
    for seq, event in enumerate((FIRST, attempt(0, None), *events)):
        state.apply(msgspec.structs.replace(event, seq=seq))
    return state


# -- the fold --------------------------------------------------------------------------------------


def test_a_row_is_the_mean_and_standard_error_of_counted_runs():
    state = after(*run(1, 0, 0, 10.0), *run(2, 0, 1, 14.0), *run(3, 0, 2, 99.0, steady=False))
    row = state.row(state.attempts[0])
    assert row.avg_return == 12.0 and row.runs == 2
    assert row.stderr == pytest.approx(math.sqrt((4 + 4) / 1 / 2))  # sample variance 8, over 2 runs


def test_a_crash_has_no_score_even_if_another_replicate_had_one():
    runs = (*run(1, 1, 0, 500.0), *run(2, 1, 1, None, "crash"))
    state = after(attempt(1, 0), *runs, decided(1, "crash"))
    row = state.row(state.attempts[1])
    assert row.avg_return is None and row.status == "crash"


def test_a_result_that_arrives_twice_counts_once():
    again = e.RunEnded(run=1, record=RunRecord("ok", avg_return=777.0))
    state = after(*run(1, 0, 0, 10.0), again)
    assert state.row(state.attempts[0]).avg_return == 10.0


def test_an_interrupted_run_gives_its_seed_back_and_a_counted_one_does_not():
    state = after(*run(1, 0, 0, 10.0), *run(2, 0, 1, None, "interrupted"))
    assert state.next_seed_index() == 1 and state.pending() == []
    for event in run(3, 0, 1, None, ""):
        state.apply(event)
    assert state.next_seed_index() == 2  # taken by the run under way
    assert [r.run for r in state.pending()] == [3]


def test_confirmation_seeds_are_never_a_decisions():
    state = after(*run(1, 0, 0, 1.0), *run(2, 0, CONFIRM_SEEDS, 50.0, purpose="confirm 0"))
    assert state.next_seed_index(CONFIRM_SEEDS) == CONFIRM_SEEDS + 1
    assert state.row(state.attempts[0]).avg_return == 1.0  # the claim's runs are not the search's


def test_seeds_differ_and_fit_31_bits():
    seeds = {seed_for(5, i) for i in range(1000)} | {seed_for(6, i) for i in range(1000)}
    assert len(seeds) == 2000 and all(0 <= s < 2**31 for s in seeds)


def test_a_taken_back_keep_says_so_and_why_it_was_kept_and_a_claim_marks_its_champion():
    keeps = (attempt(1, 0), attempt(2, 1), decided(1, "keep"), decided(2, "keep"))
    claim = e.Claimed(claim={"champion": 1, "claim": {"shown": True}})
    assert [row.state for row in after(*keeps, claim).rows()] == ["shown", ""]
    back = decided(2, "taken back", incumbent=0, taken_back=(1, 2))
    rows = after(*keeps, back).rows()
    assert [(row.status, row.state) for row in rows] == [("keep", "taken back")] * 2
    assert [row.reason for row in rows] == ["taken back. Before: keep."] * 2


def test_superseded_ideas_wait_until_they_are_made_again_or_refused():
    state = after(
        *(attempt(n, 0) for n in (1, 2, 3)), *(decided(n, "superseded") for n in (1, 2, 3))
    )
    state.apply(attempt(4, 0, retry_of=(1,), seq=20))
    state.apply(e.Refused(title="", reason="", proposer="", retry_of=(3,), seq=21))
    assert [a.n for a in state.waiting_retries(4)] == [2]
    assert [r.seq for r in state.recent_refusals()] == [21]
    state.apply(e.Opened(pid=1, seq=22))
    assert state.recent_refusals() == []


def test_money_is_never_under_counted(spending):
    budget, state = SpendLimit(spending.session, 1.0), spending.state
    first = budget.reserve(0.6, "a call")
    assert state.spent() == 0.6  # the worst case counts until it is settled
    with pytest.raises(Paused):
        budget.reserve(0.5, "one too many")
    budget.settle(first, 0.1, {})
    assert state.spent() == pytest.approx(0.1)
    budget.reserve(0.5, "now it fits")


def test_the_inbox_gives_proposals_back_oldest_first(tmp_path):
    inbox = Inbox(tmp_path / "inbox")
    assert inbox.waiting() == []
    first = inbox.leave(Proposal("one", source="x = 1\n"))
    second = inbox.leave(Proposal("two", edits=(Edit("a", "b"),)))
    assert [(t, p.title) for t, p in inbox.waiting()] == [(first, "one"), (second, "two")]
    assert inbox.waiting()[1][1].edits == (Edit("a", "b"),)
    inbox.drop(first)
    assert [t for t, _ in inbox.waiting()] == [second]


# -- recording -------------------------------------------------------------------------------------


def research(session: Session, *scores: float, confirm_runs: int = 0) -> int:
    """A loop to its end, with an idea for each score and a console that nobody looks at."""
    sources = (f'SCRIPT = {{"return": {score}, "noise": 1.0}}\n' for score in scores)
    ideas = iter([Proposal(f"idea {n}", source=source) for n, source in enumerate(sources, 1)])
    researcher = Fake(name="ideas", propose=lambda history, budget: next(ideas, None))
    console = Fake(say=lambda text: None, progress=lambda runs, waiting: None)
    bounds = Bounds(confirm_runs=confirm_runs)
    return Loop(session, researcher, ScriptedRunner(), bounds, console).run()


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> tuple[Path, Session, list[e.Event]]:
    """A repository, the closed session in it, and the events that its observers were told."""
    root = new_repository(tmp_path_factory.mktemp("worked") / "repo")
    shutil.copy(ROOT / "evaluate.py", root)
    (root / "train.py").write_text('SCRIPT = {"return": 10.0, "noise": 1.0}\n')
    git(root, "commit", "-qam", "a project")
    session, told = open_session(root, "t", SETTINGS, seed=1), []
    session.observers.append(told.append)
    assert research(session, 30.0, -5.0, confirm_runs=2) == 0
    session.close()
    return root, session, told


@pytest.fixture
def copy(worked, tmp_path) -> Path:
    """A copy of that repository."""
    return shutil.copytree(worked[0], tmp_path / "repo", symlinks=True)


def journal(root: Path) -> Path:
    return root / "results" / "Pendulum-v1" / "t" / "journal.jsonl"


def rewrite(root: Path, change: Callable[[e.Event], e.Event]) -> bytes:
    """Make it the log of other events, each with a right checksum; returns what it was."""
    path = journal(root)
    before = path.read_bytes()
    path.write_bytes(b"".join(encode(change(event)) for event in Follower(path).new()))
    return before


def changed(event: e.Event, kind: type, number: int | None = None, **more: Any) -> e.Event:
    """The event with other fields if it is of this kind and about this run or attempt."""
    about = event.verdict.attempt if isinstance(event, e.Decided) else getattr(event, "run", None)
    meant = isinstance(event, kind) and number in (None, about)
    return msgspec.structs.replace(event, **more) if meant else event


def test_what_was_recorded_is_a_fold_over_the_log(worked, copy):
    _, session, told = worked
    events = Follower(journal(copy)).new()
    assert told == events[1:] and len(session.decided) == 3 and len(session.state.claims) == 1
    assert fold(events) == session.state == read_state(journal(copy))
    again = open_session(copy, "t", Settings(sandbox="bwrap"))
    assert again.state == session.state and again.decided == session.decided
    assert again.decision == session.decision
    assert again.settings == replace(SETTINGS, sandbox="bwrap")
    runs = len(session.state.runs)
    assert again.recovered == f"continuing t: 2 experiments and {runs} runs so far"
    again.close()


def test_what_the_disk_cannot_say_is_known_as_it_is_written(spending):
    session = spending.session
    session.record(attempt(0, None))
    for event in run(1, 0, 0, math.nan):
        session.record(event)
    session.record(attempt(1, 0, hypothesis="\ud800"))
    session.record(e.Claimed(claim={"cores": (1, 2), "p": math.inf}))
    assert session.state == read_state(session.log.path)
    assert session.state.claim == {"cores": [1, 2], "p": None}
    known, count = read_state(session.log.path), session.log.count
    session.log.path.rename(session.folder / "moved")
    with pytest.raises(Paused):
        session.record(attempt(2, 0))
    assert session.state == known and session.log.count == count  # nothing became known


def test_the_researchers_thread_and_the_loop_record_at_once(spending):
    session, budget, refused = spending.session, SpendLimit(spending.session, 0.5), []

    def think():
        for _ in range(30):
            try:
                budget.settle(budget.reserve(2**-7, "a call"), 2**-7, {})
            except Paused:
                refused.append(1)

    threads = [threading.Thread(target=think) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(100):
        session.record(attempt(n, None if n == 0 else 0))
    for thread in threads:
        thread.join()
    events = Follower(session.log.path).new()
    assert [event.seq for event in events] == list(range(session.log.count))
    assert fold(events) == session.state and len(session.decision.arms) == 100
    assert len(refused) == 4 * 30 - 64 and session.state.spent() == 0.5  # 64 / 128 dollars


def test_what_people_read_is_on_the_disk_and_not_in_memory(spending):
    spending.session.record(e.Note(event="n", detail=""))
    tracemalloc.start()
    for _ in range(200):
        spending.session.record(e.Note(event="n", detail="x" * 10_000))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 100_000 and len(spending.notes) == 201  # 2 MB were written


# -- opening ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "rules", "cure"),
    [
        (1, decision.VERSION, "restore journal.jsonl from a copy"),
        (3, decision.VERSION, "restore journal.jsonl from a copy"),
        (2, 1, "continue it with autoRL 0.1.9, whose rules have version 1"),
    ],
)
def test_a_verdict_that_does_not_follow_is_refused_by_its_number(copy, number, rules, cure):
    first = {"rules": rules, "autorl": "0.1.9"}
    before = rewrite(copy, lambda event: changed(event, e.Created, **first))
    open_session(copy, "t", SETTINGS).close()  # rules that reach the same verdicts go on
    verdict = replace(read_state(journal(copy)).verdicts[number - 1], outcome="crash")
    rewrite(copy, lambda event: changed(event, e.Decided, verdict.attempt, verdict=verdict))
    said = rf"^Verdict {number} of the session 't' \(crash, experiment .* does not follow .*{cure}"
    with pytest.raises(UserError, match=said):
        open_session(copy, "t", SETTINGS)
    journal(copy).write_bytes(before)
    open_session(copy, "t", SETTINGS).close()  # the lock was let go


def test_a_score_that_was_changed_is_refused_at_the_verdict_it_led_to(copy):
    state = read_state(journal(copy))
    record = replace(state.runs_of(1)[0].record, avg_return=99.0)
    rewrite(copy, lambda event: changed(event, e.RunEnded, state.runs_of(1)[0].run, record=record))
    with pytest.raises(
        UserError, match=r"^Verdict 2 of .*\(keep, experiment 1\) .* reach keep there"
    ):
        open_session(copy, "t", SETTINGS)


def test_a_second_session_of_a_tag_and_another_evaluate_py_are_refused(copy):
    with pytest.raises(UserError, match="leave out --new"):
        open_session(copy, "t", SETTINGS, new=True)
    (copy / "evaluate.py").write_text("TIME_BUDGET = 1\n")
    git(copy, "commit", "-qam", "another evaluate.py")
    with pytest.raises(UserError, match=r"evaluate\.py or autorl_worlds has changed"):
        open_session(copy, "t", SETTINGS)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"hardware": "a 486"}, "continued on other hardware (a 486 before)"),
        ({"versions": {"torch": "0.4.1"}}, "continued with other packages ("),
        ({}, ""),
    ],
)
def test_other_hardware_or_packages_begin_an_epoch_and_calibrate_again(copy, other, why):
    rewrite(copy, lambda event: changed(event, e.Created, **other))
    session = open_session(copy, "t", SETTINGS)
    old, packages = len(session.state.runs), session.state.versions
    assert research(session, -5.5) == 0
    session.close()
    began = [x for x in Follower(journal(copy)).new() if isinstance(x, e.EpochBegan)]
    runs = [run for run in session.state.runs.values() if run.run > old]
    assert {r.epoch for r in runs} == {len(began)} and len(began) == bool(why)
    assert any(r.attempt == 1 and r.purpose == "calibrate" for r in runs) == bool(why)
    for epoch in began:
        assert epoch.epoch == 1 and epoch.why.startswith(why)
        assert ("torch 0.4.1 -> " in epoch.why) == (packages == {"torch": "0.4.1"})
        assert (session.state.hardware, session.state.versions) == (epoch.hardware, epoch.versions)
    open_session(copy, "t", SETTINGS).close()  # the verdicts of both epochs follow
