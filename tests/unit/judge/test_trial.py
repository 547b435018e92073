"""An environment that breaks Gymnasium's interface is refused in one sentence before anything."""

from pathlib import Path

import pytest
from conftest import HERE

from autorl.environments import env_module
from autorl.errors import UserError
from autorl.judge import sandbox
from autorl.judge.trial import fault_of, try_env


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Good", ""),
        ("OldStep", "step() gives 4 values; Gymnasium's gives 5"),
        ("OldReset", "Gymnasium's is reset(*, seed=None, options=None)"),
        ("OldResetResult", "reset() gives no pair"),
        ("ArrayReward", "a reward of shape (1,), where Gymnasium's is a number, at step 1"),
        ("OtherShape", "an observation of shape (1, 4), where its space has (4,)"),
        ("NanReward", "a reward of nan at step 17 of episode 1"),
        ("NanObservation", "an observation that is not finite at step 9 of episode 1"),
        ("Diverging", "step() failed at step 6 of episode 1 (RuntimeError: joint velocity 1e9)"),
        ("ResetFails", "reset() failed (OSError: no robot here)"),
        ("Endless", "no episode of it ended in 20,000 steps: register it with max_episode_steps"),
    ],
)
def test_the_fault_is_named(name: str, fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = fault_of(f"odd_env:{name}-v0")
    assert found == fault if not fault else fault in found


def test_arguments_and_nested_observations_are_tried_too() -> None:
    assert fault_of("various_env:Various-v0", {"steps": 6}) == ""
    assert "unexpected keyword" in fault_of("various_env:Various-v0", {"stepz": 6})


def test_it_is_tried_in_a_process_of_its_own(monkeypatch, capfd) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE / "support"))
    try_env("odd_env:Good-v0", "off")
    with pytest.raises(UserError, match=r"Dies-v0 cannot be used: its process ended with exit"):
        try_env("odd_env:Dies-v0", "off")
    assert "hello" not in capfd.readouterr().out


def test_a_module_anywhere_is_seen_by_a_confined_run_or_refused(
    tmp_path: Path, monkeypatch, box: sandbox.Sandbox
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (HERE / "support" / "odd_env.py").read_text().replace("import os\n", "import os\nMORE\n")
    (tmp_path / "env_alone.py").write_text(text.replace("MORE\n", "\n"))
    (tmp_path / "env_helped.py").write_text(text.replace("MORE", "import env_helper"))
    (tmp_path / "env_helper.py").write_text("")
    assert env_module("env_alone:Good-v0") == tmp_path.resolve() / "env_alone.py"
    assert env_module("Pendulum-v1") is env_module("gymnasium:Pendulum-v1") is None
    try_env("env_alone:Good-v0", "auto")
    with pytest.raises(UserError, match=r"No module named 'env_helper'.*: install it"):
        try_env("env_helped:Good-v0", "auto")
