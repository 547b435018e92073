"""Runs on Modal: Job -> RunRecord through `spawn`, `from_id`, `get` and `cancel`.

The function itself is in `modal_app.py`.

    uv run python agent_loop.py run --runner modal --slots 8

The handle of a run is Modal's call id ("fc-..."). The loop journals it, so a restarted loop
attaches to the call instead of paying for it twice. What Modal does by itself is left to Modal:
queueing, placing, preemption (the call starts over in a fresh container), keeping the result for
days.

A fault of the platform is never train.py's fault: the record says `interrupted` and the run is
repeated. A lost network is not even that: the call goes on without us and is asked again, until
OUTAGE.

What it does not do: import Modal's client before it is needed, run two calls in one container, or
keep secrets.
"""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

from autorl.errors import Paused, UserError
from autorl.records import Job, RunRecord, Status, from_json, to_json
from autorl.runners.base import Run, Runs
from autorl.system.faults import effect
from autorl.system.files import atomic_write

MINUTES = 60
SLACK = 10 * MINUTES  # evaluation, start of the container, imports: on top of the training budget
ASK_EVERY = 5.0  # seconds between two questions about the same call
OUTAGE = 30 * MINUTES  # Modal unreachable for so long: pause, resumable
NO_ACCOUNT = (
    "Modal knows no account on this machine: register at https://modal.com and run "
    "`uv run modal token new`, or leave out --runner modal."
)

# -- Money -----------------------------------------------------------------------------------------

# List prices in US dollars per second, https://modal.com/pricing as of 2026-05. Base rates: a
# chosen region or a non-preemptible function costs a multiple; this project asks for neither.
GPU_USD = {
    "": 0.0, "T4": 0.000164, "L4": 0.000222, "A10": 0.000306, "A10G": 0.000306, "L40S": 0.000542,
    "A100": 0.000583, "A100-40GB": 0.000583, "A100-80GB": 0.000694,
    "H100": 0.001097, "H200": 0.001261, "B200": 0.001736,
}  # fmt: skip
CPU_USD = 0.0000131  # per physical core
MEMORY_USD = 0.00000222  # per GiB


def cost_usd(gpu: str, cores: float, memory_gib: float, seconds: float) -> float:
    """What a container costs at list price.

    Args:
        gpu: as Modal spells it: "H100!", "A100-80GB:2", "" for none.
        seconds: how long it runs.

    Raises:
        UserError: the table has no price for this GPU, so no limit in dollars could be kept.
    """
    kind, _, count = gpu.rstrip("!").upper().partition(":")
    kind = kind.rstrip("!")
    if kind not in GPU_USD or (count and not count.isdigit()):
        raise UserError(
            f"No price is known for the GPU {gpu!r}: choose one of "
            f"{', '.join(filter(None, GPU_USD))}, or add it to GPU_USD in autorl/runners/modal.py."
        )
    return seconds * (GPU_USD[kind] * int(count or 1) + CPU_USD * cores + MEMORY_USD * memory_gib)


def timeout(time_budget: float) -> int:
    """Seconds Modal may give one call. Its own default, 300, would end nearly every run."""
    return math.ceil(time_budget * 1.05) + SLACK


# -- The runner ------------------------------------------------------------------------------------


