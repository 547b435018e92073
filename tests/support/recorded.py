"""A session's journal and the recordings of its runs, made without a judge."""

from pathlib import Path

import gymnasium as gym

from autorl.judge.recording import Recorder, write
from autorl.records import RunRecord
from autorl.session import events as e
from autorl.session.event_log import EventLog

HOSTILE = "</script><script>alert(1)</script>"


def session(root: Path, env_id: str, scores: dict[int, list[float]]) -> Path:
    """A session's journal: runs of each attempt with these scores, numbered from 0; its folder."""
    folder = root / "results" / env_id / "t"
    first = e.Created(env_id=env_id, tag="t", settings={"env_id": env_id}, root_seed=5, base="",
        baseline=e.Baseline("", ""))  # fmt: skip
    log, _ = EventLog.open(folder / "journal.jsonl", first)
    run = 0
    for n, returns in scores.items():
        title = HOSTILE if n else "baseline"
        log.append(e.Attempted(n=n, parent=None, source="", title=title, key=str(n)))
        for score in returns:
            log.append(e.RunStarted(run=run, attempt=n, purpose="candidate", kind="measure",
                seed_index=run, seed=run, epoch=0, folder=f"runs/{run}"))  # fmt: skip
            log.append(e.RunEnded(run=run, record=RunRecord("ok", avg_return=score)))
            run += 1
    return folder


def record(env_id: str, folder: Path, steps: int = 60, rows: int = 3) -> None:
    """Random actions; the episodes end after `steps` at the latest."""
    folder.mkdir(parents=True)
    envs, returns, lengths = [gym.make(env_id) for _ in range(rows)], [0.0] * rows, [0] * rows
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        env.action_space.seed(seed)
    recorder, running = Recorder(envs), list(range(rows))
    for step in range(1, steps + 1):
        ended = []
        for row in running:
            _, reward, terminated, truncated, _ = envs[row].step(envs[row].action_space.sample())
            returns[row], lengths[row] = returns[row] + float(reward), step
            if terminated or truncated or step == steps:
                ended.append(row)
        recorder.take(step, running, ended, returns)
        running = [row for row in running if row not in ended]
    recorder.save(folder / "rows.npz")
    write(folder, [folder / "rows.npz"], env_id, returns, lengths)
