"""autorl/git/repository.py: refs, notes and locks, beside a user at work, kills and full disks.

Real git in temporary folders.
"""

import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import python
from plain_git import git, new_repository, one_experiment, train_of

from autorl.errors import Paused
from autorl.git.repository import Repository

pytestmark = pytest.mark.usefixtures("as_nobody")


@pytest.fixture
def repo(tmp_path):
    return new_repository(tmp_path / "repo")


# -- refs ------------------------------------------------------------------------------------------


def test_a_pin_is_made_once_and_never_moved(repo):
    workspace = Repository(repo)
    a, b = (workspace.commit(f"a = {i}\n", workspace.head(), "Idea") for i in (1, 2))
    workspace.pin("demo", 1, a)
    workspace.pin("demo", 1, a)
    with pytest.raises(Paused, match="refs/autorl/demo/1 is"):
        workspace.pin("demo", 1, b)
    workspace.pin("demo", 10, b)
    assert workspace.pinned("demo") == {1: a, 10: b} and workspace.pinned("dem") == {}
    git(repo, "gc", "-q", "--prune=now")
    # packed, and alive
    assert workspace.pinned("demo") == {1: a, 10: b} and train_of(repo, b) == b"a = 2\n"


@pytest.mark.parametrize("deed", ["commits", "deletes", "resets"])
def test_a_branch_that_the_user_moved_is_never_forced(repo, deed):
    workspace = Repository(repo)
    base = workspace.head()
    a, b = (workspace.commit(f"a = {i}\n", base, "Idea") for i in (1, 2))
    workspace.move_branch("demo", a, None)
    mine = workspace.commit("mine = 1\n", a, "The user's own")
    ref = "refs/heads/autoresearch/demo"
    deeds = {
        "commits": ("update-ref", ref, mine),
        "deletes": ("branch", "-D", "autoresearch/demo"),
        "resets": ("branch", "-f", "autoresearch/demo", base),
    }
    git(repo, *deeds[deed])
    there = workspace.branch("demo")
    why = f"by somebody else.*put it back with `git update-ref {ref}"
    with pytest.raises(Paused, match=why):
        workspace.move_branch("demo", b, a)
    assert workspace.branch("demo") == there
    git(repo, "update-ref", ref, a)  # what the message says
    workspace.move_branch("demo", b, a)
    assert workspace.branch("demo") == b


def test_a_branch_made_by_somebody_else_is_not_taken_over(repo):
    workspace = Repository(repo)
    git(repo, "branch", "autoresearch/demo")
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    with pytest.raises(Paused, match="by somebody else"):
        workspace.move_branch("demo", sha, None)
    assert workspace.branch("demo") == workspace.head()


def test_a_move_that_was_made_before_a_kill_is_not_made_again(repo):
    workspace = Repository(repo)
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    workspace.move_branch("demo", workspace.head(), None)
    workspace.move_branch("demo", sha, workspace.head())
    workspace.move_branch("demo", sha, workspace.head())
    # back to an anchor: not a fast-forward, and right
    workspace.move_branch("demo", workspace.head(), sha)
    assert workspace.branch("demo") == workspace.head()


def test_notes_replace_and_live_beside_the_users_own(repo):
    workspace = Repository(repo)
    shas = [workspace.commit(f"a = {i}\n", workspace.head(), f"Idea {i}") for i in range(5)]
    git(repo, "notes", "--ref=autorl", "add", "-m", "by hand", shas[0])
    git(repo, "notes", "add", "-m", "the user's own", shas[1])
    for sha in shas[1:]:
        workspace.note(sha, f"first {sha}")
        workspace.note(sha, f"second {sha}\n\nwith ü🙂 and | = pipes\n")
    assert git(repo, "notes", "--ref=autorl", "show", shas[0]) == "by hand"
    newest = git(repo, "notes", "--ref=autorl", "show", shas[4])
    assert newest == f"second {shas[4]}\n\nwith ü🙂 and | = pipes"
    assert git(repo, "notes", "show", shas[1]) == "the user's own"
    tip = git(repo, "rev-parse", "refs/notes/autorl")
    workspace.note(shas[4], f"second {shas[4]}\n\nwith ü🙂 and | = pipes\n")
    assert git(repo, "rev-parse", "refs/notes/autorl") == tip  # nothing new, nothing written


