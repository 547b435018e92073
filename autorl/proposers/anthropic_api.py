"""One call of the Messages API: money reserved, answer streamed, bill settled, outages waited out.

`Api.call(request, purse, bill, what)` returns a whole reply, however long that takes. Each attempt is reserved at its
worst case, settled from the usage the API sent (or at an upper bound where the stream was cut) and noted when it failed.
The SDK's own retries are off, so that each attempt is counted. This is the only file that talks to a language model.

What it does not do: know what is asked or answered (claude.py), or the prices (prices.py).
"""

import email.utils
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic

from autorl.errors import Paused, UserError
from autorl.interfaces import Purse
from autorl.proposers import prompt
from autorl.proposers.prices import price_of, usage_usd, worst_usd
from autorl.system.faults import effect

MINUTES, HOURS = 60.0, 3600.0
OVERHEAD_TOKENS = 2_000  # what the API adds to a request with tools, from above


@dataclass
class Reply:
    """One answer of the API, whole or not."""

    content: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    opened: bool = False  # the API began to answer, so it may bill
    complete: bool = False
    problem: str = ""  # why it cannot be used as it is


@dataclass
class Bill:
    """What one conversation has cost so far."""

    usd: float = 0.0
    seconds: float = 0.0  # waiting for the API, outages not included
    calls: int = 0

    def add(self, usd: float, seconds: float) -> None:
        self.usd, self.seconds, self.calls = self.usd + usd, self.seconds + seconds, self.calls + 1


