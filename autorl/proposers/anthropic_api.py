"""One call of the Messages API: money reserved, answer streamed, bill settled, outages waited out.

`Api.call(request, budget, what)` returns a whole reply, however long that takes. Each attempt is
reserved at its worst case, settled from the usage the API sent (or at an upper bound where the
stream was cut) and noted when it failed. The SDK's own retries are off, so that each attempt is
counted. This is the only file that talks to a language model.

What it does not do: know what is asked or answered (claude.py), or the prices (prices.py).
"""

import contextlib
import email.utils
import functools
import itertools
import json
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic

from autorl.errors import Paused, UserError
from autorl.interfaces import Budget
from autorl.proposers.prices import price_of, usage_usd, worst_usd
from autorl.system.faults import effect
from autorl.system.text import one_line

MINUTES, HOURS = 60.0, 3600.0
MAX_TOKENS = 32_000  # of one reply, thinking included
OVERHEAD_TOKENS = 2_000  # what the API adds to a request with tools, from above

# The fields of the API's usage that are billed.
BILLED = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "cache_creation", "inference_geo",
)  # fmt: skip

# What only a person can solve, by HTTP status: the API's name for it, what is wrong, what to do.
HOPELESS = {
    402: ("billing_error", "The account may not spend more", "raise its limit or credit"),
    401: ("authentication_error", "The API did not accept the key", "check ANTHROPIC_API_KEY"),
    403: (
        "permission_error",
        "The key may not do this",
        "check its permissions, or choose another --model",
    ),
    404: ("not_found_error", "The API does not know the model {model}", "choose another --model"),
}


@dataclass
class Reply:
    """One answer of the API, whole or not, and what all attempts at it cost."""

    content: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    opened: bool = False  # the API began to answer, so it may bill
    problem: str = ""  # why it cannot go into the conversation; its content is empty then
    usd: float = 0.0
    seconds: float = 0.0  # waiting for the API, outages not included


