"""The tools of a language model that proposes: what they are, what they answer, a proposal read.

Pure but for what `History` looks up. What this file does not do: talk to a model (claude.py).
"""

from difflib import SequenceMatcher
from typing import Any

from autorl.errors import EditMiss, ProposerError
from autorl.proposers import prompt
from autorl.records import Edit, History, Proposal
from autorl.source.edits import apply_edits, changed_lines, edits_from
from autorl.system.text import one_line, plain

ALIKE = 0.7  # of the lines that two diffs change: from there on the model is asked what differs


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _object(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_NUMBER = {"type": "integer"}  # of an experiment
_EDIT = _object(
    "search",
    "replace",
    search=_text("lines of train.py, character for character, occurring exactly once"),
    replace=_text("what stands there instead"),
)
_PROPOSAL = {
    "lesson": _text(
        "one line on the last experiment with a verdict: what was expected, what came, and so what;"
        " empty before there is one"
    ),
    "title": _text("what changes, in under 70 characters"),
    "hypothesis": _text("why it should raise the mean return, from evidence where there is some"),
    "expected_effect": _text("what you expect to see, and what would refute the idea"),
    "edits": {"type": "array", "minItems": 1, "items": _EDIT},
    "source": _text("in place of edits, where edits missed or for another algorithm: all of it"),
}
_STATUS = {"type": "string", "enum": ["keep", "discard", "crash"]}
TOOLS: list[dict[str, Any]] = [
    {
        "name": "list_experiments",
        "description": "The ledger, one line an experiment: number, outcome, mean return with "
        "standard error, runs, title. Narrow it with a range of numbers or an outcome.",
        "input_schema": _object(first=_NUMBER, last=_NUMBER, status=_STATUS),
    },
    {
        "name": "read_experiment",
        "description": "One experiment in full: the judge's numbers for its runs, best and worst "
        "evaluation episodes, training diagnostics through the budget beside the incumbent's, the "
        "end of its log, its diff.",
        "input_schema": _object("n", n=_NUMBER),
    },
    {
        "name": "read_train_py",
        "description": "The whole train.py of an experiment; without n, the incumbent's, which is "
        "also in the opening message.",
        "input_schema": _object(n=_NUMBER),
    },
    {
        "name": "propose_experiment",
        "description": "The one way to act: one idea as exact edits on the incumbent's train.py. "
        "It is committed and measured; the edits apply all or nothing.",
        "input_schema": _object("lesson", "title", "hypothesis", "expected_effect", **_PROPOSAL),
    },
]


def look(use: dict[str, Any], history: History) -> dict[str, Any]:
    """The answer to a look; a wrong question is answered with what is wrong."""
    name, given = use["name"], use["input"]
    n, first, last = (given.get(key) for key in ("n", "first", "last"))
    if any(value is not None and type(value) is not int for value in (n, first, last)):
        return error(use, "Experiment numbers are integers.")
    known = [row.n for row in history.rows]
    try:
        if name == "list_experiments":
            rows = [
                row
                for row in history.rows
                if (first is None or row.n >= first)
                and (last is None or row.n <= last)
                and given.get("status") in (None, row.status)
            ]
            return result(use, prompt.table_text(rows))
        if name == "read_train_py" and n in (None, history.incumbent):
            return result(use, prompt.fenced(history.train_source))
        if n not in known:
            there = f"there are 0 to {max(known, default=0)}"
            return error(use, f"There is no experiment {n}; {there}.")
        if name == "read_train_py" and history.source_of is not None:
            return result(use, prompt.fenced(history.source_of(n)))
        if name == "read_experiment" and history.experiment is not None:
            return result(use, prompt.experiment_text(history.experiment(n)))
    except (LookupError, ValueError, OSError) as trouble:
        return error(use, f"That experiment cannot be read: {one_line(str(trouble), 200)}")
    return error(use, f"There is no tool {one_line(str(name), 60)}, or nothing to read with it.")


def read_proposal(given: dict[str, Any], history: History) -> tuple[Proposal, str]:
    """The proposal in the input of a tool call, and the train.py that it amounts to.

    Raises:
        ProposerError: it is malformed, does not fit the incumbent (from an EditMiss), or is refused
            by `history.vet`.
    """
    title, source = given.get("title"), given.get("source")
    if not isinstance(title, str) or not title.strip():
        raise ProposerError("A proposal needs a title.")
    edits: tuple[Edit, ...] = ()
    if given.get("edits") or not isinstance(source, str):
        try:
            edits = edits_from(given.get("edits"))
            source = apply_edits(history.train_source, edits)
        except EditMiss as miss:
            raise ProposerError(
                f"{miss}\nNothing was changed. Correct the edits and call propose_experiment again."
            ) from miss
    if refusal := history.vet(source):
        raise ProposerError(
            f"{refusal}\nNothing was run. "
            "Correct it, or propose another idea, and call propose_experiment again."
        )
    n = prompt.last_decided(history)
    proposal = Proposal(
        title=one_line(title, 100),
        hypothesis=plain(str(given.get("hypothesis") or ""))[:2_000],
        expected_effect=plain(str(given.get("expected_effect") or ""))[:1_000],
        edits=edits,
        source=None if edits else source,
        proposer="claude",
        lesson=one_line(str(given.get("lesson") or ""), 300) if n else "",
        lesson_of=n,
    )
    return proposal, source


def tried_before(source: str, history: History) -> str:
    """What a model is asked whose diff resembles that of a discarded experiment; "" else."""
    if history.source_of is None:
        return ""
    mine = changed_lines(history.train_source, source)
    for row in reversed(history.rows):
        if row.status != "discard" or row.state or row.parent is None:  # superseded: made again
            continue
        theirs = changed_lines(history.source_of(row.parent), history.source_of(row.n))
        if SequenceMatcher(None, mine, theirs, autojunk=False).ratio() >= ALIKE:
            return (
                f"You tried #{row.n} ({one_line(row.description, 70)}), which was discarded; what "
                "differs? Call propose_experiment again: the same idea with the answer in its "
                "hypothesis, or another one."
            )
    return ""


def result(use: dict[str, Any], text: str) -> dict[str, Any]:
    """The answer to a tool call."""
    return {"type": "tool_result", "tool_use_id": use["id"], "content": text}


def error(use: dict[str, Any], text: str) -> dict[str, Any]:
    """The answer to a tool call that cannot be done."""
    return result(use, text) | {"is_error": True}
