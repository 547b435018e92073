"""The user's own git and a repository of theirs, for the tests of autorl/git/repository.py."""

import hashlib
import os
import subprocess
from pathlib import Path

from autorl.git.repository import Repository

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "LEARNING_RATE = 3e-4\nprint(LEARNING_RATE)\n"
OURS = ("objects", "refs/autorl", "refs/heads/autoresearch", "refs/notes", "logs/refs")
OURS = tuple(f".git/{name}" for name in OURS)  # what a session writes
NOBODY = {"HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *args: str, input: str | None = None, check: bool = True) -> str:
    """The user's own git, with the user's own rights."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env |= NOBODY | {"GIT_EDITOR": "true"}
    argv, text = ["git", *args], {"input": input, "text": True}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, check=check, **text)
    return str(done.stdout).strip()


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


def train_of(folder: Path, commit: str) -> bytes:
    """train.py of a commit, byte for byte."""
    command = ["git", "cat-file", "blob", f"{commit}:./train.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout


def picture(folder: Path) -> dict[str, tuple[int, int, str]]:
    """What a user could notice: the checkout's files, HEAD, index, config, branches but ours."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() or not path.is_file() or name.startswith(OURS):
            continue
        found, digest = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
        seen[name] = (found.st_mode, found.st_mtime_ns, digest)
    return seen


def one_experiment(folder: Path, tag: str = "demo") -> str:
    """Everything a loop asks of git in one kept experiment."""
    workspace = Repository(folder)
    workspace.open_tag(tag)
    base = workspace.head()
    source = workspace.head_source() + "# better\n"
    sha = workspace.commit(source, base, "Better\n\nBecause.", when="2023-11-14T22:13:20Z")
    workspace.pin(tag, 0, base)
    workspace.pin(tag, 1, sha)
    workspace.move_branch(tag, base, None)
    workspace.move_branch(tag, sha, base)
    workspace.note(sha, "kept: +31 over 3 runs")
    assert workspace.branch(tag) == sha and workspace.pinned(tag) == {0: base, 1: sha}
    assert train_of(folder, sha).decode() == source
    assert "+# better" in workspace.diff(base, sha)
    shown = git(folder, "log", "-1", "--notes=autorl", "--format=%s|%N", sha)
    assert shown == "Better|kept: +31 over 3 runs"
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
    return sha