class Api:
    """A client of the API with patience.

    Args:
        should_stop: asked often during waits and between the parts of an answer.
        api_key, base_url: None = as the SDK finds them in the environment.
        max_wait_seconds: how long one outage may last before the session is paused.
        backoff_seconds, backoff_cap_seconds: first and longest wait (before jitter).
        read_timeout: seconds of silence after which a connection counts as cut; the API pings
            while it thinks.

    Raises:
        UserError: no key is to be found.
    """

    def __init__(
        self,
        model: str,
        should_stop: Callable[[], bool],
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_wait_seconds: float = 24 * HOURS,
        backoff_seconds: float = 2.0,
        backoff_cap_seconds: float = 30 * MINUTES,
        read_timeout: float = 10 * MINUTES,
    ):
        self.model, self.should_stop = model, should_stop
        self.price = price_of(model)
        self.max_wait_seconds = max_wait_seconds
        self.backoff_seconds, self.backoff_cap_seconds = backoff_seconds, backoff_cap_seconds
        timeout = anthropic.Timeout(read_timeout, connect=min(30.0, read_timeout))
        try:
            self._client = client = anthropic.Anthropic(
                api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout
            )
            if not (client.api_key or client.auth_token or getattr(client, "credentials", None)):
                raise anthropic.AnthropicError("there is no key")
        except anthropic.AnthropicError as error:
            raise UserError(
                f"The Anthropic client cannot start ({error}): "
                "set ANTHROPIC_API_KEY, or choose --proposer search, which needs no key."
            ) from error

    def close(self) -> None:
        """Close the connections; a call under way in another thread fails."""
        self._client.close()

    def call(self, request: dict[str, Any], budget: Budget, what: str) -> Reply:
        """A complete reply, however long it takes."""
        # No token is shorter than a byte.
        size = len(json.dumps(request, ensure_ascii=False).encode()) + OVERHEAD_TOKENS
        worst = worst_usd(self.price, size, MAX_TOKENS) if self.price else 0.0
        total_usd = total_seconds = waited = 0.0
        for attempt in itertools.count(1):
            self._check_stop()
            ticket = budget.reserve(worst, what)
            reply, started = Reply(), time.monotonic()
            failure: BaseException | None = None
            try:
                effect("API call", functools.partial(self._stream, request, reply))
            except BaseException as error:
                failure = error
            seconds = time.monotonic() - started
            complete = failure is None and bool(reply.stop_reason)
            usd, settled = self._price(reply, complete, failure, worst)
            details = {"model": self.model, "seconds": round(seconds, 3), "settled": settled}
            budget.settle(ticket, usd, {**reply.usage, **details})
            total_usd, total_seconds = total_usd + usd, total_seconds + seconds
            if complete:
                break
            trouble, asked = self._diagnose(failure)
            delay = self._delay(attempt, asked)
            if waited + delay > self.max_wait_seconds:
                raise Paused(
                    f"The API has not answered for {waited / HOURS:.1f} hours ({trouble}); "
                    "run the same command again when it does."
                )
            as_asked = "" if asked is None else " (as the API asks)"
            budget.note("outage", f"{trouble}; attempt {attempt}, next in {delay:.1f} s{as_asked}")
            self._wait(delay)
            waited += delay
        reply.usd, reply.seconds = total_usd, total_seconds
        return reply

    def _stream(self, request: dict[str, Any], reply: Reply) -> None:
        """Make the call and gather the streamed answer into `reply`, as far as it comes."""
        blocks: dict[int, dict[str, Any]] = {}
        category = None
        with self._client.messages.create(**request, stream=True) as stream:
            reply.opened = True
            for event in stream:
                self._check_stop()
                if event.type == "message_start":
                    reply.usage.update(_billed(event.message.usage))
                elif event.type == "content_block_start":
                    blocks[event.index] = event.content_block.to_dict()
                elif event.type == "content_block_delta":
                    block = blocks[event.index]  # whose field of the same name a part continues
                    for name, part in event.delta.to_dict().items():
                        if name != "type" and isinstance(part, str):
                            block[name] = block.get(name, "") + part
                elif event.type == "message_delta":
                    reply.stop_reason = event.delta.stop_reason or reply.stop_reason
                    reply.usage.update(_billed(event.usage))
                    if event.delta.stop_details is not None:
                        category = event.delta.stop_details.category
        for _, block in sorted(blocks.items()):
            if "partial_json" in block:
                try:
                    block["input"] = json.loads(block.pop("partial_json") or "{}")
                except (ValueError, RecursionError) as error:
                    block["input"] = error
            if block["type"] != "text" or block["text"]:
                reply.content.append(block)
        reply.problem = self._problem(reply, category)
        if reply.problem:
            reply.content = []

    def _problem(self, reply: Reply, category: str | None) -> str:
        """Why a complete reply cannot go into the conversation; "" when it can."""
        if reply.stop_reason == "refusal":
            return (
                f"Your last reply was withheld by a safety filter ({category or 'no category'}). "
                "The task is reinforcement learning on a simulated control problem; "
                "propose an experiment."
            )
        if reply.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            return (
                f"Your last reply was cut off at its limit of {MAX_TOKENS} tokens. "
                "Be brief: one small edit."
            )
        if not any(block["type"] in ("text", "tool_use") for block in reply.content):
            return "Your last reply was empty. Call propose_experiment with one idea."
        for block in reply.content:
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                why = f" ({block['input']})" if isinstance(block["input"], Exception) else ""
                what = f"The input of your tool call {one_line(block['name'], 60)}"
                return f"{what} was not a JSON object{why}. Call it again."
            try:
                json.dumps(block, ensure_ascii=False).encode()
            except (UnicodeEncodeError, RecursionError):
                return "Your last reply held characters that are no Unicode text. Answer again."
        return ""

    def _price(
        self, reply: Reply, complete: bool, failure: BaseException | None, worst: float
    ) -> tuple[float, str]:
        """(US dollars, how they were found) for one attempt."""
        if self.price is None:
            return 0.0, "no price known"
        if complete:
            return usage_usd(self.price, reply.usage), "usage"
        refused = isinstance(failure, anthropic.APIStatusError)
        if not reply.opened and (refused or _never_sent(failure)):
            return 0.0, "not billed"
        if not reply.usage:
            return worst, "upper bound"
        # The prompt is known; the answer may have been billed to its last token.
        full = {**reply.usage, "output_tokens": MAX_TOKENS}
        return min(worst, usage_usd(self.price, full)), "upper bound"

    def _diagnose(self, failure: BaseException | None) -> tuple[str, float | None]:
        """(what went wrong, seconds that the API asks for) when waiting may help.

        Raises:
            Paused: only a person can help.
        """
        if failure is None:
            return "the answer ended before its end", None
        if isinstance(failure, anthropic.APIStatusError):
            said = one_line(failure.api_message or failure.message, 200)
            self._pause_if_hopeless(failure, said)
            status = failure.status_code if failure.status_code >= 400 else failure.type
            return f"the API said {status}: {said}", _retry_after(failure.response.headers)
        if isinstance(failure, anthropic.APIError) or _is_transport(failure):
            cause = failure.__cause__ or failure
            why = f"{type(cause).__name__}: {one_line(str(cause), 120)}"
            return f"no connection to the API ({why})", None
        if isinstance(failure, ValueError):
            return f"the answer was garbled ({one_line(str(failure), 120)})", None
        raise failure

    def _pause_if_hopeless(self, failure: anthropic.APIStatusError, said: str) -> None:
        """Raise Paused when only a person can help; the error within a stream has status 200."""
        kind, status = failure.type or "", failure.status_code
        if re.search("spend_limit|billing|on_hold", failure.error_code or ""):
            status = 402
        if "credit balance" in said:
            status = 402
        for hopeless, (name, wrong, remedy) in HOPELESS.items():
            if status == hopeless or kind == name:
                wrong = wrong.format(model=self.model)
                raise Paused(f"{wrong} ({said}); {remedy}, then run the same command again.")
        passing = not 400 <= status < 500 or status in (408, 409, 425, 429)
        if kind in ("invalid_request_error", "request_too_large") or not passing:
            raise Paused(
                f"The API refused the request ({status}: {said}); "
                "choose another --model or update autoRL, then run the same command again."
            )

    def _delay(self, attempt: int, asked: float | None) -> float:
        """Seconds until the next attempt: exponential backoff, or what the API asks for.

        With jitter, so that many clients do not come back at once; never sooner than asked.
        """
        growth = 2.0 ** min(attempt - 1, 60)
        if asked is None:
            longest = min(self.backoff_cap_seconds, self.backoff_seconds * growth)
            return longest * random.uniform(0.5, 1.0)
        return asked + min(30.0, 0.1 * asked + 0.05 * growth) * random.random()

    def _check_stop(self) -> None:
        if self.should_stop():
            raise Paused("Stopped while the researcher was being asked; the same command resumes.")

    def _wait(self, seconds: float) -> None:
        """Sleep, in slices, so that a stop is obeyed at once."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check_stop()
            time.sleep(min(0.2, left))


def _billed(usage: Any) -> dict[str, Any]:
    """The usage fields that are billed, where present (later events carry totals)."""
    return {k: v for k, v in usage.to_dict().items() if k in BILLED and v is not None}


def _retry_after(headers: Any) -> float | None:
    """Seconds of retry-after-ms or retry-after (a number or a date), None without either."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "")
        with contextlib.suppress(ValueError):
            if value.endswith("GMT"):
                date = email.utils.parsedate_to_datetime(value)
                return max(0.0, date.timestamp() - time.time())
            if 0 <= (seconds := float(value) * scale) < math.inf:
                return seconds
    return None


# While an answer is read, the SDK lets the errors of its HTTP library through, and that library has
# had more than one name: so these two look at class names.
def _is_transport(error: BaseException) -> bool:
    names = {c.__name__ for c in type(error).__mro__}
    return isinstance(error, OSError) or "TransportError" in names


def _never_sent(error: BaseException | None) -> bool:
    """True when no connection was made, so nothing can have been billed."""
    name = type(getattr(error, "__cause__", None) or error).__name__
    return isinstance(error, OSError) or name in ("ConnectError", "ConnectTimeout", "PoolTimeout")