class Api:
    """A client of the API with patience.

    Args:
        max_tokens: of one reply, thinking included.
        api_key, base_url: None = as the SDK finds them in the environment.
        max_wait_seconds: how long one outage may last before the session is paused.
        backoff_seconds, backoff_cap_seconds: first and longest wait of the exponential backoff (before jitter).
        read_timeout: seconds of silence on a connection after which it counts as cut; the API pings while it thinks.
        should_stop: asked several times a second during waits and between the parts of an answer.

    Raises:
        UserError: no key is to be found.
    """

    def __init__(
        self,
        model: str,
        max_tokens: int,
        should_stop: Callable[[], bool],
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_wait_seconds: float = 24 * HOURS,
        backoff_seconds: float = 2.0,
        backoff_cap_seconds: float = 30 * MINUTES,
        read_timeout: float = 10 * MINUTES,
    ):
        self.model, self.max_tokens, self.price, self.should_stop = (
            model,
            max_tokens,
            price_of(model),
            should_stop,
        )
        self.max_wait_seconds, self.backoff_seconds, self.backoff_cap_seconds = (
            max_wait_seconds,
            backoff_seconds,
            backoff_cap_seconds,
        )
        try:
            timeout = anthropic.Timeout(read_timeout, connect=min(30.0, read_timeout))
            self._client = anthropic.Anthropic(
                api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout
            )
        except anthropic.AnthropicError as error:
            raise UserError(
                f"The Anthropic client cannot start ({error}); set ANTHROPIC_API_KEY or choose --proposer search."
            ) from error
        if not (
            self._client.api_key
            or self._client.auth_token
            or getattr(self._client, "credentials", None)
        ):
            raise UserError(
                "The claude proposer needs a key: set ANTHROPIC_API_KEY, or choose --proposer search, which needs none."
            )
        self._random = random.Random()

    def close(self) -> None:
        """Close the connections; a call under way in another thread fails."""
        self._client.close()

    def call(self, request: dict[str, Any], purse: Purse, bill: Bill, what: str) -> Reply:
        """A complete reply, however long it takes. Each attempt is reserved, settled and noted by itself."""
        size = (
            len(json.dumps(request, ensure_ascii=False).encode()) + OVERHEAD_TOKENS
        )  # no token is shorter than a byte
        worst = worst_usd(self.price, size, self.max_tokens) if self.price else 0.0
        waited, attempt = 0.0, 0
        while True:
            self._check_stop()
            attempt += 1
            ticket = purse.reserve(worst, what)
            reply, started = Reply(), time.monotonic()
            failure: BaseException | None = None
            try:
                effect("API call", lambda reply=reply: self._stream(request, reply))  # type: ignore[misc]
            except BaseException as error:
                failure = error
            seconds = time.monotonic() - started
            usd, how = self._price_reply(reply, failure, worst)
            purse.settle(
                ticket,
                usd,
                {**reply.usage, "model": self.model, "seconds": round(seconds, 3), "settled": how},
            )
            bill.add(usd, seconds)
            if failure is None and reply.complete:
                return reply
            if failure is not None and not isinstance(failure, Exception):
                raise failure
            trouble, told = self._diagnose(failure)
            if told is None:
                delay = min(
                    self.backoff_cap_seconds, self.backoff_seconds * 2.0 ** min(attempt - 1, 60)
                ) * self._random.uniform(0.5, 1.0)
            else:  # never sooner than told; a little later each time, so that many clients do not come back at once
                delay = told + min(
                    30.0, 0.1 * told + 0.05 * 2.0 ** min(attempt - 1, 60)
                ) * self._random.uniform(0.0, 1.0)
            if waited + delay > self.max_wait_seconds:
                raise Paused(
                    f"The API has not answered for {waited / HOURS:.1f} hours ({trouble}); the same command goes on when it does."
                )
            purse.note(
                "outage",
                f"{trouble}; attempt {attempt}, next in {delay:.1f} s{'' if told is None else ' (as told)'}",
            )
            self._wait(delay)
            waited += delay

    def _stream(self, request: dict[str, Any], reply: Reply) -> None:
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
        reply.content = [
            block for _, block in sorted(blocks.items()) if block["type"] != "text" or block["text"]
        ]
        reply.problem = self._problem(reply)

    def _problem(self, reply: Reply) -> str:
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

    def _price_reply(
        self, reply: Reply, failure: BaseException | None, worst: float
    ) -> tuple[float, str]:
        """(US dollars, how they were found) for one attempt."""
        if self.price is None:
            return 0.0, "no price known"
        if reply.complete:
            return usage_usd(self.price, reply.usage), "usage"
        if not reply.opened and (
            isinstance(failure, anthropic.APIStatusError) or _never_sent(failure)
        ):
            return 0.0, "not billed"
        if (
            reply.usage
        ):  # cut: the prompt is known, the answer may have been billed to its last token
            return min(
                worst, usage_usd(self.price, {**reply.usage, "output_tokens": self.max_tokens})
            ), "upper bound"
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
                raise Paused(
                    f"The account may not spend more ({said}); raise its limit or credit, then run the same command again."
                )
            if status == 401 or kind == "authentication_error":
                raise Paused(
                    f"The API did not accept the key ({said}); check ANTHROPIC_API_KEY, then run the same command again."
                )
            if status == 403 or kind == "permission_error":
                raise Paused(
                    f"The key may not do this ({said}); check its permissions, or choose another --model, then run the same command again."
                )
            if status == 404 or kind == "not_found_error":
                raise Paused(
                    f"The API does not know the model {self.model} ({said}); choose another --model, then run the same command again."
                )
            if kind in ("invalid_request_error", "request_too_large") or (
                400 <= status < 500 and status not in (408, 409, 425, 429)
            ):
                raise Paused(
                    f"The API refused the request ({status}: {said}); choose another --model or update autoRL, then run the same command again."
                )
            return f"the API said {status if status >= 400 else kind}: {said}", _retry_after(
                failure.response.headers
            )
        if isinstance(failure, anthropic.APIError) or _is_transport(failure):
            cause = failure.__cause__ or failure
            return (
                f"no connection to the API ({type(cause).__name__}: {prompt.one_line(str(cause), 120)})",
                None,
            )
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


def _counts(usage: Any) -> dict[str, Any]:
    """The usage fields that are billed, without absent ones (later events carry totals, not differences)."""
    keys = (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "inference_geo",
    )
    return {
        key: value for key, value in usage.to_dict().items() if key in keys and value is not None
    }


def _retry_after(headers: Any) -> float | None:
    """Seconds of a retry-after header (a number or a date) or of retry-after-ms, None without one."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                seconds = max(
                    0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()
                )
            except ValueError:
                continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None


# While an answer is read, the SDK lets the errors of its HTTP library through, and that library has had more than one
# name: so these two look at class names.
def _is_transport(error: BaseException | None) -> bool:
    return isinstance(error, OSError) or any(
        c.__name__ == "TransportError" for c in type(error).__mro__
    )


def _never_sent(error: BaseException | None) -> bool:
    """True when no connection was made, so nothing can have been billed."""
    cause = getattr(error, "__cause__", None) or error
    return isinstance(error, OSError) or type(cause).__name__ in (
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
    )
