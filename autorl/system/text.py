"""Text of others (a run, a researcher, an environment, a file name), made harmless where it comes
in: for terminals, tables, prompts.
"""

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterator

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")  # CSI, OSC


def plain(text: str) -> str:
    """Without escape sequences, control characters, marks that order text, and lone surrogates.

    Tabs stay; all line breaks are \\n.
    """
    if text.isprintable():
        return text
    lines = ESCAPES.sub("", text).splitlines()
    unseen = ("Cc", "Cf", "Cs")
    return "\n".join(
        "".join(c for c in line if c == "\t" or unicodedata.category(c) not in unseen)
        for line in lines
    )


def one_line(text: str, limit: int = 400) -> str:
    """`plain`, blanks squashed, at most `limit` characters."""
    text = " ".join(plain(text).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def last_line(said: str | bytes, limit: int = 300) -> str:
    """The last line of an output, for a reason."""
    text = said if isinstance(said, str) else said.decode("utf-8", "replace")
    return one_line(text.strip().rpartition("\n")[2], limit) or "it said nothing"


def any_terminal() -> None:
    """What standard output and error cannot encode (latin-1, cp1252) is replaced, never raised."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def output_aside() -> Iterator[None]:
    """What is printed to standard output meanwhile, from C too, goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
