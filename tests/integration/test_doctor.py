"""The doctor prints a line a check, never a key, and exits with 1 when one fails."""

from pathlib import Path

from conftest import git


def lines(text: str) -> dict[str, str]:
    return {line[6:20].strip(): line for line in text.splitlines()}


def test_a_healthy_place_is_told_so(repo: Path, autorl) -> None:
    done = autorl("doctor", ANTHROPIC_API_KEY="sk-secret-value")
    found = lines(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {"python", "torch", "box2d", "mujoco", "sandbox", "git", "disk", "modal"} <= set(found)
    assert "sk-secret-value" not in done.stdout + done.stderr
    assert found["anthropic key"].startswith("ok")
    # what holds, or what is missing
    assert any(word in found["sandbox"] for word in ("confines", "bubblewrap", "no sandbox"))


def test_a_missing_identity_is_a_failure_with_a_remedy(repo: Path, autorl, tmp_path: Path) -> None:
    git(repo, "config", "--unset", "user.name")
    git(repo, "config", "--unset", "user.email")
    git(repo, "config", "user.useConfigOnly", "true")
    done = autorl(
        "doctor", HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path), GIT_CONFIG_NOSYSTEM="1"
    )
    assert done.returncode == 1 and "git config" in lines(done.stdout)["git"]
