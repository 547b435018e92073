"""autorl/system/faults.py: the counted seam stops a real process at a chosen effect.

Run: uv run pytest tests/unit/system/test_effects.py
"""

import signal
import subprocess
from pathlib import Path

from conftest import python

THREE = """
from pathlib import Path
from autorl.system.faults import effect
for n in (1, 2, 3):
    effect(f"write {n}", lambda: Path(f"effect{n}").write_text("done"))
"""


def run(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return python("-c", THREE, cwd=folder, **env)


def made(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("effect*"))


def test_every_effect_is_counted_and_named_in_order(tmp_path):
    assert run(tmp_path, AUTORL_EFFECT_TRACE="trace").returncode == 0
    assert (tmp_path / "trace").read_text() == "1 write 1\n2 write 2\n3 write 3\n"


def test_kill_before_is_a_real_sigkill_and_the_effect_did_not_happen(tmp_path):
    assert run(tmp_path, AUTORL_KILL_AT="2").returncode == -signal.SIGKILL
    assert made(tmp_path) == ["effect1"]


def test_kill_after_leaves_the_effect_done_and_nothing_later(tmp_path):
    assert run(tmp_path, AUTORL_KILL_AT="2:after").returncode == -signal.SIGKILL
    assert made(tmp_path) == ["effect1", "effect2"]


def test_a_failing_effect_raises_the_named_errno_and_does_nothing(tmp_path):
    done = run(tmp_path, AUTORL_FAIL_AT="2:ENOSPC")
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert made(tmp_path) == ["effect1"]


def test_failure_can_last_for_a_count_or_for_ever(tmp_path):
    retry = THREE.replace('    effect(f"write', '    try: effect(f"write').replace(
        '"))', '"))\n    except OSError as e: print(e.errno)'
    )
    for fail, expected in (("1:EIO:2", ["effect3"]), ("2:EIO:ever", ["effect1"])):
        folder = tmp_path / fail.replace(":", "-")
        folder.mkdir()
        assert python("-c", retry, cwd=folder, AUTORL_FAIL_AT=fail).returncode == 0
        assert made(folder) == expected


def test_without_the_variables_nothing_is_touched(tmp_path):
    assert run(tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["effect1", "effect2", "effect3"]


def write(view: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """atomic_write of `new` in a process of its own."""
    code = f"from autorl.system.files import *\natomic_write(Path({str(view)!r}), b'new')"
    return python("-c", code, **env)


def test_a_killed_atomic_write_leaves_the_old_file_or_the_new_one_whole(tmp_path):
    view = tmp_path / "results.tsv"
    view.write_bytes(b"old")
    view.chmod(0o640)
    assert write(view, AUTORL_KILL_AT="1").returncode == -signal.SIGKILL
    assert view.read_bytes() == b"old"
    assert write(view, AUTORL_KILL_AT="1:after").returncode == -signal.SIGKILL
    assert view.read_bytes() == b"new" and view.stat().st_mode & 0o777 == 0o640


def test_atomic_write_on_a_full_disk_keeps_the_old_file_and_clears_leftovers(tmp_path):
    view = tmp_path / "results.tsv"
    view.write_bytes(b"old")
    (tmp_path / f".results.tsv.{2**22 + 1}.tmp").write_bytes(b"half, of a writer that is dead")
    done = write(view, AUTORL_FAIL_AT="1:ENOSPC:ever")
    assert "Paused" in done.stderr and "the disk is full" in done.stderr
    assert view.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["results.tsv"]
