"""The runner on Modal, against a stand-in at the seam.

A test compares its signatures and exceptions with the installed package, so a new Modal that
differs fails here.
"""

import ast
import inspect
import time
from pathlib import Path
from typing import Any

import modal
import modal.exception as errors
import pytest
from modal_stand_in import JOB, StandIn, StandInCall, answer, poll

from autorl.errors import Paused, UserError
from autorl.interfaces import Runner
from autorl.records import Job, from_json
from autorl.runners import modal as runners_modal
from autorl.runners.modal import GPU_USD, ModalRunner, cost_usd, timeout

PROJECT = Path(__file__).resolve().parents[2]

# -- the stand-in ----------------------------------------------------------------------------------


def test_the_stand_in_has_the_signatures_of_the_installed_package() -> None:
    def parameters(function: Any) -> list[tuple[str, Any, Any]]:
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in found if p.name not in ("self", "cls")]

    for ours, theirs in (
        (StandInCall.get, modal.FunctionCall.get),
        (StandInCall.cancel, modal.FunctionCall.cancel),
        (StandIn.from_id, modal.FunctionCall.from_id),
        (StandIn.spawn, modal.Function.spawn),
    ):
        assert parameters(ours) == parameters(theirs), theirs


def test_a_call_still_going_raises_the_built_in_timeout_and_nothing_else_of_modals_is_one() -> None:
    """`poll` tells "still going" from "ran into its timeout" by this."""
    import modal._functions

    tree = ast.parse(inspect.getsource(modal._functions))
    imported = [a for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names]
    assert not any("TimeoutError" in (alias.name, alias.asname) for alias in imported)
    assert "raise TimeoutError()" in inspect.getsource(modal._functions._Invocation.poll_function)
    for name in ("FunctionTimeoutError", "OutputExpiredError", "TimeoutError"):
        assert not issubclass(getattr(errors, name), TimeoutError)


def test_the_options_we_set_exist_in_the_installed_package() -> None:
    assert {"gpu", "timeout"} <= set(inspect.signature(modal.Function.with_options).parameters)
    wanted = "gpu cpu memory timeout retries single_use_containers block_network"
    wanted += " restrict_modal_access"
    assert set(wanted.split()) <= set(inspect.signature(modal.App.function).parameters)
    assert list(inspect.signature(modal.Function.from_name).parameters)[:2] == ["app_name", "name"]


# -- the runner ------------------------------------------------------------------------------------


def test_it_is_a_runner() -> None:
    assert isinstance(StandIn().runner(), Runner)


def test_a_job_goes_out_as_data_and_its_record_comes_back_with_log_and_metrics(
    tmp_path: Path,
) -> None:
    files = {"metrics.csv": "step\n1\n", "../evil": "x"}
    platform = StandIn(lambda n: [TimeoutError(), TimeoutError(), answer(7.5, **files)])
    runner = platform.runner()
    handle = runner.start(JOB, tmp_path / "run")
    assert handle == "fc-1" and from_json(Job, platform.jobs[0]) == JOB
    assert runner.progress(handle) is not None
    record = poll(runner, handle)
    assert record is not None
    assert record.avg_return == 7.5
    assert record.cost_usd == 0.25
    assert platform.calls[handle].asked == 3
    assert (tmp_path / "run" / "run.log").read_text() == "hello\n"
    assert (tmp_path / "run" / "metrics.csv").read_text() == "step\n1\n"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["metrics.csv", "run", "run.log"]
    assert runner.progress(handle) is None


def test_poll_does_not_wait_for_a_slow_platform(tmp_path: Path) -> None:
    platform = StandIn()
    runner = platform.runner()
    handle = runner.start(JOB, tmp_path)
    slow = lambda timeout=None, *, index=0: time.sleep(1.0) or answer()  # noqa: E731
    platform.calls[handle].get = slow  # type: ignore[method-assign]
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


def test_a_call_the_platform_has_forgotten_or_never_had_is_started_again(tmp_path: Path) -> None:
    for gone in (errors.NotFoundError("gone"), errors.OutputExpiredError("a week ago")):
        platform = StandIn(lambda n, gone=gone: [gone])
        handle = platform.runner().start(JOB, tmp_path)
        assert not platform.runner().attach(handle, JOB, tmp_path)
    assert not StandIn().runner().attach("4711", JOB, tmp_path)  # another runner's handle


TROUBLES = [errors.ConnectionError("no route"), errors.ServiceError("unavailable")]
TROUBLES += [ConnectionResetError("reset"), errors.ResourceExhaustedError("rate")]


@pytest.mark.parametrize("trouble", TROUBLES)
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
    [
        errors.FunctionTimeoutError("timeout"),
        errors.RemoteError("killed"),
        errors.InternalFailure("host died"),
        errors.ExecutionError("?"),
        errors.OutputExpiredError(),
        errors.DeserializationError("?"),
        ValueError("raised in the container"),
        RuntimeError("boom"),
    ],
)
def test_a_fault_of_the_platform_is_an_interrupted_run_without_a_score(
    fault: BaseException, tmp_path: Path
) -> None:
    platform = StandIn(lambda n: [TimeoutError(), fault])
    runner = platform.runner()
    record = poll(runner, runner.start(JOB, tmp_path))
    assert record is not None
    assert record.status == "interrupted"
    assert record.rule == "modal"
    assert type(fault).__name__ in record.reason
    assert record.avg_return is None
    assert not record.scored
    assert (record.env_id, record.seed) == (JOB.env_id, JOB.seed)
    # it may have run since it was submitted, a moment ago
    assert 0 < record.cost_usd < 0.1 * runner.worst_usd(JOB)


def test_an_attached_run_that_fails_is_booked_at_its_bound(tmp_path: Path) -> None:
    platform = StandIn(lambda n: [TimeoutError(), errors.RemoteError("killed")])
    handle = platform.runner().start(JOB, tmp_path)
    runner = platform.runner()
    assert runner.attach(handle, JOB, tmp_path)
    record = poll(runner, handle)
    assert record is not None and record.cost_usd == runner.worst_usd(JOB)


NONSENSE = [None, {}, [], {"record": None, "files": {}}, {"record": 3}, "ok"]
NONSENSE.append({"record": {"status": "great"}, "files": {}})


@pytest.mark.parametrize("nonsense", NONSENSE)
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


# -- money and time --------------------------------------------------------------------------------


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
