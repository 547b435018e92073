"""A session in a repository of its own, and the eight invariants that hold after every fault.

    site = Site.new(folder, ideas)            # a small real repository and a file of ideas
    site.env / site.argv(...)                 # how to start the loop on it
    breaks = site.broken_invariants()         # [] or sentences

I1 the branch stands at the last keep that was not taken back. I2 each run is counted exactly once.
I3 no score without a complete record. I4 the user's files and branch are untouched. I5 no child is
alive. I6 results.tsv has constant columns and equals the journal. I7 money is never under-counted.
I8 the loop ended well, or with a reason (checked on its exit).
"""

import hashlib
import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from autorl.records import to_json
from autorl.session import SessionState, fold
from autorl.session.event_log import Follower, encode
from autorl.session.events import AnyEvent

PROJECT = Path(__file__).resolve().parents[2]
ENV_ID = "Pendulum-v1"
EPISODES = 3
WRITER = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def script(
    mean: float, end: str = "ok", seconds: float = 0.0, noise: float = 1.0, comment: str = ""
) -> str:
    """A whole train.py for the scripted runner."""
    return (
        f'{comment}SCRIPT = {{"return": {mean!r}, "noise": {noise!r}, '
        f'"seconds": {seconds!r}, "end": {end!r}}}\n'
    )


