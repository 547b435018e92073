"""Settings follow from what was typed, kept and usual."""

import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autorl.errors import UserError
from autorl.session import Settings, resolve_settings
from autorl.session import events as e
from autorl.session.event_log import EventLog
from autorl.system.files import PROJECT

FIRST = e.Created(
    env_id="Toy-v0", tag="t", settings={}, root_seed=5, base="", baseline=e.Baseline("", "")
)


def project(root: Path, finished: str = "", **settings: Any) -> Path:
    """A project with evaluate.py and, where there are settings, a session `kept` of these."""
    root.mkdir(exist_ok=True)
    shutil.copy(PROJECT / "evaluate.py", root)
    if settings:
        kept = Settings(**settings)
        first = msgspec.structs.replace(FIRST, env_id=kept.env_id, settings=asdict(kept))
        log, _ = EventLog.open(root / "results" / kept.env_id / "kept" / "journal.jsonl", first)
        log.append(e.Closed(why="w", finished=finished))
        log.close()
    return root


def test_a_new_session_takes_what_was_typed_else_what_is_usual(tmp_path):
    root = project(tmp_path)
    usual = Settings("BipedalWalker-v3", 720.0, 100)  # the constants of evaluate.py
    assert resolve_settings(root, {}, "t") == ("t", usual, False)
    typed = {"env_id": "Toy-v0", "time_budget": 60.0, "slots": 2}
    assert resolve_settings(root, typed, "t") == ("t", replace(usual, **typed), False)
    project(tmp_path, env_id="BipedalWalker-v3", time_budget=9.0)
    assert resolve_settings(root, {}, "kept", new=True) == ("kept", usual, False)


def test_a_session_keeps_its_settings_but_for_the_sandbox_and_the_cores(tmp_path):
    kept = {"env_id": "BipedalWalker-v3", "time_budget": 9.0, "slots": 2, "cores": (0, 1)}
    root = project(tmp_path, **kept)
    assert resolve_settings(root, {}, None) == ("kept", Settings(**kept), True)
    typed = {"time_budget": 9.0, "sandbox": "off", "cores": (3,)}
    assert resolve_settings(root, typed, "kept") == ("kept", Settings(**kept | typed), True)
    for name, value in {
        "time_budget": 10.0,
        "num_eval_episodes": 5,
        "slots": 1,
        "gpu": "0",
    }.items():
        words = name.replace("_", " ")
        with pytest.raises(UserError, match=rf"begun with {words} .*, not {value}: .* another"):
            resolve_settings(root, {name: value}, "kept")
    for name, value in {"env_kwargs": {"hardcore": True}, "budget_steps": 5}.items():
        with pytest.raises(UserError, match=r"begun with (env kwargs \{\}|budget steps 0), not"):
            resolve_settings(root, {name: value}, "kept")
    with pytest.raises(UserError, match="'kept' belongs to BipedalWalker-v3"):
        resolve_settings(root, {"env_id": "Toy-v0"}, "kept")
    other, _, exists = resolve_settings(root, {"env_id": "Toy-v0"}, None)
    assert other != "kept" and not exists


def test_arguments_and_a_budget_in_steps_are_kept_and_not_given_to_another_environment(
    tmp_path, monkeypatch
):
    kept = {"env_id": "BipedalWalker-v3", "env_kwargs": {"hardcore": True}, "budget_steps": 10**6}
    root = project(tmp_path, **kept)
    assert resolve_settings(root, {}, "kept") == ("kept", Settings(**kept), True)
    monkeypatch.setenv("AUTORL_ENV_KWARGS", '{"hardcore": true}')
    other = project(tmp_path / "other")
    _, settings, _ = resolve_settings(other, {}, "t")
    assert settings.env_kwargs == {"hardcore": True}
    _, settings, _ = resolve_settings(other, {"env_id": "Toy-v0"}, "t")
    assert settings.env_kwargs == {}


def test_a_finished_session_is_continued_by_its_tag_only(tmp_path):
    root = project(tmp_path, env_id="BipedalWalker-v3", finished="done")
    assert [resolve_settings(root, {}, tag)[2] for tag in (None, "kept")] == [False, True]


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_settings_that_are_none_are_refused(tmp_path, budget):
    root = project(tmp_path)
    with pytest.raises(UserError, match="--budget 720"):
        resolve_settings(root, {"time_budget": budget}, "t")
    with pytest.raises(UserError, match="--episodes 100"):
        resolve_settings(root, {"num_eval_episodes": 0}, "t")
