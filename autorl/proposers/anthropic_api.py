"""One call of the Messages API: money reserved, answer streamed, bill settled, outages waited out.

`Api.call(request, budget, what)` returns a whole reply, however long that takes. Each attempt is
reserved at its worst case, settled from the usage the API sent (or at an upper bound where the
stream was cut) and noted when it failed. The SDK's own retries are off, so that each attempt is
counted. Servers and proxies that speak the API more or less answer here too: no field of an answer
is taken for granted. This is the only file that talks to a language model.

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
from typing import Any

import anthropic

from autorl.errors import AutoRLError, Paused, UserError
from autorl.interfaces import Budget
from autorl.proposers.answers import Reply, full, gather, unstreamed, words
from autorl.proposers.prices import Price, price_of, usage_usd, worst_usd
from autorl.system.faults import effect
from autorl.system.text import one_line

MINUTES, HOURS = 60.0, 3600.0
MAX_STRANGE = 10  # answers in a row that are none of the API's: the page of a captive portal
OVERHEAD_TOKENS = 2_000  # what the API adds to a request with tools, from above

# What only a person can solve, by HTTP status: the API's name for it, what is wrong, what to do.
HOPELESS = {
    402: ("billing_error", "The account may not spend more", "raise its limit or credit"),
    401: (
        "authentication_error",
        "The API did not accept the key",
        "check ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN",
    ),
    403: (
        "permission_error",
        "The key may not do this",
        "check its permissions, or choose another --model",
    ),
    404: ("not_found_error", "The API does not know the model {model}", "choose another --model"),
    407: ("", "A proxy on the way asks for a login", "put it into HTTPS_PROXY"),
}
# How servers say that a request is longer than the model's context.
TOO_LONG = re.compile(
    "prompt is too long|context (length|window|size|limit)|exceeds? .*context", re.IGNORECASE
)


class ModelUnavailable(Paused):
    """This key may not use this model, or there is none of that name."""


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
        should_stop: Callable[[], bool],
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_wait_seconds: float = 24 * HOURS,
        backoff_seconds: float = 2.0,
        backoff_cap_seconds: float = 30 * MINUTES,
        read_timeout: float = 10 * MINUTES,
    ):
        self.should_stop = should_stop
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
                "set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, or choose --proposer search, "
                "which needs no key."
            ) from error

    def close(self) -> None:
        """Close the connections; a call under way in another thread fails."""
        self._client.close()

    def call(self, request: dict[str, Any], budget: Budget, what: str) -> Reply:
        """A complete reply, however long it takes."""
        model, price = request["model"], price_of(request["model"])
        # No token is shorter than a byte.
        size = len(json.dumps(request, ensure_ascii=False).encode()) + OVERHEAD_TOKENS
        worst = worst_usd(price, size, request["max_tokens"]) if price else 0.0
        total_usd = total_seconds = waited = 0.0
        strange = 0
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
            usd, settled = _price(price, reply, complete, failure, worst, request["max_tokens"])
            details = {"model": model, "seconds": round(seconds, 3), "settled": settled}
            budget.settle(ticket, usd, {**reply.usage, **details})
            total_usd, total_seconds = total_usd + usd, total_seconds + seconds
            if complete or self._too_long(failure, request, reply):
                break
            trouble, asked, passing = self._diagnose(failure, model)
            strange = 0 if passing else strange + 1
            delay = self._delay(attempt, asked)
            if waited + delay > self.max_wait_seconds:
                raise Paused(
                    f"The API has not answered for {waited / HOURS:.1f} hours ({trouble}); "
                    "run the same command again when it does."
                )
            if strange == MAX_STRANGE:
                raise Paused(
                    f"{strange} answers in a row were none of the Messages API's ({trouble}); "
                    f"look at {self._client.base_url} in a browser, or check ANTHROPIC_BASE_URL, "
                    "then run the same command again."
                )
            as_asked = "" if asked is None else " (as the API asks)"
            budget.note("outage", f"{trouble}; attempt {attempt}, next in {delay:.1f} s{as_asked}")
            self._wait(delay)
            waited += delay
        reply.usd, reply.seconds = total_usd, total_seconds
        return reply

    def _stream(self, request: dict[str, Any], reply: Reply) -> None:
        """Make the call and gather the streamed answer into `reply`, as far as it comes."""
        with self._client.messages.create(**request, stream=True) as stream:
            reply.opened = True
            gather(unstreamed(stream.response) or stream, request, reply, self._check_stop)

    def _too_long(self, failure: Any, request: dict[str, Any], reply: Reply) -> bool:
        """True when the request was refused for a conversation that can be begun anew, shorter."""
        refused = isinstance(failure, anthropic.APIStatusError) and failure.status_code < 500
        if refused and len(request["messages"]) > 1 and TOO_LONG.search(failure.message):
            reply.problem, reply.too_long = full(request), True
        return reply.too_long

    def _diagnose(
        self, failure: BaseException | None, model: str
    ) -> tuple[str, float | None, bool]:
        """(what went wrong, seconds that the API asks for, it was an answer of the API's or none at
        all) when waiting may help.

        Raises:
            Paused: only a person can help.
        """
        if failure is None:
            return "the answer ended before its end", None, False
        if isinstance(failure, anthropic.APIStatusError):
            said = words(failure.api_message or failure.message)
            _pause_if_hopeless(failure, said, model)
            status = failure.status_code if failure.status_code >= 400 else failure.type
            return f"the API said {status}: {said}", _retry_after(failure.response.headers), True
        if isinstance(failure, anthropic.APIError) or _is_transport(failure):
            cause = failure.__cause__ or failure
            why = f"{type(cause).__name__}: {one_line(str(cause), 120)}"
            # a proxy with a certificate of its own does not go away
            return f"no connection to the API ({why})", None, "certificate" not in why
        if isinstance(failure, AutoRLError) or not isinstance(failure, Exception):
            raise failure
        if isinstance(failure, ValueError):
            return f"the answer could not be read ({one_line(str(failure), 250)})", None, False
        why = f"{type(failure).__name__}: {one_line(str(failure), 120)}"
        return f"the answer had an unknown shape ({why})", None, False

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


# ---------------------------------------------------------------------------
# What an attempt costs, and what its failure means
# ---------------------------------------------------------------------------


def _price(
    price: Price | None,
    reply: Reply,
    complete: bool,
    failure: BaseException | None,
    worst: float,
    max_tokens: int,
) -> tuple[float, str]:
    """(US dollars, how they were found) for one attempt."""
    if price is None:
        return 0.0, "no price known"
    prompt_known = any(name.endswith("input_tokens") for name in reply.usage)
    if complete and prompt_known and "output_tokens" in reply.usage:
        return usage_usd(price, reply.usage), "usage"
    refused = isinstance(failure, anthropic.APIStatusError)
    if not reply.opened and (refused or _never_sent(failure)):
        return 0.0, "not billed"
    if not prompt_known:
        return worst, "upper bound"
    # The prompt is known; the answer may have been billed to its last token.
    full = {**reply.usage, "output_tokens": max_tokens}
    return min(worst, usage_usd(price, full)), "upper bound"


def _pause_if_hopeless(failure: anthropic.APIStatusError, said: str, model: str) -> None:
    """Raise Paused when only a person can help; the error within a stream has status 200."""
    kind, status = failure.type or "", failure.status_code
    no_money = re.search("spend_limit|billing|on_hold", failure.error_code or "")
    if no_money or "credit balance" in said:
        status = 402
    for hopeless, (name, wrong, remedy) in HOPELESS.items():
        if status == hopeless or (name and kind == name):
            error = ModelUnavailable if hopeless in (403, 404) else Paused
            wrong = wrong.format(model=model)
            raise error(f"{wrong} ({said}); {remedy}, then run the same command again.")
    passing = not 400 <= status < 500 or status in (408, 409, 425, 429)
    if kind in ("invalid_request_error", "request_too_large") or not passing:
        if TOO_LONG.search(said):
            raise ModelUnavailable(
                f"The history does not fit the context window of {model} ({said}); choose a "
                "--model with a larger one, or enlarge it in the server that runs the model, then "
                "run the same command again."
            )
        remedy = "choose another --model, check ANTHROPIC_BASE_URL or update autoRL"
        if "max_tokens" in said:
            remedy = "give --max-tokens what the model can"
        raise Paused(
            f"The API refused the request ({status}: {said}); {remedy}, then run the same command "
            "again."
        )


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