def test_notes_fanned_out_by_git_are_replaced_and_not_doubled(repo):
    workspace = Repository(repo)
    shas = [workspace.commit(f"a = {i}\n", workspace.head(), "Idea") for i in range(3)]
    blob = git(repo, "hash-object", "-w", "program.md")
    inner = git(repo, "mktree", input=f"100644 blob {blob}\t{shas[0][2:]}\n")
    tree = git(repo, "mktree", input=f"040000 tree {inner}\t{shas[0][:2]}\n")
    git(repo, "update-ref", "refs/notes/autorl", git(repo, "commit-tree", tree, "-m", "notes"))
    assert git(repo, "notes", "--ref=autorl", "show", shas[0]) == "be bold"
    workspace.note(shas[0], "new")
    workspace.note(shas[1], "other")
    assert git(repo, "notes", "--ref=autorl", "show", shas[0]) == "new"
    assert len(git(repo, "notes", "--ref=autorl", "list").splitlines()) == 2


def test_two_loops_writing_notes_at_once_lose_none(repo):
    workspace = Repository(repo)
    shas = [workspace.commit(f"a = {i}\n", workspace.head(), "Idea") for i in range(8)]
    threads = [
        threading.Thread(target=lambda part=part: [Repository(repo).note(sha, sha) for sha in part])
        for part in (shas[:4], shas[4:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = git(repo, "notes", "--ref=autorl", "list").split()
    assert sorted(listed[1::2]) == sorted(shas)


def test_moving_a_ref_while_the_user_packs_refs_succeeds(repo):
    workspace = Repository(repo)
    shas = [workspace.commit(f"a = {i}\n", workspace.head(), "Idea") for i in range(20)]
    done = threading.Event()

    def pack() -> None:
        while not done.is_set():
            git(repo, "pack-refs", "--all", "--prune", check=False)

    thread = threading.Thread(target=pack)
    thread.start()
    try:
        old = None
        for n, sha in enumerate(shas):
            workspace.pin("demo", n, sha)
            workspace.move_branch("demo", sha, old)
            old = sha
    finally:
        done.set()
        thread.join()
    assert workspace.branch("demo") == shas[-1] and len(workspace.pinned("demo")) == 20


# -- stale locks -----------------------------------------------------------------------------------


def test_a_stale_lock_of_ours_is_removed_with_a_note_and_the_users_are_not(repo):
    sha = one_experiment(repo)
    workspace, dot_git = Repository(repo), repo / ".git"
    ours = ["refs/heads/autoresearch/demo", "refs/autorl/demo/2", "refs/notes/autorl"]
    theirs = ["index", "packed-refs", "HEAD", "config", "refs/heads/main"]
    theirs.append("refs/heads/autoresearch/other")
    ours, theirs = ([dot_git / f"{name}.lock" for name in names] for names in (ours, theirs))
    for path in ours + theirs:
        path.write_text("")
    said = workspace.clear_stale_locks("demo")
    assert len(said) == 3 and all("left by a git that was killed" in line for line in said)
    assert not any(path.exists() for path in ours) and all(path.exists() for path in theirs)
    for path in theirs:
        path.unlink()
    workspace.move_branch("demo", workspace.head(), sha)


def test_a_lock_that_a_living_git_still_uses_is_left_to_it(repo):
    one_experiment(repo)
    lock = repo / ".git/refs/heads/autoresearch/demo.lock"
    lock.write_text("")
    thread = threading.Timer(0.5, lock.unlink)
    thread.start()
    assert Repository(repo).clear_stale_locks("demo") == []
    thread.join()


def test_without_stale_locks_there_is_no_wait(repo):
    workspace, start = Repository(repo), time.monotonic()
    assert workspace.clear_stale_locks("demo") == [] and time.monotonic() - start < 0.5


# -- kills and disks -------------------------------------------------------------------------------

EXPERIMENT = """
import sys
from pathlib import Path
from autorl.git.repository import Repository
workspace = Repository(Path(sys.argv[1]))
workspace.clear_stale_locks("demo")
base = workspace.head()
sha = workspace.commit("a = 1\\n", base, "Idea", when="2026-01-31T02:03:04Z")
workspace.pin("demo", 1, sha)
workspace.move_branch("demo", base, None) if workspace.branch("demo") is None else None
workspace.move_branch("demo", sha, base)
workspace.note(sha, "kept")
print(sha)
"""


def child(repo: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return python("-c", EXPERIMENT, repo, **env)


def test_kill_at_every_git_effect_then_again_makes_the_same_commit_and_one_note(repo, tmp_path):
    trace = tmp_path / "trace"
    shutil.copytree(repo, tmp_path / "clean")
    sha = child(tmp_path / "clean", AUTORL_EFFECT_TRACE=str(trace)).stdout.strip()
    effects = trace.read_text().splitlines()
    assert len(effects) >= 9
    assert {line.partition(" ")[2] for line in effects} == {"git object", "ref move"}
    for n in range(1, len(effects) + 1):
        for when in ("", ":after"):
            copy = tmp_path / f"{n}{when}"
            shutil.copytree(repo, copy)
            assert child(copy, AUTORL_KILL_AT=f"{n}{when}").returncode == -signal.SIGKILL
            again = child(copy)
            assert again.stdout.strip() == sha, again.stderr
            both = git(copy, "rev-parse", "autoresearch/demo", "refs/autorl/demo/1")
            assert both.split() == [sha, sha]
            assert git(copy, "notes", "--ref=autorl", "show", sha) == "kept"
            assert git(copy, "status", "--porcelain") == ""


def test_a_git_killed_inside_its_own_work_is_recovered_from(repo):
    """A git killed while it holds a ref's lock leaves the lock; the next start removes it."""
    lock = repo / ".git/refs/heads/autoresearch/demo.lock"
    process = subprocess.Popen(
        ["git", "update-ref", "--stdin"], cwd=repo, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None
    process.stdin.write(b"start\ncreate refs/heads/autoresearch/demo HEAD\nprepare\n")
    process.stdin.flush()
    end = time.monotonic() + 30
    while not lock.exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.wait()
    process.stdin.close()
    assert lock.exists()
    done = child(repo)
    assert done.returncode == 0, done.stderr
    assert git(repo, "rev-parse", "autoresearch/demo") == done.stdout.strip()


@pytest.mark.parametrize("code", ["ENOSPC", "EIO", "EROFS"])
def test_a_disk_that_refuses_pauses_with_a_reason_at_every_git_effect(repo, tmp_path, code):
    for n in range(1, 10) if code == "ENOSPC" else (1, 4):
        copy = tmp_path / f"{n}{code}"
        shutil.copytree(repo, copy)
        done = child(copy, AUTORL_FAIL_AT=f"{n}:{code}:ever")
        assert done.returncode == 1 and "autorl.errors.Paused: Git cannot" in done.stderr
        assert child(copy).returncode == 0


def test_ctrl_c_at_the_terminal_does_not_reach_a_git_at_work(repo):
    """git runs in a process group of its own."""
    code = """
import os, sys
from pathlib import Path
from autorl.git.repository import Repository
w = Repository(Path(sys.argv[1]))
print(os.getpgid(0), w._git.run('-c', 'alias.pg=!ps -o pgid= -p $$', 'pg').decode())
"""
    mine, gits = python("-c", code, repo).stdout.split()
    assert mine != gits
