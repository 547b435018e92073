"""The judge: a score is what the environments gave, no score has a reason, no process is left."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from daemons import DAEMON, HANG, MARK, gone
from played_alone import NOTHING, sequential

from autorl.decision.controls import band_verdict
from autorl.judge import run_dir, sandbox
from autorl.records import Job, RunRecord, to_json
from autorl.runners.local import LocalRunner
from autorl.system import hardware
from autorl.system.files import PROJECT

OPEN_LOOP = """
import numpy as np
from evaluate import evaluate_policy
class Agent:
    step = 0
    def get_action(self, obs):
        self.step += 1
        action = 3.0 * np.sin(0.7 * self.step)  # beyond the bounds of 2: clipped
        return np.full((len(obs), 1), action, np.float32)
evaluate_policy(Agent())
"""
MEMORY = """
import numpy as np
from evaluate import evaluate_policy
class Agent:
    def reset(self, mask):
        if not hasattr(self, "steps"):
            self.steps = np.zeros(len(mask), int)
        self.steps[mask] = 0
    def get_action(self, obs):
        self.steps += 1
        return np.where(self.steps % 7 < 3, 0.4, -0.4).astype(np.float32)[:, None]
evaluate_policy(Agent())
"""
NETWORK = """
import numpy as np, torch, evaluate
from torch import nn
from evaluate import evaluate_policy, log_metrics, remaining
class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 1))
    def get_action(self, obs):
        return 2 * torch.tanh(self.net(obs))
def main(seed):
    torch.manual_seed(seed)
    agent, updates = Agent(), 0
    while remaining() > 0 and updates < 3:
        updates += 1
        log_metrics(updates, num_updates=updates, episode_return=1.5)
    evaluate_policy(agent)
if __name__ == "__main__":
    main(SEED)
"""
ENVIRONMENT = """
import os
print(dict(os.environ))
log_metrics(7, num_updates=3, sps=2.5, nan=float('nan'))
evaluate_policy(Agent())
"""
NAN_THEN_CRASH = r"""
print('\x1b[2J\xff' * 10)
raise ValueError('the loss is NaN\ttoo')
"""
CULPRIT = """
import threading
agent = Agent()
agent.lock_of_mine = threading.Lock()
evaluate_policy(agent)
"""
SHORT = {"max_episode_steps": 90}
CHOICES = """
from evaluate import ENV_KWARGS, evaluate_policy, make_vec_env
envs = make_vec_env(2)
obs = envs.reset()
assert (envs.backend, envs.single_action_space.n) == ("{backend}", 2)
assert ENV_KWARGS == {kwargs}
class Agent:
    def get_action(self, obs):
        return (obs[:, 2] + obs[:, 3] > 0).long()  # (N,): push to where the pole falls
envs.step((obs[:, 2] > 0).astype(int))
evaluate_policy(Agent())
"""
WORKERS = """
import numpy as np
from autorl_worlds import vector
from evaluate import evaluate_policy, make_vec_env
vector.SLOW_STEP = 0.0  # every environment counts as slow
groups = [make_vec_env(32, seed=seed) for seed in (1, 2)]
for envs in groups:
    assert type(envs._envs).__name__ == "AsyncVectorEnv" and len(envs._envs.processes) == 32
    envs.reset()
    envs.send(np.zeros((32, 1), np.float32))
assert all(envs.recv()[4].all() for envs in groups)
class Agent:
    def get_action(self, obs):
        return np.zeros((len(obs), 1), np.float32)
