"""Random faults: one real session under scripted answers and runs, checked after every fault.

    uv run python benchmarks/soak.py --minutes 60 --seed 1

Prints a table; exit code 1 on any broken invariant.

The researcher is the claude one over real HTTP against the scripted server of the tests; runs are
the scripted runner's (real child processes, no training); git, journal, locks, signals and kills
are real. After each fault the loop is started again, must decide at least one more experiment, is
stopped, and I1-I8 (tests/faults/ground.py) are checked. The last tenth of the time is calm:
resident memory and open descriptors of one process are sampled and their slopes printed.

What it does not do: the faults that need a real judge (row 22), a second machine (31) or another
clock (14): they have tests of their own.
"""

import argparse
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), *(str(PROJECT / "tests" / n) for n in (".", "support", "faults"))]

from api_server import ApiServer
from forge import Forge
from soak_faults import Faults

MINUTES = 60.0


@dataclass
class Fault:
    row: str  # of the printed table
    what: str
    injected: int = 0
    breaks: list[str] = field(default_factory=list)


class Soak(Faults):
    """One session and everything that happens to it."""

    def __init__(
        self, folder: Path, seed: int, forge: Forge, server: ApiServer, say: Callable[[str], None]
    ):
        super().__init__(folder, seed, forge, server, say)
        self.faults: dict[str, Fault] = {}

    def count(self, row: str, what: str, breaks: list[str]) -> None:
        fault = self.faults.setdefault(row, Fault(row, what))
        fault.injected += 1
        fault.breaks += breaks
        for line in breaks:
            self.say(f"BREAK {row} {what}: {line}")

    def injected(self) -> int:
        """Faults so far."""
        return sum(fault.injected for fault in self.faults.values())

    def disturb(self, seconds: float, fewest: int = 0) -> None:
        """Rounds of all faults, each in its own order, until time is over and so many came."""
        began = time.monotonic()
        due: list[Any] = []
        for line in self.recover():
            self.say(f"BREAK before any fault: {line}")
        while time.monotonic() - began < seconds or self.injected() < fewest:
            if not due:
                due = self.rng.sample(self.all_faults(), len(self.all_faults()))
                self.say(
                    f"{(time.monotonic() - began) / MINUTES:5.1f} min: {self.processes} processes, "
                    f"{self.tail.look()['attempt']} experiments, "
                    f"{self.injected()} faults"
                )
            row, what, breaks = due.pop()()
            self.count(row, what, breaks + self.check(ended=False) + self.recover())

    def calm(self, seconds: float) -> dict[str, float]:
        """One process without faults: its resident memory in kB and its descriptors over time.

        Slopes are least squares, per 100 experiments.
        """
        process, samples = self.start(), []
        self.until(process, self.more("verdict", 5))
        end = time.monotonic() + seconds
        while time.monotonic() < end and not process.ended.is_set():
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                rss = float(re.findall(r"VmRSS:\s+(\d+)", status)[0])
                samples.append(
                    (
                        self.tail.look()["attempt"],
                        rss,
                        float(len(os.listdir(f"/proc/{process.pid}/fd"))),
                    )
                )
            except (OSError, IndexError):
                break
            time.sleep(0.5)
        breaks = self.stop(process) + self.check()
        self.count("35", "calm: memory and descriptors", breaks)
        if len(samples) < 3:
            return {}
        x = [s[0] for s in samples]
        half = len(samples) // 2
        return {
            "seconds": seconds,
            "experiments": x[-1] - x[0],
            "first_kB": samples[0][1],
            "last_kB": samples[-1][1],
            "kB_per_100": 100 * _slope(x, [s[1] for s in samples]),
            "kB_per_100_second_half": 100 * _slope(x[half:], [s[1] for s in samples[half:]]),
            "first_fds": samples[0][2],
            "last_fds": samples[-1][2],
            "fds_per_100": 100 * _slope(x, [s[2] for s in samples]),
        }


def _slope(x: list[int], y: list[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    square = sum((a - mean_x) ** 2 for a in x)
    return (
        sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / square
        if square
        else 0.0
    )


def soak(
    minutes: float,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
    keep: Path | None = None,
    fewest: int = 0,
) -> tuple[str, list[str], dict[str, Fault]]:
    """Spend the time; returns (the table, every broken invariant, the faults by row)."""
    seconds = minutes * MINUTES
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        holder: list[Soak] = []
        forge = Forge()
        try:
            with ApiServer(default=lambda body: holder[0].answer(body)) as server:
                # connections of killed loops
                server._server.handle_error = lambda *_: None  # type: ignore[method-assign]
                session = Soak(keep or Path(place), seed, forge, server, say)
                holder.append(session)
                began = time.monotonic()
                session.disturb(0.9 * seconds, fewest)
                calm = session.calm(max(10.0, 0.1 * seconds))
                took = time.monotonic() - began
        finally:
            forge.close()
        ledger, events = session.site.state(), session.site.events()
        breaks = [
            f"{fault.row} {fault.what}: {line}"
            for fault in session.faults.values()
            for line in fault.breaks
        ]
        outcomes = Counter(v.outcome for v in ledger.verdicts)
        lines = [
            "row  fault                                                       injected  broken"
        ]
        for fault in sorted(
            session.faults.values(), key=lambda f: (int(re.findall(r"\d+", f.row)[0]), f.row)
        ):
            lines.append(
                f"{fault.row:<4} {fault.what:<58} {fault.injected:>9}  {len(fault.breaks):>6}"
            )
        lines += [
            "",
            f"{took / MINUTES:.1f} minutes, seed {seed}: {session.processes} processes, "
            f"{session.kills} kills, {len(ledger.attempts) - 1} experiments, "
            f"{len(ledger.runs)} runs ({sum(r.counted for r in ledger.runs.values())} counted), "
            f"{len(events)} events, "
            f"{(session.site.folder / 'journal.jsonl').stat().st_size / 1e6:.1f} MB of journal",
            f"verdicts: {', '.join(f'{n} {name}' for name, n in outcomes.most_common())}; "
            f"spent ${ledger.spent():.2f}, billed ${session.billed:.2f}",
            "calm process: " + ", ".join(f"{name} {value:.1f}" for name, value in calm.items()),
            f"this script: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB",
            f"broken invariants: {len(breaks)}",
        ]
        return "\n".join(lines), breaks, session.faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave the session in this new folder")
    options = parser.parse_args()
    table, breaks, _ = soak(
        options.minutes, options.seed, lambda line: print(line, flush=True), options.keep
    )
    print(table)
    return 1 if breaks else 0


if __name__ == "__main__":
    sys.exit(main())
