"""Runs on Modal: Job -> RunRecord through `spawn`, `from_id`, `get` and `cancel`. `modal_app.py` holds the function itself.

    uv run python agent_loop.py run --runner modal --slots 8

The handle of a run is Modal's call id ("fc-..."). The loop journals it, so a restarted loop attaches to the call instead
of paying for it twice. What Modal does by itself is left to Modal: queueing, placing, preemption (the call starts over
in a fresh container), keeping the result for days.

A fault of the platform is never train.py's fault: the record says `interrupted` and the run is repeated. A lost
network is not even that: the call goes on without us and is asked again, until OUTAGE.

What it does not do: import Modal's client before it is needed, run two calls in one container, or keep secrets.
"""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from autorl.errors import AutoRLError, Paused, UserError
from autorl.records import Job, Progress, RunRecord, from_json, to_json
from autorl.system.faults import effect

MINUTES = 60
SLACK = 10 * MINUTES  # evaluation, start of the container, imports: on top of the training budget
ASK_EVERY = 5.0  # seconds between two questions about the same call
OUTAGE = 30 * MINUTES  # Modal unreachable for so long: pause, resumable

# ---------------------------------------------------------------------------
# Money
# ---------------------------------------------------------------------------

# List prices in US dollars per second, https://modal.com/pricing as of 2026-05. Base rates: a chosen region or a
# non-preemptible function costs a multiple; this project asks for neither.
PRICES_AS_OF = "2026-05"
GPU_USD = {
    "": 0.0, "T4": 0.000164, "L4": 0.000222, "A10": 0.000306, "A10G": 0.000306, "L40S": 0.000542, "A100": 0.000583, "A100-40GB": 0.000583,
    "A100-80GB": 0.000694, "H100": 0.001097, "H200": 0.001261, "B200": 0.001736,
}  # fmt: skip
CPU_USD = 0.0000131  # per physical core
MEMORY_USD = 0.00000222  # per GiB


def cost_usd(gpu: str, cores: float, memory_gib: float, seconds: float) -> float:
    """What a container costs at list price. `gpu` as Modal spells it: "H100!", "A100-80GB:2", "" for none.

    Raises:
        UserError: the table has no price for this GPU, so no limit in dollars could be kept.
    """
    kind, _, count = gpu.rstrip("!").upper().partition(":")
    kind = kind.rstrip("!")
    if kind not in GPU_USD or (count and not count.isdigit()):
        raise UserError(f"No price is known for the GPU {gpu!r}: choose one of {', '.join(k for k in GPU_USD if k)}, or add it to GPU_USD in autorl/runners/modal.py.")  # fmt: skip
    return seconds * (GPU_USD[kind] * int(count or 1) + CPU_USD * cores + MEMORY_USD * memory_gib)


def timeout(time_budget: float) -> int:
    """Seconds Modal may give one call. Its own default, 300, would end nearly every run."""
    return math.ceil(time_budget * 1.05) + SLACK


# ---------------------------------------------------------------------------
# The seam: the four calls of Modal that this runner rests on
# ---------------------------------------------------------------------------


class Call(Protocol):
    """`modal.FunctionCall`: one call under way or done."""

    @property
    def object_id(self) -> str: ...

    def get(self, timeout: float | None = None) -> Any:
        """Raises the built-in TimeoutError while the call is still going."""

    def cancel(self, terminate_containers: bool = False) -> Any: ...


class Function(Protocol):
    """`modal.Function`: the remote `measure` of modal_app.py, with its machine chosen."""

    def spawn(self, *args: Any, **kwargs: Any) -> Call: ...