evaluate_policy(Agent())
"""


def job(source: str, **more) -> Job:
    usual = {"env_id": "Pendulum-v1", "seed": 1, "time_budget": 120.0, "num_eval_episodes": 5}
    return Job(source, **usual | {"sandbox": "off"} | more)


JOBS = {
    "open_loop": job(OPEN_LOOP),
    "memory": job(MEMORY, env_id="InvertedPendulum-v5", num_eval_episodes=7),
    "network_ignores_seed": job(NETWORK.replace("SEED", "7"), kind="seed_control"),
    "network": job(NETWORK.replace("SEED", "evaluate.SEED"), kind="seed_control"),
    "daemon": job(DAEMON + "evaluate_policy(Agent())"),
    "hang": job(HANG, time_budget=1.0),
    "environment": job(NOTHING + ENVIRONMENT),
    "nan_then_crash": job(NOTHING + NAN_THEN_CRASH),
    "culprit": job(NOTHING + CULPRIT),
    "no_such_env": job(NOTHING + "evaluate_policy(Agent())", env_id="Nonsense-v0"),
    "choices": job(
        CHOICES.format(backend="envpool", kwargs=SHORT), env_id="CartPole-v1", env_kwargs=SHORT
    ),
    "world": job(
        CHOICES.format(backend="worlds", kwargs={}), env_id="autorl/CartPole-v0", sandbox="auto"
    ),
    "workers": job(WORKERS, env_kwargs={"g": 9.0}, sandbox="auto", num_eval_episodes=1),
    "auto": job(NOTHING + "evaluate_policy(Agent())", sandbox="auto", num_eval_episodes=1),
}


def run_all(jobs: dict[str, Job], out: Path, places: int = 2) -> dict[str, RunRecord]:
    runner = LocalRunner(places)
    todo, flying, records = list(jobs), {}, {}
    while todo or flying:
        while todo and len(flying) < places:
            name = todo.pop(0)
            flying[name] = runner.start(jobs[name], out / name)
        for name, handle in list(flying.items()):
            if (record := runner.poll(handle)) is not None:
                records[name] = record
                del flying[name]
        time.sleep(0.02)
    return records


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def records(out: Path) -> Iterator[dict[str, RunRecord]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORL_TEST_SECRET", "s3cr3t")
        patch.setenv("AUTORL_HOME", str(out / "home"))  # other tests kill judges in the project's
        yield run_all(JOBS, out)


# -- the score -------------------------------------------------------------------------------------


def test_open_loop_returns_are_bit_equal_with_a_sequential_rollout(records) -> None:
    record = records["open_loop"]
    expected = [
        sequential("Pendulum-v1", seed, lambda t, _: np.full(1, 3.0 * np.sin(0.7 * t), np.float32))
        for seed in record.eval_seeds
    ]
    assert record.scored and list(record.returns) == expected
    assert record.lengths == (200,) * 5
    assert record.avg_return == math.fsum(expected) / 5
    assert (record.min_return, record.max_return) == (min(expected), max(expected))
    assert record.std_return == pytest.approx(np.std(expected))


def test_discrete_actions_and_arguments_of_the_environment_are_judged(records) -> None:
    def act(_: int, obs: np.ndarray) -> int:
        return int(np.float32(obs[2]) + np.float32(obs[3]) > 0)

    for name, env_id, kwargs in (
        ("choices", "CartPole-v1", SHORT),
        ("world", "autorl_worlds:autorl/CartPole-v0", {}),
    ):
        record = records[name]
        assert record.scored, record.reason
        expected = [sequential(env_id, seed, act, **kwargs) for seed in record.eval_seeds]
        assert list(record.returns) == expected and record.env_kwargs == kwargs
    assert records["choices"].max_return == 90.0 < records["world"].max_return


def test_training_may_have_a_worker_process_for_each_slow_environment(records) -> None:
    assert records["workers"].scored, records["workers"].reason


def test_a_policy_with_memory_is_told_where_episodes_begin_and_end(records) -> None:
    record = records["memory"]

    def act(step: int, obs: np.ndarray) -> np.ndarray:
        return np.full(1, 0.4 if step % 7 < 3 else -0.4, np.float32)

    expected = [sequential("InvertedPendulum-v5", seed, act) for seed in record.eval_seeds]
    assert list(record.returns) == expected and len(set(record.lengths)) > 1


def test_the_same_network_on_the_same_episodes_is_bit_equal_twice(records) -> None:
    control = records["network_ignores_seed"].control
    assert len(set(control["avg_return"])) == len(set(control["actions"])) == 1


def test_against_inference_one_by_one_the_means_agree_within_two_standard_errors(records) -> None:
    record = records["network"]
    scope: dict = {"__name__": "agent"}
    exec(compile(NETWORK.replace("SEED", "0"), "agent", "exec"), scope)
    torch.manual_seed(1)
    agent = scope["Agent"]()

    def act(step: int, obs: np.ndarray) -> np.ndarray:
        return agent.get_action(torch.as_tensor(obs, dtype=torch.float32)[None]).numpy()[0]

    with torch.no_grad():
        alone = [sequential("Pendulum-v1", seed, act) for seed in record.eval_seeds]
    assert abs(np.mean(alone) - record.avg_return) <= 2 * np.std(alone, ddof=1) / len(alone) ** 0.5


def test_evaluation_seeds_are_drawn_anew_for_each_run(records) -> None:
    seeds = [records[name].eval_seeds for name in ("open_loop", "daemon", "environment")]
    assert len({s for group in seeds for s in group}) == 15


def test_what_a_run_says_of_itself_is_recorded_as_such(records, out: Path) -> None:
    record = records["environment"]
    assert (record.total_timesteps, record.num_updates, record.diagnostics["sps"]) == (7, 3, 2.5)
    assert "nan" not in record.diagnostics
    assert (out / "environment" / "metrics.csv").read_text().startswith("seconds,step,")


def test_the_record_names_its_machine(records) -> None:
    record = records["open_loop"]
    assert record.versions["gymnasium"] == gym.__version__ and record.hardware
    assert record.cores == len(hardware.affinity())
    assert 0 < record.training_seconds < record.total_seconds
    assert record.cpu_seconds > 0 and record.peak_memory_bytes > 10 * 2**20
    assert 0 <= record.machine.cpu_share <= 1 and record.machine.suspended_seconds < 1


def test_the_files_of_a_run_are_its_artefacts_alone(records, out: Path) -> None:
    files = {path.name: path for path in (out / "open_loop").iterdir()}
    assert files.keys() == {"record.json", "recording.json", "run.log"}
    assert json.loads(files["record.json"].read_text()) == to_json(records["open_loop"])


# -- no score --------------------------------------------------------------------------------------


def test_a_crash_has_a_reason_and_no_score(records) -> None:
    record = records["nan_then_crash"]
    assert (record.status, record.rule) == ("crash", "exit")
    assert (record.avg_return, record.returns) == (None, ())
    assert "ValueError: the loss is NaN" in record.reason and "\x1b" not in record.log_tail


def test_an_agent_that_cannot_be_handed_over_names_the_culprit(records) -> None:
    record = records["culprit"]
    assert record.status == "crash" and "lock_of_mine" in record.reason


def test_an_environment_that_fails_is_a_reason_not_an_exception(records) -> None:
    record = records["no_such_env"]
    assert (record.status, record.rule, record.avg_return) == ("crash", "env", None)
    assert "Nonsense" in record.reason


def test_a_hang_that_ignores_sigterm_is_late_and_gone(records) -> None:
    record = records["hang"]
    assert (record.status, record.rule, record.avg_return) == ("crash", "late", None)
    assert 4.0 <= record.total_seconds < 12


def test_keys_never_reach_a_run_even_unconfined(records, out: Path) -> None:
    log = (out / "environment" / "run.log").read_text()
    assert "AUTORL_SEED" in log and "s3cr3t" not in log and "AUTORL_TEST_SECRET" not in log


def test_isolation_is_in_every_record(records) -> None:
    assert records["open_loop"].isolation == records["hang"].isolation == "none"
    assert records["auto"].isolation == sandbox.probe("auto").name
    if os.environ.get("AUTORL_REQUIRE_SANDBOX") == "1":
        assert records["auto"].isolation == "bwrap"


FILL = """
import os, time
from evaluate import RUN_DIR
fd = os.open(RUN_DIR / "full", os.O_RDWR | os.O_CREAT)
try:
    while True:
        os.write(fd, b"x" * (1 << 20))
