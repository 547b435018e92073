"""Real sessions of `search` from deliberately bad constants of train.py, on a fast environment.

    uv run python benchmarks/nights.py    # 3 sessions of 20 experiments, 7 minutes each, 2 cores
    uv run python benchmarks/nights.py --nights 1 --experiments 8 --first-seed 4

A session is `agent_loop.py run --proposer search` in a repository of its own, runs of 12 s, two at
once where there are two cores, and the claim on fresh seeds at its end. What was bad is known here
and not to the search. Results are appended to results/benchmarks/nights.json. What it does not
show: what a session with full runs finds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "benchmarks")]

from noops import TAG, repository, research, runs, verdicts

from autorl.cli.status import print_evidence
from autorl.proposers.search_space import constants, rewrite

ENV_ID = "InvertedDoublePendulum-v5"
BAD = {"LEARNING_RATE": 2e-5, "UPDATE_EPOCHS": 1, "NUM_STEPS": 256}
OUT = PROJECT / "results" / "benchmarks" / "nights.json"


def values(source: str) -> dict[str, float]:
    return {name: c.value for name, c in constants(source).items()}


def session(seed: int, experiments: int, confirm_runs: int) -> dict[str, Any]:
    """One session to its end."""
    source = (PROJECT / "train.py").read_text()
    bad, _ = rewrite(source, BAD)
    assert {k: values(bad)[k] for k in BAD} == BAD
    with tempfile.TemporaryDirectory(prefix="autorl-") as temporary:
        repo = repository(Path(temporary) / "repo", bad)
        began = time.monotonic()
        events = research(
            repo,
            ENV_ID,
            "--budget",
            "12",
            "--episodes",
            "50",
            "--proposer",
            "search",
            "--experiments",
            str(experiments),
            "--confirm-runs",
            str(confirm_runs),
            "--slots",
            str(min(2, os.cpu_count() or 1)),
            "--seed",
            str(seed),
        )
        minutes = (time.monotonic() - began) / 60
        tip = subprocess.run(
            ["git", "show", f"autoresearch/{TAG}:train.py"],
            cwd=repo,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        print_evidence(repo, TAG)
    base = next(v for v in verdicts(events) if v["outcome"] == "baseline")
    claims = [e["claim"] for e in events if e["type"] == "claim"]
    outcomes = [v["outcome"] for v in verdicts(events)]
    return {
        "seed": seed,
        "minutes": minutes,
        "runs": runs(events),
        "baseline": base["mean"],
        "sd": base["sd"],
        "outcomes": {o: outcomes.count(o) for o in sorted(set(outcomes))},
        "claim": claims[-1]["claim"] if claims else None,
        "claim_runs": [{k: r[k] for k in ("arm", "seed", "avg_return")} for r in claims[-1]["runs"]]
        if claims
        else [],
        "changed": {k: [values(bad)[k], v] for k, v in values(tip).items() if v != values(bad)[k]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=3)
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--confirm-runs", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    given = parser.parse_args()
    rows = json.loads(OUT.read_text()) if OUT.is_file() else []
    for seed in range(given.first_seed, given.first_seed + given.nights):
        rows.append(row := session(seed, given.experiments, given.confirm_runs))
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(rows, indent=1))
        changed = [f"{k} {a:g} -> {b:g}" for k, (a, b) in row["changed"].items()]
        claim = row["claim"]
        print(
            f"session {seed}: {row['minutes']:.1f} min, {row['runs']} runs, "
            f"baseline {row['baseline']:.1f} (sd {row['sd'] or 0.0:.1f}), {row['outcomes']}\n"
            f"  at the end: {', '.join(changed) or 'nothing changed'}\n"
            f"  claim: {claim['sentence'] if claim else 'none: the champion is the baseline'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
