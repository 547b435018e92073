"""modal_app.py without an account: the function's body run here, its definition inspected, and the
real client's `modal run` and `App.deploy`, with all they send, against a server on loopback
(modal_server.py).
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from modal_server import ModalServer
from modal_stand_in import JOB, answer

import modal_app
from autorl.records import Job, RunRecord, from_json, to_json
from autorl.runners.modal import cost_usd, timeout
from evaluate import SUMMARY, summary_block

PROJECT = Path(__file__).resolve().parents[2]
REFUSED = """
import modal_app
from autorl.errors import UserError
try:
    modal_app.runner(2)
except UserError as error:
    print("refused:", error)
"""


def python(
    args: list[str], env: dict[str, str], cwd: Path = PROJECT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )


# -- the page --------------------------------------------------------------------------------------


def test_the_machine_is_the_one_the_page_promises() -> None:
    spec = modal_app.measure._spec_
    assert (spec.gpus, spec.cpu, spec.memory, list(spec.secrets)) == ("H100!", 8.0, 32 * 1024, [])
    assert spec.image is not None


def test_the_body_measures_and_says_where(tmp_path: Path) -> None:
    source = (PROJECT / "tests" / "toys" / "train_es.py").read_text(encoding="utf-8")
    job = Job(source, "Pendulum-v1", seed=1, time_budget=60.0, num_eval_episodes=3, threads=1)
    began = time.monotonic()
    out = modal_app.measure.local(to_json(job), "L4", modal_app.harness_sha256())
    record = from_json(RunRecord, out["record"])
    assert record.status == "ok", (record.reason, record.log_tail)
    assert record.avg_return is not None
    assert -2500 < record.avg_return < 0
    assert len(record.returns) == 3
    assert record.isolation.startswith("modal") and record.cores == 1
    least, most = record.total_seconds or 0, time.monotonic() - began
    assert cost_usd("L4", 8, 32, least) <= record.cost_usd <= cost_usd("L4", 8, 32, most)
    assert "num_updates" in out["files"]["metrics.csv"]
    block = summary_block(**{name: getattr(record, name) for name in SUMMARY})
    assert re.search(rf"^avg_return: +{record.avg_return:.6f}$", block, re.M)
    assert block.startswith("---\n")


def test_a_train_py_that_fails_is_a_record_and_no_exception() -> None:
    job = Job("raise ValueError('no')\n", "Pendulum-v1", 1, 20.0, num_eval_episodes=1, threads=1)
    record = from_json(RunRecord, modal_app.measure.local(to_json(job))["record"])
    assert record.status == "crash" and record.avg_return is None and "no" in record.log_tail


def test_another_harness_on_the_other_end_measures_nothing() -> None:
    out = modal_app.measure.local(to_json(JOB), "H100!", "0" * 64)
    record = from_json(RunRecord, out["record"])
    assert record.status == "interrupted" and record.rule == "harness" and not record.scored


# -- the page, through the real client, to a server on loopback ------------------------------------


def canned(job: dict[str, Any], gpu: str, harness: str) -> dict[str, Any]:
    """What the far end would say; its arguments are checked as it would check them."""
    assert harness == modal_app.harness_sha256()
    if "raise" in job["train_source"]:
        raise RuntimeError("the machine broke")
    time.sleep(3.0)  # longer than two more calls take to be submitted on a busy machine
    return answer(-float(job["seed"]), **{"metrics.csv": f"{gpu}\n"})


def test_modal_run_measures_train_py_on_the_machine_the_page_promises(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("x = 1\n")
    with ModalServer(canned) as server:
        argv = ["-m", "modal", "run", str(PROJECT / "modal_app.py")]
        argv += ["--env-id", "Hopper-v5", "--seed", "7", "--time-budget", "90"]
        done = python(argv, cwd=tmp_path, env=no_account(tmp_path) | server.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^avg_return: +-7\.000000$", done.stdout, re.M)
    assert "NVIDIA H100" in done.stdout
    assert "$0.25 at list price" in done.stdout
    (call,) = server.calls.values()
    job = from_json(Job, call.args[0])
    asked = (job.train_source, job.env_id, job.seed, job.time_budget, call.args[1])
    assert asked == ("x = 1\n", "Hopper-v5", 7, 90.0, "H100!")
    assert server.options[call.function_id].timeout_secs == timeout(90.0)

    (function,) = server.functions
    resources = function.resources
    assert (resources.gpu_config.gpu_type, resources.gpu_config.count) == ("H100!", 1)
    assert (resources.milli_cpu, resources.memory_mb) == (8000, 32 * 1024)
    assert function.timeout_secs == timeout(720) and function.retry_policy.retries == 0
    assert function.single_use_containers and function.block_network and function.untrusted
    assert not function.secret_ids and not function.volume_mounts

    dockerfile = "\n".join(line for image in server.images for line in image.dockerfile_commands)
    assert "FROM python:3.11" in dockerfile
    assert "uv sync" in dockerfile
    assert "--no-dev" in dockerfile
    assert "MUJOCO_GL=egl" in dockerfile
    assert all(package in dockerfile for package in ("libegl1", "libgl1", "bubblewrap"))
    assert "uv:latest" not in dockerfile
    files = [file for image in server.images for file in image.context_files]
    pyproject = [file.data for file in files if file.filename.endswith("pyproject.toml")]
    assert pyproject and pyproject[0] == (PROJECT / "pyproject.toml").read_bytes()
    assert not any(image.secret_ids for image in server.images)


FAN_OUT = """
import sys, time
from pathlib import Path
import modal_app
from autorl.records import Job