class ModalRunner(Runs):
    """Fans runs out to Modal; implements `interfaces.Runner`.

    Args:
        function: gives the `modal.Function` for a job, whose timeout follows from the job.
        from_id: `modal.FunctionCall.from_id`; of the call, `get` and `cancel` are used.
        places: how many runs at once.
        gpu, cores, memory_gib: the machine each run is given, for its price.
    """

    survives_restart, owns_cores = True, False

    def __init__(
        self,
        function: Callable[[Job], Any],
        from_id: Callable[[str], Any],
        places: int = 1,
        gpu: str = "H100!",
        cores: float = 8.0,
        memory_gib: float = 32.0,
        ask_every: float = ASK_EVERY,
    ):
        super().__init__(places)
        self._function, self._from_id, self._ask_every = function, from_id, ask_every
        # price of a second; also refuses a GPU without one, at the start
        self.gpu, self._usd = gpu, cost_usd(gpu, cores, memory_gib, 1.0)
        self._attached: set[str] = set()  # handles of an earlier process, nobody knows since when
        self._asked: dict[str, tuple[Future[Any], float]] = {}  # handle -> its answer, when asked
        self._unreachable_since: float | None = None
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="modal-get")

    def worst_usd(self, job: Job) -> float:
        """The most one run can cost at list price, to be reserved before it starts."""
        return self._usd * timeout(job.time_budget)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def start(self, job: Job, folder: Path) -> str:
        """Submit the run; returns Modal's call id, to be journaled.

        Raises:
            Paused: Modal cannot be reached, or refuses the account.
        """
        from modal.exception import AuthError, Error

        # No idempotency key exists: a crash between this effect and the journal's next line leaves
        # one orphan, which ends by itself at its timeout.
        try:
            call = effect("remote submit", lambda: self._function(job).spawn(to_json(job)))
        except AuthError as error:
            raise Paused(NO_ACCOUNT) from error
        except (Error, OSError) as error:
            raise Paused(
                f"Modal did not take the run ({describe(error)}); the same command resumes."
            ) from error
        handle: str = call.object_id
        self.runs[handle] = Run(job, folder)
        return handle

    def attach(self, handle: str, job: Job, folder: Path) -> bool:
        """Wait for a call of an earlier process; False when Modal no longer knows it."""
        from modal.exception import InvalidError, NotFoundError, OutputExpiredError

        try:
            self._from_id(handle).get(timeout=0)
        except (NotFoundError, InvalidError, OutputExpiredError):
            return False
        except Exception:
            pass  # `poll` tells what it means
        self.runs[handle] = Run(job, folder)
        self._attached.add(handle)
        return True

    def poll(self, handle: str) -> RunRecord | None:
        """The record when the call is done, else None; asks in a thread: the network may be slow.

        Raises:
            Paused: no answer for half an hour, or the account is refused; the calls go on and are
                fetched on resume.
        """
        now = time.monotonic()
        if handle not in self._asked:
            answer = self._threads.submit(lambda: self._from_id(handle).get(timeout=0))
            self._asked[handle] = answer, now
            return None
        answer, asked = self._asked[handle]
        if not answer.done():
            return None
        error = answer.exception()
        if error is None or not unreachable(error):
            self._unreachable_since = None
            run = self.runs[handle]
            if error is None:
                record = self._receive(handle, run, answer.result())
            else:
                record = self._interrupted(handle, run, describe(error))
            del self._asked[handle], self.runs[handle]
            return record
        if isinstance(error, TimeoutError):  # the built-in one, an OSError: still going
            self._unreachable_since = None
        else:
            self._unreachable_since = self._unreachable_since or now
            if refused(error):
                raise Paused(NO_ACCOUNT) from error
            if now - self._unreachable_since > OUTAGE:
                raise Paused(
                    f"Modal cannot be reached ({describe(error)}); the runs go on there, and the "
                    "same command fetches them."
                ) from error
        if now - asked >= self._ask_every:
            del self._asked[handle]
        return None

    def cancel(self, handle: str) -> None:
        """Stop the call and its container."""
        self._asked.pop(handle, None)
        self.runs.pop(handle, None)
        try:
            effect("remote cancel", lambda: self._from_id(handle).cancel(terminate_containers=True))
        except Exception as error:
            if refused(error) or not unreachable(error):
                return  # done, gone, or not ours: nothing left to stop
            raise Paused(
                f"Modal cannot be reached to stop {handle}; it ends at its timeout. "
                f"({describe(error)})"
            ) from error

    def _receive(self, handle: str, run: Run, answer: Any) -> RunRecord:
        """Check what came back, and keep its log and metrics where a local run leaves them."""
        try:
            record: RunRecord = from_json(RunRecord, answer["record"])
            files: Mapping[str, str] = answer["files"]
            if not isinstance(record, RunRecord) or record.status not in get_args(Status):
                raise TypeError("no record")
        except (KeyError, TypeError, ValueError) as error:
            why = f"the answer is no record ({describe(error)}); deploy the app again"
            return self._interrupted(handle, run, why)
        for name in ("run.log", "metrics.csv", "recording.json"):  # these and no other name
            if isinstance(text := files.get(name), str):
                atomic_write(run.folder / name, text.encode("utf-8", "replace"), durable=False)
        return record

    def _interrupted(self, handle: str, run: Run, why: str) -> RunRecord:
        """No record came, but the machine may have run all the while: its cost is that bound."""
        worst = self.worst_usd(run.job)
        return RunRecord(
            status="interrupted",
            rule="modal",
            reason=f"Modal did not finish the run: {why}.",
            env_id=run.job.env_id,
            seed=run.job.seed,
            time_budget=run.job.time_budget,
            isolation="modal",
            gpu=self.gpu,
            cost_usd=worst if handle in self._attached else min(worst, self._usd * run.elapsed),
        )


# -- What an exception means -----------------------------------------------------------------------


def unreachable(error: BaseException) -> bool:
    """We could not ask; nothing is known of the run."""
    import modal.exception as e

    kinds = (e.ConnectionError, e.ServiceError, e.InternalError, e.ResourceExhaustedError, OSError)
    return isinstance(error, kinds) or refused(error)


def refused(error: BaseException) -> bool:
    """The account is missing or may not: only a person can go on."""
    from modal.exception import AuthError, PermissionDeniedError

    return isinstance(error, (AuthError, PermissionDeniedError))


def describe(error: BaseException) -> str:
    """One line: which exception, and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
