"""Runs of train.py, as it stands or edited, on a clock of updates; a look inside an iteration."""

import csv
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autorl.records import Edit
from autorl.source.edits import apply_edits
from autorl.system.files import PROJECT

TOYS = PROJECT / "tests" / "toys"
EDITS = PROJECT / "tests" / "edits"
SOURCE = (PROJECT / "train.py").read_text(encoding="utf-8")
COUNTING = "counting_env:Counting-v0"

Run = subprocess.CompletedProcess[str]


def run_train(folder: Path, env_id: str, source: str = SOURCE, **variables: Any) -> Run:
    """`python train.py` with `source`; its metrics, policy and probes are in `folder`."""
    (folder / "train.py").write_text(source, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AUTORL_")}
    settings = {"ENV_ID": env_id, "RUN_DIR": folder, "NUM_EVAL_EPISODES": 5, **variables}
    env = clean | {f"AUTORL_{name}": str(value) for name, value in settings.items()}
    env["PYTHONPATH"] = os.pathsep.join((str(PROJECT), str(TOYS)))
    command = [sys.executable, str(folder / "train.py")]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)


def run_updates(
    folder: Path, updates: int, source: str, env_id: str = COUNTING
) -> list[dict[str, float]]:
    """A run of so many updates that ends in the hand-over; its rows of metrics.csv."""
    folder.mkdir(exist_ok=True)
    done = run_train(folder, env_id, source, TIME_BUDGET=1000, CLOCK_UPDATES=updates, HANDOVER=1)
    assert done.returncode == 0, done.stderr
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == updates
    return rows


def replaced(*pairs: tuple[str, str], source: str = SOURCE) -> str:
    """train.py with each text, which it has exactly once, replaced."""
    return apply_edits(source, tuple(Edit(search, replace) for search, replace in pairs))


def patched(name: str, folder: Path, diffs: Path = EDITS) -> str:
    """train.py after tests/edits/<name>.diff, or another folder's."""
    (folder / "train.py").write_text(SOURCE, encoding="utf-8")
    subprocess.run(["git", "apply", str(diffs / f"{name}.diff")], cwd=folder, check=True)
    return (folder / "train.py").read_text(encoding="utf-8")


def load(source: str) -> types.ModuleType:
    """An edited train.py as a module."""
    module = types.ModuleType("edited")
    exec(compile(source, "train.py", "exec"), module.__dict__)
    return module


BATCH = "        batch = Batch(*(x[valid] for x in steps))\n"
# what an iteration has made, as it goes into the updates
PROBE = f"""{BATCH}
        np.savez(
            evaluate.RUN_DIR / f"probe{{num_updates}}.npz", **vars(rollout),
            **{{f"batch_{{name}}": x for name, x in batch._asdict().items()}},
            scaled=rewards, values=values, gae=advantages, gamma=gamma,
            log_std=agent.log_std.detach(), mean=agent.actor(batch.obs).detach(),
            obs_mean=agent.obs_mean, obs_std=agent.obs_std, seen=np.array(finished),
        )
"""
SMALL = (("NUM_ENVS = 64", "NUM_ENVS = 4"), ("NUM_STEPS = 64", "NUM_STEPS = 28"))


def probe(folder: Path, number: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"probe{number}.npz") as arrays:
        return dict(arrays)


def advantages_as_sums(p: dict[str, np.ndarray], weight: Callable[[int], float]) -> np.ndarray:
    """Sums of TD errors, episode by episode: the k-th after a step counts `weight(k)`."""
    T, N = p["scaled"].shape
    out = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            for k in range(t, T):
                bootstrap = 0.0 if p["terminated"][k, n] else p["values"][k + 1, n]
                delta = p["scaled"][k, n] + p["gamma"] * bootstrap - p["values"][k, n]
                out[t, n] += weight(k - t) * p["gamma"] ** (k - t) * delta
                if p["terminated"][k, n] or p["truncated"][k, n]:
                    break
    return out
