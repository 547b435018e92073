"""train.py: what it learns from, what it hands over, and that it learns.

uv run pytest tests/test_train.py
"""

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

import evaluate
import train

PROJECT = Path(__file__).resolve().parent.parent
TOYS = PROJECT / "tests" / "toys"

WORKER = ThreadPoolExecutor(1)


def run_train(
    folder: Path, env_id: str, budget: float, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python train.py` as a person starts it, with its metrics in `folder`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AUTORL_")}
    settings = {
        "AUTORL_ENV_ID": env_id,
        "AUTORL_TIME_BUDGET": str(budget),
        "AUTORL_RUN_DIR": str(folder),
        "AUTORL_NUM_EVAL_EPISODES": "5",
    }
    env = clean | settings | {"PYTHONPATH": str(TOYS)} | variables
    return subprocess.run(
        [sys.executable, str(PROJECT / "train.py")],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
    )


def block(output: str) -> dict[str, float]:
    """The summary block's numbers."""
    return {
        k: float(v) for k, v in (line.split(":") for line in output.split("---\n")[1].splitlines())
    }


# ---------------------------------------------------------------------------
# What is learned from
# ---------------------------------------------------------------------------


def slow_gae(rewards: Any, values: Any, terminated: Any, truncated: Any) -> np.ndarray:
    """Eq. 16 of the GAE paper as a sum, environment by environment, episode by episode."""
    T, N = rewards.shape
    out = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                bootstrap = 0.0 if terminated[k, n] else values[k + 1, n]
                out[t, n] += weight * (rewards[k, n] + train.GAMMA * bootstrap - values[k, n])
                weight *= train.GAMMA * train.GAE_LAMBDA
                if terminated[k, n] or truncated[k, n]:
                    break
    return out


def test_advantages_equal_the_papers_sum() -> None:
    rng = np.random.default_rng(3)
    rewards, values = (
        rng.normal(size=(50, 6)).astype(np.float32),
        rng.normal(size=(51, 6)).astype(np.float32),
    )
    kind = rng.random((50, 6))
    terminated, truncated = kind < 0.1, (kind > 0.9)
    fast = train.compute_gae(rewards, values, terminated, truncated)
    assert np.allclose(fast, slow_gae(rewards, values, terminated, truncated), atol=1e-4)
    assert not np.allclose(
        fast, slow_gae(rewards, values, terminated | truncated, truncated), atol=1e-2
    )  # the time limit matters


def collected(
    env_id: str, num_envs: int, num_steps: int
) -> tuple[train.Rollout, train.Agent, list[Any]]:
    half = num_envs // 2
    halves = [
        (evaluate.VecEnv(half, env_id, seed=k, threads=1), slice(k * half, (k + 1) * half))
        for k in (0, 1)
    ]
    obs_space, action_space = (
        halves[0][0].single_observation_space,
        halves[0][0].single_action_space,
    )
    torch.manual_seed(0)
    agent = train.Agent(obs_space.shape[0], action_space.low, action_space.high)
    rollout = train.Rollout(num_steps, num_envs, *obs_space.shape, *action_space.shape)
    rollout.begin(halves)
    return rollout, agent, halves


def test_no_reset_step_is_trained_on_and_a_time_limit_is_bootstrapped() -> None:
    """Episodes of 5 steps then terminated, 7 then truncated, a reset step after each."""
    rollout, agent, halves = collected("counting_env:Counting-v0", 4, 28)
    rollout.collect(halves, agent, np.random.default_rng(0), WORKER)
    obs, _, logprobs, advantages, values = rollout.batch(
        agent, rollout.rewards, train.GAMMA, torch.device("cpu")
    )
    steps = (
        (obs[:, 0] * agent.obs_std[0] + agent.obs_mean[0]).round().int()
    )  # how far into its episode each row is
    assert len(obs) == 4 * (5 + 7 + 5 + 7 + 0)  # 28 rows an env, of which 4 are resets
    assert sorted(set(steps.tolist())) == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
    ]  # never 7, nor a 5 of an odd episode: nothing acts on a last observation
    assert int((steps == 5).sum()) == int((steps == 6).sum()) == 4 * 2
    assert len(logprobs) == len(advantages) == len(values) == len(obs)
    all_values = (
        agent.critic(agent.normalize(torch.from_numpy(rollout.obs))).squeeze(-1).detach().numpy()
    )
    for n in range(4):
        t_term, t_trunc = 4, 12  # the last steps of the first and of the second episode
        assert rollout.terminated[t_term, n] and rollout.truncated[t_trunc, n]
        flat = {
            int(t): i for i, t in enumerate(np.flatnonzero(rollout.valid.reshape(-1)))
        }  # (t, n) -> row of the batch
        row = flat[t_term * 4 + n]
        assert advantages[row].item() == pytest.approx(5.0 - all_values[t_term, n], abs=1e-4)
        row = flat[t_trunc * 4 + n]
        assert rollout.obs[t_trunc + 1, n, 0] == 7  # bootstrapped from the true last observation
        assert advantages[row].item() == pytest.approx(
            7.0 + train.GAMMA * all_values[t_trunc + 1, n] - all_values[t_trunc, n], abs=1e-4
        )


def test_envpool_gives_training_the_same_meaning() -> None:
    if not evaluate._envpool_knows("Hopper-v5"):
        pytest.skip("EnvPool has no wheel here")
    rollout, agent, halves = collected("Hopper-v5", 8, 200)
    rollout.collect(halves, agent, np.random.default_rng(0), WORKER)
    ended = rollout.terminated | rollout.truncated
    assert ended.sum() > 20
    assert (rollout.valid[1:] == ~ended[:-1]).all()
    obs, *_ = rollout.batch(agent, rollout.rewards, train.GAMMA, torch.device("cpu"))
    assert len(obs) == rollout.valid.sum()
    healthy = (rollout.obs[:-1, :, 0] > 0.7) & (np.abs(rollout.obs[:-1, :, 1]) < 0.2)
    assert healthy[rollout.valid].all() and not healthy[~rollout.valid].any()


def test_a_rollout_goes_on_where_the_last_one_stopped() -> None:
    rollout, agent, halves = collected("counting_env:Counting-v0", 2, 3)
    seen = []
    for _ in range(4):
        rollout.collect(halves, agent, np.random.default_rng(0), WORKER)
        seen += rollout.obs[:-1, 0, 0].tolist()
    assert seen == [
        0,
        1,
        2,
        3,
        4,
        5,
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # 5 is where the first episode ended; its row is the reset step


def test_log_probabilities_are_those_of_the_behaviour_policy() -> None:
    rollout, agent, halves = collected("counting_env:Counting-v0", 4, 16)
    rollout.collect(halves, agent, np.random.default_rng(0), WORKER)
    obs, actions, logprobs, *_ = rollout.batch(
        agent, rollout.rewards, train.GAMMA, torch.device("cpu")
    )
    normal = torch.distributions.Normal(agent.actor(obs), agent.log_std.exp())
    assert torch.allclose(logprobs, normal.log_prob(actions).sum(-1), atol=1e-4)


def test_rewards_are_scaled_by_the_discounted_return_of_episodes() -> None:
    rollout, agent, halves = collected("counting_env:Counting-v0", 2, 200)
    rollout.collect(halves, agent, np.random.default_rng(0), WORKER)
    episodes = train.Episodes(2)
    scaled = episodes.see(rollout)
    returns = []
    for n in range(2):
        running = 0.0
        for t in range(200):
            running = running * train.GAMMA + float(rollout.rewards[t, n])
            if rollout.valid[t, n]:
                returns.append(running)
            if rollout.terminated[t, n] or rollout.truncated[t, n]:
                running = 0.0
    assert np.allclose(scaled, rollout.rewards / np.std(returns), rtol=1e-3)
    assert set(episodes.finished) == {(15.0, 5.0), (28.0, 7.0)}


# ---------------------------------------------------------------------------
# What is handed over
# ---------------------------------------------------------------------------


def test_actions_fill_the_bounds_and_never_leave_them() -> None:
    low, high = (
        np.array([-2.0, -0.4, -np.inf], np.float32),
        np.array([4.0, 0.4, np.inf], np.float32),
    )
    agent = train.Agent(5, low, high)
    actions = agent.to_env(
        torch.tensor([[-9.0, -9.0, -9.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    ).numpy()
    assert actions.tolist() == [
        [-2.0, pytest.approx(-0.4), -9.0],
        [1.0, 0.0, 0.0],
        [4.0, pytest.approx(0.4), 9.0],
    ]


@pytest.fixture(scope="module")
def handed_over(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run without any time, on a user's own environment, that ends in the hand-over."""
    folder = tmp_path_factory.mktemp("handover")
    return folder, run_train(folder, "counting_env:Counting-v0", 0, AUTORL_HANDOVER="1")


def test_without_any_time_one_update_is_made_and_handed_over(
    handed_over: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = handed_over
    assert done.returncode == 0, done.stderr
    head, *rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1
    row = dict(zip(head.split(","), rows[0].split(","), strict=True))
    known = {
        "num_updates",
        "sps",
        "episode_return",
        "episode_length",
        "policy_loss",
        "value_loss",
        "entropy",
        "approx_kl",
        "clipfrac",
    }
    assert known | {"explained_variance", "policy_mu", "policy_sigma"} <= set(row)
    assert all(np.isfinite(float(value)) for value in row.values())
    assert "---" not in done.stdout  # under the judge evaluate_policy does not return


@pytest.mark.parametrize("num", [1, 100])
def test_the_agent_keeps_its_contract(
    handed_over: tuple[Path, subprocess.CompletedProcess[str]], num: int
) -> None:
    with open(handed_over[0] / "policy.pkl", "rb") as file:
        handed = cloudpickle.load(file)  # by value: this process never imported that __main__
    agent = handed["agent"]
    obs = torch.randn(num, 3, generator=torch.Generator().manual_seed(0)) * 5
    actions = agent.get_action(obs.to(handed["device"]))
    assert (
        isinstance(actions, np.ndarray)
        and actions.shape == (num, 1)
        and actions.dtype == np.float32
    )
    assert ((actions >= -2) & (actions <= 4)).all()
    assert np.array_equal(actions, agent.get_action(obs.to(handed["device"])))  # deterministic
    alone = np.concatenate([agent.get_action(row[None].to(handed["device"])) for row in obs])
    assert np.allclose(actions, alone, atol=1e-5)  # rows are independent
    assert not np.allclose(
        agent.obs_mean.cpu().numpy(), 0
    )  # the statistics travel inside the agent


# ---------------------------------------------------------------------------
# A run
# ---------------------------------------------------------------------------


def test_inverted_pendulum_is_solved_within_a_minute(tmp_path: Path) -> None:
    done = run_train(tmp_path, "InvertedPendulum-v5", 45, AUTORL_NUM_EVAL_EPISODES="20")
    assert done.returncode == 0, done.stderr
    summary = block(done.stdout)
    assert summary["avg_return"] == 1000
    assert summary["training_seconds"] < 45 + 3
    assert summary["total_timesteps"] > 0 and summary["num_updates"] > 1


def test_wrong_spaces_are_refused_in_one_sentence(tmp_path: Path) -> None:
    done = run_train(tmp_path, "CartPole-v1", 5)
    assert done.returncode != 0
    assert (
        done.stderr.strip().startswith("CartPole-v1 has actions of Discrete(2)")
        and len(done.stderr.strip().splitlines()) == 1
    )
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_it_stays_one_readable_file() -> None:
    source = (PROJECT / "train.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 400
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"evaluate", "numpy", "torch"}
    assert "harness contract" in source.lower() and "edit freely" in source.lower()


def test_our_adam_is_torchs_adam_with_its_gradient_clipping() -> None:
    def net() -> torch.nn.Sequential:
        torch.manual_seed(4)
        return train.mlp(6, 2, 1.0)

    ours, theirs = net(), net()
    optimizer = train.Adam(ours.parameters())
    reference = torch.optim.Adam(theirs.parameters(), lr=3e-3, betas=(0.9, 0.999), eps=1e-5)
    for step in range(30):
        x = torch.randn(64, 6, generator=torch.Generator().manual_seed(step))
        optimizer.minimize((ours(x) * 10 - x[:, :2]).square().mean(), 3e-3)
        reference.zero_grad()
        (theirs(x) * 10 - x[:, :2]).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), train.MAX_GRAD_NORM)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-5)


def test_the_horizon_is_as_long_as_the_critic_can_foresee() -> None:
    horizon, blind = train.Horizon(), train.Horizon()
    for k in range(1000):
        horizon.see(0.95 if k % 4 else 0.85)  # .925 on average
        blind.see(float(k % 2) if k < 100 else -5.0)
        assert (
            train.GAMMA - 1e-9 <= horizon.gamma <= train.MAX_GAMMA + 1e-9
            and abs(blind.gamma - train.GAMMA) < 1e-9
        )
    assert abs(horizon.gamma - train.MAX_GAMMA) < 1e-9
    for _ in range(1000):
        horizon.see(0.8)  # less, because episodes have become longer: it stays
    assert abs(horizon.gamma - train.MAX_GAMMA) < 1e-9
    for _ in range(1000):
        horizon.see(0.5)
    assert abs(horizon.gamma - train.GAMMA) < 1e-9
