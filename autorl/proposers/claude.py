# NOTE FROM THE LEAD (04:05): by my mistake the UNCOMMITTED edits of this file made before 04:04:16 were reverted to its last commit. Please re-apply your last edits, then delete this line.
"""The researcher on the Anthropic API: a short conversation with tools that ends in one proposal.

    export ANTHROPIC_API_KEY=...
    uv run python agent_loop.py run                          # chosen by itself when a key is set
    uv run python agent_loop.py run --model claude-opus-5-5 --max-usd 20

Each proposal is a conversation of its own: the ledger, the incumbent's train.py and the task go in; the model may look
at earlier experiments through tools; `propose_experiment` ends it. Edits that miss, or that the harness refuses, go
back with the reason. Every call's worst case is reserved before it is made and settled from the usage after it.
Outages are waited out here, with the SDK's own retries switched off, so that each attempt is counted.

What it does not do: run anything, touch a file, or let a reply change a setting. The text is built in prompt.py, the
prices are in prices.py. Only this file talks to a language model.
"""

import dataclasses
import email.utils
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic

from autorl.effects import effect
from autorl.proposers import prompt
from autorl.proposers.prices import price_of, usage_usd, worst_usd
from autorl.records import Edit, EditMiss, History, Paused, Proposal, ProposerError, Purse, UserError, apply_edits

DEFAULT_MODEL = "claude-opus-5-5"
MINUTES, HOURS = 60.0, 3600.0
MAX_TOKENS = 32_000  # of one reply, thinking included
MAX_MISSES = 3  # refused proposals that are explained back
MAX_LOOKS = 12  # looks before it is told to propose
OVERHEAD_TOKENS = 2_000  # what the API adds to a request with tools, from above

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
        "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
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
                "hypothesis": {"type": "string", "description": "why it should raise the mean return, from evidence where there is some"},
                "expected_effect": {"type": "string", "description": "what you expect to see, and what would refute the idea"},
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
                            "replace": {"type": "string", "description": "what stands there instead"},
                        },
                        "required": ["search", "replace"],
                    },
                },
            },
            "required": ["title", "hypothesis", "expected_effect", "edits"],
        },
    },
]


@dataclass
class _Reply:
    """One answer of the API, whole or not."""

    content: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    opened: bool = False  # the API began to answer, so it may bill
    complete: bool = False
    problem: str = ""  # why it cannot be used as it is


