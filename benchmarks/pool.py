"""What the pool costs: the real loop over many simulated places.

    uv run python benchmarks/pool.py    # 64 places, runs of 30 s, 600 runs: 6 minutes
    uv run python benchmarks/pool.py --seconds 720 --runs 256   # runs as long as real ones: an hour
    # 8 places, runs of 720 s, a researcher that thinks for 300 s, at 60 times the speed:
    uv run python benchmarks/pool.py --places 8 --seconds 12 --thinking 5 --runs 80

A run here is a time of day at which it will be over; loop, journal, git, decisions and proposals
are real. Printed: the CPU time of the loop and of git as a share of wall-clock, the share of the
places' time that passed between a run's end and the start of the next one in its place, and the
share in which places were busy (from two run lengths after the first idea was wanted). Times when
the decision itself asks for fewer runs than there are places (a calibration) are the rule's and not
the pool's. What it does not do: train, or start processes.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "faults")]

from ground import ENV_ID, EPISODES, Site

from autorl.git.plumbing import drop_git_variables
from autorl.interfaces import Budget
from autorl.loop import Loop
from autorl.proposers.replay import Replay
from autorl.records import History, Job, MachineShare, Proposal, RunRecord
from autorl.runners.base import Runs
from autorl.runners.scripted import read_script, scores
from autorl.session import Bounds, Settings, open_session


class Thinker:
    """A replay that takes its time, and then has as many ideas as are wanted.

    Args:
        seconds: a conversation with one idea takes; each further one takes `more` of that.
    """

    name = "thinker"

    def __init__(self, path: Path, seconds: float, more: float):
        self.replay, self.seconds, self.more = Replay(path), seconds, more
        self.conversations, self.began = 0, 0.0

    def close(self) -> None:
        pass

    def propose(self, history: History, budget: Budget) -> tuple[Proposal, ...]:
        self.began = self.began or time.monotonic()
        self.conversations += 1
        time.sleep(self.seconds * (1 + self.more * (history.wanted - 1)))
        ideas = [self.replay.propose(history, budget) for _ in range(history.wanted)]
        return tuple(idea for idea in ideas if idea is not None)


class Simulated(Runs):
    """A runner whose runs are over when their time has come."""

    name, invents_scores, owns_cores = "simulated", True, False

    def __init__(self, places: int, seconds: float):
        super().__init__(places)
        self.seconds = seconds
        self.jobs: dict[str, tuple[Job, float]] = {}  # by handle, with the time of its end
        self.done, self.full_since = 0, 0.0
        self.idle, self.open, self.at = 0.0, 0, time.monotonic()
        self.ends: list[float] = []  # ends of runs whose place is empty
        self.spans: list[tuple[float, float]] = []  # start and end of every run

    def start(self, job: Job, folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.monotonic()
        # runs of one age would all end at once: the first ones are spread out
        share = 1.0 if self.full_since else (len(self.jobs) + 1) / self.places
        self.jobs[str(folder)] = job, now + self.seconds * share
        self.spans.append((now, now + self.seconds * share))
        if self.ends and self.full_since:
            self.idle += now - self.ends.pop(0)
        if len(self.jobs) == self.places and not self.full_since:
            self.full_since, self.cpu_then, self.done, self.ends = now, sum(os.times()[:4]), 0, []
        return str(folder)

    def poll(self, handle: str) -> RunRecord | None:
        job, end = self.jobs[handle]
        if time.monotonic() < end:
            return None
        del self.jobs[handle]
        self.done += 1
        self.ends.append(end)
        returns = scores(read_script(job.train_source), job.seed, job.num_eval_episodes)
        return RunRecord(
            "ok",
            avg_return=sum(returns) / len(returns),
            std_return=0.0,
            min_return=min(returns),
            max_return=max(returns),
            returns=returns,
            lengths=(1,) * len(returns),
            eval_seeds=tuple(range(len(returns))),
            env_id=job.env_id,
            seed=job.seed,
            time_budget=job.time_budget,
            training_seconds=self.seconds,
            total_seconds=self.seconds,
            isolation="simulated",
            hardware="simulated",
            machine=MachineShare(cpu_share=1.0),
        )

    def cancel(self, handle: str) -> None:
        self.jobs.pop(handle, None)


class Until:
    """A records.Screen that stops the loop after a number of runs."""

    loop: Loop | None = None

    def __init__(self, runner: Simulated, thinker: Thinker, runs: int):
        self.runner, self.thinker, self.runs = runner, thinker, runs
        self.figures: dict[str, float] = {}

    def say(self, text: str) -> None:
        pass

    def progress(self, runs: list[Any], waiting: str) -> None:
        r, now = self.runner, time.monotonic()
        if self.loop is None or r.done < self.runs or self.figures:
            return
        if not r.full_since:  # it never was
            r.full_since, r.cpu_then = r.at, 0.0
        wall = now - r.full_since
        idle = r.idle + sum(now - end for end in r.ends)
        since = self.thinker.began + 2 * r.seconds
        busy = sum(max(0.0, min(end, now) - max(start, since)) for start, end in r.spans)
        self.figures = {
            "thinking_seconds": self.thinker.seconds,
            "conversations": self.thinker.conversations,
            "busy_share_of_places": busy / (r.places * (now - since)),
            "places": r.places,
            "seconds_a_run": r.seconds,
            "runs": r.done,
            "wall_seconds": wall,
            "loop_cpu_share": (sum(os.times()[:4]) - r.cpu_then) / wall,
            "idle_share_of_places": idle / (wall * r.places),
        }
        self.loop.stop("enough")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--places", type=int, default=64)
    p.add_argument("--seconds", type=float, default=30.0, help="of a run (default: %(default)g)")
    p.add_argument(
        "--runs",
        type=int,
        default=600,
        help="counted once all places were full (default: %(default)s)",
    )
    p.add_argument(
        "--thinking", type=float, default=0.0, help="seconds a conversation takes (default: 0)"
    )
    p.add_argument(
        "--more",
        type=float,
        default=0.0,
        help="how much longer each further idea of it takes, as a share (default: 0)",
    )
    o = p.parse_args()
    drop_git_variables()
    many = 4 * (o.runs + o.places) + 200
    baseline = 'SCRIPT = {"return": 10.0, "noise": 1.0, "seconds": 0.0, "end": "ok"}\n' + "".join(
        f"K{k} = 0\n" for k in range(many)
    )
    ideas = [
        {"title": f"idea {k}", "edits": [{"search": f"K{k} = 0\n", "replace": f"K{k} = 1\n"}]}
        for k in range(many)
    ]
    with tempfile.TemporaryDirectory(prefix="autorl-pool-") as folder:
        site = Site.new(Path(folder), ideas, baseline)
        settings = Settings(
            ENV_ID, o.seconds, EPISODES, sandbox="off", runner="scripted", slots=o.places
        )
        session = open_session(site.repo, site.tag, settings, seed=1)
        runner = Simulated(o.places, o.seconds)
        thinker = Thinker(site.ideas, o.thinking, o.more)
        screen = Until(runner, thinker, o.runs)
        try:
            screen.loop = Loop(session, thinker, runner, Bounds(confirm_runs=0), screen)
            screen.loop.run()
        finally:
            session.close()
    print(json.dumps({k: round(v, 6) for k, v in screen.figures.items()}))
    return 0 if screen.figures else 1


if __name__ == "__main__":
    sys.exit(main())
