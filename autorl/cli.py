"""The bodies of agent_loop.py's commands: flags in, rooms wired, sentences out.

What it does not do: define flags (agent_loop.py) or research (loop.py).
"""

import difflib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from autorl import report
from autorl.inbox import Inbox
from autorl.journal import atomic_write
from autorl.ledger import Attempt, Ledger
from autorl.locks import CoreSlots, holder, holder_pid
from autorl.loop import Loop
from autorl.machine import partition
from autorl.records import AutoRLError, Proposal, Proposer, Runner, UserError
from autorl.session import Bounds, Session, Settings, find_session, journals, open_session, read_ledger
from autorl.terminal import Terminal
from autorl.vet import vet
from autorl.workspace import Workspace

QUICK = {"env_id": "Pendulum-v1", "time_budget": 10.0, "num_eval_episodes": 50}
QUICK_EXPERIMENTS, QUICK_HOURS = 8, 4.5 / 60


# ---------------------------------------------------------------------------
# run
# ---------------------------------------------------------------------------


def settings_from(o: dict[str, Any], given: set[str]) -> tuple[Settings, Bounds]:
    """Flags as values; what cannot be is refused in one sentence."""
    import evaluate

    values: dict[str, Any] = {"env_id": evaluate.ENV_ID, "time_budget": evaluate.TIME_BUDGET, "num_eval_episodes": evaluate.NUM_EVAL_EPISODES}
    if o.get("quick"):
        values |= QUICK
        given |= set(QUICK)
    values |= {k: o[k] for k in values if o.get(k) is not None}
    if values["time_budget"] <= 0:
        raise UserError(f"The budget must be more than 0 seconds, not {values['time_budget']:g}: give --budget 720, for example.")
    if values["num_eval_episodes"] < 1:
        raise UserError(f"At least one evaluation episode is needed, not {values['num_eval_episodes']}: give --episodes 100, for example.")
    for name, flag in (("hours", "--hours"), ("max_usd", "--max-usd")):
        if o.get(name) is not None and o[name] <= 0:
            raise UserError(f"{flag} must be more than 0, not {o[name]:g}.")
    settings = Settings(
        **values, rigor=o["rigor"], sandbox=o["sandbox"], runner=o["runner"], slots=o["slots"], cores=_cores(o["cores"]), gpu=o["gpu"]
    )
    quick = bool(o.get("quick"))
    experiments = o["experiments"] if o["experiments"] is not None else (QUICK_EXPERIMENTS if quick else None)
    hours = o["hours"] if o["hours"] is not None else (QUICK_HOURS if quick else None)
    runs = o["confirm_runs"] if o["confirm_runs"] is not None else (3 if quick else 5 if experiments is not None or hours is not None else 0)
    return settings, Bounds(experiments, hours, o["max_usd"], runs)


def _cores(text: str | None) -> tuple[int, ...]:
    if not text:
        return ()
    here = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    try:
        cores = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"--cores {text} is not a list of core numbers; write it as 0,1.") from None
    if missing := [c for c in cores if c not in here]:
        raise UserError(f"This process may not use core {missing[0]}; it has {','.join(map(str, sorted(here)))}.")
    return cores


def check_env(env_id: str) -> float | None:
    """Refuse an environment that cannot be trained; returns the return at which gymnasium calls it solved, if it says."""
    import gymnasium as gym

    import evaluate

    try:
        env = gym.make(env_id)
    except ModuleNotFoundError as error:
        raise UserError(f"{env_id} needs the module {error.name!r}, which is not installed here: install it into this environment, or choose another --env-id.") from None
    except Exception as error:
        near = difflib.get_close_matches(env_id, list(gym.registry), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"Gymnasium cannot make {env_id} ({str(error).splitlines()[0]}).{hint}") from None
    try:
        evaluate.check_spaces(env, env_id)
    except SystemExit as refusal:
        raise UserError(str(refusal)) from None
    finally:
        env.close()
    threshold = env.spec.reward_threshold if env.spec else None
    return float(threshold) if threshold is not None else None


