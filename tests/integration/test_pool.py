"""Several runs at once: whatever order results come in, twice or never, each counts once and for
its own experiment.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from ground import ENV_ID, EPISODES, Site
from modal_stand_in import StandIn, StandInCall
from unreliable import BASELINE, EXPERIMENTS, PLACES, Outcome, Quiet, disturbed_session, ideas

from autorl.errors import Paused
from autorl.loop import Loop
from autorl.proposers.replay import Replay
from autorl.records import Job, RunRecord, from_json, to_json
from autorl.runners.base import Runs
from autorl.runners.scripted import read_script, scores
from autorl.session import Bounds, SessionState, Settings, open_session


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return disturbed_session(tmp_path_factory.mktemp("pool") / "a night")


def test_the_post_was_as_bad_as_it_should_be(found: Outcome) -> None:
    for kind in ("came before an earlier one", "lost", "another's, for the second time"):
        assert found.faults[kind] >= 3
    assert found.most_at_once == PLACES


def test_every_invariant_holds_after_each_sitting(found: Outcome) -> None:
    assert found.broken == []


def test_every_idea_is_decided_or_refused_with_a_reason(found: Outcome) -> None:
    titles = {row.description for row in found.rows}
    decided = sum(f"idea {k}" in titles for k in range(EXPERIMENTS))
    # five of the gains stand on the same line: what is left of them may not fit any more
    assert decided >= 24
    assert found.outcomes["keep"] >= 1
    assert found.outcomes["crash"] >= 1
    assert found.outcomes["discard"] >= 5
    best = max(row.avg_return for row in found.rows if row.avg_return is not None)
    assert best > 15.0


class Recorder(Runs):
    """A runner that only notes its jobs, and stops the loop when its places are full."""

    name = "recorder"

    def __init__(self, rented: bool, screen: Quiet):
        super().__init__(2)
        self.owns_cores, self.screen = not rented, screen
        self.jobs: list[Job] = []

    def start(self, job: Job, folder: Path) -> str:
        self.jobs.append(job)
        if len(self.jobs) == self.places and self.screen.loop is not None:
            self.screen.loop.stop("enough")
        return str(len(self.jobs))

    def poll(self, handle: str) -> RunRecord | None:
        return None

    def cancel(self, handle: str) -> None:
        pass


def places_of(rented: bool, folder: Path) -> list[tuple[tuple[int, ...], int, str]]:
    """(cores, threads, GPU) of two runs at once."""
    site, screen = Site.new(folder / "a night", ideas(), BASELINE), Quiet()
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", slots=2)
    session = open_session(site.repo, site.tag, settings, seed=1)
    runner = Recorder(rented, screen)
    try:
        screen.loop = Loop(session, Replay(site.ideas), runner, Bounds(), screen)
        assert screen.loop.run() == 130
    finally:
        session.close()
    return [(job.cores, job.threads, job.gpu) for job in runner.jobs]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two places need two cores")
def test_runs_side_by_side_get_cores_and_a_gpu_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    (one, threads, gpu), (other, _, other_gpu) = places_of(False, tmp_path)
    assert one
    assert other
    assert not set(one) & set(other)
    assert set(one) | set(other) <= os.sched_getaffinity(0)
    assert threads == len(one) and {gpu, other_gpu} == {"2", "5"}


def test_a_rented_machine_uses_all_it_has_whatever_this_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert places_of(True, tmp_path) == [((), 0, ""), ((), 0, "")]


class Crossed(Recorder):
    """Both runs go on until the loop is told to stop; then each is given the other's answer."""

    def start(self, job: Job, folder: Path) -> str:
        self.jobs.append(job)
        return str(len(self.jobs))

    def poll(self, handle: str) -> RunRecord | None:
        assert self.screen.loop is not None
        if not self.screen.loop.stopping:
            if len(self.jobs) == self.places and handle == str(self.places):
                self.screen.loop.stop("enough")
            return None
        seed = self.jobs[self.places - int(handle)].seed
        return RunRecord("ok", avg_return=99.0, returns=(99.0,), env_id=ENV_ID, seed=seed)


