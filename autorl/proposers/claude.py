"""The researcher on the Anthropic API: a short conversation with tools that ends in one proposal.

    export ANTHROPIC_API_KEY=...
    uv run python agent_loop.py run                          # chosen by itself when a key is set
    uv run python agent_loop.py run --model claude-opus-5-5 --max-usd 20

Each proposal is a conversation of its own: the ledger, the incumbent's train.py and the task go in; the model may look
at earlier experiments through tools; `propose_experiment` ends it. Edits that miss, or that the harness refuses, go
back with the reason.

What it does not do: run anything, touch a file, or let a reply change a setting. The text is built in prompt.py; calls,
money and outages are in anthropic_api.py, prices in prices.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from autorl.errors import EditMiss, ProposerError
from autorl.interfaces import Purse
from autorl.proposers import prompt
from autorl.proposers.anthropic_api import Api, Bill
from autorl.records import Edit, History, Proposal
from autorl.source.edits import apply_edits

DEFAULT_MODEL = "claude-opus-5-5"
MAX_TOKENS = 32_000  # of one reply, thinking included
MAX_MISSES = 3  # refused proposals that are explained back
MAX_LOOKS = 12  # looks before it is told to propose

TOOLS: list[dict[str, Any]] = [
    {
        "name": "list_experiments",
        "description": "The ledger, one line an experiment: number, outcome, mean return with standard error, runs, title. Narrow it with a range or an outcome.",
        "input_schema": {
            "type": "object",
            "properties": {
                "first": {"type": "integer", "description": "lowest experiment number"},
                "last": {"type": "integer", "description": "highest experiment number"},
                "status": {"type": "string", "enum": ["keep", "discard", "crash"]},
            },
        },
    },
    {
        "name": "read_experiment",
        "description": "One experiment in full: its diff, the judge's numbers for every run, training diagnostics, best and worst evaluation episodes, the end of its log.",
        "input_schema": {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
        },
    },
    {
        "name": "read_train_py",
        "description": "The whole train.py of an experiment; without n, the incumbent's, which is also in the opening message.",
        "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
    },
    {
        "name": "propose_experiment",
        "description": "The one way to act: one idea as exact edits on the incumbent's train.py. It is committed and measured; the edits apply all or nothing.",
        "input_schema": {
            "type": "object",
            "properties": {
                "title": {"type": "string", "description": "what changes, in under 70 characters"},
                "hypothesis": {
                    "type": "string",
                    "description": "why it should raise the mean return, from evidence where there is some",
                },
                "expected_effect": {
                    "type": "string",
                    "description": "what you expect to see, and what would refute the idea",
                },
                "edits": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "properties": {
                            "search": {
                                "type": "string",
                                "description": "lines of train.py, character for character, occurring exactly once",
                            },
                            "replace": {
                                "type": "string",
                                "description": "what stands there instead",
                            },
                        },
                        "required": ["search", "replace"],
                    },
                },
            },
            "required": ["title", "hypothesis", "expected_effect", "edits"],
        },
    },
]


class ClaudeProposer:
    """See the head of this file.

    Args:
        model: a model id; one without a price in prices.py works, but not under a limit in dollars.
        should_stop: asked several times a second during waits and between the parts of an answer; may be set later.
        patience: further arguments of anthropic_api.Api: key and address, waits, backoff, timeout.

    Raises:
        UserError: no key is to be found.
    """

    name = "claude"

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        max_tokens: int = MAX_TOKENS,
        should_stop: Callable[[], bool] = lambda: False,
        **patience: Any,
    ):
        self.model, self.max_tokens, self.should_stop = model, max_tokens, should_stop
        self.api = Api(model, max_tokens, lambda: self.should_stop(), **patience)
        self.price = self.api.price

    def close(self) -> None:
        """Close the connections; a call under way in another thread fails."""
        self.api.close()

    # -----------------------------------------------------------------------
    # One proposal
    # -----------------------------------------------------------------------

    def propose(self, history: History, purse: Purse) -> Proposal | None:
        """One conversation, one idea. The edits of what it returns apply to `history.train_source` and pass `history.vet`.

        Raises:
            ProposerError: unusable replies in spite of a re-ask, or a proposal refused more than three times.
            Paused: the key, the account or the model is refused, money is spent, an outage lasted too long, or a stop was asked for.
        """
        blocks, recent = prompt.ledger_blocks(history)
        opening: list[dict[str, Any]] = [
            {"type": "text", "text": text} for text in (*blocks, prompt.incumbent_text(history))
        ]
        opening[-1] |= {
            "cache_control": {"type": "ephemeral", "ttl": "1h"}
        }  # an experiment outlives the five-minute cache
        opening.append(
            {
                "type": "text",
                "text": f"{prompt.tail_text(history, recent)}\n\n{prompt.task_text(history)}",
            }
        )
        request: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "tools": TOOLS,
            "tool_choice": {
                "type": "auto",
                "disable_parallel_tool_use": True,
            },  # current models refuse forced tool use
            "system": [
                {
                    "type": "text",
                    "text": prompt.system_text(history),
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                }
            ],
            "messages": [{"role": "user", "content": opening}],
            "cache_control": {
                "type": "ephemeral"
            },  # the growing end of this conversation: read again within seconds
        }
        if self.model.startswith("claude-") and "-4-5" not in self.model:
            request["thinking"] = {"type": "adaptive"}
        bill = Bill()
        looks = misses = reasks = 0
        while True:
            reply = self.api.call(
                request,
                purse,
                bill,
                f"proposal after {len(history.rows)} experiments, call {bill.calls + 1}",
            )
            uses = [block for block in reply.content if block["type"] == "tool_use"]
            problem = reply.problem
            if not problem and not uses:
                problem = "Your reply had no tool call. Act through a tool: call propose_experiment with one idea."
            if (
                not problem
                and len(uses) > 1
                and any(use["name"] == "propose_experiment" for use in uses)
            ):
                problem = "Your reply called several tools at once. Call propose_experiment alone, once, with one idea."
            if problem:
                purse.note("re-ask", prompt.one_line(problem, 300))
                reasks += 1
                if reasks > 1:
                    raise ProposerError(
                        f"The researcher gave nothing usable twice; the last time: {prompt.one_line(problem, 300)}"
                    )
                if not reply.problem:
                    request["messages"] += [{"role": "assistant", "content": reply.content}]
                results = (
                    [_result(use, problem, error=True) for use in uses] if not reply.problem else []
                )
                request["messages"] += [
                    {"role": "user", "content": results or [{"type": "text", "text": problem}]}
                ]
                continue
            request["messages"] += [{"role": "assistant", "content": reply.content}]
            if uses[0]["name"] != "propose_experiment":
                looks += len(uses)
                if looks > MAX_LOOKS + 3:
                    raise ProposerError(
                        f"The researcher looked {looks} times and proposed nothing."
                    )
                enough = "Enough looking: call propose_experiment now." if looks > MAX_LOOKS else ""
                results = [
                    _result(use, enough, error=True) if enough else self._look(use, history)
                    for use in uses
                ]
                request["messages"] += [{"role": "user", "content": results}]
                continue
            proposal, problem = read_proposal(uses[0]["input"], history)
            if proposal is not None:
                return dataclasses.replace(proposal, cost_usd=bill.usd, seconds=bill.seconds)
            misses += 1
            purse.note("proposal refused", prompt.one_line(problem, 300))
            if misses > MAX_MISSES:
                raise ProposerError(
                    f"{misses} proposals in a row could not be used; the last one: {prompt.one_line(problem, 300)}"
                )
            request["messages"] += [
                {"role": "user", "content": [_result(uses[0], problem, error=True)]}
            ]

    def _look(self, use: dict[str, Any], history: History) -> dict[str, Any]:
        """The answer to a look; a wrong question is answered with what is wrong."""
        given = use["input"]
        n, first, last = (given.get(key) for key in ("n", "first", "last"))
        if any(value is not None and type(value) is not int for value in (n, first, last)):
            return _result(use, "Experiment numbers are integers.", error=True)
        numbers = {row.n for row in history.rows}
        try:
            if use["name"] == "list_experiments":
                rows = [
                    r
                    for r in history.rows
                    if (first is None or r.n >= first)
                    and (last is None or r.n <= last)
                    and given.get("status") in (None, r.status)
                ]
                return _result(use, prompt.table_text(rows))
            if use["name"] == "read_train_py" and n in (None, history.incumbent):
                return _result(use, prompt.fenced(history.train_source))
            if n not in numbers:
                return _result(
                    use,
                    f"There is no experiment {prompt.as_text(n)}; there are 0 to {max(numbers, default=0)}.",
                    error=True,
                )
            if use["name"] == "read_train_py" and history.source_of is not None:
                return _result(use, prompt.fenced(history.source_of(n)))
            if use["name"] == "read_experiment" and history.experiment is not None:
                return _result(use, prompt.experiment_text(history.experiment(n)))
        except (KeyError, IndexError, ValueError, OSError) as error:
            return _result(
                use,
                f"That experiment cannot be read: {prompt.one_line(str(error), 200)}",
                error=True,
            )
        return _result(
            use,
            f"There is no tool {prompt.as_text(use['name'], 60)}, or nothing to read with it.",
            error=True,
        )


def read_proposal(given: dict[str, Any], history: History) -> tuple[Proposal | None, str]:
    """(proposal, "") when the tool's input is well formed, fits the incumbent and is accepted; else (None, why not)."""
    title, edits = given.get("title"), given.get("edits")
    if not isinstance(title, str) or not title.strip():
        return None, "A proposal needs a title."
    if not isinstance(edits, list) or not edits:
        return None, "A proposal needs at least one edit, as a list of {search, replace}."
    if not all(
        isinstance(e, dict)
        and isinstance(e.get("search"), str)
        and isinstance(e.get("replace"), str)
        for e in edits
    ):
        return None, "Each edit is an object with the strings search and replace."
    proposal = Proposal(
        title=prompt.one_line(title, 100),
        hypothesis=prompt.plain(str(given.get("hypothesis") or ""))[:2_000],
        expected_effect=prompt.plain(str(given.get("expected_effect") or ""))[:1_000],
        edits=tuple(Edit(e["search"], e["replace"]) for e in edits),
        proposer="claude",
    )
    try:
        source = apply_edits(history.train_source, proposal.edits)
    except EditMiss as miss:
        return (
            None,
            f"{miss}\nNothing was changed. Correct the edits and call propose_experiment again.",
        )
    if refusal := history.vet(source):
        return (
            None,
            f"{refusal}\nNothing was run. Correct it, or propose another idea, and call propose_experiment again.",
        )
    return proposal, ""


def _result(use: dict[str, Any], text: str, error: bool = False) -> dict[str, Any]:
    return {
        "type": "tool_result",
        "tool_use_id": use["id"],
        "content": text,
        **({"is_error": True} if error else {}),
    }
