"""train.py: what it learns from, what it hands over, and that it learns.

    uv run pytest tests/integration/test_train.py

Where a test has to look inside an iteration, it runs train.py with lines added or replaced by exact
edits. The clock of those runs goes by updates: a busy machine makes them slower, not shorter.
"""

import ast
import copy
import math
import types
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from training import (
    BATCH,
    COUNTING,
    PROBE,
    SMALL,
    Run,
    advantages_as_sums,
    load,
    patched,
    probe,
    replaced,
    run_train,
    run_updates,
)

import evaluate
import train
from autorl_worlds import vector

# -- What is learned from --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """Two iterations on the counting env: episodes of 5 steps terminate, of 7 are truncated."""
    folder = tmp_path_factory.mktemp("probes")
    run_updates(folder, 2, replaced(*SMALL, (BATCH, PROBE)))
    return [probe(folder, k) for k in range(2)]


def test_advantages_equal_the_papers_sum(probes: list[dict[str, np.ndarray]]) -> None:
    for p in probes:
        assert p["terminated"].any()
        assert p["truncated"].any()
        expected = advantages_as_sums(p, lambda k: train.GAE_LAMBDA**k)  # eq. 16
        assert np.allclose(p["gae"], expected, atol=1e-4)
        assert np.allclose(p["batch_advantages"], expected[p["valid"]], atol=1e-4)
        assert np.allclose(p["batch_returns"], (expected + p["values"][:-1])[p["valid"]], atol=1e-4)
        merged = {**p, "terminated": p["terminated"] | p["truncated"]}
        wrong = advantages_as_sums(merged, lambda k: train.GAE_LAMBDA**k)
        assert not np.allclose(p["gae"], wrong, atol=1e-2)  # a time limit is not a failure


def test_no_reset_step_is_trained_on(probes: list[dict[str, np.ndarray]]) -> None:
    p = probes[0]
    obs = p["batch_obs"] * p["obs_std"] + p["obs_mean"]
    steps = obs[:, 0].round()  # how far into its episode each row is
    assert len(steps) == 4 * (5 + 7 + 5 + 7)  # 28 rows an env, of which 4 are resets
    assert [int((steps == k).sum()) for k in range(8)] == [16, 16, 16, 16, 16, 8, 8, 0]
    assert all(len(p[f"batch_{name}"]) == len(steps) for name in train.Batch._fields)


def test_a_rollout_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    shows = (BATCH, BATCH + "        print('SEEN', rollout.obs[:-1, 0, 0].tolist())\n")
    small = ("NUM_ENVS = 64", "NUM_ENVS = 2"), ("NUM_STEPS = 64", "NUM_STEPS = 3")
    source = replaced(*small, shows)
    run = run_train(tmp_path, COUNTING, source, TIME_BUDGET=1000, CLOCK_UPDATES=4, HANDOVER=1)
    lines = [line[4:] for line in run.stdout.splitlines() if line.startswith("SEEN")]
    seen = [step for line in lines for step in ast.literal_eval(line)]
    # 5 is where the first episode ended; its row is the reset step
    assert seen == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5], run.stderr


def test_log_probabilities_are_those_of_the_policy_that_acted(
    probes: list[dict[str, np.ndarray]],
) -> None:
    for p in probes:
        mean, std = torch.from_numpy(p["mean"]), torch.from_numpy(p["log_std"]).exp()
        actions = torch.from_numpy(p["batch_actions"])
        expected = torch.distributions.Normal(mean, std).log_prob(actions).sum(-1)
        assert np.allclose(p["batch_logprobs"], expected, atol=1e-4)


def test_log_prob_and_entropy_are_summed_over_action_dimensions() -> None:
    mean, actions, log_std = torch.randn(9, 3), torch.randn(9, 3), torch.tensor([-1.0, 0.0, 0.5])
    agent = train.Agent(5, gym.spaces.Box(-1, 1, (3,)))
    agent.log_std.data = log_std
    normal = torch.distributions.Normal(mean, log_std.exp())
    log_prob = agent.log_prob(actions, mean)
    assert torch.allclose(log_prob, normal.log_prob(actions).sum(-1), atol=1e-5)
    assert agent.entropy(mean).item() == pytest.approx(normal.entropy()[0].sum().item(), abs=1e-5)


