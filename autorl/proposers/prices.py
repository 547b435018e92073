"""List prices of the models the researcher may call, and what a call costs.

Pure: usage in, US dollars out. The one place to update when prices change. A model that is not here
works, but has no price: limits in dollars are refused for it. What this file does not do: know
discounts (batch, committed spend), or ask anybody for prices.

Source: https://platform.claude.com/docs/en/about-claude/pricing; but Fable 5.2 from resellers'
lists, and Mythos 5.2 taken to cost the same: check them before you rely on --max-usd there.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PRICES_AS_OF = "2026-11"  # the month the table was read

# Inference pinned to one region costs this multiple; the usage says when it was.
REGION_MULTIPLIER = 1.1


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cache_write_5m: float
    cache_write_1h: float
    cache_read: float
    long_prompt: float = math.inf  # tokens, cache included, above which long_multiplier holds
    long_multiplier: float = 1.0


PRICES: dict[str, Price] = {
    #                              input  output  write 5m  write 1h  read
    "claude-fable-5-2": Price(8.00, 40.00, 10.00, 16.00, 0.20),
    "claude-fable-5-1": Price(10.00, 50.00, 12.50, 20.00, 0.25),
    "claude-fable-5": Price(10.00, 50.00, 12.50, 20.00, 1.00),
    "claude-mythos-5-2": Price(8.00, 40.00, 10.00, 16.00, 0.20),
    "claude-mythos-5-1": Price(10.00, 50.00, 12.50, 20.00, 0.25),
    "claude-mythos-5": Price(10.00, 50.00, 12.50, 20.00, 1.00),
    "claude-mythos-preview": Price(25.00, 125.00, 31.25, 50.00, 2.50),
    "claude-opus-5-5": Price(4.00, 20.00, 5.00, 8.00, 0.20),
    "claude-opus-5": Price(5.00, 25.00, 6.25, 10.00, 0.50),
    "claude-opus-4-8": Price(5.00, 25.00, 6.25, 10.00, 0.50),
    "claude-opus-4-7": Price(5.00, 25.00, 6.25, 10.00, 0.50),
    "claude-opus-4-6": Price(5.00, 25.00, 6.25, 10.00, 0.50),
    "claude-opus-4-5": Price(5.00, 25.00, 6.25, 10.00, 0.50),
    "claude-sonnet-5-5": Price(2.00, 10.00, 2.50, 4.00, 0.10),
    "claude-sonnet-5": Price(2.00, 10.00, 2.50, 4.00, 0.20),
    "claude-sonnet-4-6": Price(3.00, 15.00, 3.75, 6.00, 0.30),
    "claude-sonnet-4-5": Price(3.00, 15.00, 3.75, 6.00, 0.30),
    "claude-haiku-5-5": Price(0.10, 0.50, 0.125, 0.20, 0.01, 100_000, long_multiplier=5.0),
    "claude-haiku-4-5": Price(1.00, 5.00, 1.25, 2.00, 0.10),
}


def price_of(model: str) -> Price | None:
    """The price of a model id; without its date (-20251001). None = not in the table."""
    return PRICES.get(re.sub(r"-\d{8}$", "", model))


def worst_usd(price: Price, prompt_tokens: int, max_tokens: int) -> float:
    """The most a call can cost: all of the prompt is written to the one-hour cache, in a region."""
    usage = {"cache_creation_input_tokens": prompt_tokens, "output_tokens": max_tokens}
    return usage_usd(price, {**usage, "inference_geo": "pinned"})


def usage_usd(price: Price, usage: Mapping[str, Any]) -> float:
    """What a call cost, from the usage the API sent.

    Args:
        usage: `input_tokens` (neither read from nor written to the cache), `output_tokens`,
            `cache_read_input_tokens`, `cache_creation_input_tokens` and its split `cache_creation`;
            absent ones count as 0. Cache writes that the split does not account for are billed at
            the dearer one-hour price.
    """
    counts = {**usage, **(usage.get("cache_creation") or {})}

    def tokens(kind: str) -> int:
        return int(counts.get(kind) or 0)

    fresh, read = tokens("input_tokens"), tokens("cache_read_input_tokens")
    short, long = tokens("ephemeral_5m_input_tokens"), tokens("ephemeral_1h_input_tokens")
    long = max(long, tokens("cache_creation_input_tokens") - short)
    usd = (
        fresh * price.input
        + tokens("output_tokens") * price.output
        + read * price.cache_read
        + short * price.cache_write_5m
        + long * price.cache_write_1h
    ) / 1e6
    if usage.get("inference_geo") not in (None, "", "global", "not_available"):
        usd *= REGION_MULTIPLIER
    if fresh + read + short + long > price.long_prompt:
        usd *= price.long_multiplier
    return usd
