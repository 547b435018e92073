"""autorl/git/repository.py: every commit resolves for ever, the user's checkout is never touched.

Whatever state the checkout is in. Real git in temporary folders.
"""

import os
import shutil
import time
from pathlib import Path

import pytest
from plain_git import git, new_repository, one_experiment, picture, train_of

from autorl.errors import Paused, UserError
from autorl.git.repository import Repository

pytestmark = pytest.mark.usefixtures("as_nobody")


@pytest.fixture
def repo(tmp_path):
    return new_repository(tmp_path / "repo")


# -- the user's checkout ---------------------------------------------------------------------------


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
    workspace = Repository(repo)
    sha = workspace.commit("print('ü🙂')\r\n", workspace.head(), "Idea")
    assert git(repo, "diff", "--name-status", "HEAD", sha) == "M\ttrain.py"
    assert git(repo, "ls-tree", "-r", sha, "sub/tool.sh").startswith("100755 blob")
    assert train_of(repo, sha).decode() == "print('ü🙂')\r\n"
    assert git(repo, "rev-parse", f"{sha}^") == workspace.head()
    who = "Ada Ångström ada@example.org"
    assert git(repo, "log", "-1", "--format=%an %ae|%cn %ce|%s", sha) == f"{who}|{who}|Idea"


def test_the_same_commit_twice_is_one_commit(repo, tmp_path):
    workspace = Repository(repo)
    head = workspace.head()
    first = workspace.commit("a = 1\n", head, "Idea", when="2026-01-31T02:03:04Z")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    git(clone, "config", "user.name", "Ada Ångström")
    git(clone, "config", "user.email", "ada@example.org")
    os.environ["TZ"] = "Asia/Kathmandu"
    try:
        there = Repository(clone)
        assert there.commit("a = 1\n", head, "Idea", when="2026-01-31T07:48:04+05:45") == first
    finally:
        del os.environ["TZ"]
    assert workspace.commit("a = 1\n", head, "Idea", when="2026-01-31T02:03:05Z") != first


MESSAGES = ["", "\n\n", "# not a comment", "--amend", "x" * 100_000]
MESSAGES += ["tab\tü🙂\u2028 \0 nul", "lone \ud800 surrogate"]


@pytest.mark.parametrize("message", MESSAGES)
def test_any_message_makes_a_sound_commit(repo, message):
    workspace = Repository(repo)
    sha = workspace.commit("a = 1\n", workspace.head(), message)
    assert git(repo, "cat-file", "-t", sha) == "commit"
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_an_executable_train_py_stays_executable(repo):
    (repo / "train.py").chmod(0o755)
    git(repo, "commit", "-qam", "x")
    workspace = Repository(repo)
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    assert git(repo, "ls-tree", sha, "train.py").startswith("100755 blob")


# -- what a session may find (paths, settings, states) ---------------------------------------------


PATHS = ["with space", "ünï🙂code", "quote'\"dollar$HOME", "-dash", "x" * 200, "new\nline"]
PATHS.append(os.fsdecode(b"latin-\xfc"))


@pytest.mark.parametrize("name", PATHS, ids=ascii)
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
    hooks = """reference-transaction pre-commit commit-msg prepare-commit-msg post-commit
        post-checkout update pre-auto-gc post-index-change fsmonitor-watchman post-rewrite"""
    for hook in hooks.split():
        shutil.copy(trap, repo / ".git" / "hooks" / hook)
    (repo / ".git" / "info" / "attributes").write_text(
        "*.py filter=trap diff=trap merge=trap text eol=crlf ident -diff\n"
    )
    programs = """filter.trap.clean filter.trap.smudge diff.trap.command diff.trap.textconv
        diff.external core.fsmonitor gpg.program core.editor core.pager commit.template
        credential.helper core.askPass core.sshCommand"""
    switches = """filter.trap.required commit.gpgSign tag.gpgSign core.autocrlf core.safecrlf
        diff.noprefix diff.mnemonicPrefix core.quotePath"""
    settings = dict.fromkeys(programs.split(), str(trap)) | dict.fromkeys(switches.split(), "true")
    settings |= {
        "core.hooksPath": str(repo / ".git" / "hooks"),
        "core.logAllRefUpdates": "always",
        "color.ui": "always",
        "gc.auto": "1",
        "alias.update-ref": f"!{trap}",
        "alias.hash-object": f"!{trap}",
        "i18n.commitEncoding": "ISO-8859-1",
        "notes.displayRef": "refs/notes/none",
        "core.abbrev": "5",
    }
    for setting, value in settings.items():
        git(repo, "config", setting, value)
    before = picture(repo)
    workspace = Repository(repo)
    workspace.open_tag("demo")
    sha = workspace.commit("a = 1\n", workspace.head(), "Idea")
    workspace.pin("demo", 1, sha)
    workspace.move_branch("demo", sha, None)
    workspace.note(sha, "text")
    assert train_of(repo, sha) == b"a = 1\n"
    changes = """@@ -1,2 +1 @@
-LEARNING_RATE = 3e-4
-print(LEARNING_RATE)
+a = 1
"""
    diff = workspace.diff(workspace.head(), sha)
    assert diff.split("\n", 2)[2] == f"--- a/train.py\n+++ b/train.py\n{changes}"
    workspace.checkout_state()
    assert not ran.exists(), ran.read_text()
    assert picture(repo) == before
    git(repo, "update-ref", "refs/heads/other", "HEAD", check=False)
    assert ran.exists()  # the traps are set


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


