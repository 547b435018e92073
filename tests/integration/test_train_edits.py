"""train.py as a page: it stays one, and an edit of a first reader is one place.

uv run pytest tests/integration/test_train_edits.py
"""

import ast
import math
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from training import (
    BATCH,
    EDITS,
    PROBE,
    SMALL,
    SOURCE,
    advantages_as_sums,
    patched,
    probe,
    replaced,
    run_updates,
)

import train
from autorl.proposers.search_space import constants
from autorl.system.files import PROJECT

# -- One page --------------------------------------------------------------------------------------


def test_it_stays_one_page() -> None:
    lines = SOURCE.splitlines()
    assert len(lines) <= 400
    assert max(map(len, lines)) <= 100
    imported = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"evaluate", "gymnasium", "numpy", "torch"}
    assert "harness contract" in SOURCE.lower()
    assert "edit freely" in SOURCE.lower()


def test_all_constants_are_on_top_each_with_a_range_that_holds_its_value() -> None:
    tree, known, lines = ast.parse(SOURCE), constants(SOURCE), SOURCE.splitlines()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.UnaryOp):
            [name], comment = (
                map(ast.unparse, node.targets),
                lines[node.lineno - 1].partition("#")[2],
            )
            assert "fixed" in comment or {"[", "{"} & set(comment), name
            if "fixed" not in comment:
                dimension = known[name].dimension
                assert dimension.low <= known[name].value <= dimension.high, name
    scopes = [x for x in tree.body if isinstance(x, ast.FunctionDef | ast.ClassDef)]
    literals = [x for scope in scopes for x in ast.walk(scope) if isinstance(x, ast.Constant)]
    inside = {x.value for x in literals if type(x.value) in (int, float)}
    # counts and halves; what keeps a division from 0, the weight of a prior
    assert inside <= {0, 1, 2, 3, 0.5, 1e-4, 1e-8, 1e-9}


# -- Edits as a first reader makes them: each is one place -----------------------------------------


@pytest.mark.parametrize("diff", sorted(EDITS.glob("*.diff")), ids=lambda path: path.stem)
def test_an_edit_is_one_place(diff: Path) -> None:
    lines = diff.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("@@") for line in lines) == 1
    assert sum(line.startswith("+") for line in lines) <= 5 + 1  # with the line that names the file


def test_a_shared_trunk_trains_without_a_race(tmp_path: Path) -> None:
    """Two runs by the same clock end in the same weights, bit by bit."""
    source, ended = patched("shared_trunk", tmp_path), []
    for name in ("one", "two"):
        rows = run_updates(tmp_path / name, 10, source, "InvertedPendulum-v5")
        assert rows[-1]["episode_return"] > 2 * rows[0]["episode_return"]
        assert rows[-1]["explained_variance"] > 0.5
        with (tmp_path / name / "policy.pkl").open("rb") as file:
            ended.append(cloudpickle.load(file)["agent"].state_dict())
    one, two = ended
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(one["actor.0.weight"], one["critic.0.weight"])


def test_an_entropy_bonus_holds_sigma_above_its_line(tmp_path: Path) -> None:
    source = patched("entropy_bonus", tmp_path)
    source = replaced(("ENT_COEF = 0.01", "ENT_COEF = 1.0"), source=source)
    rows = run_updates(tmp_path, 6, source)
    falls = (train.LOG_STD_FINAL - train.LOG_STD_INIT) / 6
    for k, row in enumerate(rows[1:], 1):
        assert row["policy_sigma"] > math.exp(train.LOG_STD_INIT + falls * k) * 1.01
    assert all(math.isfinite(row["policy_loss"]) for row in rows)


def test_n_step_returns_are_sums_of_n_td_errors(tmp_path: Path) -> None:
    source = replaced(*SMALL, (BATCH, PROBE), source=patched("n_step_returns", tmp_path))
    run_updates(tmp_path, 2, source)
    p = probe(tmp_path, 1)
    assert np.allclose(p["gae"], advantages_as_sums(p, lambda k: float(k < 5)), atol=1e-4)


# -- Reward design: examples/rewards ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "env_id"), [("mountain_car", "MountainCar-v0"), ("pendulum", "autorl/Pendulum-v0")]
)
def test_a_designed_reward_is_trained_on_beside_the_registered_return(
    tmp_path: Path, name: str, env_id: str
) -> None:
    source = patched(name, tmp_path, PROJECT / "examples" / "rewards")
    source = replaced(("NUM_STEPS = 64", "NUM_STEPS = 256"), source=source)
    last = run_updates(tmp_path, 2, source, env_id)[-1]
    assert last["episode_return"] < -100  # the registered one: -1 or so a step
    assert abs(last["training_return"] - last["episode_return"]) > 10
    designed = (PROJECT / "examples" / "rewards" / f"{name}.diff").read_text(encoding="utf-8")
    assert f"AUTORL_ENV_ID={env_id}" in designed
    assert set(constants(source)) > set(constants(SOURCE))
