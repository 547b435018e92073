"""Modal without an account: the function's body run here, its definition inspected, the runner against a stand-in at the seam.

The stand-in has four calls, `spawn / from_id / get / cancel`; a test compares their signatures and exceptions with the
installed package, so a new Modal that differs turns this red. Two tests go further: the real client, `modal run` and
`App.deploy` with all they send, against a server on loopback (modal_server.py).
"""

import ast
import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modal
import modal.exception as errors
import pytest
from modal_server import ModalServer

import modal_app
from autorl.records import Job, Paused, Runner, RunRecord, UserError, from_json, to_json
from autorl.runners import modal as runners_modal
from autorl.runners.modal import GPU_USD, ModalRunner, cost_usd, timeout

PROJECT = Path(__file__).resolve().parents[1]
JOB = Job("x = 1\n", "Pendulum-v1", seed=3, time_budget=60.0, num_eval_episodes=2, gpu="H100!")

# -- the stand-in ----------------------------------------------------------------------------------------------------


class StandInCall:
    """One call. `script` is what each `get` gives in turn: a value, or an exception to raise; the last one stays."""

    def __init__(self, object_id: str, script: list[Any]):
        self.object_id, self.script, self.asked, self.cancelled = object_id, script, 0, False

    def get(self, timeout: float | None = None, *, index: int = 0) -> Any:
        answer = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def cancel(self, terminate_containers: bool = False) -> None:
        self.cancelled = terminate_containers


class StandIn:
    """A platform that remembers its calls: what is spawned here is found by `from_id`, also by another runner."""

    def __init__(self, script: Callable[[int], list[Any]] | None = None):
        self.calls: dict[str, StandInCall] = {}
        self.jobs: list[dict[str, Any]] = []
        self.script = script or (lambda n: [TimeoutError(), answer()])
        self.refuse: BaseException | None = None

    def spawn(self, *args: Any, **kwargs: Any) -> StandInCall:
        if self.refuse:
            raise self.refuse
        self.jobs.append(args[0])
        call = StandInCall(f"fc-{len(self.jobs)}", self.script(len(self.jobs)))
        self.calls[call.object_id] = call
        return call

    def from_id(self, function_call_id: str, client: Any = None) -> StandInCall:
        if function_call_id not in self.calls:
            return StandInCall(function_call_id, [errors.NotFoundError("no such call")])
        return self.calls[function_call_id]

    def runner(self, places: int = 2) -> ModalRunner:
        return ModalRunner(lambda job: self, self.from_id, places, ask_every=0.0)


def answer(score: float = 5.0, **files: str) -> dict[str, Any]:
    record = RunRecord(
        status="ok", avg_return=score, returns=(score,), env_id="Pendulum-v1", cost_usd=0.25, isolation="modal", gpu="NVIDIA H100"
    )
    return {"record": to_json(record), "files": {"run.log": "hello\n", **files}}