def test_a_discrete_policy_is_categorical() -> None:
    """Its densities are torch's, and Gumbel's noise draws each choice as often as it should."""
    torch.manual_seed(0)
    agent, rng = train.Agent(5, gym.spaces.Discrete(3)), np.random.default_rng(0)
    logits = torch.tensor([[1.0, 0.0, -1.0]]).expand(40_000, 3)
    actions = agent.sample(logits, torch.from_numpy(rng.gumbel(size=logits.shape)))
    theirs = torch.distributions.Categorical(logits=logits)
    choices = agent.to_env(actions)
    assert torch.allclose(agent.log_prob(actions, logits), theirs.log_prob(choices), atol=1e-5)
    assert agent.entropy(logits).item() == pytest.approx(theirs.entropy()[0].item(), abs=1e-5)
    shares = np.bincount(choices.numpy(), minlength=3) / len(choices)
    assert np.allclose(shares, theirs.probs[0].numpy(), atol=0.01)


def test_rewards_are_scaled_by_the_discounted_return_of_episodes(
    probes: list[dict[str, np.ndarray]],
) -> None:
    returns, p = [], probes[0]
    for n in range(4):
        running = 0.0
        for t in range(28):
            running = running * train.GAMMA + float(p["rewards"][t, n])
            if p["valid"][t, n]:
                returns.append(running)
            if p["terminated"][t, n] or p["truncated"][t, n]:
                running = 0.0
    assert np.allclose(p["scaled"], p["rewards"] / np.std(returns), rtol=1e-3)
    # returns, training returns and lengths
    assert {tuple(row) for row in p["seen"]} == {(15.0, 15.0, 5.0), (28.0, 28.0, 7.0)}


def test_running_moments_are_those_of_all_rows() -> None:
    rows, moments = np.random.default_rng(0).normal(3, 2, (90, 4)), train.RunningMoments(4)
    for part in np.split(rows, [10, 11, 50]):
        moments.update(part)
    assert np.allclose(moments.mean, rows.mean(0), atol=1e-4)
    assert np.allclose(moments.var, rows.var(0), rtol=1e-4)


def test_envpool_gives_training_the_same_meaning() -> None:
    if not vector.envpool_knows("Hopper-v5"):
        pytest.skip("EnvPool has no wheel here")
    envs = evaluate.VecEnv(8, "Hopper-v5", seed=1, threads=1)
    torch.manual_seed(0)
    agent = train.Agent(11, envs.single_action_space)
    rollout = train.Rollout(8, 11, 3)
    rollout.noise[:] = np.random.default_rng(0).normal(size=rollout.noise.shape)
    rollout.obs[0] = envs.reset()
    rollout.collect(envs, slice(0, 8), agent)
    ended = rollout.terminated | rollout.truncated
    assert ended.sum() > 5
    assert (rollout.valid[1:] == ~ended[:-1]).all()
    height, angle = rollout.obs[:-1, :, 0], rollout.obs[:-1, :, 1]
    healthy = (height > 0.7) & (np.abs(angle) < 0.2)  # Hopper's own rule
    assert healthy[rollout.valid].all()
    assert not healthy[~rollout.valid].any()


# -- How it learns ---------------------------------------------------------------------------------


def agent_and_batch(module: types.ModuleType, rows: int = 64) -> tuple[Any, Any]:
    """An agent of 5 observations and 2 actions, and a batch for it."""
    torch.manual_seed(0)
    agent = module.Agent(5, gym.spaces.Box(-1, 1, (2,)))
    obs, actions = torch.randn(rows, 5), torch.randn(rows, 2)
    logprobs = agent.log_prob(actions, agent.actor(obs)).detach()
    return agent, module.Batch(obs, actions, logprobs, torch.randn(rows), torch.randn(rows))


