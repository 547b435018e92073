"""`run --demo` and `run --quick`: short sessions; what a demonstration starts from and ends with.

What it does not do: run them (run.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorl.proposers.search_space import constants
from autorl.session import find_session, program, read_state
from autorl.system.files import PROJECT, STARTER
from autorl.system.hardware import affinity


@dataclass(frozen=True, slots=True)
class Preset:
    """A short session; what a person typed goes before it."""

    env_id: str
    time_budget: float  # seconds
    experiments: int
    confirm_runs: int  # of each arm at one look
    confirm_looks: int = 2
    places: int = 1  # runs at once, where there are as many cores
    num_eval_episodes: int = 50
    hours: float = 4.6 / 60  # the confirmation included

    def settings(self, typed: dict[str, Any]) -> dict[str, Any]:
        """Those of the session, by name."""
        names = "env_id", "time_budget", "num_eval_episodes", "confirm_looks"
        usual = {name: getattr(self, name) for name in names}
        usual["slots"] = min(self.places, len(typed.get("cores") or affinity()))
        return usual | typed


QUICK = Preset("InvertedDoublePendulum-v5", time_budget=12.0, experiments=10, confirm_runs=2)
DEMO = Preset("Pendulum-v1", 8.0, experiments=8, confirm_runs=4, confirm_looks=1, places=2)

# ---------------------------------------------------------------------------
# The demonstration
# ---------------------------------------------------------------------------

FIRST_LINE = "a planted weakness: this shows the machinery, not research"
PLANTED = "GAMMA"  # the constant that is plainly poor


def demo_source() -> str:
    """The train.py whose constants are plainly poor."""
    folder = STARTER if STARTER.is_dir() else PROJECT
    return (folder / "examples" / "demo" / "train.py").read_text(encoding="utf-8")


def _short(claim: dict[str, Any]) -> str:
    """What a claim says first, and its interval."""
    found = claim["claim"]
    said, low, high = found["sentence"].partition(";")[0], found["low"], found["high"]
    return said if low is None else f"{said} ({low:,.0f} to {high:,.0f} with 95 % confidence)"


def demo_ending(root: Path, tag: str) -> str:
    """What was found, the claim, what to type next, and last the path of the picture."""
    path = find_session(root, tag)
    state, start = read_state(path), program(root)
    champion = state.claim["champion"] if state.claim else 0
    before, after = (constants(state.attempts[n].source) for n in (0, champion))
    changed = (n for n in before if before[n].text != after[n].text)
    found = ", ".join(f"{n} {before[n].text} → {after[n].text}" for n in changed)
    lines = {
        "planted": f"{PLANTED} = {before[PLANTED].text} in a train.py of its own, not in yours",
        "found": found or "nothing that is likely a gain",
        "claim": _short(state.claim) if state.claim else "none; run it once more",
        "next": f"{start} report --tag {tag}: this session on one page; then",
        "": f"{start} run: research on your train.py, until you stop it",
        "picture": str((path.parent / "progress.png").relative_to(root)),
    }
    return "\n".join(["---", *(f"{name + ':' if name else '':<9}{v}" for name, v in lines.items())])