except OSError as error:
    print("full", error, flush=True)
for _ in range(200):
    print("x" * 1000, flush=True)
    time.sleep(0.1)
os.unlink(RUN_DIR / "full")
os.close(fd)
"""


def test_a_run_that_fills_a_small_disk_is_a_crash_and_is_recorded(
    tmp_path: Path, box: sandbox.Sandbox
) -> None:
    """Within its limit of 1 GiB, on a disk of 300 MiB: a judge that dies would measure it again."""
    small = tmp_path / "small"
    small.mkdir()
    code = f"""
import os, sys, time
sys.path.insert(0, {str(PROJECT)!r})
os.environ["AUTORL_HOME"] = {str(small / "home")!r}
from pathlib import Path
from autorl.records import Job
from autorl.runners.local import LocalRunner
runner = LocalRunner()
handle = runner.start(Job({FILL + NOTHING + "evaluate_policy(Agent())"!r}, "Pendulum-v1", 1, 30.0,
                          2, sandbox="off"), Path({str(small / "out")!r}))
while (record := runner.poll(handle)) is None:
    time.sleep(0.05)
print(record.status, record.rule, record.reason)
"""
    argv = [box.program, "--dev-bind", "/", "/", "--unshare-user", "--size", str(300 << 20)]
    argv += ["--tmpfs", str(small), sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("crash disk The run was stopped: the disk has"), done


# -- nothing outlives a run ------------------------------------------------------------------------


def test_a_double_forked_daemon_is_gone_without_a_pid_namespace_too(records) -> None:
    assert records["daemon"].scored
    assert gone(MARK, 0)


def test_no_private_directory_is_left(records) -> None:
    assert [p for p in run_dir.runs_folder().glob("run-*") if run_dir.is_dead(p)] == []


# -- the seed control, on real runs ----------------------------------------------------------------


def test_seed_control_tells_a_file_that_uses_the_seed_from_one_that_does_not(records) -> None:
    assert band_verdict("seed_control", records["network"], None)[0]
    passed, why = band_verdict("seed_control", records["network_ignores_seed"], None)
    assert not passed and "ignores the harness's seed" in why
    # the clock counts updates: both runs are equally long
    assert records["network"].control["updates"] == [2, 2]