def git(repo: Path, *args: str, check: bool = True) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | WRITER
    done = subprocess.run(
        ["git", *args], cwd=repo, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


@dataclass
class Site:
    """One repository with one session."""

    repo: Path
    home: Path
    ideas: Path
    tag: str = "t"
    before: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(
        cls, folder: Path, ideas: list[dict[str, Any]], baseline: str | None = None, tag: str = "t"
    ) -> "Site":
        repo = folder / "repo"
        repo.mkdir(parents=True)
        for name in ("agent_loop.py", "evaluate.py", "program.md", ".gitignore"):
            shutil.copy(PROJECT / name, repo / name)
        (repo / "train.py").write_text(baseline if baseline is not None else script(10.0))
        git(repo, "init", "-q", "-b", "main")
        git(repo, "config", "user.name", "Ada")
        git(repo, "config", "user.email", "ada@example.org")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", "a project")
        (repo / "notes.txt").write_text("the user's own, untracked\n")
        (repo / "program.md").write_text("the user's own, edited\n")
        (repo / "train.py").write_text("the user's own, half an idea (\n")
        (folder / "ideas.json").write_text(json.dumps(ideas))
        site = cls(repo, folder / "home", folder / "ideas.json", tag)
        site.before = site.picture()
        return site

    def copy(self, folder: Path) -> "Site":
        """The same site somewhere else."""
        shutil.copytree(self.repo, folder / "repo", symlinks=True)
        site = Site(folder / "repo", folder / "home", self.ideas, self.tag)
        site.before = site.picture()
        return site

    @property
    def folder(self) -> Path:
        return self.repo / "results" / ENV_ID / self.tag

    @property
    def env(self) -> dict[str, str]:
        return {"AUTORL_HOME": str(self.home), **WRITER}

    def argv(self, *more: str) -> list[str]:
        # a child of 0 s is never late within 20 s, however busy the machine
        fixed = f"--env-id {ENV_ID} --budget 20 --episodes {EPISODES} --confirm-runs 0"
        fixed += " --runner scripted --proposer replay --seed 1 --sandbox off"
        named = ("--tag", self.tag, "--replay", str(self.ideas))
        return ["run", *named, *fixed.split(), *more]

    # -- looking -----------------------------------------------------------------------------------

    def events(self) -> list[dict[str, Any]]:
        """The journal's events as plain data, each with its type and its defaults."""
        plain: list[dict[str, Any]] = []
        for e in Follower(self.folder / "journal.jsonl").new():
            fields = {name: to_json(getattr(e, name)) for name in e.__struct_fields__}
            plain.append({"type": e.__struct_config__.tag, **fields})
        return plain

    def state(self) -> SessionState:
        return fold(Follower(self.folder / "journal.jsonl").new())

    def picture(self) -> dict[str, str]:
        """The user's files (outside results/ and .autorl/, and Python's own bytecode, which git
        ignores), HEAD, index, branches, config.
        """
        refs = ["refs/heads/main", "refs/tags", "refs/stash", "refs/remotes"]
        branches = git(self.repo, "for-each-ref", "--format=%(refname) %(objectname)", *refs)
        seen, ours = {"branches": branches}, (".git/", "results/", ".autorl/", "__pycache__/")
        for path in sorted(self.repo.rglob("*")):
            name = path.relative_to(self.repo).as_posix()
            theirs = name in (".git/HEAD", ".git/index", ".git/config")
            if path.is_file() and (theirs or not name.startswith(ours)):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                seen[name] = f"{path.stat().st_mode} {digest}"
        return seen

    def decisions(self) -> dict[str, Any]:
        """What faults must not change: rows, verdicts and the branch, without hashes and times."""
        state = self.state()
        by_commit = {a.commit: a.n for a in state.attempts.values()}
        told = ("n", "description", "status", "state", "runs", "avg_return", "stderr", "parent")
        rows = [[_round(getattr(r, name)) for name in told] for r in state.rows()]
        verdicts = [{k: _round(v) for k, v in to_json(v).items()} for v in state.verdicts]
        for verdict in verdicts:  # a reason may name a run by its number, which a repeat shifts
            verdict.pop("reason")
        tip = git(self.repo, "rev-parse", f"autoresearch/{self.tag}", check=False)
        refused = [r.title for r in state.refusals]
        branch = by_commit.get(tip)
        return {"rows": rows, "verdicts": verdicts, "branch": branch, "refused": refused}

    def repeated(self) -> int:
        """How many runs were started for nothing."""
        records = [r.record for r in self.state().runs.values() if r.record is not None]
        return sum(record.status == "interrupted" for record in records)

    # -- invariants --------------------------------------------------------------------------------

    def broken_invariants(self, ended: bool = True) -> list[str]:
        """Sentences about what does not hold. `ended`: the last loop came to its own end."""
        breaks: list[str] = []
        if not (self.folder / "journal.jsonl").exists():
            return self._i4() + self._i5()
        state = self.state()
        for check in (self._i1, self._i2, self._i3, self._i6):
            breaks += check(state, ended)
        return breaks + self._i4() + self._i5() + self._i7(state)

    def _i1(self, state: SessionState, ended: bool) -> list[str]:
        if not ended or not state.verdicts:
            return []
        kept: list[int] = []
        for verdict in state.verdicts:
            if verdict.outcome in ("baseline", "keep"):
                kept.append(verdict.attempt)
            kept = [n for n in kept if n not in verdict.taken_back]
        breaks, due = [], state.attempts[kept[-1]].commit
        tip = git(self.repo, "rev-parse", f"autoresearch/{self.tag}", check=False)
        if tip != due:
            where = f"the last keep is {due[:8]} (attempt {kept[-1]})"
            breaks.append(f"I1: the branch stands at {tip[:8]}, {where}")
        refs = ("for-each-ref", "--format=%(refname) %(objectname)", f"refs/autorl/{self.tag}/")
        pins = dict(line.split() for line in git(self.repo, *refs).splitlines())
        for attempt in state.attempts.values():
            if attempt.commit and pins.get(f"refs/autorl/{self.tag}/{attempt.n}") != attempt.commit:
                breaks.append(f"I1: attempt {attempt.n} is not pinned at {attempt.commit[:8]}")
        notes = git(self.repo, "notes", "--ref=autorl", "list", check=False).split()[1::2]
        lacking = [n for n in kept if state.attempts[n].commit not in notes]
        return breaks + [f"I1: attempt {n} was kept and has no note" for n in lacking]

    def _i2(self, state: SessionState, ended: bool) -> list[str]:
        events, breaks = self.events(), []
        for kind in ("started", "run"):
            numbers = [e["run"] for e in events if e["type"] == kind]
            if len(numbers) != len(set(numbers)):
                breaks.append(f"I2: a {kind} event is there twice: {sorted(numbers)}")
        counted = [r.seed_index for r in state.runs.values() if r.counted]
        if len(counted) != len(set(counted)):
            breaks.append("I2: two counted runs share a seed")
        if ended and state.pending():
            breaks.append(f"I2: runs {[r.run for r in state.pending()]} have no end")
        numbers = [e["n"] for e in events if e["type"] == "attempt"]
        if numbers != list(range(len(numbers))):
            breaks.append(f"I2: attempts are numbered {numbers}")
        return breaks

    def _i3(self, state: SessionState, ended: bool) -> list[str]:
        breaks = []
        for run in state.runs.values():
            record = run.record
            if record is None or record.avg_return is None:
                continue
            sizes = {len(record.returns), len(record.eval_seeds), len(record.lengths)}
            mean = math.fsum(record.returns) / EPISODES
            whole = record.status == "ok" and sizes == {EPISODES} and record.isolation
            if not whole or not math.isclose(record.avg_return, mean, rel_tol=1e-12):
                breaks.append(f"I3: run {run.run} has a score and no complete record")
        for row in state.rows():
            records = [r.record for r in state.runs_of(row.n) if r.counted and r.record]
            scored = [r.avg_return for r in records if r.avg_return is not None]
            if row.avg_return is not None and not math.isclose(
                row.avg_return, math.fsum(scored) / len(scored), rel_tol=1e-9
            ):
                breaks.append(f"I3: row {row.n} says {row.avg_return}, its runs {scored}")
        return breaks

    def _i4(self) -> list[str]:
        changed = sorted({name for name, _ in self.picture().items() ^ self.before.items()})
        return [f"I4: changed: {changed}"] if changed else []

    def _i5(self) -> list[str]:
        # a child that was being started needs a moment to see that its parent is gone
        end = time.monotonic() + 3.0
        while (alive := children_in(self.repo)) and time.monotonic() < end:
            time.sleep(0.02)
        return [f"I5: alive: {alive}"] if alive else []

    def _i6(self, state: SessionState, ended: bool) -> list[str]:
        path = self.folder / "results.tsv"
        if not path.exists():
            return ["I6: there is no results.tsv"] if ended and state.rows() else []
        lines = path.read_text(encoding="utf-8").split("\n")
        widths = {line.count("\t") for line in lines[:-1]}
        if len(widths) != 1 or lines[-1] != "":
            return [f"I6: results.tsv has lines of {widths} tabs"]
        if not ended:
            return []
        breaks, rows, names = [], state.rows(), lines[0].split("\t")
        table = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:-1]]
        if len(table) != len(rows):
            breaks.append(f"I6: results.tsv has {len(table)} rows, the journal {len(rows)}")
        for row, shown in zip(rows, table, strict=False):
            same = shown["status"] == row.status and row.commit.startswith(shown["commit"])
            if shown["avg_return"] == "" or row.avg_return is None:
                same &= shown["avg_return"] == "" and row.avg_return is None
            else:
                score = float(shown["avg_return"])
                same &= math.isclose(score, row.avg_return, rel_tol=1e-4, abs_tol=1e-4)
            if not same:
                breaks.append(f"I6: results.tsv says {shown} of row {row.n}")
        return breaks

    def _i7(self, state: SessionState) -> list[str]:
        reserved: dict[str, float] = {}
        for event in self.events():
            if event["type"] == "money":
                reserved[event["ticket"]] = event["usd"]
        low = math.fsum(reserved.values()) - 1e-9
        return [] if state.spent() >= low else [f"I7: {state.spent()} spent, {low} journaled"]


def encoded(events: list[dict[str, Any]]) -> bytes:
    """A journal of these events (see `Site.events`), numbered anew."""
    typed = (msgspec.convert({**event, "seq": seq}, AnyEvent) for seq, event in enumerate(events))
    return b"".join(encode(event) for event in typed)


def children_in(folder: Path) -> list[str]:
    """Processes whose working directory or command line lies in `folder`."""
    found, place = [], str(folder)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            cwd = os.readlink(entry / "cwd")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX" and (cwd == place or cwd.startswith(place + "/")):
            found.append(f"{entry.name} ({state}): {command[:120]}")
    return found


def types(site: Site) -> list[str]:
    """Of the journal's events, in order; none before there is one."""
    return [e["type"] for e in site.events()] if (site.folder / "journal.jsonl").exists() else []


def until(condition: Callable[[], Any], seconds: float = 30.0) -> bool:
    """Wait for something to come true; whether it did."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    return [_round(v) for v in value] if isinstance(value, list) else value