class ModalRunner:
    """Fans runs out to Modal; implements `interfaces.Runner`.

    Args:
        function: gives the remote function for a job (its GPU and its timeout follow from the job).
        from_id: `modal.FunctionCall.from_id`.
        places: how many runs at once.
        gpu, cores, memory_gib: the machine each run is given, for its price.
    """

    name = "modal"
    survives_restart, owns_cores, invents_scores = True, False, False

    def __init__(
        self, function: Callable[[Job], Function], from_id: Callable[[str], Call], places: int = 1,
        gpu: str = "H100!", cores: float = 8.0, memory_gib: float = 32.0, ask_every: float = ASK_EVERY,
    ):  # fmt: skip
        if places < 1:
            raise UserError(f"--slots {places}: at least 1 run must be allowed at once.")
        self.places, self.gpu, self.cores, self.memory_gib = places, gpu, cores, memory_gib
        self._function, self._from_id, self._ask_every = function, from_id, ask_every
        self._worst = cost_usd(
            gpu, cores, memory_gib, 1.0
        )  # also refuses a GPU without a price, at the start
        self._jobs: dict[
            str, tuple[Job, Path, float]
        ] = {}  # handle -> job, folder, when submitted or attached
        self._attached: set[str] = set()  # submitted by an earlier process, nobody knows when
        self._asked: dict[
            str, tuple[Future[Any], float]
        ] = {}  # handle -> answer under way, when asked
        self._unreachable_since: float | None = None
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="modal-get")

    def worst_usd(self, job: Job) -> float:
        """The most one run can cost at list price, to be reserved before it starts."""
        return self._worst * timeout(job.time_budget)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def start(self, job: Job, folder: Path) -> str:
        """Submit the run; returns Modal's call id, to be journaled.

        Raises:
            Paused: Modal cannot be reached, or refuses the account.
        """
        import modal.exception as modal_errors

        # No idempotency key exists: a crash between this effect and the journal's next line leaves one orphan,
        # which ends by itself at its timeout.
        try:
            call = effect("remote submit", lambda: self._function(job).spawn(to_json(job)))
        except AutoRLError:
            raise
        except modal_errors.AuthError as error:
            raise Paused(no_account()) from error
        except (modal_errors.Error, OSError) as error:
            raise Paused(
                f"Modal did not take the run ({describe(error)}); the same command resumes."
            ) from error
        self._jobs[call.object_id] = (job, folder, time.monotonic())
        return call.object_id

    def attach(self, handle: str, job: Job, folder: Path) -> bool:
        """Take a call up again after a restart; False when Modal no longer knows it."""
        import modal.exception as modal_errors

        try:
            self._from_id(handle).get(timeout=0)
        except (
            modal_errors.NotFoundError,
            modal_errors.InvalidError,
            modal_errors.OutputExpiredError,
        ):
            return False
        except Exception:
            pass
        self._jobs[handle] = (job, folder, time.monotonic())
        self._attached.add(handle)
        return True

    def poll(self, handle: str) -> RunRecord | None:
        """The record when the call is done, else None; asks in a thread, so that a slow network stops nobody.

        Raises:
            Paused: no answer for half an hour, or the account is refused; the calls go on and are fetched on resume.
        """
        now = time.monotonic()
        if handle not in self._asked:
            self._asked[handle] = (
                self._threads.submit(lambda: self._from_id(handle).get(timeout=0)),
                now,
            )
            return None
        answer, asked = self._asked[handle]
        if not answer.done():
            return None
        error = answer.exception()
        if isinstance(error, TimeoutError):  # the built-in one: still going
            self._unreachable_since = None
            if now - asked >= self._ask_every:
                del self._asked[handle]
            return None
        job, folder, _ = self._jobs[handle]
        if error is None:
            self._unreachable_since = None
            record = self._receive(handle, answer.result(), job, folder)
        elif unreachable(error):
            self._unreachable_since = self._unreachable_since or now
            if refused(error):
                raise Paused(no_account()) from error
            if now - self._unreachable_since > OUTAGE:
                raise Paused(
                    f"Modal cannot be reached ({describe(error)}); the runs go on there, and the same command takes them up again."
                ) from error
            if now - asked >= self._ask_every:
                del self._asked[handle]
            return None
        else:
            self._unreachable_since = None
            record = self._interrupted(handle, job, describe(error))
        del self._asked[handle], self._jobs[handle]
        return record

    def progress(self, handle: str) -> Progress | None:
        """Seconds since it was submitted: what goes on inside is known when it is over."""
        if handle not in self._jobs:
            return None
        job, _, since = self._jobs[handle]
        return Progress(
            phase="starting", elapsed=time.monotonic() - since, time_budget=job.time_budget
        )

    def cancel(self, handle: str) -> None:
        """Stop the call and its container."""
        self._asked.pop(handle, None)
        self._jobs.pop(handle, None)
        try:
            effect("remote cancel", lambda: self._from_id(handle).cancel(terminate_containers=True))
        except Exception as error:
            if refused(error) or not unreachable(error):
                return  # done, gone, or not ours: nothing left to stop
            raise Paused(
                f"Modal cannot be reached to stop {handle}; it ends at its timeout. ({describe(error)})"
            ) from error

    def _receive(self, handle: str, answer: Any, job: Job, folder: Path) -> RunRecord:
        """Check what came back, and keep its log and metrics where a local run would have left them."""
        try:
            record: RunRecord = from_json(RunRecord, answer["record"])
            files: Mapping[str, str] = answer["files"]
            if not isinstance(record, RunRecord) or record.status not in (
                "ok",
                "crash",
                "refused",
                "interrupted",
            ):
                raise TypeError("no record")
        except (KeyError, TypeError, ValueError) as error:
            return self._interrupted(
                handle, job, f"the answer is no record ({describe(error)}); deploy the app again"
            )
        for name in ("run.log", "metrics.csv"):  # these two and no other name
            if isinstance(text := files.get(name), str):
                effect("file write", lambda name=name, text=text: _write(folder / name, text))  # type: ignore[misc]
        return record

    def _interrupted(self, handle: str, job: Job, why: str) -> RunRecord:
        """No record came, but the machine may have run all the while: its cost is that bound."""
        worst = self.worst_usd(job)
        elapsed = time.monotonic() - self._jobs[handle][2]
        return RunRecord(
            status="interrupted", rule="modal", reason=f"Modal did not bring the run to its end: {why}.",
            env_id=job.env_id, seed=job.seed, time_budget=job.time_budget, isolation="modal", gpu=self.gpu,
            cost_usd=worst if handle in self._attached else min(worst, self._worst * elapsed),
        )  # fmt: skip


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace")


# ---------------------------------------------------------------------------
# What an exception means
# ---------------------------------------------------------------------------


def unreachable(error: BaseException) -> bool:
    """We could not ask; nothing is known of the run."""
    import modal.exception as modal_errors

    kinds = (
        modal_errors.ConnectionError,
        modal_errors.ServiceError,
        modal_errors.InternalError,
        modal_errors.ResourceExhaustedError,
    )
    return isinstance(error, (*kinds, OSError)) or refused(error)


def refused(error: BaseException) -> bool:
    """The account is missing or may not: only a person can go on."""
    import modal.exception as modal_errors

    return isinstance(error, (modal_errors.AuthError, modal_errors.PermissionDeniedError))


def describe(error: BaseException) -> str:
    """One line: which exception, and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def no_account() -> str:
    """One sentence and the command to get an account."""
    return "Modal knows no account on this machine: register at https://modal.com and run `uv run modal token new`, or leave out --runner modal."
