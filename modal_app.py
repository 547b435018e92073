"""The same measured run, on a Modal H100. Needs a Modal account: `uv run modal setup`.

    uv run modal run modal_app.py                             # train and score ./train.py once
    uv run modal run modal_app.py --env-id Hopper-v5 --seed 3 --gpu L40S
    uv run python agent_loop.py run --runner modal --slots 8  # the whole loop, eight runs at once

Modal (https://modal.com) rents a machine by the second. This file tells it, from top to bottom,
what is on the machine, what the machine is, what runs there, and how to ask for it from here. What
it does not do: schedule, retry or keep anything; that is Modal's part, and
autorl/runners/modal.py's.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import modal

from autorl import environments
from autorl.errors import UserError
from autorl.records import Job, RunRecord, from_json, to_json
from autorl.runners.modal import NO_ACCOUNT, ModalRunner, cost_usd, timeout
from autorl.system.files import read_text
from evaluate import (
    BUDGET_STEPS,
    ENV_ID,
    ENV_KWARGS,
    NUM_EVAL_EPISODES,
    SEED,
    SUMMARY,
    TIME_BUDGET,
    summary_block,
)

# ## What is on the machine
#
# The packages of pyproject.toml at their pinned versions, PyTorch with CUDA among them (PyPI's
# Linux wheels). Box2D and MuJoCo come as wheels; MuJoCo draws without a display through EGL, which
# needs two system libraries. Our own code comes last, so that editing it rebuilds nothing. Nothing
# secret goes in.

ROOT = Path(__file__).parent

image = (
    modal.Image.debian_slim(python_version="3.11")
    .apt_install("libegl1", "libgl1", "libosmesa6", "bubblewrap")
    .uv_sync(str(ROOT), extra_options="--no-dev", uv_version="0.13.8")
    .env({"MUJOCO_GL": "egl", "SDL_VIDEODRIVER": "dummy"})
    # by default *.py only: the judge's filters on system calls are no Python
    .add_local_python_source("autorl", "autorl_worlds", "evaluate", ignore=["**/__pycache__"])
)

# ## What the machine is
#
# `H100!` with the exclamation mark: the plain name may silently become a bigger card, and then two
# runs do not compare. Environments step on the CPU, so the cores are asked for explicitly: Modal
# gives a fraction of one otherwise.

APP, GPU, CORES, MEMORY_GIB = "autorl", "H100!", 8.0, 32.0
LOG_BYTES = 256 * 1024  # of each file that is brought back

app = modal.App(APP, image=image)


# ## What runs there
#
# One judge, one run, one fresh container (`single_use_containers`), no network, no way into the
# account. A preempted call starts over in another container, from the beginning. `retries=0`: a
# failed train.py is an answer, not an exception, and what the platform failed at the loop repeats,
# within its limit in dollars.


def machine(gpu: str, time_budget: float) -> dict[str, Any]:
    """What a call is given: this card, the cores and memory above, the time this budget needs."""
    cost_usd(gpu, CORES, MEMORY_GIB, 0.0)  # refuses a card without a price before it costs anything
    memory = int(MEMORY_GIB * 1024)  # MiB
    return {"gpu": gpu, "cpu": CORES, "memory": memory, "timeout": timeout(time_budget)}


@app.function(
    **machine(GPU, TIME_BUDGET),
    retries=0,
    single_use_containers=True,
    block_network=True,
    restrict_modal_access=True,
)
def measure(job: dict[str, Any], gpu: str = GPU, harness: str = "") -> dict[str, Any]:
    """Train and score one train.py. Plain data in and out, so that both ends may differ in version.

    Args:
        job: a `Job`.
        gpu: what was asked for, for the bill.
        harness: sha256 of the caller's evaluate.py.

    Returns:
        record: a `RunRecord`; its cost is this call's seconds at list price, the container's start
            not included.
        files: run.log, metrics.csv and recording.json, bounded.
    """
    import autorl.judge.measure as judge

    began = time.monotonic()
    if harness and harness != harness_sha256():
        reason = (
            "Another version of evaluate.py was deployed in the meantime: "
            "stop that session, then run this command again."
        )
        return {"record": to_json(RunRecord("interrupted", "harness", reason)), "files": {}}
    ours: Job = from_json(Job, job)
    # The card is the container's only one; the cores are what was paid for, not what the host has.
    ours = dataclasses.replace(ours, gpu="", cores=(), threads=ours.threads or int(CORES))
    if gpu and not modal.is_local() and not gpu_name():
        reason = f"{gpu} was asked for, and torch sees no CUDA device."
        return {"record": to_json(RunRecord("interrupted", "gpu", reason)), "files": {}}
    with tempfile.TemporaryDirectory() as folder:
        try:
            record = judge.measure(ours, Path(folder))
        except Exception as error:  # must not look like a lost network at the other end
            reason = f"The judge failed: {type(error).__name__}: {error}"
            record = RunRecord("interrupted", "judge", reason, env_id=ours.env_id, seed=ours.seed)
        files = {
            name: read_text(Path(folder) / name, LOG_BYTES, tail=True)
            for name in ("run.log", "metrics.csv", "recording.json")
        }
    record = dataclasses.replace(
        record,
        isolation="modal" if record.isolation == "none" else f"modal+{record.isolation}",
        gpu=gpu_name() or record.gpu,
        cores=ours.threads,
        cost_usd=cost_usd(gpu, CORES, MEMORY_GIB, time.monotonic() - began),
    )
    return {"record": to_json(record), "files": files}


def harness_sha256() -> str:
    """Which evaluate.py and autorl_worlds these are: both ends must mean the same ones."""
    import evaluate

    return environments.harness_sha256(Path(evaluate.__file__).parent)


def gpu_name() -> str:
    """The card in this container, by its own name; "" without one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


