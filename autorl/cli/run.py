"""What `run`, `confirm` and the background loop of `try` do: options in, an exit code out."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from autorl.cli import options as flags
from autorl.cli.background import EVALUATION, start_loop
from autorl.cli.console import Notifier, Standings
from autorl.cli.cores import Cores
from autorl.cli.presets import DEMO, FIRST_LINE, QUICK, Preset, demo_ending, demo_source
from autorl.cli.status import print_evidence, print_status
from autorl.environments import check_env
from autorl.errors import Paused, UserError
from autorl.interfaces import Proposer, Runner
from autorl.judge import sandbox
from autorl.judge.trial import try_env
from autorl.loop import Loop
from autorl.proposers.command import CommandProposer
from autorl.proposers.hybrid import HybridProposer
from autorl.proposers.replay import Replay
from autorl.report.progress import Dashboard
from autorl.session import (
    Bounds,
    Session,
    Settings,
    find_session,
    open_session,
    pick_demo,
    resolve_settings,
    show_to_git,
)
from autorl.session.events import STOPPED
from autorl.system.bytecode import compile_packages


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `run` but for the settings of the session; see its --help."""

    tag: str | None = None
    new: bool = False
    quick: bool = False
    demo: bool = False
    proposer: str = "auto"
    model: str | None = None
    effort: str = "high"
    max_tokens: int | None = None
    command: str | None = None
    command_timeout: float = 1800.0  # seconds
    pass_env: tuple[str, ...] = ()
    replay_file: Path | None = None
    hybrid: float | None = None
    experiments: int | None = None
    hours: float | None = None
    max_usd: float | None = None
    confirm_runs: int | None = None
    seed: int | None = None
    notify: str | None = None
    inbox_only: bool = False

    @property
    def preset(self) -> Preset | None:
        """Of --demo or --quick."""
        return DEMO if self.demo else QUICK if self.quick else None


def run(root: Path, options: RunOptions, typed: dict[str, Any], resume: str) -> int:
    """Research until stopped.

    Args:
        typed: the settings of the session that the person gave.
        resume: what to type to go on, after the program's name and the tag.
    """
    if "cores" in typed:
        typed = typed | {"cores": flags.cores(typed["cores"])}
    for name, flag in (("hours", "--hours"), ("max_usd", "--max-usd")):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise UserError(f"{flag} must be more than 0, not {value:g}.")
    if options.demo and (options.tag or options.quick):
        raise UserError("--demo names its session itself: leave --tag and --quick out.")
    if options.demo:
        click.echo(FIRST_LINE)
    name = "" if options.inbox_only else check_proposer(options)
    tag, kept = pick_demo(root, options.new) if options.demo else (options.tag, False)
    if options.preset and not kept:
        typed = options.preset.settings(typed)
    tag, settings, exists = resolve_settings(root, typed, tag, options.new)

    def proposer(session: Session) -> Proposer | None:
        return make_proposer(name, options, session) if name else None

    notifier = Notifier(options.notify)
    bounds, queues = bounds_of(options, settings), options.inbox_only
    work = Work(root, tag, settings, bounds, exists, notifier, queues)
    again = f"run {resume}" if options.demo else f"run --tag {tag} {resume}".strip()
    source = demo_source() if options.demo else ""
    code = work.run(proposer, options.new, options.seed, resume=again, source=source)
    if options.demo and code == 0:
        click.echo(demo_ending(root, tag))
    return code


def confirm(root: Path, tag: str | None, runs: int, anyway: bool) -> int:
    """Fresh-seed evidence for a session's champion, then its table."""
    tag = find_session(root, tag).parent.name
    tag, settings, _ = resolve_settings(root, {}, tag)
    work = Work(root, tag, settings, Bounds(confirm_runs=runs, anyway=anyway), exists=True)
    again = f"confirm --tag {tag} --runs {runs}{' --anyway' * anyway}"
    return work.run(lambda _: None, confirm_only=True, resume=again)


