"""`run --demo`: a planted weakness is found, the gain shown, and the user's files left alone."""

import shutil
from pathlib import Path

import pytest
from conftest import PROJECT, git

from autorl.cli.presets import DEMO, FIRST_LINE, demo_source
from autorl.proposers.search_space import constants
from autorl.session import Settings, open_session, pick_demo
from autorl.session.events import Closed
from autorl.session.find import newest_unfinished
from autorl.source.checks import look


def test_the_file_is_short_and_its_weakness_within_reach_of_the_search() -> None:
    source, known = demo_source(), constants(demo_source())
    assert look(source).why == ""
    assert len(source.splitlines()) <= 150
    assert set(known) == {"GAMMA"}
    gamma = known["GAMMA"]
    assert gamma.value == gamma.dimension.low and gamma.dimension.high >= 0.95


def test_only_a_demonstration_goes_on_with_one(repo: Path) -> None:
    settings, head = Settings(env_id=DEMO.env_id, time_budget=1.0), git(repo, "rev-parse", "HEAD")
    session = open_session(repo, "demo", settings, demo=demo_source())
    assert git(repo, "show", f"{session.state.about.base}:train.py") == demo_source().strip()
    assert git(repo, "rev-parse", f"{session.state.about.base}^") == head
    assert newest_unfinished(repo, DEMO.env_id) is None
    assert pick_demo(repo, new=False) == ("demo", True)
    assert pick_demo(repo, new=True) == ("demo-2", False)
    session.record(Closed(why="done", finished="done"))
    session.close()
    assert pick_demo(repo, new=False) == ("demo-2", False)
    assert git(repo, "status", "--porcelain", "--untracked-files=no") == ""


@pytest.mark.alone
@pytest.mark.timeout(1200)
def test_a_demonstration_ends_with_a_gain_that_is_shown(repo: Path, autorl) -> None:
    shutil.copytree(PROJECT / "examples", repo / "examples")
    mine = (repo / "train.py").read_bytes()
    tag, done = "demo", autorl("run", "--demo", timeout=500)
    if "claim:   none; run it once more" in done.stdout:  # 19 of 20 are to show it
        tag, done = "demo-2", autorl("run", "--demo", timeout=500)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == FIRST_LINE
    assert any(line.startswith("claim:   Shown: ") for line in lines), done.stdout
    assert lines[-1].startswith("picture: ")
    assert (repo / lines[-1].split()[-1]).read_bytes().startswith(b"\x89PNG")
    assert "GAMMA = 0.5 " not in git(repo, "show", f"autoresearch/{tag}:train.py")
    assert (repo / "train.py").read_bytes() == mine