def test_a_stop_does_not_count_the_answer_of_another_run(tmp_path: Path) -> None:
    site, screen = Site.new(tmp_path / "a night", ideas(), BASELINE), Quiet()
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", slots=2)
    session = open_session(site.repo, site.tag, settings, seed=1)
    try:
        runner = Crossed(False, screen)
        screen.loop = Loop(session, Replay(site.ideas), runner, Bounds(), screen)
        assert screen.loop.run() == 130
    finally:
        session.close()
    records = [run.record for run in site.state().runs.values()]
    ends = [(r.status, r.rule, r.avg_return) for r in records if r]
    assert ends == [("interrupted", "lost", None)] * 2


# -- rented places: the whole loop over the stand-in for Modal -------------------------------------


CONTROL = {"actions": [0.0, 1.0], "updates": [1, 1], "avg_return": -1500.0}


class Cloud(StandIn):
    """A platform on which train.py is a script; a call is over after some questions."""

    cost = 0.01  # dollars a run

    def spawn(self, *args: Any, **kwargs: Any) -> StandInCall:
        job: Job = from_json(Job, args[0])
        returns = scores(read_script(job.train_source), job.seed, EPISODES)
        told: dict[str, Any] = {"env_id": job.env_id, "seed": job.seed, "cost_usd": self.cost}
        told |= {"returns": returns, "avg_return": sum(returns) / EPISODES, "isolation": "modal"}
        told |= {"lengths": (1,) * EPISODES, "eval_seeds": tuple(range(EPISODES))}
        told["control"] = CONTROL if job.kind != "measure" else {}
        answer = {"record": to_json(RunRecord("ok", **told)), "files": {}}
        self.script = lambda n: [*[TimeoutError()] * (3 + 5 * (n % 3)), answer]
        return super().spawn(*args, **kwargs)


class Crash(BaseException):
    """The end of a process, as far as the loop can tell."""


class Fragile(Quiet):
    """A screen that dies with its loop after some lines."""

    def say(self, text: str) -> None:
        self.left = None if self.left is None else self.left - 1
        if self.left == 0:
            raise Crash


def sitting(site: Site, cloud: Cloud, bounds: Bounds, screen: Quiet) -> SessionState:
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", runner="modal", slots=PLACES)
    session = open_session(site.repo, site.tag, settings, seed=1)
    taken = sum(a.proposer == "replay" and not a.retry_of for a in session.state.attempts.values())
    taken += sum(r.proposer == "replay" and not r.retry_of for r in session.state.refusals)
    try:
        Loop(session, Replay(site.ideas, taken), cloud.runner(PLACES), bounds, screen).run()
    except Crash:
        pass
    finally:
        session.close()
    return site.state()


def test_calls_under_way_when_the_loop_dies_are_fetched_and_not_paid_again(tmp_path: Path) -> None:
    site, cloud = Site.new(tmp_path / "a night", ideas(), BASELINE), Cloud()
    bounds = Bounds(experiments=8, confirm_runs=0, refusals=100)
    under_way = sitting(site, cloud, bounds, Fragile(12)).pending()
    assert len(under_way) >= 2 and not site.broken_invariants(ended=False)
    ledger = sitting(site, cloud, bounds, Quiet())
    assert not ledger.pending() and not site.broken_invariants()
    assert len(cloud.jobs) == len(ledger.runs)
    assert all(r.record is not None and r.record.status == "ok" for r in ledger.runs.values())


def test_the_limit_in_dollars_holds_and_what_was_paid_for_is_fetched(tmp_path: Path) -> None:
    site, cloud = Site.new(tmp_path / "a night", ideas(), BASELINE), Cloud()
    worst = cloud.runner().worst_usd(Job("", ENV_ID, 1, 5.0))
    # of four places two can be paid for at their worst
    cloud.cost, limit = 0.3 * worst, 2.5 * worst
    for _ in range(2):  # and starting again changes nothing
        with pytest.raises(Paused, match="max-usd"):
            sitting(site, cloud, Bounds(max_usd=limit, confirm_runs=0, refusals=100), Quiet())
        ledger = site.state()
        assert not ledger.pending() and not site.broken_invariants(ended=False)
        assert ledger.spent() == pytest.approx(cloud.cost * len(ledger.runs))
        assert ledger.spent() + worst > limit
        assert len(cloud.jobs) == len(ledger.runs)
