"""The researcher on the Anthropic API: a short conversation with tools that ends in one proposal.

    export ANTHROPIC_API_KEY=...
    uv run python agent_loop.py run --max-usd 20      # claude is the default when a key is set

Each proposal is a conversation of its own: the ledger, the incumbent's train.py and the task go in;
the model may look at earlier experiments through tools; `propose_experiment` ends it. Edits that
miss, or that the harness refuses, go back with the reason. What it does not do: run anything, touch
a file, or let a reply change a setting.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from autorl.errors import EditMiss, ProposerError
from autorl.interfaces import Budget
from autorl.proposers import prompt
from autorl.proposers.anthropic_api import MAX_TOKENS, Api
from autorl.records import History, Proposal
from autorl.source.edits import apply_edits, edits_from
from autorl.system.text import one_line, plain

DEFAULT_MODEL = "claude-opus-5-5"
MAX_MISSES = 3  # refused proposals that are explained back
MAX_LOOKS = 12  # looks before it must propose


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
    "title": _text("what changes, in under 70 characters"),
    "hypothesis": _text("why it should raise the mean return, from evidence where there is some"),
    "expected_effect": _text("what you expect to see, and what would refute the idea"),
    "edits": {"type": "array", "minItems": 1, "items": _EDIT},
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
        "input_schema": _object(*_PROPOSAL, **_PROPOSAL),
    },
]


class ClaudeProposer:
    """See the head of this file.

    Args:
        model: a model id; one without a price in prices.py works, but not under a limit in dollars.
        patience: further arguments of anthropic_api.Api: key and address, waits, backoff, timeout.

    Raises:
        UserError: no key is to be found.
    """

    name = "claude"

    def __init__(self, model: str = DEFAULT_MODEL, **patience: Any):
        self.model = model
        self._stopped: Callable[[], bool] = lambda: False  # that of the history it thinks about
        self.api = Api(model, lambda: self._stopped(), **patience)
        self.price = self.api.price

    def close(self) -> None:
        """Close the connections; a call under way in another thread fails."""
        self.api.close()

    def propose(self, history: History, budget: Budget) -> Proposal | None:
        """One conversation, one idea, whose edits fit the incumbent and pass `history.vet`.

        Raises:
            ProposerError: unusable replies in spite of a re-ask, or a proposal refused more than
                three times.
            Paused: the key, the account or the model is refused, money is spent, an outage lasted
                too long, or a stop was asked for.
        """
        self._stopped = history.stopped
        request = self._request(history)
        what = f"proposal after {len(history.rows)} experiments"
        usd = seconds = 0.0
        looks = misses = reasks = 0
        while True:
            reply = self.api.call(request, budget, what)
            usd, seconds = usd + reply.usd, seconds + reply.seconds
            uses = [block for block in reply.content if block["type"] == "tool_use"]
            if problem := reply.problem or _misuse(uses):
                short = one_line(problem, 300)
                budget.note("re-ask", short)
                reasks += 1
                if reasks > 1:
                    raise ProposerError(
                        f"The researcher gave nothing usable twice; the last time: {short}"
                    )
                answers = [_error(use, problem) for use in uses]
            elif uses[0]["name"] != "propose_experiment":
                looks += len(uses)
                if looks > MAX_LOOKS + 3:
                    raise ProposerError(
                        f"The researcher looked {looks} times and proposed nothing."
                    )
                answers = [_look(use, history) for use in uses]
                if looks > MAX_LOOKS:
                    enough = "Enough looking: call propose_experiment now."
                    answers = [_error(use, enough) for use in uses]
            else:
                try:
                    proposal = read_proposal(uses[0]["input"], history)
                    return dataclasses.replace(proposal, cost_usd=usd, seconds=seconds)
                except ProposerError as refusal:
                    problem = str(refusal)
                short = one_line(problem, 300)
                budget.note("proposal refused", short)
                misses += 1
                if misses > MAX_MISSES:
                    raise ProposerError(
                        f"{misses} proposals in a row could not be used; the last one: {short}"
                    )
                answers = [_error(uses[0], problem)]
            if reply.content:
                request["messages"].append({"role": "assistant", "content": reply.content})
            answers = answers or [{"type": "text", "text": problem}]
            request["messages"].append({"role": "user", "content": answers})

    def _request(self, history: History) -> dict[str, Any]:
        """The first request: everything up to the incumbent's train.py stays in the cache."""
        # An experiment outlives the five-minute cache.
        cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
        opening: list[dict[str, Any]] = [
            {"type": "text", "text": text} for text in prompt.opening_texts(history)
        ]
        opening[-2] |= cached
        request: dict[str, Any] = {
            "model": self.model,
            "max_tokens": MAX_TOKENS,
            "tools": TOOLS,
            # Current models refuse forced tool use.
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "system": [{"type": "text", "text": prompt.system_text(history), **cached}],
            "messages": [{"role": "user", "content": opening}],
            # The growing end of this conversation is read again within seconds.
            "cache_control": {"type": "ephemeral"},
        }
        if self.model.startswith("claude-") and "-4-5" not in self.model:
            request["thinking"] = {"type": "adaptive"}
        return request


def _misuse(uses: list[dict[str, Any]]) -> str:
    """What is wrong with the tool calls of a reply, taken together; "" when nothing is."""
    if not uses:
        return "Your reply had no tool call. Call propose_experiment with one idea."
    if len(uses) > 1 and any(use["name"] == "propose_experiment" for use in uses):
        return (
            "Your reply called several tools at once. "
            "Call propose_experiment alone, once, with one idea."
        )
    return ""


def _look(use: dict[str, Any], history: History) -> dict[str, Any]:
    """The answer to a look; a wrong question is answered with what is wrong."""
    name, given = use["name"], use["input"]
    n, first, last = (given.get(key) for key in ("n", "first", "last"))
    if any(value is not None and type(value) is not int for value in (n, first, last)):
        return _error(use, "Experiment numbers are integers.")
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
            return _result(use, prompt.table_text(rows))
        if name == "read_train_py" and n in (None, history.incumbent):
            return _result(use, prompt.fenced(history.train_source))
        if n not in known:
            there = f"there are 0 to {max(known, default=0)}"
            return _error(use, f"There is no experiment {n}; {there}.")
        if name == "read_train_py" and history.source_of is not None:
            return _result(use, prompt.fenced(history.source_of(n)))
        if name == "read_experiment" and history.experiment is not None:
            return _result(use, prompt.experiment_text(history.experiment(n)))
    except (LookupError, ValueError, OSError) as error:
        return _error(use, f"That experiment cannot be read: {one_line(str(error), 200)}")
    return _error(use, f"There is no tool {one_line(str(name), 60)}, or nothing to read with it.")


def read_proposal(given: dict[str, Any], history: History) -> Proposal:
    """The proposal in the input of a tool call.

    Raises:
        ProposerError: it is malformed, does not fit the incumbent, or is refused by `history.vet`.
    """
    title = given.get("title")
    if not isinstance(title, str) or not title.strip():
        raise ProposerError("A proposal needs a title.")
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
    return Proposal(
        title=one_line(title, 100),
        hypothesis=plain(str(given.get("hypothesis") or ""))[:2_000],
        expected_effect=plain(str(given.get("expected_effect") or ""))[:1_000],
        edits=edits,
        proposer="claude",
    )


def _result(use: dict[str, Any], text: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": use["id"], "content": text}


def _error(use: dict[str, Any], text: str) -> dict[str, Any]:
    return _result(use, text) | {"is_error": True}
