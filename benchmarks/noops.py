"""The real loop on a fast environment: edits that change nothing, and one planted gain among them.

    uv run python benchmarks/noops.py aa [CANDIDATES]      # how many of 40 no-op edits are kept,
                                                           # and what the claim says
    uv run python benchmarks/noops.py planted [SESSIONS]   # a crippled constant and its known fix
                                                           # among nulls: is it kept?

Every run is a real measured run through agent_loop.py in a repository of its own
(tests/toys/train_es.py on InvertedPendulum-v5, seconds a run). The no-ops reorder an expression, so
their syntax trees differ and their behaviour does not; seeds differ from run to run, so their
scores do. What it does not do: simulate (benchmarks/decision.py).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
import run_statistics

ENV_ID = "InvertedPendulum-v5"
TAG = "session"
CRIPPLE = ("LEARNING_RATE = 0.5", "LEARNING_RATE = 0.01")  # planted: the fix turns it back
POSITION = 3  # of the fix among the candidates


def repository(folder: Path, source: str) -> Path:
    """A committed copy of the project with `source` as its train.py."""
    folder.mkdir(parents=True)
    for name in ("agent_loop.py", "evaluate.py", "program.md", "pyproject.toml", ".gitignore"):
        shutil.copy(PROJECT / name, folder / name)
    shutil.copytree(
        PROJECT / "autorl", folder / "autorl", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "train.py").write_text(source)
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
    }
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "a project"]):
        subprocess.run(
            ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *args],
            cwd=folder,
            check=True,
            env=os.environ | who,
        )
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        subprocess.run(["git", "config", key, value], cwd=folder, check=True)
    return folder


def toy(candidates: int, crippled: bool) -> str:
    """The toy with one line to reorder for each candidate."""
    source = (PROJECT / "tests" / "toys" / "train_es.py").read_text()
    assert CRIPPLE[0] in source
    lines = "".join(f"UNUSED_{k} = {k} + 1.0\n" for k in range(candidates))
    return source.replace(CRIPPLE[0], lines + CRIPPLE[crippled])


def research(repo: Path, env_id: str, *options: str) -> list[dict[str, Any]]:
    """One real session in `repo`, with slots of its own, to its end; the journal's events."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AUTORL_", "GIT_"))} | {
        "AUTORL_HOME": str(repo.parent / "home")
    }
    command = [sys.executable, "agent_loop.py", "run", "--tag", TAG, "--env-id", env_id, *options]
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    journal = repo / "results" / env_id / TAG / "journal.jsonl"
    if done.returncode or not journal.is_file():
        raise SystemExit(
            f"the session ended with {done.returncode}:\n"
            f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return [json.loads(line) for line in journal.read_text().splitlines() if line.strip()]


def session(
    candidates: int, confirm_runs: int, seed: int, crippled: bool, slots: int = 2
) -> list[dict[str, Any]]:
    """The toy, and nothing but no-ops (and, where it is crippled, its fix) proposed."""
    with tempfile.TemporaryDirectory() as temporary:
        repo = repository(Path(temporary) / "repo", toy(candidates, crippled))
        ideas: list[dict[str, Any]] = [
            {
                "title": f"no-op {k}",
                "edits": [
                    {"search": f"UNUSED_{k} = {k} + 1.0", "replace": f"UNUSED_{k} = 1.0 + {k}"}
                ],
            }
            for k in range(candidates)
        ]
        if crippled:
            ideas[POSITION] = {
                "title": "the fix",
                "edits": [{"search": CRIPPLE[1], "replace": CRIPPLE[0]}],
            }
        (Path(temporary) / "ideas.jsonl").write_text("\n".join(json.dumps(idea) for idea in ideas))
        return research(
            repo,
            ENV_ID,
            "--budget",
            "20",
            "--episodes",
            "20",
            "--proposer",
            "replay",
            "--replay",
            str(Path(temporary) / "ideas.jsonl"),
            "--experiments",
            str(candidates),
            "--confirm-runs",
            str(confirm_runs),
            "--slots",
            str(slots),
            "--seed",
            str(seed),
        )


def verdicts(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e["verdict"] for e in events if e["type"] == "verdict"]


def runs(events: list[dict[str, Any]]) -> int:
    """Measured runs, the claim's and the controls' not counted."""
    started = {e["run"]: e for e in events if e["type"] == "started"}
    return sum(
        started[e["run"]]["kind"] == "measure" and "confirm" not in started[e["run"]]["purpose"]
        for e in events
        if e["type"] == "run"
    )


def aa(candidates: int) -> None:
    """No-op edits through the real loop."""
    events = session(candidates, confirm_runs=5, seed=1, crippled=False)
    count = Counter(v["outcome"] for v in verdicts(events))
    kept, tried = count["keep"], count["keep"] + count["discard"] + count["crash"]
    low, high = run_statistics.wilson(kept, tried)
    base = next(v for v in verdicts(events) if v["outcome"] == "baseline")
    print(
        f"baseline: mean {base['mean']:.1f}, sd {base['sd'] or 0.0:.1f} (from {base['n']} runs); "
        f"{runs(events)} runs in all"
    )
    print(
        f"no-op edits: {tried}, kept {kept} ({100 * low:.0f} to {100 * high:.0f} % at 95 %), "
        f"taken back {sum(len(v['taken_back']) for v in verdicts(events))}"
    )
    claims = [e["claim"]["claim"]["sentence"] for e in events if e["type"] == "claim"]
    print(f"claim: {claims[-1] if claims else 'none: the champion is the baseline'}")


def planted(sessions: int) -> None:
    """The known fix of a crippled constant, the fourth of seven candidates."""
    kept, spent, champion, nulls = 0, [], 0, 0
    for k in range(sessions):
        events = session(7, confirm_runs=0, seed=100 + k, crippled=True)
        fix = next(e["n"] for e in events if e["type"] == "attempt" and e["title"] == "the fix")
        own = {fix}
        for event in events:
            if event["type"] == "attempt" and own & set(event.get("again") or ()):
                own.add(event["n"])
        found = [
            v
            for v in verdicts(events)
            if v["attempt"] in own and v["outcome"] in ("keep", "discard", "crash")
        ]
        won = any(v["outcome"] == "keep" for v in found)
        kept += won
        spent.append(sum(v["n"] for v in found))
        taken = {n for v in verdicts(events) for n in v["taken_back"]}
        champion += won and not own & taken
        nulls += sum(v["outcome"] == "keep" and v["attempt"] not in own for v in verdicts(events))
        base = next(v for v in verdicts(events) if v["outcome"] == "baseline")
        print(
            f"session {k}: baseline {base['mean']:.1f} (sd {base['sd'] or 0.0:.1f}); "
            f"the fix: {found[-1]['outcome'] if found else '-'} after {spent[-1]} runs, "
            f"mean {found[-1]['mean'] if found else None}",
            flush=True,
        )
    low, high = run_statistics.wilson(kept, sessions)
    print(
        f"kept {kept} of {sessions} ({100 * low:.0f} to {100 * high:.0f} %), "
        f"after {sum(spent) / max(1, len(spent)):.1f} runs of its own; "
        f"still kept at the end {champion}; nulls kept {nulls} of {6 * sessions}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="aa", choices=["aa", "planted"])
    parser.add_argument(
        "number",
        nargs="?",
        type=int,
        default=0,
        help="candidates (aa, 40) or sessions (planted, 20)",
    )
    given = parser.parse_args()
    if given.what == "planted":
        planted(given.number or 20)
    else:
        aa(given.number or 40)