class ClaudeProposer:
    """See the head of this file.

    Args:
        model: a model id; one without a price in prices.py works, but not under a limit in dollars.
        api_key, base_url: None = as the SDK finds them in the environment.
        max_wait_seconds: how long one outage may last before the session is paused.
        backoff_seconds, backoff_cap_seconds: first and longest wait of the exponential backoff (before jitter).
        read_timeout: seconds of silence on a connection after which it counts as cut; the API pings while it thinks.
        should_stop: asked several times a second during waits and between the parts of an answer.

    Raises:
        UserError: no key is to be found.
    """

    name = "claude"

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_tokens: int = MAX_TOKENS,
        max_wait_seconds: float = 24 * HOURS,
        backoff_seconds: float = 2.0,
        backoff_cap_seconds: float = 30 * MINUTES,
        read_timeout: float = 10 * MINUTES,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        self.model, self.max_tokens = model, max_tokens
        self.price = price_of(model)
        self.max_wait_seconds, self.backoff_seconds, self.backoff_cap_seconds = max_wait_seconds, backoff_seconds, backoff_cap_seconds
        self.should_stop = should_stop
        try:
            self._client = anthropic.Anthropic(
                api_key=api_key, base_url=base_url, max_retries=0, timeout=anthropic.Timeout(read_timeout, connect=min(30.0, read_timeout))
            )
        except anthropic.AnthropicError as error:
            raise UserError(f"The Anthropic client cannot start ({error}); set ANTHROPIC_API_KEY or choose --proposer search.") from error
        if not (self._client.api_key or self._client.auth_token or getattr(self._client, "credentials", None)):
            raise UserError("The claude proposer needs a key: set ANTHROPIC_API_KEY, or choose --proposer search, which needs none.")
        self._random = random.Random()

    def close(self) -> None:
        """Close the connections; a call under way in another thread fails."""
        self._client.close()

    @property
    def priced(self) -> bool:
        """Whether a limit in dollars can be kept."""
        return self.price is not None

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
        opening: list[dict[str, Any]] = [{"type": "text", "text": text} for text in (*blocks, prompt.incumbent_text(history))]
        opening[-1] |= {"cache_control": {"type": "ephemeral", "ttl": "1h"}}  # an experiment outlives the five-minute cache
        opening.append({"type": "text", "text": f"{prompt.tail_text(history, recent)}\n\n{prompt.task_text(history)}"})
        request: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "tools": TOOLS,
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},  # current models refuse forced tool use
            "system": [{"type": "text", "text": prompt.system_text(history), "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            "messages": [{"role": "user", "content": opening}],
            "cache_control": {"type": "ephemeral"},  # the growing end of this conversation: read again within seconds
        }
        if self.model.startswith("claude-") and "-4-5" not in self.model:
            request["thinking"] = {"type": "adaptive"}
        bill = _Bill()
        looks = misses = reasks = 0
        while True:
            reply = self._call(request, purse, bill, f"proposal after {len(history.rows)} experiments, call {bill.calls + 1}")
            uses = [block for block in reply.content if block["type"] == "tool_use"]
            problem = reply.problem
            if not problem and not uses:
                problem = "Your reply had no tool call. Act through a tool: call propose_experiment with one idea."
            if not problem and len(uses) > 1 and any(use["name"] == "propose_experiment" for use in uses):
                problem = "Your reply called several tools at once. Call propose_experiment alone, once, with one idea."
            if problem:
                purse.note("re-ask", prompt.one_line(problem, 300))
                reasks += 1
                if reasks > 1:
                    raise ProposerError(f"The researcher gave nothing usable twice; the last time: {prompt.one_line(problem, 300)}")
                if not reply.problem:
                    request["messages"] += [{"role": "assistant", "content": reply.content}]
                results = [_result(use, problem, error=True) for use in uses] if not reply.problem else []
                request["messages"] += [{"role": "user", "content": results or [{"type": "text", "text": problem}]}]
                continue
            request["messages"] += [{"role": "assistant", "content": reply.content}]
            if uses[0]["name"] != "propose_experiment":
                looks += len(uses)
                if looks > MAX_LOOKS + 3:
                    raise ProposerError(f"The researcher looked {looks} times and proposed nothing.")
                enough = "Enough looking: call propose_experiment now." if looks > MAX_LOOKS else ""
                results = [_result(use, enough, error=True) if enough else self._look(use, history) for use in uses]
                request["messages"] += [{"role": "user", "content": results}]
                continue
            proposal, problem = read_proposal(uses[0]["input"], history)
            if proposal is not None:
                return dataclasses.replace(proposal, cost_usd=bill.usd, seconds=bill.seconds)
            misses += 1
            purse.note("proposal refused", prompt.one_line(problem, 300))
            if misses > MAX_MISSES:
                raise ProposerError(f"{misses} proposals in a row could not be used; the last one: {prompt.one_line(problem, 300)}")
            request["messages"] += [{"role": "user", "content": [_result(uses[0], problem, error=True)]}]

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
                    if (first is None or r.n >= first) and (last is None or r.n <= last) and given.get("status") in (None, r.status)
                ]
                return _result(use, prompt.table_text(rows))
            if use["name"] == "read_train_py" and n in (None, history.incumbent):
                return _result(use, prompt.fenced(history.train_source))
            if n not in numbers:
                return _result(use, f"There is no experiment {prompt.as_text(n)}; there are 0 to {max(numbers, default=0)}.", error=True)
            if use["name"] == "read_train_py" and history.source_of is not None:
                return _result(use, prompt.fenced(history.source_of(n)))
            if use["name"] == "read_experiment" and history.experiment is not None:
                return _result(use, prompt.experiment_text(history.experiment(n)))
        except (KeyError, IndexError, ValueError, OSError) as error:
            return _result(use, f"That experiment cannot be read: {prompt.one_line(str(error), 200)}", error=True)
        return _result(use, f"There is no tool {prompt.as_text(use['name'], 60)}, or nothing to read with it.", error=True)

    # -----------------------------------------------------------------------
    # One call, outages included
    # -----------------------------------------------------------------------

    def _call(self, request: dict[str, Any], purse: Purse, bill: "_Bill", what: str) -> _Reply:
        """A complete reply, however long it takes. Each attempt is reserved, settled and noted by itself."""
        size = len(json.dumps(request, ensure_ascii=False).encode()) + OVERHEAD_TOKENS  # no token is shorter than a byte
        worst = worst_usd(self.price, size, self.max_tokens) if self.price else 0.0
        waited, attempt = 0.0, 0
        while True:
            self._check_stop()
            attempt += 1
            ticket = purse.reserve(worst, what)
            reply, started = _Reply(), time.monotonic()
            failure: BaseException | None = None
            try:
                effect("API call", lambda reply=reply: self._stream(request, reply))  # type: ignore[misc]
            except BaseException as error:
                failure = error
            seconds = time.monotonic() - started
            usd, how = self._price_reply(reply, failure, worst)
            purse.settle(ticket, usd, {**reply.usage, "model": self.model, "seconds": round(seconds, 3), "settled": how})
            bill.add(usd, seconds)
            if failure is None and reply.complete:
                return reply
            if failure is not None and not isinstance(failure, Exception):
                raise failure
            trouble, told = self._diagnose(failure)
            backoff = min(self.backoff_cap_seconds, self.backoff_seconds * 2.0 ** min(attempt - 1, 60)) * self._random.uniform(0.5, 1.0)
            delay = backoff if told is None else told + min(backoff, 30.0)
            if waited + delay > self.max_wait_seconds:
                raise Paused(f"The API has not answered for {waited / HOURS:.1f} hours ({trouble}); the same command goes on when it does.")
            purse.note("outage", f"{trouble}; attempt {attempt}, next in {delay:.1f} s{'' if told is None else ' (as told)'}")
            self._wait(delay)
            waited += delay

    def _stream(self, request: dict[str, Any], reply: _Reply) -> None:
        """Make the call and gather the streamed answer into `reply`, as far as it comes."""
        blocks: dict[int, dict[str, Any]] = {}
        inputs: dict[int, str] = {}
        with self._client.messages.create(**request, stream=True) as stream:
            reply.opened = True
            for event in stream:
                self._check_stop()
                if event.type == "message_start":
                    reply.usage.update(_counts(event.message.usage))
                elif event.type == "content_block_start":
                    blocks[event.index] = event.content_block.to_dict()
                elif event.type == "content_block_delta":
                    block, delta = blocks[event.index], event.delta
                    if delta.type == "text_delta":
                        block["text"] += delta.text
                    elif delta.type == "thinking_delta":
                        block["thinking"] += delta.thinking
                    elif delta.type == "signature_delta":
                        block["signature"] = delta.signature
                    elif delta.type == "input_json_delta":
                        inputs[event.index] = inputs.get(event.index, "") + delta.partial_json
                elif event.type == "message_delta":
                    reply.stop_reason = event.delta.stop_reason or reply.stop_reason
                    reply.usage.update(_counts(event.usage))
                    details = event.delta.stop_details
                    if details is not None and reply.stop_reason == "refusal":
                        reply.problem = f" ({details.category or 'no category'})"
        reply.complete = bool(reply.stop_reason)
        for index, text in inputs.items():
            try:
                blocks[index]["input"] = json.loads(text or "{}")
            except (ValueError, RecursionError) as error:
                blocks[index]["input"] = error
        reply.content = [block for _, block in sorted(blocks.items()) if block["type"] != "text" or block["text"]]
        reply.problem = self._problem(reply)

    def _problem(self, reply: _Reply) -> str:
        """Why a complete reply cannot go into the conversation; "" when it can."""
        if reply.stop_reason == "refusal":
            return f"Your last reply was withheld by a safety filter{reply.problem}. The task is reinforcement learning on a simulated control problem; propose an experiment."
        if reply.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            return f"Your last reply was cut off at its limit of {self.max_tokens} tokens. Be brief: one small edit."
        if not any(block["type"] in ("text", "tool_use") for block in reply.content):
            return "Your last reply was empty. Call propose_experiment with one idea."
        for block in reply.content:
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                why = f" ({block['input']})" if isinstance(block["input"], Exception) else ""
                return f"The input of your tool call {prompt.one_line(str(block['name']), 60)} was not a JSON object{why}. Call it again."
            try:
                json.dumps(block, ensure_ascii=False).encode()
            except (UnicodeEncodeError, RecursionError):
                return "Your last reply held characters that are no Unicode text. Answer again."
        return ""

    def _price_reply(self, reply: _Reply, failure: BaseException | None, worst: float) -> tuple[float, str]:
        """(US dollars, how they were found) for one attempt."""
        if self.price is None:
            return 0.0, "no price known"
        if reply.complete:
            return usage_usd(self.price, reply.usage), "usage"
        if not reply.opened and (isinstance(failure, anthropic.APIStatusError) or _never_sent(failure)):
            return 0.0, "not billed"
        if reply.usage:  # cut: the prompt is known, the answer may have been billed to its last token
            return min(worst, usage_usd(self.price, {**reply.usage, "output_tokens": self.max_tokens})), "upper bound"
        return worst, "upper bound"

    def _diagnose(self, failure: Exception | None) -> tuple[str, float | None]:
        """(what went wrong, seconds told to wait) when waiting may help.

        Raises:
            Paused: only a person can help.
        """
        if failure is None:
            return "the answer ended before its end", None
        if isinstance(failure, anthropic.APIStatusError):
            said = prompt.one_line(failure.api_message or failure.message, 200)
            kind, code, status = failure.type or "", failure.error_code or "", failure.status_code
            if (
                status == 402
                or kind == "billing_error"
                or "spend_limit" in code
                or "billing" in code
                or "on_hold" in code
                or "credit balance" in said
            ):
                raise Paused(f"The account may not spend more ({said}); raise its limit or credit, then run the same command again.")
            if status == 401 or kind == "authentication_error":
                raise Paused(f"The API did not accept the key ({said}); check ANTHROPIC_API_KEY, then run the same command again.")
            if status == 403 or kind == "permission_error":
                raise Paused(
                    f"The key may not do this ({said}); check its permissions, or choose another --model, then run the same command again."
                )
            if status == 404 or kind == "not_found_error":
                raise Paused(
                    f"The API does not know the model {self.model} ({said}); choose another --model, then run the same command again."
                )
            if kind in ("invalid_request_error", "request_too_large") or (400 <= status < 500 and status not in (408, 409, 425, 429)):
                raise Paused(
                    f"The API refused the request ({status}: {said}); choose another --model or update autoRL, then run the same command again."
                )
            return f"the API said {status if status >= 400 else kind}: {said}", _retry_after(failure.response.headers)
        if isinstance(failure, anthropic.APIError) or _is_transport(failure):
            cause = failure.__cause__ or failure
            return f"no connection to the API ({type(cause).__name__}: {prompt.one_line(str(cause), 120)})", None
        if isinstance(failure, ValueError):
            return f"the answer was garbled ({prompt.one_line(str(failure), 120)})", None
        raise failure

    def _check_stop(self) -> None:
        if self.should_stop():
            raise Paused("Stopped while the researcher was being asked; the same command goes on.")

    def _wait(self, seconds: float) -> None:
        """Sleep, in slices, so that a stop is obeyed at once."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check_stop()
            time.sleep(min(0.2, left))


@dataclass
class _Bill:
    """What one proposal has cost so far."""

    usd: float = 0.0
    seconds: float = 0.0  # waiting for the API, outages not included
    calls: int = 0

    def add(self, usd: float, seconds: float) -> None:
        self.usd, self.seconds, self.calls = self.usd + usd, self.seconds + seconds, self.calls + 1


def read_proposal(given: dict[str, Any], history: History) -> tuple[Proposal | None, str]:
    """(proposal, "") when the tool's input is well formed, fits the incumbent and is accepted; else (None, why not)."""
    title, edits = given.get("title"), given.get("edits")
    if not isinstance(title, str) or not title.strip():
        return None, "A proposal needs a title."
    if not isinstance(edits, list) or not edits:
        return None, "A proposal needs at least one edit, as a list of {search, replace}."
    if not all(isinstance(e, dict) and isinstance(e.get("search"), str) and isinstance(e.get("replace"), str) for e in edits):
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
        return None, f"{miss}\nNothing was changed. Correct the edits and call propose_experiment again."
    if refusal := history.vet(source):
        return None, f"{refusal}\nNothing was run. Correct it, or propose another idea, and call propose_experiment again."
    return proposal, ""


def _result(use: dict[str, Any], text: str, error: bool = False) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": use["id"], "content": text, **({"is_error": True} if error else {})}


def _counts(usage: Any) -> dict[str, Any]:
    """The usage fields that are billed, without absent ones (later events carry totals, not differences)."""
    keys = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "inference_geo")
    return {key: value for key, value in usage.to_dict().items() if key in keys and value is not None}


def _retry_after(headers: Any) -> float | None:
    """Seconds of a retry-after header (a number or a date) or of retry-after-ms, None without one."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                seconds = max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
            except ValueError:
                continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None


# While an answer is read, the SDK lets the errors of its HTTP library through, and that library has had more than one
# name: so these two look at class names.
def _is_transport(error: BaseException | None) -> bool:
    return isinstance(error, OSError) or any(c.__name__ == "TransportError" for c in type(error).__mro__)


def _never_sent(error: BaseException | None) -> bool:
    """True when no connection was made, so nothing can have been billed."""
    cause = getattr(error, "__cause__", None) or error
    return isinstance(error, OSError) or type(cause).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")