def researcher(o: dict[str, Any], session: Session, should_stop: Callable[[], bool] = lambda: False) -> Proposer:
    """The proposer that the flags ask for."""
    name, ledger = o["proposer"], session.ledger
    if name == "auto":
        name = "replay" if o["replay_file"] else "command" if o["command"] else "claude" if os.environ.get("ANTHROPIC_API_KEY") else "search"
    from autorl.proposers.search import SearchProposer

    search = SearchProposer(seed=ledger.session["root_seed"])
    chosen: Proposer = search
    if name == "claude":
        from autorl.proposers.claude import ClaudeProposer

        chosen = ClaudeProposer(**({"model": o["model"]} if o["model"] else {}), should_stop=should_stop)
        if o["max_usd"] is not None and chosen.price is None:
            raise UserError(f"There is no price for the model {chosen.model}, so --max-usd cannot be kept: choose another --model or leave --max-usd out.")
    elif name == "command":
        from autorl.proposers.command import CommandProposer

        if not o["command"]:
            raise UserError("--proposer command needs --command, for example --command 'claude -p --permission-mode acceptEdits'.")
        chosen = CommandProposer(o["command"], tuple(o["pass_env"]), o["command_timeout"], session.root)
    elif name == "replay":
        from autorl.proposers.replay import Replay

        if not o["replay_file"]:
            raise UserError("--proposer replay needs --replay FILE.")
        taken = sum(a.proposer == "replay" and a.again is None for a in ledger.attempts.values())
        taken += sum(r["proposer"] == "replay" and r.get("again") is None for r in ledger.refusals)
        chosen = Replay(o["replay_file"], taken)
    if o["hybrid"] is not None:
        from autorl.proposers.hybrid import HybridProposer

        if chosen is search:
            raise UserError("--hybrid shares the experiments between search and another researcher: choose --proposer claude or command too.")
        chosen = HybridProposer(chosen, search, o["hybrid"])
    return chosen


def make_runner(settings: Settings, root: Path) -> Runner:
    """Where the runs of a session happen."""
    if settings.runner == "modal":
        from autorl.runners.modal import ModalRunner

        return ModalRunner(places=settings.slots)
    if settings.runner == "scripted":
        from autorl.runners.scripted import ScriptedRunner

        return ScriptedRunner(places=settings.slots)
    from autorl.runners.local import LocalRunner

    return LocalRunner(places=settings.slots, root=root)


def sit(
    root: Path, tag: str | None, settings: Settings, bounds: Bounds, proposer_of: Callable[..., Proposer],
    new: bool = False, seed: int | None = None, given: frozenset[str] = frozenset(), inbox_only: bool = False, confirm_only: bool = False,
) -> None:  # fmt: skip
    """Open a session, work on it until it ends, and leave with its exit code."""
    _missing_dependencies()
    solved_at = None
    if tag is None or not any(p.parent.name == tag for p in journals(root)):
        solved_at = check_env(settings.env_id)
    session = open_session(root, tag, settings, new=new, seed=seed, given=given)
    slots = None
    try:
        session.extras["solved_at"] = solved_at if session.new else check_env(session.settings.env_id)
        if confirm_only and all(v.outcome not in ("keep",) for v in session.ledger.verdicts):
            raise UserError(f"Nothing was kept in {session.tag!r} yet, so there is no champion to confirm: let it run first.")
        if session.settings.runner == "local":
            cores = tuple(c for group in partition(session.settings.cores, session.settings.slots) for c in group)
            shared = CoreSlots()
            if (slots := shared.acquire(cores)) is None:
                raise UserError(f"Another loop is measuring on this machine ({shared.blocker}): wait for it, stop it, or give --cores others.")
        if settings.sandbox != session.settings.sandbox and "sandbox" in given:
            session.settings = replace(session.settings, sandbox=settings.sandbox)
        if settings.cores:
            session.settings = replace(session.settings, cores=settings.cores)
        runner = make_runner(session.settings, root)
        with Terminal() as screen:
            loop: Loop | None = None

            def on_signal(number: int, frame: object) -> None:
                if loop is None or loop.stopping:
                    os._exit(130)  # the second time: at once; every child dies with this process
                loop.stop("Ctrl-C" if number == signal.SIGINT else "told to stop")

            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, on_signal)
            proposer = proposer_of(session)
            loop = Loop(session, proposer, runner, bounds, screen, inbox_only=inbox_only, confirm_only=confirm_only)
            if hasattr(proposer, "should_stop"):
                proposer.should_stop = lambda: bool(loop and loop.stopping)
            where = session.folder.relative_to(root)
            screen.say(session.recovered or f"new session {session.tag} on {session.settings.env_id}: {session.settings.time_budget:g} s a run, ideas from {proposer.name}, results in {where}/")
            if session.settings.runner == "local":
                from autorl import sandbox

                if line := sandbox.notice(session.settings.sandbox):
                    screen.say(line)
            code = loop.run()
    finally:
        session.close()
        if slots:
            slots.release()
    print_status(root, session.tag, False)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a researcher's thread may still be waiting for an answer