def test_a_repository_of_sha256_objects(tmp_path):
    assert len(one_experiment(new_repository(tmp_path / "repo", "--object-format=sha256"))) == 64


# -- refused at the start, in one sentence ---------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        Repository(folder)
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
    Repository(repo)
    (repo / "evaluate.py").unlink()
    assert "missing" in refusal(repo)
    git(repo, "rm", "-q", "--cached", "evaluate.py")
    git(repo, "commit", "-qm", "gone")
    assert "evaluate.py is not in HEAD" in refusal(repo)


def test_a_harness_that_git_checked_out_with_other_line_ends_is_not_edited(repo):
    (repo / "evaluate.py").write_bytes(b"SEED = 1\r\n")
    Repository(repo)


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
    workspace, train = Repository(repo), repo / "train.py"
    train.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert workspace.working_source() == "\ufeffa = 1\r\n"
    train.unlink()
    for make, word in (
        (lambda: train.symlink_to("/etc/passwd"), "link"),
        (lambda: os.mkfifo(train), "regular file"),
        (train.mkdir, "regular file"),
        (lambda: train.write_bytes(b"\xff"), "UTF-8"),
        (lambda: train.write_bytes(b"#" * 1_048_577), "1 MiB"),
        (lambda: None, "No such file"),
    ):
        make()
        with pytest.raises(UserError, match=word):
            workspace.working_source()
        if train.is_dir() and not train.is_symlink():
            train.rmdir()
        else:
            train.unlink(missing_ok=True)


NO_TAGS = ["", "a b", "a\nb", "x" * 65, "a\0b"]
NO_TAGS += [".", "..", "../x", "a/b", "-x", "a..b", "x.lock", "x.", "ü", "@{1}", "~", ".hidden"]


@pytest.mark.parametrize("tag", NO_TAGS)
def test_a_tag_that_is_no_name_is_refused(repo, tag):
    with pytest.raises(UserError, match="cannot be a tag"):
        Repository(repo).open_tag(tag)


@pytest.mark.parametrize(
    "ref", ["heads/autoresearch", "heads/autoresearch/demo/sub", "autorl", "autorl/demo"]
)
def test_a_ref_in_the_way_is_refused_before_anything(repo, ref):
    git(repo, "update-ref", f"refs/{ref}", "HEAD")
    with pytest.raises(UserError, match="in the way"):
        Repository(repo).open_tag("demo")


def test_a_worktree_on_the_research_branch_is_refused(repo, tmp_path):
    one_experiment(repo)
    workspace = Repository(repo)
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


# -- the rest --------------------------------------------------------------------------------------


def test_what_changes_in_a_checkout_is_named_and_what_the_loop_writes_is_not(repo):
    workspace, session = Repository(repo), repo / "results" / "Pendulum-v1" / "demo"
    session.mkdir(parents=True)
    before = workspace.checkout_state(session)
    one_experiment(repo)
    (session / "events.jsonl").write_text("{}")
    assert workspace.checkout_state(session) == before
    deeds = {
        "program.md": lambda: (repo / "program.md").write_text("x"),
        "train.py": lambda: (repo / "train.py").unlink(),
        "gymnasium.py": lambda: (repo / "gymnasium.py").write_text("untracked"),
        "results/x.tsv": lambda: (repo / "results" / "x.tsv").write_text("another session's"),
        ".git/config": lambda: git(repo, "config", "core.fsmonitor", "true"),
        ".git/hooks/post-commit": lambda: (repo / ".git" / "hooks" / "post-commit").write_text("x"),
        ".git/index": lambda: git(repo, "add", "gymnasium.py"),
        "HEAD": lambda: git(repo, "commit", "-qm", "y"),
        ".git/HEAD": lambda: git(repo, "checkout", "-q", "-b", "elsewhere"),
    }
    (repo / ".git" / "hooks").mkdir(exist_ok=True)
    for name, deed in deeds.items():
        deed()
        after = workspace.checkout_state(session)
        assert name in {changed for changed, _ in after.items() ^ before.items()}
        before = after