def bounds_of(options: RunOptions, settings: Settings) -> Bounds:
    """When to stop; with hours, the confirmation takes at most a third of them."""
    preset, hours, experiments = options.preset, options.hours, options.experiments
    usual = 5 if experiments is not None or hours is not None else 0
    if preset:
        experiments = preset.experiments if experiments is None else experiments
        hours, usual = preset.hours if hours is None else hours, preset.confirm_runs
    elif hours is not None:
        pair = 2 * EVALUATION * settings.time_budget / settings.slots
        usual = max(2, min(usual, int(hours * 3600 / 3 / pair)))
    runs = usual if options.confirm_runs is None else options.confirm_runs
    return Bounds(experiments, hours, options.max_usd, runs)


# ---------------------------------------------------------------------------
# The researcher
# ---------------------------------------------------------------------------


def check_proposer(o: RunOptions) -> str:
    """The researcher that the options ask for; what cannot work is refused at once."""
    name = o.proposer
    if name == "auto":
        key = os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")
        best = "claude" if key and not o.demo else "search"
        name = "replay" if o.replay_file else "command" if o.command else best
    if name == "replay":
        if not o.replay_file:
            raise UserError("--proposer replay needs --replay FILE.")
        Replay(o.replay_file)
    if name == "command":
        CommandProposer(o.command or "", o.pass_env)
        if o.max_usd is not None:
            raise UserError(
                "--max-usd cannot be kept with --proposer command: nobody here knows what that "
                "command costs; leave it out,"
                " or bound the session with --hours."
            )
    if name == "claude":
        from autorl.proposers.claude import DEFAULT_MODELS, ClaudeProposer  # a second to import

        claude = ClaudeProposer(o.model or DEFAULT_MODELS, o.effort, o.max_tokens)
        if o.max_usd is not None and claude.unpriced:
            raise UserError(
                f"There is no price for the model {claude.unpriced[0]}, so --max-usd cannot be "
                "kept: choose another --model or leave --max-usd out."
            )
    if o.hybrid is not None and name not in ("claude", "command"):
        raise UserError(
            "--hybrid shares the experiments between search and another researcher: choose "
            "--proposer claude or command too."
        )
    return name


def make_proposer(name: str, o: RunOptions, session: Session) -> Proposer:
    """The proposer of that name, set to go on where the session stands."""
    from autorl.proposers.search import SearchProposer  # optuna takes a moment

    state = session.state
    search = SearchProposer(seed=state.about.root_seed)
    chosen: Proposer = search
    if name == "claude":
        from autorl.proposers.claude import DEFAULT_MODELS, ClaudeProposer

        chosen = ClaudeProposer(o.model or DEFAULT_MODELS, o.effort, o.max_tokens, search)
    elif name == "command" and o.command:
        seen = partial(session.repository.checkout_state, but=session.folder)
        chosen = CommandProposer(
            o.command, o.pass_env, o.command_timeout, session.root, checkout=seen
        )
    elif name == "replay" and o.replay_file:
        taken = sum(a.proposer == name and not a.retry_of for a in state.attempts.values())
        taken += sum(r.proposer == name and not r.retry_of for r in state.refusals)
        chosen = Replay(o.replay_file, taken)
    return chosen if o.hybrid is None else HybridProposer(chosen, search, o.hybrid)


# ---------------------------------------------------------------------------
# The runner
# ---------------------------------------------------------------------------


def make_runner(settings: Settings, root: Path) -> Runner:
    """Where the runs of a session happen."""
    if settings.runner == "modal":
        gpu = (settings.gpu,) if settings.gpu else ()
        return modal_app(root).runner(settings.slots, *gpu)  # type: ignore[no-any-return]
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