def _missing_dependencies() -> None:
    import importlib.util

    for module in ("torch", "gymnasium", "optuna", "cloudpickle", "matplotlib", "psutil"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"The package {module} is missing: run `uv sync`, then start again with `uv run`.")


def confirm_session(root: Path, tag: str | None, runs: int) -> None:
    """Fresh-seed evidence for a session's champion, then its table."""
    path = find_session(root, tag)
    session_tag = path.parent.name
    env_id = read_ledger(path).session["env_id"]
    sit(root, session_tag, Settings(env_id=env_id), Bounds(experiments=0, confirm_runs=runs), _nobody, confirm_only=True)


class _Nobody:
    """Proposes nothing: for sittings that only measure."""

    name = "nobody"

    def propose(self, history: Any, purse: Any) -> None:
        return None


def _nobody(session: Session) -> Proposer:
    return _Nobody()


# ---------------------------------------------------------------------------
# try / wait
# ---------------------------------------------------------------------------


def leave(root: Path, o: dict[str, Any]) -> dict[str, Any]:
    """Put ./train.py into a session's inbox and see that a loop works on it."""
    workspace = Workspace(root)
    source = workspace.working_source()
    title, _, rest = o["message"].strip().partition("\n")
    given = {"time_budget": o["budget"], "num_eval_episodes": o["episodes"], "rigor": o["rigor"], "sandbox": o["sandbox"], "env_id": o["env_id"]}
    asked = {k: v for k, v in given.items() if v is not None}
    import evaluate

    settings = Settings(**({"env_id": evaluate.ENV_ID, "time_budget": evaluate.TIME_BUDGET, "num_eval_episodes": evaluate.NUM_EVAL_EPISODES} | asked))
    try:
        path = find_session(root, o["tag"], o["env_id"])
        if o["tag"] is None and read_ledger(path).finished:
            raise UserError("finished")
        ledger = read_ledger(path)
    except UserError:
        check_env(settings.env_id)
        if settings.time_budget <= 0:
            raise UserError(f"The budget must be more than 0 seconds, not {settings.time_budget:g}.") from None
        session = open_session(root, o["tag"], settings, new=o["tag"] is None, given=frozenset(asked))
        session.close()
        path, ledger = session.folder / "journal.jsonl", session.ledger
    known = {a.key for a in ledger.attempts.values()} or {ledger.session["baseline"]["key"]}
    if why := vet(source, known):
        raise UserError(f"./train.py was not taken: {why}")
    ticket = Inbox(path.parent / "inbox").leave(Proposal(title=title, hypothesis=rest.strip(), source=source, proposer="person"))
    if holder_pid(path.parent / "session.lock") is None:
        log = open(path.parent / "loop.log", "ab")
        subprocess.Popen(
            [sys.executable, str(root / "agent_loop.py"), "run", "--tag", path.parent.name, "--inbox-only"],
            cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    runs = sum(r.counted for r in ledger.runs.values())
    minutes = ledger.session["settings"]["time_budget"] * 1.05 / 60
    return {
        "id": ticket,
        "session": path.parent.name,
        "state": "queued",
        "takes": f"about {minutes:.0f} minutes a run; the first experiment of a session waits for 4 runs of the baseline" if runs < 4 else f"about {minutes:.0f} minutes a run, up to 6 runs",
        "next": f"uv run python agent_loop.py wait {ticket} --timeout 540",
    }


def look_at(root: Path, ticket: str) -> tuple[dict[str, Any], int]:
    """(what is known of an experiment, exit code: 0 decided, 4 under way, 1 nobody works on it).

    Raises:
        UserError: no session knows this id.
    """
    for path in journals(root):
        ledger = read_ledger(path)
        attempt = _by_ticket(ledger, ticket)
        refused = next((r for r in ledger.refusals if r.get("ticket") == ticket), None)
        queued = (path.parent / "inbox" / f"{ticket}.json").is_file()
        if attempt is None and refused is None and not queued:
            continue
        tag = path.parent.name
        answer: dict[str, Any] = {"id": ticket, "session": tag, "state": "running"}
        if refused is not None:
            return answer | {"state": "refused", "reason": refused["reason"], "next": "mend ./train.py and try again"}, 0
        alive = holder(path.parent / "session.lock")
        resume = f"uv run python agent_loop.py run --tag {tag}"
        if attempt is None:
            return _under_way(answer | {"state": "queued"}, alive, resume, ticket)
        row, tip = ledger.row(attempt), _incumbent(ledger)
        best = ledger.row(tip) if tip else None
        answer |= {"experiment": attempt.n, "title": attempt.title, "commit": attempt.commit, "avg_return": row.avg_return, "stderr": row.stderr, "runs": row.runs}
        answer |= {"incumbent": tip.n if tip else None, "incumbent_return": best.avg_return if best else None}
        logs = [r.folder for r in ledger.runs.values() if r.attempt == attempt.n]
        answer["log"] = f"{logs[-1]}/run.log" if logs else None
        if attempt.verdict is None:
            pending = [r for r in ledger.pending()]
            if pending:
                answer["measuring"] = f"experiment {pending[-1].attempt} ({pending[-1].purpose})"
            return _under_way(answer, alive, resume, ticket)
        answer |= {"state": "decided", "outcome": row.status, "seconds": row.seconds, "reason": row.reason}
        answer["next"] = (
            "kept: go on from this ./train.py" if row.status == "keep" and attempt.state != "undone"
            else f"not kept: git show autoresearch/{tag}:train.py > train.py gives the best one back; then the next idea"
        )  # fmt: skip
        return answer, 0
    raise UserError(f"No session knows the id {ticket}; `agent_loop.py history` lists what there is.")


def _by_ticket(ledger: Ledger, ticket: str) -> Attempt | None:
    """The newest attempt with this id (a superseded one is measured again under the same id), or by its number."""
    found = [a for a in ledger.attempts.values() if a.ticket == ticket or (ticket.isdigit() and a.n == int(ticket))]
    live = [a for a in found if a.state != "superseded"]
    return (live or found or [None])[-1]


def _under_way(answer: dict[str, Any], alive: str, resume: str, ticket: str) -> tuple[dict[str, Any], int]:
    if not alive:
        return answer | {"state": "waiting for a loop", "next": resume}, 1
    return answer | {"next": f"uv run python agent_loop.py wait {ticket} --timeout 540"}, 4


def _incumbent(ledger: Ledger) -> Attempt | None:
    return next((a for a in reversed(ledger.attempts.values()) if a.commit and a.commit == ledger.tip), ledger.attempts.get(0))


# ---------------------------------------------------------------------------
# Looking
# ---------------------------------------------------------------------------


def _facts(path: Path, ledger: Ledger) -> dict[str, Any]:
    who = holder(path.parent / "session.lock")
    pending = ledger.pending()
    return {
        "tag": path.parent.name,
        "env_id": ledger.session["env_id"],
        "state": f"running ({who})" if who else f"finished: {ledger.finished}" if ledger.finished else "not running",
        "running": bool(who),
        "finished": ledger.finished or None,
        "measuring": [{"run": r.run, "experiment": r.attempt, "purpose": r.purpose, "seed": r.seed} for r in pending] if who else [],
        "branch": f"autoresearch/{path.parent.name}",
        "incumbent": (tip.n if (tip := _incumbent(ledger)) else None),
        "spent_usd": round(ledger.spent(), 4),
        "disk_bytes": sum(p.stat().st_size for p in path.parent.rglob("*") if p.is_file() and not p.is_symlink()),
        "claim": ledger.claim["claim"] if ledger.claim else None,
    }


def print_status(root: Path, tag: str | None, as_json: bool) -> None:
    """A table for a person or JSON for a program."""
    path = find_session(root, tag)
    ledger = read_ledger(path)
    facts = _facts(path, ledger)
    rows = ledger.rows(decided_only=False)
    if as_json:
        click.echo(json.dumps(report.status_json(rows, spent_usd=ledger.spent(), **{k: v for k, v in facts.items() if k != "spent_usd"}), indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(report.status_table(rows, title=f"{facts['tag']} on {facts['env_id']}: {facts['state']}", spent_usd=ledger.spent()))
    console.print(f"results: {path.parent.relative_to(root)}/results.tsv, progress.png   branch: {facts['branch']}   disk: {facts['disk_bytes'] / 1e6:.1f} MB", soft_wrap=True)
    if facts["claim"]:
        console.print(str(facts["claim"].get("sentence", "")), soft_wrap=True)


def print_history(root: Path, tag: str | None, as_json: bool) -> None:
    """Every attempt and every refusal."""
    from autorl.records import to_json

    path = find_session(root, tag)
    ledger = read_ledger(path)
    attempts = [to_json(ledger.row(a)) | {"ticket": a.ticket or None, "verdict": to_json(a.verdict)} for a in ledger.attempts.values()]
    refused = [{"title": r["title"], "reason": r["reason"], "proposer": r["proposer"]} for r in ledger.refusals]
    if as_json:
        click.echo(json.dumps({"tag": path.parent.name, "env_id": ledger.session["env_id"], "experiments": attempts, "refused": refused}, indent=1, ensure_ascii=False))
        return
    for a in attempts:
        score = "" if a["avg_return"] is None else f"{a['avg_return']:.2f}"
        click.echo(f"{a['n']:4d}  {a['commit'][:7]}  {score:>10}  {a['status']:<8} {a['description']}  {a['reason']}".rstrip())
    for r in refused:
        click.echo(f"   -  refused before a run: {r['title']}  {r['reason']}")


def write_report(root: Path, tag: str | None) -> list[str]:
    """results.tsv, progress.png, report.html of a session, from its journal; their paths."""
    path = find_session(root, tag)
    ledger = read_ledger(path)
    rows, folder, env_id = ledger.rows(), path.parent, ledger.session["env_id"]
    try:
        solved_at = check_env(env_id)
    except AutoRLError:
        solved_at = None
    png = report.progress_png(rows, env_id, solved_at=solved_at)
    verdicts = {a.n: a.verdict for a in ledger.attempts.values() if a.verdict}
    claim = str(ledger.claim["claim"].get("sentence", "")) if ledger.claim else ""
    page = report.report_html(rows, env_id=env_id, tag=folder.name, png=png, verdicts=verdicts, claim=claim, spent_usd=ledger.spent())
    for name, data in (("results.tsv", report.results_tsv(rows).encode()), ("progress.png", png), ("report.html", page.encode())):
        atomic_write(folder / name, data)
    return [str((folder / n).relative_to(root)) for n in ("results.tsv", "progress.png", "report.html")]


# ---------------------------------------------------------------------------
# Keeping house
# ---------------------------------------------------------------------------


def stop_session(root: Path, tag: str | None, patience: float = 30.0) -> str:
    """Ask the loop of a session to end and wait until it has.

    Raises:
        UserError: no loop is working on it.
    """
    path = find_session(root, tag)
    lock = path.parent / "session.lock"
    pid = holder_pid(lock)
    if pid is None:
        raise UserError(f"No loop is working on {path.parent.name!r}; there is nothing to stop.")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if holder_pid(lock) is None:
            return f"Stopped {path.parent.name}; resume with: uv run python agent_loop.py run --tag {path.parent.name}"
        time.sleep(0.1)
    raise AutoRLError(f"The loop (pid {pid}) has not ended within {patience:.0f} s; a second `stop` ends it at once.")


def dead_folders(root: Path) -> list[tuple[Path, int]]:
    """(private run directory, bytes) of runs that no living judge owns."""
    from autorl.judge import is_dead

    found = sorted((root / ".autorl" / "runs").glob("*"))
    return [(p, sum(f.lstat().st_size for f in p.rglob("*"))) for p in found if p.is_dir() and not p.is_symlink() and is_dead(p)]


def remove_folder(folder: Path) -> None:
    """Delete a dead run directory, whatever modes its owner left on it."""
    import shutil

    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink())]:
        path.chmod(0o700)
    shutil.rmtree(folder)
