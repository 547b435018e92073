"""Nothing of the checkout is imported before what is installed, whoever left it there."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_env

from autorl.session.find import newest_unfinished

PROJECT = Path(__file__).resolve().parents[2]
SHADOWS = ("gymnasium.py", "numpy.py", "click.py", "pathlib.py", "json.py", "ast.py")
LEFT = "raise SystemExit('SHADOW: a file of the checkout was imported')\n"


@pytest.fixture
def shadowed(repo: Path) -> Path:
    for name in SHADOWS:
        (repo / name).write_text(LEFT)
    (repo / "my_env.py").write_text("NAME = 'mine'\n")
    return repo


def python(tmp_path: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv, env = [sys.executable, *args], clean_env(tmp_path)
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", ["agent_loop.py", "evaluate.py"])
def test_a_script_of_the_checkout_imports_what_is_installed(
    shadowed: Path, script: str, tmp_path: Path
) -> None:
    done = python(tmp_path, script, "--help", cwd=shadowed)
    assert done.returncode == 0 and "Usage:" in done.stdout, done.stdout + done.stderr


def test_the_judges_own_processes_do_too(shadowed: Path, tmp_path: Path) -> None:
    asks = "import autorl, gymnasium, my_env; print(gymnasium.__file__); print(autorl.__file__)"
    code = f"""
import sys
sys.path.insert(0, {str(shadowed)!r})
import autorl
autorl.installed_first()
from autorl.judge import isolated_python
from autorl.source.checks import look
process = isolated_python.start({asks!r}, {{}}, stdout=-1)
print(process.stdout.read().decode(), look("x = 1").why or "looked at")
"""
    done = python(tmp_path, "-I", "-c", code, cwd=tmp_path)
    gymnasium, ours, looked = done.stdout.split("\n")[:3]
    assert "site-packages" in gymnasium, done.stderr
    assert ours == str(shadowed / "autorl" / "__init__.py")
    assert looked.strip() == "looked at"


def test_the_committed_session_is_shown_and_not_continued(repo: Path, tmp_path: Path) -> None:
    """A clone has the journal of results/, and not the session's refs."""
    (made,) = (PROJECT / "results").glob("*/*/journal.jsonl")
    folder = repo / "results" / made.parent.parent.name / made.parent.name
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(made.read_bytes())
    told = python(tmp_path, "agent_loop.py", "status", cwd=repo)
    assert told.returncode == 0 and f"{folder.name} on " in told.stdout
    refused = python(tmp_path, "agent_loop.py", "confirm", "--tag", folder.name, cwd=repo)
    assert refused.returncode == 2 and "was made in another repository" in refused.stderr
    assert (folder / "journal.jsonl").read_bytes() == made.read_bytes()
    assert newest_unfinished(repo) is None
