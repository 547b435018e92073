"""Bad input: one sentence that says what to do, exit code 2, no traceback, nothing half-made."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT, git


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, one line, no traceback, and the words that matter."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Traceback" not in done.stderr
    assert len(lines) == 1 or lines[0].startswith("Usage:"), done.stderr
    for word in words:
        assert word.lower() in done.stderr.lower(), done.stderr


def nothing_made(repo: Path) -> None:
    assert not list(repo.glob("results/*/*")), list(repo.glob("results/*/*"))
    assert "autoresearch" not in git(repo, "branch", "--list", "autoresearch/*")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "--env-id", "BipedalWakler-v3"], ["BipedalWalker"]),
        (["run", "--env-id", "CarRacing-v3"], ["images", "steps"]),
        (["run", "--env-id", "autorl/Nope-v0"], ["autorl/Nope-v0", "did you mean autorl/"]),
        (["run", "--env-kwargs", '{"wind": 1}'], ["BipedalWalker-v3", '{"wind": 1}', "unexpected"]),
        (["run", "--env-kwargs", "[1]"], ["[1]", "JSON object"]),
        (["run", "--budget-steps", "0"], ["budget-steps"]),
        (["run", "--env-id", "no_such_module:Env-v0"], ["no_such_module"]),
        (["run", "--budget", "-5"], ["budget"]),
        (["run", "--budget", "nan"], ["budget"]),
        (["run", "--episodes", "0"], ["episode"]),
        (["run", "--tag", "../evil"], ["tag"]),
        (["run", "--tag", "a b"], ["tag"]),
        (["run", "--proposer", "replay"], ["--replay"]),
        (["run", "--proposer", "command"], ["--command"]),
        (["run", "--hours", "-1"], ["hours"]),
        (["run", "--cores", "77"], ["core 77"]),
        (["status"], ["no session"]),
        (["wait", "t0"], ["t0"]),
        (["confirm"], ["no session"]),
        (["stop"], ["no session"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_flags(autorl, repo: Path, args: list[str], words: list[str]) -> None:
    refused(autorl(*args), *words)
    nothing_made(repo)


@pytest.mark.parametrize("args", [["status"], ["history"], ["wait", "t0"]], ids=lambda a: a[0])
def test_a_program_is_told_in_json(autorl, repo: Path, args: list[str]) -> None:
    done = autorl(*args, "--json")
    refused(done)
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 2 and answer["error"] in done.stderr


def test_no_git_repository(repo: Path, autorl) -> None:
    shutil.rmtree(repo / ".git")
    refused(autorl("run", GIT_CEILING_DIRECTORIES=str(repo.parent)), "git")


def test_no_commits_yet(repo: Path, autorl) -> None:
    shutil.rmtree(repo / ".git")
    git(repo, "init", "-q")
    refused(autorl("run"), "commit")


def test_no_train_py(repo: Path, autorl) -> None:
    git(repo, "rm", "-q", "train.py")
    git(repo, "commit", "-q", "-m", "without")
    refused(autorl("run"), "train.py")
    nothing_made(repo)


def test_train_py_that_is_not_python(repo: Path, autorl) -> None:
    (repo / "train.py").write_text("def broken(:\n")
    git(repo, "commit", "-q", "-am", "broken")
    refused(autorl("run"), "train.py", "Python")
    nothing_made(repo)


def test_an_uncommitted_edit_of_the_harness(repo: Path, autorl) -> None:
    with open(repo / "evaluate.py", "a") as file:
        file.write("# mine\n")
    refused(autorl("run"), "evaluate.py", "commit")
    nothing_made(repo)


def test_no_git_identity(repo: Path, autorl, tmp_path: Path) -> None:
    git(repo, "config", "--unset", "user.name")
    git(repo, "config", "--unset", "user.email")
    git(repo, "config", "user.useConfigOnly", "true")
    nowhere = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    refused(autorl("run", **nowhere), "git config", "user.name")
    nothing_made(repo)


def test_a_tag_of_another_environment(repo: Path, autorl) -> None:
    other = repo / "results/Hopper-v5/mine"
    other.mkdir(parents=True)
    # whatever it holds, it is not ours to continue
    shutil.copy(PROJECT / "LICENSE", other / "journal.jsonl")
    refused(autorl("run", "--tag", "mine", "--env-id", "Pendulum-v1"), "mine", "Hopper-v5")


def test_help(autorl) -> None:
    done = autorl("status", "-h")  # --help of every command: tests/unit/project/test_golden.py
    assert done.returncode == 0 and "Usage" in done.stdout
