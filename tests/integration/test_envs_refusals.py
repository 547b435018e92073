"""The training environments: what is refused, in one sentence, and whose fault a failure is.

uv run pytest tests/integration/test_envs_refusals.py
"""

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import evaluate

IDS = ["autorl/MountainCar-v0", "CartPole-v1", "various_env:Various-v0"]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize(
    ("actions", "words"),
    [
        (np.array([0, 1, 2, 3]), r"shape \(4,\) came; the contract is \(3,\) or \(3, 1\)"),
        (np.zeros((3, 2)), r"shape \(3, 2\) came"),
        (np.array([0, 0.5, 0]), r"shape \(3,\) came with 0.5 in row 1"),
        (np.array([[0], [0], [-1]]), r"shape \(3, 1\) came with -1 in row 2"),
        (np.array([0, 0, np.inf]), "came with inf in row 2; the contract is whole numbers in 0 .."),
        (torch.tensor([0, 7, 0]), "came with 7 in row 1"),
    ],
)
def test_actions_that_are_none_are_refused(env_id: str, actions: Any, words: str) -> None:
    envs = evaluate.make_vec_env(3, env_id)
    envs.reset()
    with pytest.raises(SystemExit, match=words):
        envs.step(actions)


def test_actions_of_a_box_have_its_shape() -> None:
    envs = evaluate.make_vec_env(3, "Pendulum-v1")
    envs.reset()
    with pytest.raises(SystemExit, match=r"shape \(3,\) came; the contract is \(3, 1\)"):
        envs.step(np.zeros(3, np.float32))


def test_actions_beyond_one_bound_are_clipped_as_whoever_scores_does() -> None:
    for env_id in ("odd_env:HalfInfiniteAction-v0", "Pendulum-v1"):
        envs = evaluate.make_vec_env(3, env_id)
        space = envs.single_action_space
        envs.reset()
        one, other = (envs.step(np.full((3, *space.shape), x))[1] for x in (-9.0, float("inf")))
        assert np.isfinite(one).all() and np.isfinite(other).all()
        with pytest.raises(SystemExit, match=r"NaN in row 1: train\.py has diverged"):
            envs.step(np.array([[0], [np.nan], [0]]) + np.zeros(space.shape))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's, of workers that ended
@pytest.mark.parametrize(
    ("name", "pause", "sentence"),
    [
        ("NanReward", 0.0, "at step 17 of episode 1 (ArithmeticError: a reward of nan)"),
        ("NanReward", 0.002, "at step 17 of episode 1 (ArithmeticError: a reward of nan)"),
        ("NanObservation", 0.0, "at step 9 of episode 1 (ArithmeticError: an observation that is"),
        ("DivergesLater", 0.0, "at step 6 of episode 22 (RuntimeError: joint velocity 1e9)"),
        ("ResetFails", 0.0, "in reset() of episode 1 (OSError: no robot here)"),
    ],
)
def test_what_fails_in_training_is_told_as_the_environments_own(
    name: str, pause: float, sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        envs = evaluate.VecEnv(2, f"odd_env:{name}-v0", kwargs={"pause": pause})
        assert isinstance(envs._envs, gym.vector.AsyncVectorEnv) == (pause > 0)
        envs.reset()
        for _ in range(600):
            envs.step(np.zeros((2, 1), np.float32))
    assert str(ended.value).startswith(f"the environment failed {sentence}")


# -- A budget in steps, and what is refused --------------------------------------------------------


def harness(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "ignore", "-c", f"import evaluate\n{code}"]
    return subprocess.run(argv, capture_output=True, text=True, env=os.environ | variables)


def test_the_clock_runs_by_steps_or_seconds_whichever_is_more() -> None:
    code = """
import numpy as np
before, envs = evaluate.elapsed(), [evaluate.make_vec_env(4, seed=k) for k in (1, 2)]
for group in envs:
    group.reset()
for _ in range(201):  # the last is a reset step
    for group in envs:
        group.step(np.zeros((4, 1), np.float32))
print(before, evaluate.elapsed(), evaluate.remaining())
"""
    budgets = {"AUTORL_TIME_BUDGET": "1000", "AUTORL_BUDGET_STEPS": "3200"}
    done = harness(code, AUTORL_ENV_ID="autorl/Pendulum-v0", **budgets)
    before, spent, left = map(float, done.stdout.split())
    assert before < 300 and (spent, left) == (500.0, 500.0)  # 1,600 of 3,200 steps


@pytest.mark.parametrize("text", ["[1]", "{", "3"])
def test_arguments_that_are_no_json_object_are_refused(text: str) -> None:
    done = harness("", AUTORL_ENV_KWARGS=text)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"AUTORL_ENV_KWARGS={text} is not a JSON object; set it to")


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("CarRacing-v3", {}, "CarRacing-v3 shows images .* millions of steps"),
        ("various_env:Parts-v0", {"shows": "image"}, "Parts-v0 shows images"),
        ("various_env:Parts-v0", {"shows": "list"}, "no fixed size"),
        ("various_env:Parts-v0", {}, "has actions of MultiDiscrete.* Box of floats or Discrete"),
        ("odd_env:IntAction-v0", {}, r"has actions of Box\(0, 10, \(2,\), int32\); they must be"),
        ("NoSuchThing-v7", {}, "Gymnasium cannot make 'NoSuchThing-v7'"),
        ("no_such_module:Env-v0", {}, "Gymnasium cannot make 'no_such_module:Env-v0'"),
        ("autorl/Nonsense-v0", {}, "cannot make 'autorl/Nonsense-v0': .* namespace autorl"),
        ("autorl/CartPole-v0", {"wind": 1}, "unexpected keyword argument 'wind'"),
        ("Pendulum-v1", {"wind": 1}, "unexpected keyword argument 'wind'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(
    env_id: str, kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(SystemExit, match=words) as refusal:
        evaluate.VecEnv(4, env_id, kwargs=kwargs)
    assert "\n" not in str(refusal.value)
