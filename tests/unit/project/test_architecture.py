"""Rooms import from rooms below them (import-linter); each dangerous verb has one place (`ast`)."""

import ast
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            rooms = {f"autorl.{a.name}" for a in node.names}
            found |= rooms if node.module == "autorl" else {node.module}
    ours = ("autorl", "evaluate", "train", "modal_app", "agent_loop")
    return {name for name in found if name.split(".")[0] in ours}


def test_imports_between_rooms_run_downward() -> None:
    """The contract in pyproject.toml: layers of rooms, none turned back, no circle."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_room_shows_few_names() -> None:
    for face in sorted((PROJECT / "autorl").glob("*/__init__.py")):
        body = ast.parse(face.read_text()).body
        assert sum(len(n.names) for n in body if isinstance(n, ast.ImportFrom)) <= 20, face


def test_train_imports_only_evaluate() -> None:
    assert imports(PROJECT / "train.py") == {"evaluate"}


def test_evaluate_imports_nothing_of_ours_but_the_judge_lazily() -> None:
    tree = ast.parse((PROJECT / "evaluate.py").read_text(encoding="utf-8"))
    top = {n.module for n in tree.body if isinstance(n, ast.ImportFrom)} | {
        a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names
    }
    assert not any((m or "").split(".")[0] == "autorl" for m in top)
    assert {m for m in imports(PROJECT / "evaluate.py")} == set()


def calls(path: Path, names: set[str]) -> list[int]:
    """Lines where a name such as `subprocess.Popen` is used."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        n.lineno for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n) in names
    ]


def test_processes_are_started_in_few_places() -> None:
    starts = {f"subprocess.{verb}" for verb in ("Popen", "run", "check_output")}
    starts |= {f"os.{verb}" for verb in ("system", "fork", "execv")}
    files = (PROJECT / "autorl").rglob("*.py")
    places = {str(p.relative_to(PROJECT)) for p in files if calls(p, starts)}
    allowed_places = (
        "autorl/judge/",
        "autorl/runners/local.py",
        "autorl/runners/scripted.py",
        "autorl/proposers/command.py",
        "autorl/git/plumbing.py",
        "autorl/cli/console.py",  # --notify
        "autorl/source/checks.py",
        "autorl/cli/background.py",
        "autorl/cli/doctor.py",
        "autorl/report/video.py",
        "autorl/system/bytecode.py",
    )
    assert not {p for p in places if not p.startswith(allowed_places)}, places


def test_nothing_of_the_child_is_unpickled_outside_the_sandbox() -> None:
    loads = {"cloudpickle.load", "cloudpickle.loads", "pickle.load", "pickle.loads", "torch.load"}
    files = [*(PROJECT / "autorl").rglob("*.py"), PROJECT / "agent_loop.py"]
    places = {str(p.relative_to(PROJECT)) for p in files if calls(p, loads)}
    assert places == {"autorl/judge/policy_server.py"}  # which runs confined


def test_files_fit_in_the_head() -> None:
    files = [*PROJECT.glob("*.py"), *(PROJECT / "autorl").rglob("*.py")]
    lines = {str(p.relative_to(PROJECT)): len(p.read_text().splitlines()) for p in files}
    assert max(lines.values()) <= 420, lines