def poll(runner: ModalRunner, handle: str, seconds: float = 10.0) -> RunRecord | None:
    """Poll until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (record := runner.poll(handle)) is not None:
            return record
        time.sleep(0.005)
    return None


def test_the_stand_in_has_the_signatures_of_the_installed_package() -> None:
    for ours, theirs in (
        (StandInCall.get, modal.FunctionCall.get),
        (StandInCall.cancel, modal.FunctionCall.cancel),
        (StandIn.from_id, modal.FunctionCall.from_id),
        (StandIn.spawn, modal.Function.spawn),
    ):
        mine = [(p.name, p.kind, p.default) for p in list(inspect.signature(ours).parameters.values())[1:]]
        real = [(p.name, p.kind, p.default) for p in inspect.signature(theirs).parameters.values() if p.name not in ("self", "cls")]
        assert mine == real, theirs


def test_a_call_still_going_raises_the_built_in_timeout_and_nothing_else_of_modals_is_one() -> None:
    """`poll` tells "still going" from "ran into its timeout" by this."""
    import modal._functions

    tree = ast.parse(inspect.getsource(modal._functions))
    assert not any(alias.asname == "TimeoutError" or alias.name == "TimeoutError" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names)  # fmt: skip
    assert "raise TimeoutError()" in inspect.getsource(modal._functions._Invocation.poll_function)
    for name in ("FunctionTimeoutError", "OutputExpiredError", "TimeoutError"):
        assert not issubclass(getattr(errors, name), TimeoutError)


def test_the_options_we_set_exist_in_the_installed_package() -> None:
    assert {"gpu", "timeout"} <= set(inspect.signature(modal.Function.with_options).parameters)
    assert {"gpu", "cpu", "memory", "timeout", "retries", "single_use_containers", "block_network", "restrict_modal_access"} <= set(
        inspect.signature(modal.App.function).parameters
    )
    assert list(inspect.signature(modal.Function.from_name).parameters)[:2] == ["app_name", "name"]


# -- the runner ------------------------------------------------------------------------------------------------------


def test_it_is_a_runner() -> None:
    assert isinstance(StandIn().runner(), Runner) and StandIn().runner().name == "modal"


def test_a_job_goes_out_as_data_and_its_record_comes_back_with_log_and_metrics(tmp_path: Path) -> None:
    platform = StandIn(lambda n: [TimeoutError(), TimeoutError(), answer(7.5, **{"metrics.csv": "step\n1\n", "../evil": "x"})])
    runner = platform.runner()
    handle = runner.start(JOB, tmp_path / "run")
    assert handle == "fc-1" and from_json(Job, platform.jobs[0]) == JOB
    assert runner.progress(handle) is not None
    record = poll(runner, handle)
    assert record is not None and record.avg_return == 7.5 and record.cost_usd == 0.25 and platform.calls[handle].asked == 3
    assert (tmp_path / "run" / "run.log").read_text() == "hello\n" and (tmp_path / "run" / "metrics.csv").read_text() == "step\n1\n"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["metrics.csv", "run", "run.log"]
    assert runner.progress(handle) is None


def test_poll_does_not_wait_for_a_slow_platform(tmp_path: Path) -> None:
    platform = StandIn()
    runner = platform.runner()
    handle = runner.start(JOB, tmp_path)
    platform.calls[handle].get = lambda timeout=None, *, index=0: time.sleep(1.0) or answer()  # type: ignore[method-assign]
    began = time.monotonic()
    assert runner.poll(handle) is None and time.monotonic() - began < 0.5
    assert poll(runner, handle) is not None


def test_results_come_in_any_order_and_each_once(tmp_path: Path) -> None:
    platform = StandIn(lambda n: [TimeoutError()] * (10 - n) + [answer(float(n))])
    runner = platform.runner(4)
    handles = [runner.start(JOB, tmp_path / str(n)) for n in range(1, 5)]
    got: list[float] = []
    waiting, end = set(handles), time.monotonic() + 10
    while waiting and time.monotonic() < end:
        for handle in sorted(waiting):
            if (record := runner.poll(handle)) is not None:
                got.append(record.avg_return or 0.0)
                waiting.discard(handle)
    assert sorted(got) == [1.0, 2.0, 3.0, 4.0]


def test_a_restarted_loop_attaches_instead_of_paying_twice(tmp_path: Path) -> None:
    platform = StandIn()
    handle = platform.runner().start(JOB, tmp_path)
    second = platform.runner()  # the first died
    assert second.attach(handle, JOB, tmp_path)
    record = poll(second, handle)
    assert record is not None and record.scored and len(platform.jobs) == 1


@pytest.mark.parametrize("gone", [errors.NotFoundError("gone"), errors.OutputExpiredError("a week ago")])
def test_a_call_the_platform_has_forgotten_is_started_again(gone: BaseException, tmp_path: Path) -> None:
    platform = StandIn(lambda n: [gone])
    handle = platform.runner().start(JOB, tmp_path)
    assert not platform.runner().attach(handle, JOB, tmp_path)


def test_a_handle_of_another_runner_is_not_ours(tmp_path: Path) -> None:
    assert not StandIn().runner().attach("4711", JOB, tmp_path)


@pytest.mark.parametrize("trouble", [errors.ConnectionError("no route"), errors.ServiceError("unavailable"), ConnectionResetError("reset"), errors.ResourceExhaustedError("rate")])  # fmt: skip
def test_a_lost_network_is_no_verdict_on_the_run(trouble: BaseException, tmp_path: Path) -> None:
    platform = StandIn(lambda n: [trouble, trouble, TimeoutError(), trouble, answer()])
    runner = platform.runner()
    handle = runner.start(JOB, tmp_path)
    assert platform.runner().attach(handle, JOB, tmp_path)  # out of reach is not gone
    record = poll(runner, handle)
    assert record is not None and record.scored and len(platform.jobs) == 1


def test_half_an_hour_out_of_reach_pauses_and_resuming_fetches_the_result(tmp_path: Path) -> None:
    platform = StandIn(lambda n: [errors.ConnectionError("no route")] * 3 + [answer()])
    runner = platform.runner()
    handle = runner.start(JOB, tmp_path)
    runner._unreachable_since = time.monotonic() - runners_modal.OUTAGE - 1
    with pytest.raises(Paused, match="same command"):
        poll(runner, handle)
    again = platform.runner()
    assert again.attach(handle, JOB, tmp_path)
    record = poll(again, handle)
    assert record is not None and record.scored and len(platform.jobs) == 1


@pytest.mark.parametrize(
    "fault",
    [errors.FunctionTimeoutError("timeout"), errors.RemoteError("killed"), errors.InternalFailure("host died"), errors.ExecutionError("?"),
     errors.OutputExpiredError(), errors.DeserializationError("?"), ValueError("raised in the container"), RuntimeError("boom")],
)  # fmt: skip
def test_a_fault_of_the_platform_is_an_interrupted_run_without_a_score(fault: BaseException, tmp_path: Path) -> None:
    platform = StandIn(lambda n: [TimeoutError(), fault])
    runner = platform.runner()
    record = poll(runner, runner.start(JOB, tmp_path))
    assert record is not None and record.status == "interrupted" and record.rule == "modal" and type(fault).__name__ in record.reason
    assert record.avg_return is None and not record.scored and (record.env_id, record.seed) == (JOB.env_id, JOB.seed)
    assert 0 < record.cost_usd < 0.1 * runner.worst_usd(JOB)  # it may have run since it was submitted, a moment ago


def test_an_attached_run_that_fails_is_booked_at_its_bound(tmp_path: Path) -> None:
    platform = StandIn(lambda n: [TimeoutError(), errors.RemoteError("killed")])
    handle = platform.runner().start(JOB, tmp_path)
    runner = platform.runner()
    assert runner.attach(handle, JOB, tmp_path)
    record = poll(runner, handle)
    assert record is not None and record.cost_usd == runner.worst_usd(JOB)


@pytest.mark.parametrize(
    "nonsense", [None, {}, [], {"record": None, "files": {}}, {"record": {"status": "great"}, "files": {}}, {"record": 3}, "ok"]
)
def test_an_answer_that_is_no_record_is_an_interrupted_run(nonsense: Any, tmp_path: Path) -> None:
    platform = StandIn(lambda n: [nonsense])
    runner = platform.runner()
    record = poll(runner, runner.start(JOB, tmp_path))
    assert record is not None and record.status == "interrupted" and not record.scored


def test_no_account_pauses_in_one_sentence_with_the_command(tmp_path: Path) -> None:
    platform = StandIn(lambda n: [errors.AuthError("token revoked")])
    handle = platform.runner().start(JOB, tmp_path)
    runner = platform.runner()
    assert runner.attach(handle, JOB, tmp_path)
    with pytest.raises(Paused, match="modal token new"):
        poll(runner, handle)
    platform.refuse = errors.AuthError("token missing")
    with pytest.raises(Paused, match="modal token new"):
        runner.start(JOB, tmp_path)
    platform.refuse = errors.ConnectionError("no route")
    with pytest.raises(Paused, match="same command resumes"):
        runner.start(JOB, tmp_path)


def test_cancel_ends_the_container_too(tmp_path: Path) -> None:
    platform = StandIn()
    runner = platform.runner()
    handle = runner.start(JOB, tmp_path)
    runner.cancel(handle)
    assert platform.calls[handle].cancelled is True and runner.progress(handle) is None
    runner.cancel("fc-unknown")  # gone already: nothing to stop


# -- money and time --------------------------------------------------------------------------------------------------


def test_cost_is_gpu_and_cores_and_memory_by_the_second() -> None:
    # an hour of H100 with 8 cores and 32 GiB: 3600 x (0.001097 + 8 x 0.0000131 + 32 x 0.00000222)
    assert cost_usd("H100!", 8, 32, 3600) == pytest.approx(3.9492 + 0.37728 + 0.255744)
    assert cost_usd("a100-80gb:2", 0, 0, 10) == pytest.approx(10 * 2 * 0.000694)
    assert cost_usd("", 1, 0, 10) == pytest.approx(10 * 0.0000131)
    assert all(price > 0 for gpu, price in GPU_USD.items() if gpu)


@pytest.mark.parametrize("gpu", ["H1000", "H100:two", "h100!;rm"])
def test_a_gpu_without_a_price_is_refused_at_the_start(gpu: str) -> None:
    with pytest.raises(UserError, match="No price"):
        ModalRunner(lambda job: StandIn(), StandIn().from_id, 1, gpu)


def test_the_worst_case_of_a_run_is_its_whole_timeout() -> None:
    runner = StandIn().runner()
    assert runner.worst_usd(JOB) == pytest.approx(cost_usd("H100!", 8, 32, timeout(60)))
    assert timeout(720) > 720 * 1.05 + 300 and isinstance(timeout(720.5), int)


# -- the page --------------------------------------------------------------------------------------------------------


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
    assert record.avg_return is not None and -2500 < record.avg_return < 0 and len(record.returns) == 3
    assert record.isolation.startswith("modal") and record.cores == 1
    assert cost_usd("L4", 8, 32, record.total_seconds or 0) <= record.cost_usd <= cost_usd("L4", 8, 32, time.monotonic() - began)
    assert "num_updates" in out["files"]["metrics.csv"]
    block = modal_app.block(record)
    assert re.search(rf"^avg_return: +{record.avg_return:.6f}$", block, re.M) and block.startswith("---\n")


def test_a_train_py_that_fails_is_a_record_and_no_exception() -> None:
    job = Job("raise ValueError('no')\n", "Pendulum-v1", seed=1, time_budget=20.0, num_eval_episodes=1, threads=1)
    record = from_json(RunRecord, modal_app.measure.local(to_json(job))["record"])
    assert record.status == "crash" and record.avg_return is None and "no" in record.log_tail


def test_another_harness_on_the_other_end_measures_nothing() -> None:
    record = from_json(RunRecord, modal_app.measure.local(to_json(JOB), "H100!", "0" * 64)["record"])
    assert record.status == "interrupted" and record.rule == "harness" and not record.scored


def test_the_log_that_comes_home_is_bounded_and_no_link(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 10 + b"y" * modal_app.LOG_CHARACTERS)
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert modal_app.tail(tmp_path / "log") == "y" * modal_app.LOG_CHARACTERS
    assert modal_app.tail(tmp_path / "link") == "" and modal_app.tail(tmp_path / "none") == ""


# -- the page, through the real client, to a server on loopback -----------------------------------------------------


def canned(job: dict[str, Any], gpu: str, harness: str) -> dict[str, Any]:
    """What the far end would say; its arguments are checked as it would check them."""
    assert harness == modal_app.harness_sha256()
    if "raise" in job["train_source"]:
        raise RuntimeError("the machine broke")
    time.sleep(0.3)
    return answer(-float(job["seed"]), **{"metrics.csv": f"{gpu}\n"})


def test_modal_run_measures_train_py_on_the_machine_the_page_promises(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("x = 1\n")
    with ModalServer(canned) as server:
        done = subprocess.run(
            [sys.executable, "-m", "modal", "run", str(PROJECT / "modal_app.py"), "--env-id", "Hopper-v5", "--seed", "7", "--time-budget", "90"],
            cwd=tmp_path, env=no_account(tmp_path) | server.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        re.search(r"^avg_return: +-7\.000000$", done.stdout, re.M) and "NVIDIA H100" in done.stdout and "$0.25 at list price" in done.stdout
    )
    (call,) = server.calls.values()
    job = from_json(Job, call.args[0])
    assert (job.train_source, job.env_id, job.seed, job.time_budget, call.args[1]) == ("x = 1\n", "Hopper-v5", 7, 90.0, "H100!")
    assert server.options[call.function_id].timeout_secs == timeout(90.0)

    (function,) = server.functions
    resources = function.resources
    assert (resources.gpu_config.gpu_type, resources.gpu_config.count) == ("H100!", 1)
    assert (resources.milli_cpu, resources.memory_mb) == (8000, 32 * 1024)
    assert function.timeout_secs == timeout(720) and function.retry_policy.retries == 0
    assert function.single_use_containers and function.block_network and function.untrusted
    assert not function.secret_ids and not function.volume_mounts

    dockerfile = "\n".join(line for image in server.images for line in image.dockerfile_commands)
    assert "FROM python:3.11" in dockerfile and "uv sync" in dockerfile and "--no-dev" in dockerfile and "MUJOCO_GL=egl" in dockerfile
    assert all(package in dockerfile for package in ("libegl1", "libgl1", "bubblewrap")) and "uv:latest" not in dockerfile
    pyproject = [f.data.decode() for image in server.images for f in image.context_files if f.filename.endswith("pyproject.toml")]
    assert pyproject and pyproject[0] == (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
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
            done = subprocess.run(
                [sys.executable, "-W", "error::UserWarning", "-c", FAN_OUT, str(tmp_path), *handles],
                cwd=PROJECT, env=no_account(tmp_path) | server.environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout.splitlines()

        first = fan_out()
        assert first[0] == "handles fc-1 fc-2 fc-3"
        assert [line.split()[:3] for line in first[1:3]] == [["fc-1", "ok", "-1.0"], ["fc-2", "ok", "-2.0"]]
        assert first[3].startswith("fc-3 interrupted None") and "the machine broke" in first[3]
        assert (tmp_path / "2" / "metrics.csv").read_text() == "L4\n" and server.calls["fc-1"].cancelled
        assert server.deployed == ["autorl"] and {o.timeout_secs for o in server.options.values()} == {timeout(60.0)}
        assert {o.resources.gpu_config.gpu_type for o in server.options.values()} == {"L4"}

        second = fan_out("fc-1", "fc-9")  # another process: one call known, one never heard of
        assert second == ["attached True False", "handles fc-1", "fc-1 ok -1.0 "]
        assert len(server.calls) == 3  # nothing was paid for twice


# -- without an account ----------------------------------------------------------------------------------------------


def no_account(tmp_path: Path) -> dict[str, str]:
    """An environment in which Modal finds no token."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MODAL_")}
    return kept | {"HOME": str(tmp_path), "MODAL_CONFIG_PATH": str(tmp_path / "modal.toml")}


def test_modal_run_without_an_account_says_so_with_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modal", "run", "modal_app.py"], cwd=PROJECT, env=no_account(tmp_path), capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert done.returncode != 0 and "modal token new" in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_the_fan_out_without_an_account_is_refused_with_the_command(tmp_path: Path) -> None:
    code = "import modal_app\nfrom autorl.records import UserError\ntry:\n    modal_app.runner(2)\nexcept UserError as e:\n    print('refused:', e)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=no_account(tmp_path), capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("refused: ") and "modal token new" in done.stdout, done.stderr


def test_its_options_are_those_the_page_shows(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modal", "run", "modal_app.py", "--help"], cwd=PROJECT, env=no_account(tmp_path), capture_output=True, text=True, timeout=120
    )  # fmt: skip
    for flag in ("--env-id", "--seed", "--gpu", "--time-budget", "--episodes", "--train"):
        assert flag in done.stdout
