"""Fixtures: a real repository with this project and a toy train.py; a researcher and its server."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import KEY, ApiServer
from plain_git import NOBODY, git
from researching import Spending

from autorl.git.plumbing import drop_git_variables
from autorl.judge import sandbox
from autorl.system.bytecode import compile_packages

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
TOYS = HERE / "toys"
Done = subprocess.CompletedProcess[str]
# What runs longest starts first, what computes beside what waits.
LONGEST = (
    "test_faults", "test_end_to_end", "test_cheats", "test_train", "test_train_edits", "test_pool",
    "test_keyboard", "test_judge", "test_judge_endings", "test_confirm", "test_workspace_refs",
    "test_modal_app", "test_command", "test_night", "test_signals",
)  # fmt: skip

drop_git_variables()  # as the command line does: an editor's terminal may set GIT_EDITOR
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of children would compile autorl anew


def pytest_sessionstart(session: pytest.Session) -> None:
    """As the loop does at its start: runs would compile torch anew, each of them."""
    if not hasattr(session.config, "workerinput"):
        compile_packages()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first: the process that ends last decides how long the tests take."""
    place = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def python(*args: str | Path, cwd: Path = PROJECT, timeout: float = 120, **env: str) -> Done:
    """This Python with these arguments and variables; it can import autorl from any folder."""
    argv = [sys.executable, *map(str, args)]
    env = os.environ | {"PYTHONPATH": str(PROJECT)} | env
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)


def agent_loop(repo: Path, *args: str, env: dict[str, str], timeout: float = 120) -> Done:
    """agent_loop.py of a repository, to its end."""
    argv = [sys.executable, "agent_loop.py", *args]
    return subprocess.run(argv, cwd=repo, env=env, capture_output=True, text=True, timeout=timeout)


def make_repo(folder: Path, train: Path = TOYS / "train_es.py") -> Path:
    """A committed copy of the project with `train` as its train.py."""
    folder.mkdir(parents=True)
    files = "agent_loop.py evaluate.py program.md modal_app.py pyproject.toml .gitignore"
    for name in files.split():
        if (PROJECT / name).is_file():
            shutil.copy(PROJECT / name, folder / name)
    for name in ("autorl", "autorl_worlds"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(train, folder / "train.py")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Ada")
    git(folder, "config", "user.email", "ada@example.org")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a project")
    return folder


@pytest.fixture(scope="session")
def box() -> sandbox.Sandbox:
    """The sandbox of this machine; a test without one fails where CI requires it."""
    found = sandbox.probe("auto")
    if not found.confined:
        if os.environ.get("AUTORL_REQUIRE_SANDBOX") == "1":
            pytest.fail(f"a sandbox is required here: {found.why}")
        pytest.skip(found.why)
    return found


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests reaches them."""
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def autorl(repo: Path, tmp_path: Path):
    """`autorl("run", "--tag", "t", timeout=60)` runs agent_loop.py, returns the ended process."""
    env = clean_env(tmp_path)

    def call(*args: str, timeout: float = 120, **more: str) -> Done:
        return agent_loop(repo, *args, env=env | more, timeout=timeout)

    return call


@pytest.fixture
def spending(tmp_path: Path) -> Iterator[Spending]:
    spending = Spending(tmp_path / "spending")
    yield spending
    spending.close()


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def claude() -> Iterator[Callable[..., Any]]:
    """Makes researchers on a server, and closes them."""
    from autorl.proposers.claude import ClaudeProposer

    made: list[ClaudeProposer] = []

    def make(server: ApiServer | None, **more) -> ClaudeProposer:
        usual = {"api_key": KEY, "backoff_seconds": 0.01, "backoff_cap_seconds": 0.05}
        made.append(ClaudeProposer(**{"base_url": server and server.url, **usual, **more}))
        return made[-1]

    yield make
    for researcher in made:
        researcher.close()


@pytest.fixture(scope="module")
def forge():
    """Starts the command line in processes of its own, without their start-up time."""
    from forge import Forge

    forge = Forge()
    yield forge
    forge.close()


def clean_env(tmp_path: Path) -> dict[str, str]:
    """The environment without keys or autoRL's variables; slots are private to the test."""
    dropped, kept = ("AUTORL_", "ANTHROPIC_", "GIT_"), "AUTORL_REQUIRE_SANDBOX"
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped) or k == kept}
    return env | {"AUTORL_HOME": str(tmp_path / "autorl-home"), "PYTHONDONTWRITEBYTECODE": "1"}