def test_the_policy_loss_is_the_papers_clipped_surrogate() -> None:
    agent, batch = agent_and_batch(train)
    shift = torch.linspace(-0.5, 0.5, 64)  # ratios of .6 to 1.6
    batch = batch._replace(logprobs=batch.logprobs + shift)
    loss, stats = train.policy_loss(agent, batch)
    a = ((batch.advantages - batch.advantages.mean()) / batch.advantages.std()).tolist()
    ratios = torch.linspace(0.5, -0.5, 64).exp().tolist()
    terms = [min(r * x, min(max(r, 0.8), 1.2) * x) for r, x in zip(ratios, a, strict=True)]
    surrogate = loss + train.ENT_COEF * stats["entropy"]
    assert surrogate.item() == pytest.approx(-sum(terms) / 64, abs=1e-5)
    assert stats["clipfrac"].item() == pytest.approx(sum(abs(r - 1) > 0.2 for r in ratios) / 64)
    kl = sum(r - 1 - math.log(r) for r in ratios) / 64
    assert stats["approx_kl"].item() == pytest.approx(kl, abs=1e-5)


def test_actor_and_critic_learn_apart_and_what_they_share_learns_once(tmp_path: Path) -> None:
    agent, batch = agent_and_batch(train)
    apart = train.learners(agent, [train.policy_loss, train.value_loss], batch)
    assert [losses for losses, _ in apart] == [[train.policy_loss], [train.value_loss]]
    for (_, adam), net in zip(apart, (agent.actor, agent.critic), strict=True):
        assert torch.equal(adam.flat, torch.cat([p.flatten() for p in net.parameters()]))

    edited = load(patched("shared_trunk", tmp_path))
    agent, batch = agent_and_batch(edited)
    (losses, adam), *others = edited.learners(agent, [edited.policy_loss, edited.value_loss], batch)
    assert not others
    assert losses == [edited.policy_loss, edited.value_loss]
    trunk = sum(p.numel() for p in agent.actor[:-1].parameters())
    heads = sum(p.numel() for net in (agent.actor, agent.critic) for p in net[-1].parameters())
    assert adam.flat.numel() == trunk + heads


def test_an_update_is_torchs_adam_with_its_gradient_clipping() -> None:
    agent, batch = agent_and_batch(train)
    reference = copy.deepcopy(agent)
    batch = batch._replace(returns=batch.returns * 10)  # gradients that have to be clipped
    theirs = torch.optim.Adam(reference.critic.parameters(), lr=3e-3, eps=train.ADAM_EPS)
    [_, (losses, ours)] = train.learners(agent, [train.policy_loss, train.value_loss], batch)
    train.update(agent, losses, ours, batch, [np.arange(64)] * 30, 3e-3)
    norms = []
    for _ in range(30):
        theirs.zero_grad()
        train.value_loss(reference, batch)[0].backward()
        parameters = reference.critic.parameters()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, train.MAX_GRAD_NORM).item())
        theirs.step()
    assert min(norms) > train.MAX_GRAD_NORM
    for a, b in zip(agent.critic.parameters(), reference.critic.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-5)


def test_the_horizon_follows_what_the_critic_explains(tmp_path: Path) -> None:
    """Longer above EV_HIGH, as it was in between, shorter below EV_LOW."""
    source = replaced(
        (
            "1 - (batch.advantages.var() / (batch.returns.var() + 1e-8)).item()",
            "[0.95, 0.8, 0.5][num_updates // 60]",
        ),
        ("HORIZON_RATE = 1.005", "HORIZON_RATE = 1.05"),
        ("EV_EMA = 0.98", "EV_EMA = 0.8"),
        ("NUM_ENVS = 64", "NUM_ENVS = 2"),
        ("NUM_STEPS = 64", "NUM_STEPS = 4"),
    )
    rows = run_updates(tmp_path, 180, source)
    gamma = [row["gamma"] for row in rows]
    assert gamma[0] == pytest.approx(train.GAMMA)
    assert gamma[59] == pytest.approx(train.MAX_GAMMA)
    assert gamma[60:122] == pytest.approx([train.MAX_GAMMA] * 62)
    assert gamma[179] == pytest.approx(train.GAMMA)
    assert all(train.GAMMA - 1e-9 <= g <= train.MAX_GAMMA + 1e-9 for g in gamma)