# ---------------------------------------------------------------------------
# At work
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """One process's work on one session."""

    root: Path
    tag: str
    settings: Settings
    bounds: Bounds
    exists: bool
    notifier: Notifier = field(default_factory=Notifier)
    queues: bool = False  # waits while another loop measures here; else that is refused

    def run(
        self,
        proposer_of: Callable[[Session], Proposer | None],
        new: bool = False,
        seed: int | None = None,
        confirm_only: bool = False,
        resume: str = "",
        source: str = "",
    ) -> int:
        """Open the session, work on it until it ends, show it; returns the exit code.

        Args:
            source: the train.py that a new demonstration starts from.
        """
        _check_packages()
        solved_at = check_env(self.settings.env_id, self.settings.env_kwargs)
        if not self.exists:
            try_env(self.settings.env_id, self.settings.sandbox, self.settings.env_kwargs)
        cores = Cores(self.settings)
        if not self.queues and (who := cores.others()):
            raise UserError(
                f"Another loop is measuring on this machine ({who}): wait for it, stop it, or give "
                "--cores others."
            )
        try:
            session = open_session(self.root, self.tag, self.settings, new, seed, source)
            session.solved_at = solved_at
            before = len(session.state.claims)
            try:
                loop, code = self._loop(session, proposer_of, confirm_only, resume, cores.others)
            finally:
                # between two ideas of a person the session goes on, if nobody stopped it
                if not self.queues or session.state.ended == STOPPED:
                    show_to_git(session.folder, shown=True)
                session.close()
        finally:
            cores.release()
        print_status(self.root, self.tag, False)
        claimed = len(session.state.claims) > before
        if claimed and not session.state.demo:  # its ending says it shorter
            print_evidence(self.root, self.tag)
        late = code == 0 and not confirm_only and (loop.queue.exhausted or loop.queue.proposer)
        if late and loop.queue.inbox.waiting():
            start_loop(self.root, session.folder)  # a `try` came that still saw our lock
        return code

    def _loop(
        self,
        session: Session,
        proposer_of: Callable[[Session], Proposer | None],
        confirm_only: bool,
        resume: str,
        others: Callable[[], str],
    ) -> tuple[Loop, int]:
        if confirm_only and all(v.outcome != "keep" for v in session.state.verdicts):
            raise UserError(
                f"Nothing was kept in {session.tag!r} yet, so there is no champion to confirm: let "
                "it run first."
            )
        proposer = proposer_of(session)
        runner = make_runner(session.settings, self.root)
        try:
            with Dashboard() as console:
                options = self.bounds, console, confirm_only, resume, others
                loop = Loop(session, proposer, runner, *options)
                _obey_signals(loop, console)
                s, by = session.settings, proposer.name if proposer else "`try`"
                where = session.folder.relative_to(self.root)
                console.say(
                    session.recovered
                    or f"new session {session.tag} on {s.env_id}: {s.time_budget:g} s a run, "
                    f"ideas from {by}, results in {where}/"
                )
                if s.runner == "local" and (line := sandbox.advice(s.sandbox)):
                    console.say(line)
                console.standing = Standings(session, self.bounds)
                self.notifier.watch(session, console.say)
                try:
                    code = loop.run()
                except Paused as pause:
                    self.notifier.tell(session, "pause", str(pause), console.say)
                    raise
                self.notifier.tell(session, "end", session.state.ended, console.say)
                return loop, code
        finally:
            runner.close()
            if proposer:
                proposer.close()


def _obey_signals(loop: Loop, console: Dashboard) -> None:
    """The first signal ends the loop in good order, a second one at once."""

    def on_signal(number: int, frame: object) -> None:
        if number == signal.SIGHUP:  # the terminal is gone: nothing can be written to it
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            loop.stop("the terminal was closed")
        elif loop.stopping:
            # Not SystemExit: raised in a callback of the interpreter it is only printed, and raised
            # while a lock is taken it leaves the lock held. The log survives any kill, and every
            # child dies with this process.
            console.abandon()
            os._exit(130)
        else:
            loop.stop(STOPPED if number == signal.SIGINT else "told to stop")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup holds
            signal.signal(number, on_signal)


def _check_packages() -> None:
    for module in ("torch", "gymnasium", "optuna", "cloudpickle", "matplotlib", "psutil"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"The package {module} is missing: run `uv sync`, then start again with `uv run`."
            )
