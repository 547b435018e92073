"""Autoresearch for reinforcement learning.

history -> Proposal -> commit -> Job -> RunRecord -> Verdict -> Row -> history

cli         what a person types
loop        the order: what is proposed, what runs, what it costs
confirm     baseline against champion on fresh seeds: the claim
session     what a session knows: the event log and the state that follows from it
runners     where runs happen: this machine, Modal
judge       one measured run of one train.py, in a sandbox
decision    what to run next, what to keep
proposers   where ideas come from: Claude, a command, search
git         proposals as commits on a branch that is never checked out
source      train.py as text;  report: tables, pictures, pages;  system: files, locks, hardware
"""

__version__ = "0.2.0"


def installed_first() -> None:
    """Find what is installed before a file of the same name in the checkout (a gymnasium.py, say).

    A script's folder comes first on Python's path: it becomes the last. autorl itself is this one,
    and so are autorl_worlds and evaluate beside it, whatever else of these names is installed.
    """
    import sys

    checkout = __path__[0].removesuffix("/autorl")
    if sys.path[:1] == [checkout]:
        sys.path.append(sys.path.pop(0))
    from importlib.machinery import ModuleSpec, PathFinder
    from typing import Any

    class Ours(PathFinder):
        @classmethod
        def find_spec(
            cls, fullname: str, path: Any = None, target: Any = None
        ) -> ModuleSpec | None:
            ours = fullname in ("autorl_worlds", "evaluate")
            return PathFinder.find_spec(fullname, [checkout]) if ours else None

    sys.meta_path.insert(0, Ours)