def test_sigma_falls_on_its_line_and_the_learning_rate_to_its_end(tmp_path: Path) -> None:
    rows = run_updates(tmp_path, 5, replaced(*SMALL, ("0.1  # [0.0, 0.5]", "0.0  # [0.0, 0.5]")))
    for k, row in enumerate(rows):  # the clock: k of 5 updates are over
        line = train.LOG_STD_INIT + (train.LOG_STD_FINAL - train.LOG_STD_INIT) * k / 5
        assert row["policy_sigma"] == pytest.approx(math.exp(line), rel=1e-4)
        assert row["learning_rate"] == pytest.approx(train.LEARNING_RATE * (1 - k / 5), rel=1e-4)


# -- What is handed over ---------------------------------------------------------------------------


def test_actions_fill_the_bounds_and_never_leave_them() -> None:
    low = np.array([-2.0, -0.4, -np.inf, 0.0], np.float32)
    high = np.array([4.0, 0.4, np.inf, np.inf], np.float32)
    agent = train.Agent(5, gym.spaces.Box(low, high))
    actions = agent.to_env(torch.tensor([[-9.0] * 4, [0.0] * 4, [9.0] * 4])).numpy()
    expected = [[-2.0, -0.4, -9.0, 0.0], [1.0, 0.0, 0.0, 0.0], [4.0, 0.4, 9.0, 9.0]]
    assert np.allclose(actions, expected)
    assert (actions >= low).all()
    assert (actions <= high).all()


@pytest.fixture(scope="module")
def handed_over(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A run without any time, on a user's own environment, that ends in the hand-over."""
    folder = tmp_path_factory.mktemp("handover")
    return folder, run_train(folder, COUNTING, TIME_BUDGET=0, HANDOVER=1)


def test_without_any_time_one_update_is_made_and_handed_over(handed_over: tuple[Path, Run]) -> None:
    folder, done = handed_over
    assert done.returncode == 0, done.stderr
    head, *rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1
    row = dict(zip(head.split(","), rows[0].split(","), strict=True))
    known = """num_updates sps episode_return episode_length policy_loss value_loss entropy
        approx_kl clipfrac explained_variance policy_mu policy_sigma"""
    assert set(known.split()) <= set(row)
    assert all(np.isfinite(float(value)) for value in row.values())
    assert "---" not in done.stdout  # under the judge evaluate_policy does not return


@pytest.mark.parametrize("num", [1, 100])
def test_the_agent_keeps_its_contract(handed_over: tuple[Path, Run], num: int) -> None:
    with (handed_over[0] / "policy.pkl").open("rb") as file:
        handed = cloudpickle.load(file)  # by value: this process never imported that __main__
    agent = handed["agent"]
    obs = torch.randn(num, 3, generator=torch.Generator().manual_seed(0)) * 5
    actions = agent.get_action(obs.to(handed["device"]))
    assert isinstance(actions, np.ndarray)
    assert actions.shape == (num, 1)
    assert actions.dtype == np.float32
    assert ((actions >= -2) & (actions <= 4)).all()
    assert np.array_equal(actions, agent.get_action(obs.to(handed["device"])))  # deterministic
    alone = np.concatenate([agent.get_action(row[None].to(handed["device"])) for row in obs])
    assert np.allclose(actions, alone, atol=1e-5)  # rows are independent
    assert agent.obs_mean.abs().max() > 1e-8  # the statistics travel inside the agent


# -- A run -----------------------------------------------------------------------------------------


def test_inverted_pendulum_is_solved_in_sixty_updates(tmp_path: Path) -> None:
    done = run_train(tmp_path, "InvertedPendulum-v5", TIME_BUDGET=1000, CLOCK_UPDATES=60)
    assert done.returncode == 0, done.stderr
    summary = dict(line.split(":") for line in done.stdout.split("---\n")[1].splitlines())
    assert float(summary["avg_return"]) == 1000
    assert float(summary["num_updates"]) == 60
    assert float(summary["total_timesteps"]) > 230_000


def test_wrong_spaces_are_refused_in_one_sentence(tmp_path: Path) -> None:
    done = run_train(tmp_path, "CarRacing-v3", TIME_BUDGET=5)
    assert done.returncode != 0
    assert done.stderr.strip().startswith("CarRacing-v3 shows images")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
