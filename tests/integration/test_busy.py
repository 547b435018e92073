"""A machine that others use: what is repeated, what counts, and what a claim says of it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ground import ENV_ID, EPISODES, Site
from unreliable import Quiet

from autorl.errors import Paused
from autorl.loop import Loop
from autorl.proposers.replay import Replay
from autorl.records import Job, MachineShare, RunRecord
from autorl.runners.base import Runs
from autorl.session import Bounds, SessionState, Settings, open_session

Answer = Callable[
    [str, int], tuple[float | None, float]
]  # (file, its run) -> score or late, share; below 0: the machine slept


class Shared(Runs):
    """A runner whose runs end at once, with the scores and shares of the machine it is told."""

    name, invents_scores = "shared", True

    def __init__(self, answer: Answer):
        super().__init__()
        self.answer, self.count, self.jobs = answer, Counter[str](), dict[str, Job]()

    def start(self, job: Job, folder: Path) -> str:
        self.jobs[str(folder)] = job
        return str(folder)

    def poll(self, handle: str) -> RunRecord | None:
        job = self.jobs.pop(handle)
        file = job.train_source.strip()[-1]
        told: dict[str, Any] = {}
        score: float | None
        if job.kind != "measure":
            told["control"] = {"actions": [0.0, 1.0], "updates": [1, 1], "avg_return": -1500.0}
            score, share = -1500.0, 1.0
        else:
            self.count[file] += 1
            score, share = self.answer(file, self.count[file])
        slept = 7200.0 if share < 0 else 0.0
        machine = MachineShare(cpu_share=abs(share), suspended_seconds=slept)
        if score is None:
            return RunRecord("crash", "late", "Not done in time.", machine=machine)
        told |= {"avg_return": score, "returns": (score,) * EPISODES, "machine": machine}
        return RunRecord("ok", env_id=job.env_id, seed=job.seed, **told)

    def cancel(self, handle: str) -> None:
        pass


class Lines(Quiet):
    """Everything that was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def researched(folder: Path, answer: Answer, confirm: int = 0) -> tuple[SessionState, list[str]]:
    """The ideas 1 and 2 for a file that says 0."""
    ideas = [{"title": k, "edits": [{"search": "A = 0", "replace": f"A = {k}"}]} for k in "12"]
    site = Site.new(folder / "a session", ideas, "A = 0\n")
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", runner="scripted")
    session, screen = open_session(site.repo, site.tag, settings, seed=1), Lines()
    bounds = Bounds(experiments=2, confirm_runs=confirm)
    try:
        Loop(session, Replay(site.ideas), Shared(answer), bounds, screen).run()
    finally:
        session.close()
    return site.state(), screen.said


def test_late_on_a_starved_machine_is_no_crash_until_the_third_time(tmp_path: Path) -> None:
    def answer(file: str, k: int) -> tuple[float | None, float]:
        if file == "1" or (file == "0" and k == 1):  # the very first run has no peers
            return None, 0.3
        return 100.0 + 3 * (k % 3), 1.0

    state, _ = researched(tmp_path, answer)
    assert [a.outcome for a in state.attempts.values()] == ["baseline", "crash", "discard"]
    ends = [(r.attempt, r.record.rule) for r in state.runs.values() if r.record and r.record.rule]
    assert ends == [(0, "starved"), (1, "starved"), (1, "starved"), (1, "late")]
    assert "30 % of its cores" in state.row(state.attempts[1]).reason


def test_the_baseline_is_not_blamed_for_a_busy_machine_and_then_it_pauses(tmp_path: Path) -> None:
    state, _ = researched(
        tmp_path / "five", lambda file, k: (None, 0.22) if k < 6 and file == "0" else (100.0, 1.0)
    )
    assert state.attempts[0].outcome == "baseline"
    ends = [r.record.rule for r in state.runs.values() if r.record and r.attempt == 0]
    assert ends[:6] == ["starved"] * 5 + [""]
    with pytest.raises(Paused, match="too busy to measure on: 6 runs of the baseline") as pause:
        researched(tmp_path / "always", lambda file, k: (None, 0.22))
    assert "22 % of its cores" in str(pause.value) and "--cores" in str(pause.value)


def test_a_run_during_which_the_machine_slept_has_no_score_and_is_repeated(tmp_path: Path) -> None:
    def answer(file: str, k: int) -> tuple[float | None, float]:
        return 100.0 + 3 * (k % 3), -1.0 if file == "1" and k == 1 else 1.0

    state, _ = researched(tmp_path, answer)
    slept, again = [r for r in state.runs.values() if r.attempt == 1][:2]
    assert slept.record is not None
    assert again.record is not None
    assert (slept.record.status, slept.record.avg_return) == ("interrupted", None)
    assert (again.seed, again.record.status) == (slept.seed, "ok")


def test_every_run_of_the_search_counts_and_the_incumbent_is_run_beside(tmp_path: Path) -> None:
    def answer(file: str, k: int) -> tuple[float | None, float]:
        return 100.0 + 3 * (k % 3), 0.3 if file == "1" or k > 4 else 1.0

    state, said = researched(tmp_path, answer)
    runs = [(r.attempt, r.purpose) for r in state.runs.values()][4:]
    assert runs[:2] == [(1, "candidate"), (0, "incumbent")]
    assert all(r.counted for r in state.runs.values())
    assert sum("got 30 % of its cores, unlike the run before it" in line for line in said) >= 1


def test_a_claim_repeats_a_run_once_and_prints_both_means(tmp_path: Path) -> None:
    def answer(file: str, k: int) -> tuple[float | None, float]:
        share = 0.5 if file == "1" and k in (5, 6) else 1.0  # of the claim's runs the first two
        return (500.0 if file == "1" else 100.0) + k - 100 * (share < 1), share

    state, said = researched(tmp_path, answer, confirm=3)
    assert state.claim is not None
    ours = [r for r in state.runs.values() if r.purpose.startswith("confirm") and r.attempt == 1]
    assert [r.steady for r in ours] == [False, True, True, True]  # the second as slow one counts
    sentence = state.claim["claim"]["sentence"]
    assert (
        "Runs repeated, which are listed and do not count: 1; the mean of the champion" in sentence
    )
    assert " with them, without " in sentence
    assert [r["avg_return"] for r in state.claim["repeated"]] == [405.0]
    assert any(line.startswith("run ") and "is repeated: it got 50 %" in line for line in said)
