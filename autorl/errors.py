"""The error tree. The failure of an experiment is a value (`RunRecord.status`); the failure of the
loop is one of

AutoRLError             one plain sentence: what is wrong and what to do
  UserError             bad flag, unknown env, no git repository, ...      exit code 2
  Paused                API refused, disk full, budget of money spent      exit code 3, resumable
  EditMiss              a search block that is not (or not once) in train.py
  ProposerError         the researcher answered with nothing usable
"""


class AutoRLError(Exception):
    """The loop cannot go on. The message is one plain sentence that says what to do."""

    exit_code = 1


class UserError(AutoRLError):
    """Refused at the start: a flag, a path, an environment, the repository."""

    exit_code = 2


class Paused(AutoRLError):
    """Stopped without loss; the same command resumes."""

    exit_code = 3


class EditMiss(AutoRLError):
    """A search block does not occur exactly once in train.py."""


class ProposerError(AutoRLError):
    """The researcher gave nothing usable; the reason is fed back to it."""
