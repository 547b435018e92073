"""The bodies of agent_loop.py's commands: flags in, rooms wired, sentences out.

What it does not do: define flags (agent_loop.py) or research (loop.py).
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from autorl.cli.experiment import start_loop
from autorl.cli.status import print_evidence, print_status
from autorl.environments import check_env, load_harness
from autorl.errors import UserError
from autorl.interfaces import Proposer, Runner
from autorl.judge import sandbox
from autorl.loop.loop import Loop
from autorl.proposers.replay import Replay
from autorl.report.progress import ProgressBars
from autorl.session.session import (
    Bounds,
    Session,
    Settings,
    find_session,
    journals,
    kept_settings,
    open_session,
    read_ledger,
)
from autorl.system.bytecode import compile_packages
from autorl.system.hardware import affinity, gpus, partition
from autorl.system.locks import CoreSlots

QUICK = {"env_id": "InvertedDoublePendulum-v5", "time_budget": 12.0, "num_eval_episodes": 50}
QUICK_EXPERIMENTS, QUICK_HOURS, QUICK_CONFIRM = 10, 4.6 / 60, 2


# ---------------------------------------------------------------------------
# run
# ---------------------------------------------------------------------------


def settings_from(root: Path, o: dict[str, Any], given: set[str]) -> tuple[Settings, Bounds]:
    """Flags as values; what cannot be is refused in one sentence."""
    harness = load_harness(root)
    values: dict[str, Any] = {
        "env_id": harness.ENV_ID,
        "time_budget": harness.TIME_BUDGET,
        "num_eval_episodes": harness.NUM_EVAL_EPISODES,
    }
    if o.get("quick"):
        values |= QUICK
        given |= set(QUICK)
    values |= {k: o[k] for k in values if o.get(k) is not None}
    if not 0 < values["time_budget"] < float("inf"):
        raise UserError(
            f"The budget must be more than 0 seconds, not {values['time_budget']:g}: give --budget 720, for example."
        )
    if values["num_eval_episodes"] < 1:
        raise UserError(
            f"At least one evaluation episode is needed, not {values['num_eval_episodes']}: give --episodes 100, for example."
        )
    for name, flag in (("hours", "--hours"), ("max_usd", "--max-usd")):
        if o.get(name) is not None and not o[name] > 0:
            raise UserError(f"{flag} must be more than 0, not {o[name]:g}.")
    rigor = (
        "bold" if o.get("quick") and "rigor" not in given else o["rigor"]
    )  # one run a candidate: there is time for several
    settings = Settings(
        **values,
        rigor=rigor,
        sandbox=o["sandbox"],
        runner=o["runner"],
        slots=o["slots"],
        cores=_cores(o["cores"]),
        gpu=o["gpu"],
    )
    quick = bool(o.get("quick"))
    experiments = (
        o["experiments"] if o["experiments"] is not None else (QUICK_EXPERIMENTS if quick else None)
    )
    hours = o["hours"] if o["hours"] is not None else (QUICK_HOURS if quick else None)
    usual = QUICK_CONFIRM if quick else 5 if experiments is not None or hours is not None else 0
    if (
        hours is not None and not quick
    ):  # the claim takes a third of the time at most, and two runs of each at least
        usual = max(
            2, min(usual, int(hours * 3600 / 3 / (2 * 1.05 * values["time_budget"] / o["slots"])))
        )
    runs = o["confirm_runs"] if o["confirm_runs"] is not None else usual
    return settings, Bounds(experiments, hours, o["max_usd"], runs)


def _cores(text: str | None) -> tuple[int, ...]:
    if not text:
        return ()
    here = affinity()
    try:
        cores = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"--cores {text} is not a list of core numbers; write it as 0,1.") from None
    if missing := [c for c in cores if c not in here]:
        raise UserError(
            f"This process may not use core {missing[0]}; it has {','.join(map(str, sorted(here)))}."
        )
    return cores


def who(o: dict[str, Any]) -> str:
    """The researcher that the flags ask for; flags that cannot work are refused before anything is made."""
    name = str(o["proposer"])
    if name == "auto":
        name = (
            "replay"
            if o["replay_file"]
            else "command"
            if o["command"]
            else "claude"
            if os.environ.get("ANTHROPIC_API_KEY")
            else "search"
        )
    from autorl.proposers.command import CommandProposer

    if name == "replay" and not o["replay_file"]:
        raise UserError("--proposer replay needs --replay FILE.")
    if name == "replay":
        Replay(o["replay_file"])
    if name == "command" and o["command"]:
        CommandProposer(o["command"], tuple(o["pass_env"]))
    if name == "command" and not o["command"]:
        raise UserError(
            "--proposer command needs --command, for example --command 'claude -p --permission-mode acceptEdits'."
        )
    if name == "claude":
        from autorl.proposers.claude import ClaudeProposer

        claude = ClaudeProposer(**({"model": o["model"]} if o["model"] else {}))
        if o["max_usd"] is not None and claude.price is None:
            raise UserError(
                f"There is no price for the model {claude.model}, so --max-usd cannot be kept: choose another --model or leave --max-usd out."
            )
    if name == "command" and o["max_usd"] is not None:
        raise UserError(
            "--max-usd cannot be kept with --proposer command: nobody here knows what that command costs; leave it out, or bound the night with --hours."
        )
    if o["hybrid"] is not None and name not in ("claude", "command"):
        raise UserError(
            "--hybrid shares the experiments between search and another researcher: choose --proposer claude or command too."
        )
    return name


def researcher(name: str, o: dict[str, Any], session: Session) -> Proposer:
    """The proposer of that name, set to go on where the session stands."""
    from autorl.proposers.command import CommandProposer
    from autorl.proposers.search import SearchProposer

    ledger = session.ledger
    search = SearchProposer(seed=ledger.session["root_seed"])
    chosen: Proposer = search
    if name == "claude":
        from autorl.proposers.claude import ClaudeProposer

        chosen = ClaudeProposer(**({"model": o["model"]} if o["model"] else {}))
    elif name == "command":
        chosen = CommandProposer(
            o["command"],
            tuple(o["pass_env"]),
            o["command_timeout"],
            session.root,
            fingerprint=session.workspace.checkout_fingerprint,
        )
    elif name == "replay":
        taken = sum(a.proposer == "replay" and a.again is None for a in ledger.attempts.values())
        taken += sum(r["proposer"] == "replay" and r.get("again") is None for r in ledger.refusals)
        chosen = Replay(o["replay_file"], taken)
    if o["hybrid"] is not None:
        from autorl.proposers.hybrid import HybridProposer

        chosen = HybridProposer(chosen, search, o["hybrid"])
    return chosen


def make_runner(settings: Settings, root: Path) -> Runner:
    """Where the runs of a session happen."""
    if settings.runner == "modal":
        return modal_app(root).runner(settings.slots, *((settings.gpu,) if settings.gpu else ()))  # type: ignore[no-any-return]
    if settings.runner == "scripted":
        from autorl.runners.scripted import ScriptedRunner

        return ScriptedRunner(places=settings.slots)
    from autorl.runners.local import LocalRunner

    compile_packages()
    return LocalRunner(places=settings.slots, root=root)


def modal_app(root: Path) -> ModuleType:
    """The modal_app.py of the project in `root`."""
    spec = importlib.util.spec_from_file_location("modal_app", root / "modal_app.py")
    if not (root / "modal_app.py").is_file() or spec is None or spec.loader is None:
        raise UserError(
            f"--runner modal needs modal_app.py in {root}: copy it there from autoRL's repository."
        )
    sys.modules["modal_app"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sit(
    root: Path, tag: str | None, settings: Settings, bounds: Bounds, proposer_of: Callable[..., Proposer],
    new: bool = False, seed: int | None = None, given: frozenset[str] = frozenset(), inbox_only: bool = False, confirm_only: bool = False,
    flags: str = "",
) -> None:  # fmt: skip
    """Open a session, work on it until it ends, and leave with its exit code."""
    _missing_dependencies()
    solved_at = None
    if tag is None or "env_id" in given or not any(p.parent.name == tag for p in journals(root)):
        solved_at = check_env(settings.env_id, root)
    slots = runner = None
    kept = kept_settings(root, tag, settings, new) or settings
    if kept.runner == "local":
        sandbox.probe(
            settings.sandbox if "sandbox" in given else kept.sandbox
        )  # refused before anything is made
        if kept.gpu and not gpus():
            raise UserError(f"--gpu {kept.gpu}: this machine has no CUDA device; leave it out.")
        shared, (cores,) = CoreSlots(), partition(settings.cores or kept.cores, 1)
        if kept.slots > len(cores):
            raise UserError(
                f"--slots {kept.slots} needs as many cores for runs that do not disturb each other; there are {len(cores)}."
            )
        if (slots := shared.acquire(cores)) is None:
            raise UserError(
                f"Another loop is measuring on this machine ({shared.blocker}): wait for it, stop it, or give --cores others."
            )
    session = open_session(root, tag, settings, new=new, seed=seed, given=given)
    before, session.extras["flags"] = session.ledger.claim, flags
    try:
        session.extras["solved_at"] = (
            solved_at if session.new else check_env(session.settings.env_id, root)
        )
        if confirm_only and all(v.outcome != "keep" for v in session.ledger.verdicts):
            raise UserError(
                f"Nothing was kept in {session.tag!r} yet, so there is no champion to confirm: let it run first."
            )
        if settings.sandbox != session.settings.sandbox and "sandbox" in given:
            session.settings = replace(session.settings, sandbox=settings.sandbox)
        if settings.cores:
            session.settings = replace(session.settings, cores=settings.cores)
        runner = make_runner(session.settings, root)
        with ProgressBars() as screen:
            loop: Loop | None = None

            def on_signal(number: int, frame: object) -> None:
                if (
                    number == signal.SIGHUP and loop is not None
                ):  # the terminal is gone: nothing can be written to it
                    null = os.open(os.devnull, os.O_RDWR)
                    for fd in (0, 1, 2):
                        os.dup2(null, fd)
                    return loop.stop("the terminal was closed")
                if loop is None or loop.stopping:
                    os._exit(130)  # the second time: at once; every child dies with this process
                return loop.stop("Ctrl-C" if number == signal.SIGINT else "told to stop")

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if (
                    number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
                ):  # nohup holds
                    signal.signal(number, on_signal)
            proposer = proposer_of(session)
            loop = Loop(
                session,
                proposer,
                runner,
                bounds,
                screen,
                inbox_only=inbox_only,
                confirm_only=confirm_only,
            )
            asked: Any
            for asked in (proposer, getattr(proposer, "structure", None)):
                if hasattr(asked, "should_stop"):
                    asked.should_stop = lambda: bool(loop and loop.stopping)
            where = session.folder.relative_to(root)
            screen.say(
                session.recovered
                or f"new session {session.tag} on {session.settings.env_id}: {session.settings.time_budget:g} s a run, ideas from {proposer.name}, results in {where}/"
            )
            if session.settings.runner == "local" and (
                line := sandbox.advice(session.settings.sandbox)
            ):
                screen.say(line)
            code = loop.run()
    finally:
        getattr(runner, "close", lambda: None)()
        session.close()
        if slots:
            slots.release()
    print_status(root, session.tag, False)
    if session.ledger.claim is not before:
        print_evidence(root, session.tag)
    sys.stdout.flush()
    sys.stderr.flush()
    if (
        code == 0
        and not confirm_only
        and (not inbox_only or loop.desk.exhausted)
        and loop.desk.inbox.waiting()
    ):
        start_loop(
            root, session.folder
        )  # a `try` came that still saw our lock; one that saw it free has started its own
    os._exit(code)  # a researcher's thread may still be waiting for an answer


def _missing_dependencies() -> None:
    import importlib.util

    for module in ("torch", "gymnasium", "optuna", "cloudpickle", "matplotlib", "psutil"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"The package {module} is missing: run `uv sync`, then start again with `uv run`."
            )


def confirm_session(root: Path, tag: str | None, runs: int) -> None:
    """Fresh-seed evidence for a session's champion, then its table."""
    path = find_session(root, tag)
    session_tag = path.parent.name
    env_id = read_ledger(path).session["env_id"]
    sit(
        root,
        session_tag,
        Settings(env_id=env_id),
        Bounds(experiments=0, confirm_runs=runs),
        _nobody,
        confirm_only=True,
    )


class _Nobody:
    """Proposes nothing: for sittings that only measure."""

    name = "nobody"

    def propose(self, history: Any, purse: Any) -> None:
        return None


def _nobody(session: Session) -> Proposer:
    return _Nobody()
