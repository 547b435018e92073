"""A shell script that plays a coding agent: `try`, `wait` in slices, read the block, go on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOYS, clean_env, make_repo


@pytest.mark.long
def test_a_session_from_a_shell_is_decided_step_by_step(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", TOYS / "train_scripted.py")
    env = clean_env(tmp_path) | {"PYTHON": sys.executable}
    argv = ["sh", str(TOYS / "coding_agent.sh"), "20.0", "3.0"]
    done = subprocess.run(argv, cwd=repo, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^outcome: +(\w+)$", done.stdout, re.MULTILINE) == ["keep", "discard"]
    assert done.stdout.count("(exit code 0)") == 2
    assert re.findall(r"^state: +queued$", done.stdout, re.MULTILINE)
    assert re.findall(r"^log: +(\S+)$", done.stdout, re.MULTILINE)
    assert "what and why" in done.stdout.split("history")[-1]
