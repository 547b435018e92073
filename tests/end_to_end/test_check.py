"""`try --check`: seconds, the real judge, no session."""

import json
from pathlib import Path

FLAGS = ("try", "--check", "--json", "--env-id", "InvertedPendulum-v5")


def test_a_file_that_works_is_fine_and_nothing_is_left(repo: Path, autorl) -> None:
    before = {p.name for p in repo.iterdir()}
    done = autorl(*FLAGS)
    seen = json.loads(done.stdout)
    assert done.returncode == 0 and seen["state"] == "fine", seen
    assert seen["updates"] == 2 and len(seen["returns"]) == 2 and seen["first_update"] > 0
    assert {p.name for p in repo.iterdir()} - before <= {".autorl", "__pycache__"}


def test_what_breaks_is_named_with_its_line(repo: Path, autorl) -> None:
    train = repo / "train.py"
    lines = train.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if "if remaining()" in line)
    lines.insert(at, '        assert update < 2, "a planted fault"')
    train.write_text("\n".join(lines))
    done = autorl(*FLAGS)
    seen = json.loads(done.stdout)
    assert done.returncode == 1 and seen["state"] == "broken" and seen["updates"] == 2
    assert seen["line"] == at + 1 and seen["code"].startswith("assert update < 2")
    assert "a planted fault" in seen["reason"] and "a planted fault" in seen["log"]
    train.write_text("import evaluate\nx = (\n")
    done = autorl("try", "--check")
    assert done.returncode == 1 and "state:" in done.stdout and "broken" in done.stdout
    assert done.stderr == "" and not (repo / "results").exists()
