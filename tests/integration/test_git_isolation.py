"""autorl/git/plumbing.py: what the caller's environment and GitPython could let in or leave behind.

Real git in temporary folders.
"""

import gc
import os
import subprocess
from pathlib import Path

import psutil
import pytest
from conftest import python
from plain_git import ROOT, git, new_repository, one_experiment, picture

from autorl.errors import UserError
from autorl.git.plumbing import Git, GitError
from autorl.git.repository import Repository

pytestmark = pytest.mark.usefixtures("as_nobody")


@pytest.fixture
def repo(tmp_path):
    return new_repository(tmp_path / "repo")


def program(code: str, *args: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, which has not imported GitPython yet."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    return python("-c", code, *args, **{"PYTHONPATH": path} | env)


ON_THE_COMMAND_LINE = """
import sys
from pathlib import Path
from autorl.cli.main import cli

@cli.command()
def probe():
    from plain_git import one_experiment
    print(one_experiment(Path(sys.argv[1])))

cli(["probe"])
"""


def test_the_command_line_frees_git_of_the_callers_variables(repo, tmp_path):
    """A loop started from inside a hook inherits GIT_DIR, GIT_INDEX_FILE and more."""
    other, ran, trap = new_repository(tmp_path / "other"), tmp_path / "ran", tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{ran}'\nexit 1\n")
    trap.chmod(0o755)
    before = picture(other)
    inherited = {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_COMMON_DIR": str(other / ".git"),
        "GIT_INDEX_FILE": str(tmp_path / "index"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "objects"),
        "GIT_NAMESPACE": "else",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "user.name",
        "GIT_CONFIG_VALUE_0": "Mallory",
        "GIT_CONFIG_KEY_1": "diff.external",
        "GIT_CONFIG_VALUE_1": str(trap),
        "GIT_CONFIG_PARAMETERS": "'user.email'='mallory@example.org'",
        "GIT_AUTHOR_DATE": "1999-01-01",
        "GIT_TEMPLATE_DIR": str(tmp_path),
        "GIT_TRACE": str(ran),
        "GIT_QUARANTINE_PATH": "x",
        "GIT_PYTHON_REFRESH": "no such mode",
        "GIT_PYTHON_TRACE": "full",
    }
    programs = ("GIT_EXTERNAL_DIFF", "GIT_ASKPASS", "GIT_PYTHON_GIT_EXECUTABLE")
    inherited |= dict.fromkeys(programs, str(trap))
    done = program(ON_THE_COMMAND_LINE, repo, **inherited)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    author = git(repo, "log", "-1", "--format=%an <%ae>", done.stdout.strip())
    assert author == "Ada Ångström <ada@example.org>"
    assert picture(other) == before and not ran.exists()
    assert not (tmp_path / "index").exists() and not (tmp_path / "objects").exists()


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_CONFIG_COUNT", "GIT_PYTHON_GIT_EXECUTABLE"])
def test_without_the_command_line_an_inherited_variable_is_refused(repo, monkeypatch, name):
    monkeypatch.setenv(name, "0")
    with pytest.raises(UserError, match=name):
        Repository(repo)


def test_who_the_user_is_may_come_from_the_environment(repo):
    git(repo, "config", "--unset", "user.name")
    done = program(ON_THE_COMMAND_LINE, repo, GIT_AUTHOR_NAME="Eve", GIT_COMMITTER_NAME="Eve")
    assert git(repo, "log", "-1", "--format=%an|%cn", done.stdout.strip()) == "Eve|Eve"


def test_gitpython_starts_nothing_before_a_repository_is_opened():
    code = "import sys, autorl.cli.main, autorl.git.repository; print('git' in sys.modules)"
    assert program(code).stdout == "False\n"


def test_a_machine_without_git_is_told_so_and_not_how_gitpython_is_configured(repo, tmp_path):
    done = program(ON_THE_COMMAND_LINE, repo, PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == "autorl: git is not installed: install it and run the same command.\n"


def test_two_hundred_operations_leave_no_process_and_no_descriptor(repo):
    workspace, me = Repository(repo), psutil.Process()
    gc.collect()  # what earlier tests left to it goes now, not meanwhile
    tip, before = None, (me.num_fds(), me.num_threads())
    for n in range(40):
        parent = tip or workspace.head()
        sha = workspace.commit(f"a = {n}\n", parent, f"Idea {n}")
        workspace.pin("demo", n, sha)
        workspace.move_branch("demo", sha, tip)
        workspace.note(sha, f"kept {n}")
        assert f"+a = {n}" in workspace.diff(parent, sha)
        tip = sha
    assert (me.num_fds(), me.num_threads()) == before and me.children(recursive=True) == []


def test_failing_commands_leave_no_process_and_no_descriptor(repo):
    plumbing, me = Git(repo), psutil.Process()
    gc.collect()
    before = me.num_fds()
    for _ in range(20):
        with pytest.raises(GitError, match="fatal: not a tree object"):
            plumbing.entries("0" * 40)
    assert me.num_fds() == before and me.children(recursive=True) == []


def test_a_repository_that_is_gone_is_not_replaced_by_the_current_folders(
    repo, tmp_path, monkeypatch
):
    """GitPython leaves the current folder to git when its own has vanished."""
    workspace, other = Repository(repo), new_repository(tmp_path / "other")
    monkeypatch.chdir(other)
    repo.rename(tmp_path / "moved")
    for deed in (
        lambda: workspace.pin("demo", 1, workspace.head()),
        lambda: workspace.branch("demo"),
        lambda: workspace.move_branch("demo", workspace.head(), None),
        lambda: workspace.note(workspace.head(), "text"),
    ):
        with pytest.raises(GitError, match="cannot change to"):
            deed()
    assert git(other, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_the_search_for_a_repository_stops_where_the_user_says(repo, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repo))
    with pytest.raises(UserError, match="not in a git repository"):
        Git(repo / "sub")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
def test_a_repository_of_another_user_is_refused(repo):
    os.chown(repo, 12345, 12345)
    with pytest.raises(
        UserError, match=r"does not trust .*`git config --global --add safe.directory"
    ):
        Repository(repo)


def test_a_worktree_of_a_repository_whose_name_is_no_utf8(tmp_path):
    main = new_repository(tmp_path / os.fsdecode(b"latin-\xfc"))
    git(main, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    sha = one_experiment(tmp_path / "linked")
    assert git(main, "rev-parse", "autoresearch/demo") == sha


def test_a_repository_whose_git_folder_lies_elsewhere(tmp_path):
    one_experiment(
        new_repository(tmp_path / "repo", f"--separate-git-dir={tmp_path / 'elsewhere'}")
    )
    assert (tmp_path / "elsewhere/refs/autorl/demo/1").is_file()
