"""Kill -9, or fail, at effect N of a session, for every N; start again; compare.

    uv run python tests/faults/sweep.py              # every N, before and after the effect
    uv run python tests/faults/sweep.py --every 10   # a sample
    uv run python tests/faults/sweep.py --fail ENOSPC ENOSPC:ever EIO:ever

It prints a table. The session has five experiments and is compared with an undisturbed one. The
loop, git, journal, locks and kills are real; runs are the scripted runner's, whose returns
follow from commit and seed.
"""

import argparse
import itertools
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from forge import Forge  # noqa: E402
from ground import Site, script  # noqa: E402

from autorl.loop.loop import PICTURE_SECONDS  # noqa: E402

# A discard, two keeps, a crash, an idea that does not fit, one that was measured already, and a
# confirmation at the end.
IDEAS: list[dict[str, Any]] = [
    {"title": "a little worse", "source": script(9.0)},
    {"title": "better\twith a tab", "source": script(14.0)},
    {"title": "crashes", "source": script(3.0, "raise")},
    {"title": "does not fit", "edits": [{"search": "NOT THERE", "replace": "x"}]},
    {"title": "the same again", "source": script(9.0, comment="# the same\n")},
    {"title": "not as good", "source": script(13.0)},
    {"title": "far better", "source": script(20.0)},
]
MORE = ("--confirm-runs", "1")


@dataclass
class Point:
    """One fault and what came of it. `trouble` is empty when everything is as it must be."""

    effect: int
    kind: str
    fault: str
    exit_code: int
    said: str
    repeated: int
    trouble: list[str]


class Sweep:
    """The undisturbed session, and any number of disturbed copies of it."""

    def __init__(self, folder: Path, forge: Forge):
        self.folder, self.forge = folder, forge
        self.base = Site.new(folder / "base", IDEAS)
        for number in range(3):
            undisturbed, began = self.base.copy(folder / f"undisturbed {number}"), time.monotonic()
            trace = folder / f"trace {number}"
            env = undisturbed.env | {"AUTORL_EFFECT_TRACE": str(trace)}
            code, _, err = forge.run(undisturbed.repo, undisturbed.argv(*MORE), env)
            assert code == 0, err
            if time.monotonic() - began < PICTURE_SECONDS:
                break  # a longer one draws more pictures, which are effects
        self.breaks = undisturbed.broken_invariants()
        self.decisions = undisturbed.decisions()
        self.kinds = [line.partition(" ")[2] for line in trace.read_text().splitlines()]
        self.undisturbed = undisturbed

    def at(self, effect: int, fault: str) -> Point:
        """`fault`: "kill", "kill after", or a value of AUTORL_FAIL_AT without its number."""
        site = self.base.copy(self.folder / f"{effect} {fault}")
        if fault.startswith("kill"):
            env = {"AUTORL_KILL_AT": f"{effect}{':after' if fault == 'kill after' else ''}"}
        else:
            env = {"AUTORL_FAIL_AT": f"{effect}:{fault}"}
        code, _, err = self.forge.run(site.repo, site.argv(*MORE), site.env | env)
        said = [line for line in err.splitlines() if line.startswith("autorl: ")]
        trouble = self._judge_end(fault, code, said, err) + site.broken_invariants(ended=False)
        again, _, err = self.forge.run(site.repo, site.argv(*MORE), site.env)
        if again != 0:
            trouble.append(f"started again it ended with {again}: {err[-500:]}")
        trouble += site.broken_invariants()
        decisions = site.decisions()
        for name, wanted in self.decisions.items():
            if decisions[name] != wanted:
                trouble.append(f"other {name}: {decisions[name]} for {wanted}")
        if (repeated := site.repeated()) > 1:
            trouble.append(f"{repeated} runs were repeated")
        if not trouble:
            shutil.rmtree(site.repo.parent)
        return Point(
            effect, self.kinds[effect - 1], fault, code, said[0] if said else "", repeated, trouble
        )

    def _judge_end(self, fault: str, code: int, said: list[str], err: str) -> list[str]:
        """How a disturbed process must end."""
        trouble = ["a traceback: " + err[-800:]] if "Traceback" in err else []
        if fault.startswith("kill"):
            right, what = code == -signal.SIGKILL, f"it was not killed: exit code {code}"
        elif fault.startswith("ENOSPC") and not fault.endswith("ever"):
            right, what = code == 0, f"a disk that was full once stopped it: {code} {said}"
        else:
            right, what = code == 3 and len(said) == 1, f"exit code {code}, reasons {said}"
        return trouble if right else [*trouble, what]

    def sweep(self, effects: Iterable[int], faults: Iterable[str], workers: int = 4) -> list[Point]:
        """Many points at once (a session mostly waits)."""

        def tried(point: tuple[int, str]) -> Point:
            try:
                return self.at(*point)
            except Exception as error:
                kind, trouble = self.kinds[point[0] - 1], [f"{type(error).__name__}: {error}"]
                return Point(point[0], kind, point[1], 0, "", 0, trouble)

        with ThreadPoolExecutor(workers) as pool:
            points = list(pool.map(tried, itertools.product(effects, faults)))
        return sorted(points, key=lambda p: (p.effect, p.fault))


def table(points: list[Point]) -> str:
    """By kind of effect and fault: points, recovered, repeated runs, exit codes."""
    lines = [
        f"{'effect':<16} {'fault':<13} {'points':>6}  {'recovered':>9}  {'runs repeated':>13}"
        "  exit codes"
    ]
    for kind, fault in sorted({(p.kind, p.fault) for p in points}):
        those = [p for p in points if (p.kind, p.fault) == (kind, fault)]
        codes = ", ".join(map(str, sorted({p.exit_code for p in those})))
        lines.append(
            f"{kind:<16} {fault:<13} {len(those):>6}  {sum(not p.trouble for p in those):>9}"
            f"  {sum(p.repeated for p in those):>13}  {codes}"
        )
    lines.append(
        f"{'all':<16} {'':<13} {len(points):>6}  {sum(not p.trouble for p in points):>9}"
        f"  {sum(p.repeated for p in points):>13}"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="take each n-th effect only")
    parser.add_argument("--fail", nargs="*", help="fail instead of kill")
    options = parser.parse_args()
    forge = Forge()
    try:
        with tempfile.TemporaryDirectory(prefix="sweep-") as place:
            sweep = Sweep(Path(place), forge)
            effects = range(1, len(sweep.kinds) + 1, options.every)
            points = sweep.sweep(effects, options.fail or ("kill", "kill after"))
    finally:
        forge.close()
    for point in points:
        for line in point.trouble:
            print(f"effect {point.effect} ({point.kind}), {point.fault}: {line}")
    print(table(points))
    return 1 if any(p.trouble for p in points) else 0


if __name__ == "__main__":
    sys.exit(main())
