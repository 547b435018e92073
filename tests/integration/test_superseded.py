"""Ideas that a keep superseded are made again on top of it: together where they fit, else alone."""

from pathlib import Path
from typing import Any

import pytest
from ground import ENV_ID, EPISODES, Site
from unreliable import Quiet

from autorl.loop import Loop
from autorl.proposers.replay import Replay
from autorl.records import Job, RunRecord
from autorl.runners.base import Runs
from autorl.session import Attempt, Bounds, SessionState, Settings, open_session

BASELINE = "A = 0\nB = 0\nC = 0\n"
WORTH = {"A": 14.0, "B": 9.0, "C": 11.0}
PLACES = 3


class Side(Runs):
    """A runner whose runs end together, in the order in which they were started.

    A run scores 100 and what its lines are worth; the baseline's differ by up to 8.
    """

    name, invents_scores = "side by side", True

    def __init__(self, apart: bool):
        super().__init__(PLACES)
        self.apart = apart  # B and C crash together
        self.jobs: dict[str, Job] = {}
        self.polls = 0

    def start(self, job: Job, folder: Path) -> str:
        handle = f"run {len(self.jobs) + self.polls}"
        self.jobs[handle], self.polls = job, self.polls + 1
        return handle

    def poll(self, handle: str) -> RunRecord | None:
        self.polls += 1
        job = self.jobs[handle]
        if not getattr(self, "ending", None):
            if len(self.jobs) < PLACES and self.polls % 30:
                return None
            self.ending = set(self.jobs)
        if handle not in self.ending:
            return None
        self.ending.discard(handle)
        del self.jobs[handle]
        lines = job.train_source.splitlines()
        on = {name for name in WORTH if f"{name} = 1" in lines}
        if self.apart and on >= {"B", "C"}:
            return RunRecord("crash", reason="B and C do not go together")
        score = 100.0 + sum(WORTH[name] for name in on) + (2 * (job.seed % 9) - 8 if not on else 0)
        told: dict[str, Any] = {"avg_return": score, "returns": (score,) * EPISODES}
        if job.kind != "measure":
            told["control"] = {"actions": [0.0, 1.0], "updates": [1, 1], "avg_return": -1500.0}
        return RunRecord("ok", env_id=job.env_id, seed=job.seed, **told)

    def cancel(self, handle: str) -> None:
        pass


def researched(folder: Path, edits: dict[str, str], apart: bool = False) -> SessionState:
    """Three ideas at once, each one replacement of a line; the first is kept."""
    ideas = [
        {"title": name, "edits": [{"search": f"{old}\n", "replace": f"{new}\n"}]}
        for name, (old, new) in zip("ABC", edits.items(), strict=True)
    ]
    site = Site.new(folder / "a session", ideas, BASELINE)
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", runner="scripted", slots=PLACES)
    session, screen = open_session(site.repo, site.tag, settings, seed=1), Quiet()
    bounds = Bounds(experiments=9, confirm_runs=0)
    try:
        Loop(session, Replay(site.ideas), Side(apart), bounds, screen).run()
    finally:
        session.close()
    return site.state()


def second(state: SessionState) -> list[Attempt]:
    """The attempts that make superseded ideas again."""
    assert [a.title for a in state.attempts.values() if a.n and not a.retry_of] == ["A", "B", "C"]
    assert [state.attempts[n].outcome for n in (1, 2, 3)] == ["keep", "superseded", "superseded"]
    return [a for a in state.attempts.values() if a.retry_of]


@pytest.fixture
def fitting() -> dict[str, str]:
    """Each idea a line of its own."""
    return {"A = 0": "A = 1", "B = 0": "B = 1", "C = 0": "C = 1"}


def test_superseded_ideas_that_fit_are_made_again_in_one_attempt(
    tmp_path: Path, fitting: dict[str, str]
) -> None:
    state = researched(tmp_path, fitting)
    (both,) = second(state)
    assert (both.retry_of, both.title, both.parent) == ((2, 3), "B + C", 1)
    assert both.source == "A = 1\nB = 1\nC = 1\n"
    assert both.verdict is not None
    assert both.verdict.outcome == "keep"
    assert state.tip == both.commit


def test_ideas_that_do_not_fit_together_are_made_again_one_by_one(tmp_path: Path) -> None:
    edits = {"A = 0": "A = 1", "B = 0": "B = 1", "B = 0\nC = 0": "B = 0\nC = 1"}
    state = researched(tmp_path, edits)
    one, other, *_ = second(state)
    assert (one.retry_of, one.source) == ((2,), "A = 1\nB = 1\nC = 0\n")
    assert (other.retry_of, other.source) == ((3,), "A = 1\nB = 0\nC = 1\n")


def test_an_idea_that_does_not_fit_any_more_is_weighed_as_it_is(tmp_path: Path) -> None:
    edits = {"A = 0": "A = 1", "A = 0\nB = 0": "A = 0\nB = 1", "C = 0": "C = 1"}
    state = researched(tmp_path, edits)
    whole, fits, *_ = second(state)
    assert (whole.retry_of, whole.parent) == ((2,), 1)
    assert whole.source == state.attempts[2].source == "A = 0\nB = 1\nC = 0\n"
    assert (state.row(whole).runs, state.row(whole).avg_return) == (1, 100 + WORTH["B"])
    assert fits.source == "A = 1\nB = 0\nC = 1\n" and state.tip == fits.commit
    assert not state.refusals


def test_ideas_that_crash_together_are_made_again_alone(
    tmp_path: Path, fitting: dict[str, str]
) -> None:
    state = researched(tmp_path, fitting, apart=True)
    both, *alone = second(state)
    assert both.verdict is not None
    assert both.verdict.outcome == "crash"
    assert [a.retry_of for a in alone] == [(2,), (3,)]
    assert alone[0].verdict is not None
    assert alone[0].verdict.outcome == "keep"
