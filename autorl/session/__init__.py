"""What a session knows: its event log, the state that follows from it, and its inbox."""

from autorl.session.attempts import Attempt, Run
from autorl.session.find import find_session, fold, journals, pick_demo, program, read_state
from autorl.session.session import Session, open_session, show_to_git
from autorl.session.settings import Bounds, Settings, resolve_settings
from autorl.session.state import SessionState

__all__ = [
    "Attempt",
    "Bounds",
    "Run",
    "Session",
    "SessionState",
    "Settings",
    "find_session",
    "fold",
    "journals",
    "open_session",
    "pick_demo",
    "program",
    "read_state",
    "resolve_settings",
    "show_to_git",
]