folder, handles = Path(sys.argv[1]), sys.argv[2:]
runner = modal_app.runner(3, "L4")
jobs = [Job("x = 1", "E-v0", 1, 60.0), Job("x = 1", "E-v0", 2, 60.0), Job("raise", "E-v0", 3, 60.0)]
if handles:
    print("attached", *[runner.attach(h, jobs[0], folder) for h in handles])
    handles = handles[:1]
else:
    handles = [runner.start(job, folder / str(job.seed)) for job in jobs]
    assert runner.poll(handles[0]) is None
    time.sleep(0.1)
    assert runner.poll(handles[0]) is None  # a real "still going"
print("handles", *handles)
for handle in handles:
    while (record := runner.poll(handle)) is None:
        time.sleep(0.05)
    print(handle, record.status, record.avg_return, record.reason)
runner.cancel(handles[0])
"""


def test_the_fan_out_spawns_polls_and_attaches_through_the_real_client(tmp_path: Path) -> None:
    with ModalServer(canned) as server:

        def fan_out(*handles: str) -> list[str]:
            argv = ["-W", "error::UserWarning", "-c", FAN_OUT, str(tmp_path), *handles]
            done = python(argv, env=no_account(tmp_path) | server.environment)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout.splitlines()

        first = fan_out()
        assert first[0] == "handles fc-1 fc-2 fc-3"
        assert first[1].split()[:3] == ["fc-1", "ok", "-1.0"]
        assert first[2].split()[:3] == ["fc-2", "ok", "-2.0"]
        assert first[3].startswith("fc-3 interrupted None") and "the machine broke" in first[3]
        assert (tmp_path / "2" / "metrics.csv").read_text() == "L4\n"
        assert server.calls["fc-1"].cancelled
        assert server.deployed == ["autorl"]
        assert {o.timeout_secs for o in server.options.values()} == {timeout(60.0)}
        assert {o.resources.gpu_config.gpu_type for o in server.options.values()} == {"L4"}

        second = fan_out("fc-1", "fc-9")  # another process: one call known, one never heard of
        assert second == ["attached True False", "handles fc-1", "fc-1 ok -1.0 "]
        assert len(server.calls) == 3  # nothing was paid for twice


# -- without an account ----------------------------------------------------------------------------


def no_account(tmp_path: Path) -> dict[str, str]:
    """An environment in which Modal finds no token."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MODAL_")}
    return kept | {"HOME": str(tmp_path), "MODAL_CONFIG_PATH": str(tmp_path / "modal.toml")}


def test_modal_run_without_an_account_says_so_with_the_command(tmp_path: Path) -> None:
    done = python(["-m", "modal", "run", "modal_app.py"], env=no_account(tmp_path))
    assert done.returncode != 0
    assert "modal token new" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_fan_out_without_an_account_is_refused_with_the_command(tmp_path: Path) -> None:
    done = python(["-c", REFUSED], env=no_account(tmp_path))
    assert done.stdout.startswith("refused: ") and "modal token new" in done.stdout, done.stderr


def test_its_options_are_those_the_page_shows(tmp_path: Path) -> None:
    done = python(["-m", "modal", "run", "modal_app.py", "--help"], env=no_account(tmp_path))
    for flag in ("--env-id", "--seed", "--gpu", "--time-budget", "--episodes", "--train"):
        assert flag in done.stdout
