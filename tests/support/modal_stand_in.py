"""A stand-in for Modal at the seam: `spawn / from_id / get / cancel`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modal.exception as errors

from autorl.records import Job, RunRecord, to_json
from autorl.runners.modal import ModalRunner

PROJECT = Path(__file__).resolve().parents[2]
JOB = Job("x = 1\n", "Pendulum-v1", seed=3, time_budget=60.0, num_eval_episodes=2, gpu="H100!")


class StandInCall:
    """One call. `script`: what each `get` gives in turn, value or exception; the last stays."""

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
    """A platform that remembers its calls: another runner too finds them by `from_id`."""

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
    where: dict[str, Any] = {"cost_usd": 0.25, "isolation": "modal", "gpu": "NVIDIA H100"}
    record = RunRecord("ok", avg_return=score, returns=(score,), env_id="Pendulum-v1", **where)
    return {"record": to_json(record), "files": {"run.log": "hello\n", **files}}


def poll(runner: ModalRunner, handle: str, seconds: float = 10.0) -> RunRecord | None:
    """Poll until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (record := runner.poll(handle)) is not None:
            return record
        time.sleep(0.005)
    return None
