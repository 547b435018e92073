"""Ideas for several places: as many at once as are short, none twice, none too many."""

import time
from contextlib import closing
from pathlib import Path

from ground import ENV_ID, EPISODES, Site
from unreliable import Quiet

from autorl.interfaces import Budget
from autorl.loop import Loop
from autorl.records import Edit, History, Proposal
from autorl.runners.scripted import ScriptedRunner
from autorl.session import Bounds, SessionState, Settings, open_session
from autorl.session.event_log import Follower
from autorl.session.events import Lesson, RunEnded
from autorl.session.inbox import Inbox


class Thinker:
    """A researcher that takes a while, and then has as many ideas as are wanted, or one."""

    name = "thinker"

    def __init__(self, at_once: bool, seconds: float = 0.05):
        self.at_once, self.seconds = at_once, seconds
        self.histories: list[History] = []
        self.made = 0

    def propose(self, history: History, budget: Budget) -> Proposal | tuple[Proposal, ...]:
        time.sleep(self.seconds)
        self.histories.append(history)
        wanted = history.wanted if self.at_once else 1
        ideas = []
        for _ in range(wanted):
            k, self.made = self.made, self.made + 1
            edit = Edit('"return": 10.0', f'"return": {k / 100}')  # plainly worse
            ideas.append(Proposal(f"idea {k}", edits=(edit,), proposer=self.name))
        return tuple(ideas) if self.at_once else ideas[0]

    def close(self) -> None:
        pass


def session_of(folder: Path, thinker: Thinker, places: int, experiments: int) -> SessionState:
    baseline = 'SCRIPT = {"return": 10.0, "noise": 1.0, "seconds": 0.0, "end": "ok"}\n'
    site = Site.new(folder, [], baseline)
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", runner="scripted", slots=places)
    with closing(open_session(site.repo, site.tag, settings, seed=1)) as session:
        bounds = Bounds(experiments=experiments, confirm_runs=0)
        loop = Loop(session, thinker, ScriptedRunner(places), bounds, Quiet())
        assert loop.run() == 0
        return session.state


def test_all_places_are_filled_from_one_conversation(tmp_path: Path) -> None:
    thinker = Thinker(at_once=True)
    state = session_of(tmp_path, thinker, places=4, experiments=8)
    titles = [a.title for a in state.attempts.values() if a.n]
    assert titles == [f"idea {k}" for k in range(8)] and not state.refusals
    assert thinker.made == 8  # none is paid for in vain
    assert thinker.histories[0].wanted == 5  # four places, and one to be ready
    assert any(h.ready for h in thinker.histories[1:])  # and it is told of that one


def test_a_researcher_with_one_idea_at_a_time_still_works(tmp_path: Path) -> None:
    thinker = Thinker(at_once=False)
    state = session_of(tmp_path, thinker, places=3, experiments=6)
    assert [a.title for a in state.attempts.values() if a.n] == [f"idea {k}" for k in range(6)]


def test_with_one_place_no_idea_is_thought_of_before_its_turn(tmp_path: Path) -> None:
    thinker = Thinker(at_once=True)
    session_of(tmp_path, thinker, places=1, experiments=3)
    assert [h.wanted for h in thinker.histories] == [1, 1, 1]
    assert all(row.status != "running" for h in thinker.histories for row in h.rows)


def test_a_file_of_a_person_is_measured_on_top_of_what_was_kept_meanwhile(tmp_path: Path) -> None:
    script = 'SCRIPT = {"return": 10.0, "noise": 0.1, "seconds": 0.05, "end": "ok"}\n'
    baseline, better = script + "\nA = 0\n\nB = 0\n", script.replace("10.0", "30.0")
    site = Site.new(tmp_path, [], baseline)
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", runner="scripted", slots=1)
    session = open_session(site.repo, site.tag, settings, seed=1)
    inbox = Inbox(session.folder / "inbox")
    sources = (
        better + "\nA = 0\n\nB = 0\n",  # kept
        script + "\nA = 0\n\nB = 1\n",  # fits on top of it
        script.replace("10.0", "20.0") + "\nA = 1\n\nB = 0\n",  # does not
    )
    for k, source in enumerate(sources):
        inbox.leave(Proposal(f"idea {k}", source=source, proposer="person", base=0))
    with closing(session):
        assert Loop(session, None, ScriptedRunner(1), Bounds(confirm_runs=0), Quiet()).run() == 0
        _, first, second, third = session.state.attempts.values()
    assert first.outcome == "keep" and first.source == sources[0]
    assert second.parent == 1 and second.source == better + "\nA = 0\n\nB = 1\n"
    assert third.source == sources[2]


def test_a_free_place_takes_a_persons_idea_while_another_is_measured(tmp_path: Path) -> None:
    script = 'SCRIPT = {"return": 10.0, "noise": 0.1, "seconds": 0.05, "end": "ok"}\n'
    slow = script.replace("10.0", "0.0").replace("0.05", "4.0")  # plainly worse: one run each
    site = Site.new(tmp_path, [], script)
    settings = Settings(ENV_ID, 9.0, EPISODES, sandbox="off", runner="scripted", slots=2)
    session = open_session(site.repo, site.tag, settings, seed=1)
    inbox = Inbox(session.folder / "inbox")

    class Person(Quiet):
        def progress(self, runs: list, waiting: str) -> None:
            if not left and any("experiment 1 " in name for name, _ in runs):
                left.append(inbox.leave(ideas[1]))

    mine = {"proposer": "person", "base": 0}
    ideas = [Proposal(f"idea {k}", source=f"{slow}A = {k}\n", **mine) for k in (1, 2)]
    left: list[str] = []
    inbox.leave(ideas[0])
    with closing(session):
        loop = Loop(session, None, ScriptedRunner(2), Bounds(confirm_runs=0), Person())
        assert loop.run() == 0 and left
        journal = Follower(session.log.path).new()
    began = next(i for i, e in enumerate(journal) if getattr(e, "purpose", "") and e.attempt == 2)
    first = next(e.run for e in journal if getattr(e, "purpose", "") and e.attempt == 1)
    ended = next(i for i, e in enumerate(journal) if isinstance(e, RunEnded) and e.run == first)
    assert began < ended


def test_a_lesson_is_kept_in_the_row_it_is_about(tmp_path: Path) -> None:
    class Learner(Thinker):
        def propose(self, history: History, budget: Budget) -> Proposal:
            idea = super().propose(history, budget)
            assert isinstance(idea, Proposal)
            n = max(row.n for row in history.rows)
            return Proposal(idea.title, edits=idea.edits, lesson=f"of {n}", lesson_of=n)

    state = session_of(tmp_path, Learner(at_once=False), places=1, experiments=3)
    assert [row.lesson for row in state.rows()] == ["of 0", "of 1", "of 2", ""]
    journal = next((tmp_path / "repo/results").glob("*/*/journal.jsonl"))
    assert sum(isinstance(event, Lesson) for event in Follower(journal).new()) == 3