# ## How to ask for it from here: once
#
# `modal run modal_app.py` starts the app, runs this on your machine, and stops the app.


@app.local_entrypoint()
def main(
    env_id: str = ENV_ID,
    seed: int = SEED,
    gpu: str = GPU,
    time_budget: float = TIME_BUDGET,
    episodes: int = NUM_EVAL_EPISODES,
    train: str = "train.py",
) -> None:
    """Measure one train.py and print its summary block."""
    if not Path(train).is_file():
        raise SystemExit(
            f"There is no {train} here: run this in the repository's folder, or give --train."
        )
    kwargs = ENV_KWARGS if env_id == ENV_ID else {}
    source = Path(train).read_text()
    job = Job(source, env_id, seed, time_budget, episodes, kwargs, BUDGET_STEPS)
    remote = measure.with_options(**machine(gpu, time_budget))
    answer = remote.remote(to_json(job), gpu, harness_sha256())
    record: RunRecord = from_json(RunRecord, answer["record"])
    print(f"{record.status}  {record.reason}".rstrip())
    card, cost = record.gpu or "no GPU", f"${record.cost_usd:.2f} at list price"
    print(f"{card}, {record.cores} cores, {record.isolation}, {cost}")
    print(summary_block(**{name: getattr(record, name) for name in SUMMARY}))
    if record.status != "ok":
        print(record.log_tail)
        raise SystemExit(1)


# ## How to ask for it from here: many times
#
# A deployed app outlives the program that uses it, so calls under way survive a crash of the loop
# and are found again by their id. Deploying again is cheap and replaces the code.


def runner(places: int, gpu: str = GPU) -> ModalRunner:
    """Deploy the app and return the runner that fans out to it.

    Raises:
        UserError: no account, no network, a GPU without a price.
    """
    found: dict[float, Any] = {}

    def chosen(job: Job) -> Any:
        budget = job.time_budget
        if budget not in found:
            found[budget] = Bound(deployed.with_options(**machine(gpu, budget)), gpu)
        return found[budget]

    made = ModalRunner(chosen, modal.FunctionCall.from_id, places, gpu, CORES, MEMORY_GIB)
    try:
        app.deploy()
        deployed = modal.Function.from_name(APP, "measure")
        deployed.hydrate()
    except modal.exception.AuthError as error:
        raise UserError(NO_ACCOUNT) from error
    except (modal.exception.Error, OSError) as error:
        raise UserError(f"The app could not be deployed to Modal: {error}") from error
    return made


@dataclasses.dataclass(frozen=True)
class Bound:
    """The remote function with the two arguments that never change."""

    function: Any
    gpu: str

    def spawn(self, job: dict[str, Any]) -> Any:
        return self.function.spawn(job, self.gpu, harness_sha256())
