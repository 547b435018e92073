"""autorl/workspace.py: every commit resolves for ever, and the user's checkout is never touched.

Real git in temporary folders. Run: uv run pytest tests/test_workspace.py
"""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from autorl.records import Paused, UserError
from autorl.workspace import Workspace

ROOT = Path(__file__).parents[1]
TRAIN = "LEARNING_RATE = 3e-4\nprint(LEARNING_RATE)\n"
NOBODY = {"HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *args: str, **kwargs: object) -> str:
    """The user's own git, with the user's own rights."""
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("GIT_")}, **NOBODY, "GIT_EDITOR": "true"}
    done = subprocess.run(["git", *args], cwd=folder, env=env, capture_output=True, text=True, check=bool(kwargs.get("check", True)))
    return done.stdout.strip()


def new_repository(folder: Path, *init: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main", *init)
    git(folder, "config", "user.name", "Ada Ångström")
    git(folder, "config", "user.email", "ada@example.org")
    (folder / "train.py").write_text(TRAIN)
    (folder / "evaluate.py").write_text("SEED = 1\n")
    (folder / "program.md").write_text("be bold\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "tool.sh").write_text("#!/bin/sh\n")
    (folder / "sub" / "tool.sh").chmod(0o755)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture(autouse=True)
def as_nobody(monkeypatch):
    """No setting of whoever runs the tests reaches them."""
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def repo(tmp_path):
    return new_repository(tmp_path / "repo")


def picture(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything a user could notice: every file of the checkout and HEAD, index, config, branches but ours."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        ours = name.startswith((".git/objects", ".git/refs/autorl", ".git/refs/heads/autoresearch", ".git/refs/notes", ".git/logs/refs"))
        if path.is_symlink() or not path.is_file() or ours:
            continue
        found = path.stat()
        seen[name] = (found.st_mode, found.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    return seen


def one_experiment(folder: Path, tag: str = "demo") -> str:
    """Everything a loop asks of git in one kept experiment."""
    workspace = Workspace(folder)
    workspace.open_tag(tag)
    base = workspace.head()
    sha = workspace.commit(workspace.head_source() + "# better\n", base, "Better\n\nBecause.", when=1_700_000_000)
    workspace.pin(tag, 0, base)
    workspace.pin(tag, 1, sha)
    workspace.move_branch(tag, base, None)
    workspace.move_branch(tag, sha, base)
    workspace.note(sha, "kept: +31 over 3 runs")
    assert workspace.branch(tag) == sha and workspace.pinned(tag) == {0: base, 1: sha}
    assert workspace.source_at(sha) == workspace.head_source() + "# better\n"
    assert "+# better" in workspace.diff(base, sha)
    assert git(folder, "log", "-1", "--notes=autorl", "--format=%s|%N", sha) == "Better|kept: +31 over 3 runs"
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
    return sha


# -- the user's checkout ---------------------------------------------------------------------------------------------


def test_a_dirty_checkout_is_left_to_the_last_bit(repo):
    (repo / "train.py").write_text("half an idea (")
    (repo / "program.md").unlink()
    (repo / "staged.txt").write_text("staged")
    git(repo, "add", "staged.txt")
    (repo / "untracked.txt").write_text("untracked")
    time.sleep(0.01)
    before, status = picture(repo), git(repo, "status", "--porcelain")
    before = picture(repo)  # the user's own `status` may refresh the index
    one_experiment(repo)
    assert picture(repo) == before
    assert git(repo, "status", "--porcelain") == status


def test_the_commit_holds_the_parents_tree_with_train_py_replaced(repo):
    workspace = Workspace(repo)
    sha = workspace.commit("print('ü🙂')\r\n", workspace.head(), "Idea")
    assert git(repo, "diff", "--name-status", "HEAD", sha) == "M\ttrain.py"
    assert git(repo, "ls-tree", "-r", sha, "sub/tool.sh").startswith("100755 blob")
    assert workspace.source_at(sha) == "print('ü🙂')\r\n"
    assert git(repo, "rev-parse", f"{sha}^") == workspace.head()
    assert git(repo, "log", "-1", "--format=%an %ae|%cn %ce|%s", sha) == "Ada Ångström ada@example.org|Ada Ångström ada@example.org|Idea"


def test_the_same_commit_twice_is_one_commit(repo, tmp_path):
    workspace = Workspace(repo)
    first = workspace.commit("a = 1\n", workspace.head(), "Idea", when="2026-01-31T02:03:04Z")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    git(clone, "config", "user.name", "Ada Ångström")
    git(clone, "config", "user.email", "ada@example.org")
    os.environ["TZ"] = "Asia/Kathmandu"
    try:
        assert Workspace(clone).commit("a = 1\n", workspace.head(), "Idea", when=1769824984) == first
    finally:
        del os.environ["TZ"]
    assert workspace.commit("a = 1\n", workspace.head(), "Idea", when=1769824985) != first


@pytest.mark.parametrize(
    "message", ["", "\n\n", "# not a comment", "tab\tü🙂\u2028 \0 nul", "--amend", "x" * 100_000, "lone \ud800 surrogate"]
)
def test_any_message_makes_a_sound_commit(repo, message):
    workspace = Workspace(repo)
    sha = workspace.commit("a = 1\n", workspace.head(), message)
    assert git(repo, "cat-file", "-t", sha) == "commit" and git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_an_executable_train_py_stays_executable(repo):
    (repo / "train.py").chmod(0o755)
    git(repo, "commit", "-qam", "x")
    workspace = Workspace(repo)
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    assert git(repo, "ls-tree", sha, "train.py").startswith("100755 blob")


# -- what a night may find (paths, settings, states) -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", "ünï🙂code", "quote'\"dollar$HOME", "-dash", "x" * 200, "new\nline"])
def test_any_path(tmp_path, name):
    one_experiment(new_repository(tmp_path / name))


def test_no_home(repo, monkeypatch):
    monkeypatch.delenv("HOME")
    one_experiment(repo)


def test_hooks_filters_signing_and_external_diffs_never_run(repo, tmp_path):
    """Each of them would leave a file behind."""
    ran = tmp_path / "ran"
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{ran}'\nexit 1\n")
    trap.chmod(0o755)
    for hook in ("reference-transaction", "pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "post-checkout", "update", "pre-auto-gc", "post-index-change", "fsmonitor-watchman", "post-rewrite"):  # fmt: skip
        shutil.copy(trap, repo / ".git" / "hooks" / hook)
    (repo / ".git" / "info" / "attributes").write_text("*.py filter=trap diff=trap merge=trap text eol=crlf ident -diff\n")
    for setting, value in {
        "core.hooksPath": str(repo / ".git" / "hooks"), "filter.trap.clean": str(trap), "filter.trap.smudge": str(trap), "filter.trap.required": "true",
        "diff.trap.command": str(trap), "diff.trap.textconv": str(trap), "diff.external": str(trap), "core.fsmonitor": str(trap), "gpg.program": str(trap),
        "commit.gpgSign": "true", "tag.gpgSign": "true", "core.editor": str(trap), "core.pager": str(trap), "commit.template": str(trap), "core.autocrlf": "true",
        "core.safecrlf": "true", "core.logAllRefUpdates": "always", "diff.noprefix": "true", "diff.mnemonicPrefix": "true", "color.ui": "always", "gc.auto": "1",
        "i18n.commitEncoding": "ISO-8859-1", "notes.displayRef": "refs/notes/none", "core.quotePath": "true", "core.abbrev": "5",
    }.items():  # fmt: skip
        git(repo, "config", setting, value)
    before = picture(repo)
    workspace = Workspace(repo)
    workspace.open_tag("demo")
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    workspace.pin("demo", 1, sha)
    workspace.move_branch("demo", sha, None)
    workspace.note(sha, "text")
    assert workspace.source_at(sha) == "a = 1\n"
    assert workspace.diff(workspace.head(), sha).splitlines()[2:] == [
        "--- a/train.py",
        "+++ b/train.py",
        "@@ -1,2 +1 @@",
        "-LEARNING_RATE = 3e-4",
        "-print(LEARNING_RATE)",
        "+a = 1",
    ]
    workspace.export(sha, tmp_path / "copy")
    assert (tmp_path / "copy" / "train.py").read_bytes() == b"a = 1\n"
    workspace.checkout_fingerprint()
    assert not ran.exists(), ran.read_text()
    assert picture(repo) == before


def test_git_variables_of_the_caller_mean_nothing(repo, tmp_path, monkeypatch):
    """A loop started from inside a hook inherits GIT_DIR, GIT_INDEX_FILE and more."""
    other = new_repository(tmp_path / "other")
    before = picture(other)
    for name, value in {
        "GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(tmp_path / "index"), "GIT_OBJECT_DIRECTORY": str(tmp_path / "objects"),
        "GIT_COMMON_DIR": str(other / ".git"), "GIT_NAMESPACE": "else", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Mallory",
        "GIT_AUTHOR_DATE": "1999-01-01", "GIT_EXTERNAL_DIFF": "false", "GIT_TRACE": "1", "GIT_QUARANTINE_PATH": "x",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    sha = one_experiment(repo)
    assert git(repo, "log", "-1", "--format=%an", sha) == "Ada Ångström"
    assert picture(other) == before and not (tmp_path / "index").exists() and not (tmp_path / "objects").exists()


def test_detached_head(repo):
    git(repo, "checkout", "-q", "--detach")
    before = picture(repo)
    one_experiment(repo)
    assert picture(repo) == before


def test_in_the_middle_of_a_rebase_with_conflicts(repo):
    git(repo, "checkout", "-q", "-b", "side")
    (repo / "program.md").write_text("side\n")
    git(repo, "commit", "-qam", "side")
    git(repo, "checkout", "-q", "main")
    (repo / "program.md").write_text("main\n")
    git(repo, "commit", "-qam", "main")
    git(repo, "rebase", "side", check=False)
    assert (repo / ".git" / "rebase-merge").is_dir()
    before = picture(repo)
    one_experiment(repo)
    assert picture(repo) == before
    (repo / "program.md").write_text("both\n")
    git(repo, "add", ".")
    git(repo, "rebase", "--continue")
    assert git(repo, "log", "--format=%s", "main").splitlines() == ["main", "side", "first"]


def test_shallow_clone(repo, tmp_path):
    for i in range(3):
        (repo / "program.md").write_text(f"{i}\n")
        git(repo, "commit", "-qam", f"{i}")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", "shallow")
    git(tmp_path / "shallow", "config", "user.name", "Ada")
    git(tmp_path / "shallow", "config", "user.email", "ada@example.org")
    one_experiment(tmp_path / "shallow")


def test_linked_worktree(repo, tmp_path):
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
    before = picture(repo)
    sha = one_experiment(tmp_path / "linked")
    assert git(repo, "rev-parse", "autoresearch/demo") == sha
    assert picture(repo) == before


def test_a_project_below_the_top_of_its_repository(tmp_path):
    new_repository(tmp_path / "mono")
    project = tmp_path / "mono" / "deep" / "pro ject"
    project.mkdir(parents=True)
    for name in ("train.py", "evaluate.py"):
        (project / name).write_text(f"# the project's own {name}\n")
    git(tmp_path / "mono", "add", ".")
    git(tmp_path / "mono", "commit", "-qm", "project")
    sha = one_experiment(project)
    assert git(tmp_path / "mono", "diff", "--name-only", "HEAD", sha) == "deep/pro ject/train.py"
    Workspace(project).export(sha, tmp_path / "copy")
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == ["evaluate.py", "train.py"]


def test_a_repository_of_sha256_objects(tmp_path):
    assert len(one_experiment(new_repository(tmp_path / "repo", "--object-format=sha256"))) == 64


# -- refused at the start, in one sentence ---------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        Workspace(folder)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    return str(caught.value)


def test_refusals_say_what_is_wrong_and_what_to_do(tmp_path, monkeypatch):
    assert "git init" in refusal(tmp_path)
    assert "no folder" in refusal(tmp_path / "absent")
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert "git config --global user.name" in refusal(empty)
    git(empty, "config", "user.name", "Ada")
    assert "user.email" in refusal(empty)
    git(empty, "config", "user.email", "ada@example.org")
    assert "no commits yet" in refusal(empty)
    git(tmp_path, "clone", "-q", "--bare", str(empty), "bare.git")
    assert "bare" in refusal(tmp_path / "bare.git")
    assert "bare" in refusal(empty / ".git")
    (empty / "evaluate.py").write_text("SEED = 1\n")
    git(empty, "add", ".")
    git(empty, "commit", "-qm", "x")
    assert "train.py is not in HEAD: commit it first" in refusal(empty)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in refusal(empty)


def test_an_edited_harness_is_refused_until_committed(repo):
    (repo / "evaluate.py").write_text("SEED = 2\n")
    assert "evaluate.py is edited and not committed: commit it first" in refusal(repo)
    git(repo, "commit", "-qam", "seed")
    Workspace(repo)
    (repo / "evaluate.py").unlink()
    assert "missing" in refusal(repo)
    git(repo, "rm", "-q", "--cached", "evaluate.py")
    git(repo, "commit", "-qm", "gone")
    assert "evaluate.py is not in the last commit" in refusal(repo)


def test_a_harness_that_git_checked_out_with_other_line_ends_is_not_edited(repo):
    (repo / "evaluate.py").write_bytes(b"SEED = 1\r\n")
    Workspace(repo)


def test_a_train_py_that_is_no_plain_text_file_is_refused(repo, tmp_path):
    def commit_as(make) -> str:
        (repo / "train.py").unlink()
        make(repo / "train.py")
        git(repo, "add", ".")
        git(repo, "commit", "-qm", "x")
        return refusal(repo)

    assert "not a regular file" in commit_as(lambda p: p.symlink_to("/etc/hostname"))
    assert "not UTF-8" in commit_as(lambda p: p.write_bytes(b"x = '\xff'\n"))
    assert "larger than 1 MiB" in commit_as(lambda p: p.write_bytes(b"#" * 1_048_577))


def test_the_working_train_py_is_read_without_links_pipes_or_surprises(repo, tmp_path):
    workspace, train = Workspace(repo), repo / "train.py"
    train.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert workspace.working_source() == "\ufeffa = 1\r\n"
    train.unlink()
    for make, word in ((lambda: train.symlink_to("/etc/passwd"), "link"), (lambda: os.mkfifo(train), "regular file"), (train.mkdir, "regular file"),
                       (lambda: train.write_bytes(b"\xff"), "UTF-8"), (lambda: train.write_bytes(b"#" * 1_048_577), "1 MiB"), (lambda: None, "No such file")):  # fmt: skip
        make()
        with pytest.raises(UserError, match=word):
            workspace.working_source()
        if train.is_dir() and not train.is_symlink():
            train.rmdir()
        else:
            train.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "tag", ["", ".", "..", "../x", "a/b", "a b", "-x", "a..b", "x.lock", "x.", "ü", "a\nb", "x" * 65, "@{1}", "~", ".hidden", "a\0b"]
)
def test_a_tag_that_is_no_name_is_refused(repo, tag):
    with pytest.raises(UserError, match="cannot be a tag"):
        Workspace(repo).open_tag(tag)


@pytest.mark.parametrize("ref", ["refs/heads/autoresearch", "refs/heads/autoresearch/demo/sub", "refs/autorl", "refs/autorl/demo"])
def test_a_ref_in_the_way_is_refused_before_anything(repo, ref):
    git(repo, "update-ref", ref, "HEAD")
    with pytest.raises(UserError, match="in the way"):
        Workspace(repo).open_tag("demo")


def test_a_worktree_on_the_research_branch_is_refused(repo, tmp_path):
    one_experiment(repo)
    workspace = Workspace(repo)
    git(repo, "worktree", "add", "-q", str(tmp_path / "there"), "autoresearch/demo")
    with pytest.raises(UserError, match="stands on autoresearch/demo"):
        workspace.open_tag("demo")
    workspace.open_tag("other")
    with pytest.raises(Paused, match="stands on autoresearch/demo"):
        workspace.move_branch("demo", workspace.head(), workspace.branch("demo"))
    git(repo, "worktree", "remove", str(tmp_path / "there"))
    git(repo, "checkout", "-q", "autoresearch/demo")
    with pytest.raises(UserError, match="stands on autoresearch/demo"):
        workspace.open_tag("demo")


# -- refs ------------------------------------------------------------------------------------------------------------


def test_a_pin_is_made_once_and_never_moved(repo):
    workspace = Workspace(repo)
    a, b = (workspace.commit(f"a = {i}\n", workspace.head(), "Idea") for i in (1, 2))
    workspace.pin("demo", 1, a)
    workspace.pin("demo", 1, a)
    with pytest.raises(Paused, match="refs/autorl/demo/1 is"):
        workspace.pin("demo", 1, b)
    workspace.pin("demo", 10, b)
    assert workspace.pinned("demo") == {1: a, 10: b} and workspace.pinned("dem") == {}
    git(repo, "gc", "-q", "--prune=now")
    assert workspace.pinned("demo") == {1: a, 10: b} and workspace.source_at(b) == "a = 2\n"  # packed, and alive


@pytest.mark.parametrize("deed", ["commits", "deletes", "resets"])
def test_a_branch_that_the_user_moved_is_never_forced(repo, deed):
    workspace = Workspace(repo)
    base = workspace.head()
    a, b = (workspace.commit(f"a = {i}\n", base, "Idea") for i in (1, 2))
    workspace.move_branch("demo", a, None)
    mine = workspace.commit("mine = 1\n", a, "The user's own")
    git(repo, *{"commits": ("update-ref", "refs/heads/autoresearch/demo", mine), "deletes": ("branch", "-D", "autoresearch/demo"), "resets": ("branch", "-f", "autoresearch/demo", base)}[deed])  # fmt: skip
    there = workspace.branch("demo")
    with pytest.raises(Paused, match=r"by somebody else.*put it back with `git update-ref refs/heads/autoresearch/demo"):
        workspace.move_branch("demo", b, a)
    assert workspace.branch("demo") == there
    git(repo, "update-ref", "refs/heads/autoresearch/demo", a)  # what the message says
    workspace.move_branch("demo", b, a)
    assert workspace.branch("demo") == b


def test_a_branch_made_by_somebody_else_is_not_taken_over(repo):
    workspace = Workspace(repo)
    git(repo, "branch", "autoresearch/demo")
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    with pytest.raises(Paused, match="by somebody else"):
        workspace.move_branch("demo", sha, None)
    assert workspace.branch("demo") == workspace.head()


def test_a_move_that_was_made_before_a_kill_is_not_made_again(repo):
    workspace = Workspace(repo)
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    workspace.move_branch("demo", workspace.head(), None)
    workspace.move_branch("demo", sha, workspace.head())
    workspace.move_branch("demo", sha, workspace.head())
    workspace.move_branch("demo", workspace.head(), sha)  # back to an anchor: not a fast-forward, and right
    assert workspace.branch("demo") == workspace.head()


def test_notes_replace_and_live_beside_the_users_own(repo):
    workspace = Workspace(repo)
    shas = [workspace.commit(f"a = {i}\n", workspace.head(), f"Idea {i}") for i in range(5)]
    git(repo, "notes", "--ref=autorl", "add", "-m", "by hand", shas[0])
    git(repo, "notes", "add", "-m", "the user's own", shas[1])
    for sha in shas[1:]:
        workspace.note(sha, f"first {sha}")
        workspace.note(sha, f"second {sha}\n\nwith ü🙂 and | = pipes\n")
    assert git(repo, "notes", "--ref=autorl", "show", shas[0]) == "by hand"
    assert git(repo, "notes", "--ref=autorl", "show", shas[4]) == f"second {shas[4]}\n\nwith ü🙂 and | = pipes"
    assert git(repo, "notes", "show", shas[1]) == "the user's own"
    tip = git(repo, "rev-parse", "refs/notes/autorl")
    workspace.note(shas[4], f"second {shas[4]}\n\nwith ü🙂 and | = pipes\n")
    assert git(repo, "rev-parse", "refs/notes/autorl") == tip  # nothing new, nothing written


def test_notes_fanned_out_by_git_are_replaced_and_not_doubled(repo):
    workspace = Workspace(repo)
    shas = [workspace.commit(f"a = {i}\n", workspace.head(), "Idea", when=i) for i in range(3)]
    blob = git(repo, "hash-object", "-w", "program.md")
    fanned = f"{shas[0][:2]}/{shas[0][2:]}"
    inner = subprocess.run(
        ["git", "mktree"], cwd=repo, input=f"100644 blob {blob}\t{fanned[3:]}\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    tree = subprocess.run(
        ["git", "mktree"], cwd=repo, input=f"040000 tree {inner}\t{fanned[:2]}\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    git(repo, "update-ref", "refs/notes/autorl", git(repo, "commit-tree", tree, "-m", "notes"))
    assert git(repo, "notes", "--ref=autorl", "show", shas[0]) == "be bold"
    workspace.note(shas[0], "new")
    workspace.note(shas[1], "other")
    assert git(repo, "notes", "--ref=autorl", "show", shas[0]) == "new"
    assert len(git(repo, "notes", "--ref=autorl", "list").splitlines()) == 2


def test_two_loops_writing_notes_at_once_lose_none(repo):
    workspace = Workspace(repo)
    shas = [workspace.commit(f"a = {i}\n", workspace.head(), "Idea") for i in range(8)]
    threads = [threading.Thread(target=lambda part=part: [Workspace(repo).note(sha, sha) for sha in part]) for part in (shas[:4], shas[4:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.split()[1] for line in git(repo, "notes", "--ref=autorl", "list").splitlines()) == sorted(shas)


def test_moving_a_ref_while_the_user_packs_refs_succeeds(repo):
    workspace = Workspace(repo)
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


# -- stale locks -----------------------------------------------------------------------------------------------------


def test_a_stale_lock_of_ours_is_removed_with_a_note_and_the_users_are_not(repo):
    sha = one_experiment(repo)
    workspace, dot_git = Workspace(repo), repo / ".git"
    ours = [dot_git / "refs/heads/autoresearch/demo.lock", dot_git / "refs/autorl/demo/2.lock", dot_git / "refs/notes/autorl.lock"]
    theirs = [
        dot_git / n
        for n in (
            "index.lock",
            "packed-refs.lock",
            "HEAD.lock",
            "config.lock",
            "refs/heads/main.lock",
            "refs/heads/autoresearch/other.lock",
        )
    ]
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
    assert Workspace(repo).clear_stale_locks("demo") == []
    thread.join()


def test_without_stale_locks_there_is_no_wait(repo):
    workspace, start = Workspace(repo), time.monotonic()
    assert workspace.clear_stale_locks("demo") == [] and time.monotonic() - start < 0.5


# -- kills and disks -------------------------------------------------------------------------------------------------

EXPERIMENT = """
import sys
from pathlib import Path
from autorl.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
workspace.clear_stale_locks("demo")
base = workspace.head()
sha = workspace.commit("a = 1\\n", base, "Idea", when=1)
workspace.pin("demo", 1, sha)
workspace.move_branch("demo", base, None) if workspace.branch("demo") is None else None
workspace.move_branch("demo", sha, base)
workspace.note(sha, "kept")
print(sha)
"""


def child(repo: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", EXPERIMENT, str(repo)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_kill_at_every_git_effect_then_again_makes_the_same_commit_and_one_note(repo, tmp_path):
    trace = tmp_path / "trace"
    shutil.copytree(repo, tmp_path / "clean")
    sha = child(tmp_path / "clean", AUTORL_EFFECT_TRACE=str(trace)).stdout.strip()
    effects = trace.read_text().splitlines()
    assert len(effects) >= 9 and {line.partition(" ")[2] for line in effects} == {"git object", "ref move"}
    for n in range(1, len(effects) + 1):
        for when in ("", ":after"):
            copy = tmp_path / f"{n}{when}"
            shutil.copytree(repo, copy)
            assert child(copy, AUTORL_KILL_AT=f"{n}{when}").returncode == -signal.SIGKILL
            again = child(copy)
            assert again.stdout.strip() == sha, again.stderr
            assert git(copy, "rev-parse", "autoresearch/demo", "refs/autorl/demo/1").split() == [sha, sha]
            assert git(copy, "notes", "--ref=autorl", "show", sha) == "kept"
            assert git(copy, "status", "--porcelain") == ""


def test_a_git_killed_inside_its_own_work_is_recovered_from(repo):
    """The child git itself is killed while it holds a ref's lock: the lock stays, and is removed on the next start."""
    lock = repo / ".git/refs/heads/autoresearch/demo.lock"
    process = subprocess.Popen(["git", "update-ref", "--stdin"], cwd=repo, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
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
        assert done.returncode == 1 and "autorl.records.Paused: Git cannot" in done.stderr
        assert child(copy).returncode == 0


def test_ctrl_c_at_the_terminal_does_not_reach_a_git_at_work(repo):
    """git runs in a process group of its own."""
    code = "import os, sys\nfrom pathlib import Path\nfrom autorl.workspace import Workspace\nw = Workspace(Path(sys.argv[1]))\nprint(os.getpgid(0), w._git.run('-c', 'alias.pg=!ps -o pgid= -p $$', 'pg').decode())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(repo)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    mine, gits = done.stdout.split()
    assert mine != gits


# -- the rest --------------------------------------------------------------------------------------------------------


def test_the_fingerprint_tells_a_changed_checkout_from_an_untouched_one(repo):
    workspace = Workspace(repo)
    before = workspace.checkout_fingerprint()
    one_experiment(repo)
    (repo / "untracked.txt").write_text("untracked files are not ours to watch")
    assert workspace.checkout_fingerprint() == before
    seen = {before}
    for deed in (lambda: (repo / "program.md").write_text("x"), lambda: (repo / "program.md").unlink(), lambda: git(repo, "add", "untracked.txt"), lambda: git(repo, "commit", "-qm", "y"), lambda: git(repo, "checkout", "-q", "-b", "elsewhere")):  # fmt: skip
        deed()
        seen.add(workspace.checkout_fingerprint())
    assert len(seen) == 6


def test_an_exported_copy_is_the_commits_bytes_and_no_link_leads_out(repo, tmp_path):
    (repo / "inside").symlink_to("sub/tool.sh")
    (repo / "outside").symlink_to("../secret")
    (repo / "absolute").symlink_to("/etc/passwd")
    (repo / "sub" / "up").symlink_to("../program.md")
    (repo / ".gitattributes").write_text("program.md export-ignore\n*.py export-subst eol=crlf\n")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "links")
    workspace = Workspace(repo)
    copy = tmp_path / "a copy"
    workspace.export(workspace.head(), copy)
    assert sorted(str(p.relative_to(copy)) for p in copy.rglob("*") if not p.is_dir()) == [".gitattributes", "evaluate.py", "inside", "program.md", "sub/tool.sh", "sub/up", "train.py"]  # fmt: skip
    assert (copy / "train.py").read_text() == TRAIN and (copy / "sub" / "tool.sh").stat().st_mode & stat.S_IXUSR
    assert (copy / "inside").read_text() == "#!/bin/sh\n" and (copy / "sub" / "up").read_text() == "be bold\n"


def test_an_unknown_commit_is_one_sentence(repo):
    with pytest.raises(UserError, match="not in this repository"):
        Workspace(repo).source_at("0" * 40)
