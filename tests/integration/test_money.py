"""What the Claude researcher costs: every call priced, bounded before it is made, within limits."""

import itertools
import random

import pytest
from api_server import ApiServer, Drop, Status, propose
from researching import GOOD, TRAIN, UNUSABLE, Spending, hand_price, history

from autorl.errors import Paused, ProposerError
from autorl.proposers.claude import DEFAULT_MODEL
from autorl.proposers.prices import PRICES, price_of, usage_usd, worst_usd

CUT = propose("cut", "a", "b", cut_after=5)


def test_the_price_of_a_call_by_hand():
    usage = {"input_tokens": 1000, "output_tokens": 2000}
    usage |= {"cache_read_input_tokens": 10_000, "cache_creation_input_tokens": 3000}
    opus, haiku = PRICES["claude-opus-5-5"], PRICES["claude-haiku-5-5"]
    split = {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000}
    by_hand = pytest.approx(0.004 + 0.040 + 0.002 + 0.005 + 0.016)
    assert usage_usd(opus, {**usage, "cache_creation": split}) == by_hand
    # no split: all at the one-hour price
    assert usage_usd(opus, usage) == pytest.approx(0.004 + 0.040 + 0.002 + 0.024)
    assert usage_usd(opus, {**usage, "inference_geo": "us"}) == pytest.approx(1.1 * 0.070)
    for tokens, usd in (100_000, 0.0100 + 0.0005), (100_001, 0.0500005 + 0.0025):
        usage = {"input_tokens": tokens, "output_tokens": 1000}
        assert usage_usd(haiku, usage) == pytest.approx(usd)


def test_no_usage_costs_more_than_the_worst_case():
    draw = random.Random(7)
    for price, _ in itertools.product(PRICES.values(), range(100)):
        prompt_tokens, out = draw.randrange(1, 300_000), draw.randrange(0, 32_000)
        cuts = sorted(draw.randrange(0, prompt_tokens + 1) for _ in range(3))
        cuts = [0, *cuts, prompt_tokens]
        fresh, read, short, long = (b - a for a, b in itertools.pairwise(cuts))
        split = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
        usage = {"input_tokens": fresh, "output_tokens": out, "cache_read_input_tokens": read}
        usage |= {"cache_creation_input_tokens": short + long, "cache_creation": split}
        most = worst_usd(price, prompt_tokens, 32_000)
        assert usage_usd(price, {**usage, "inference_geo": "us"}) <= most


def test_the_default_model_has_a_price_and_dates_do_not_matter():
    assert price_of(DEFAULT_MODEL) is PRICES[DEFAULT_MODEL]
    assert price_of("claude-haiku-4-5-20251001") is PRICES["claude-haiku-4-5"]
    assert price_of("claude-opus-99") is None and price_of("") is None


def test_a_model_without_a_price_works_and_says_so(server, spending, claude):
    server.add(GOOD)
    researcher = claude(server, model="house-model-1")
    assert researcher.unpriced == ["house-model-1"]
    assert researcher.propose(history(), spending.budget).title == "lr x3"
    assert spending.settled[0].usage["settled"] == "no price known"
    assert "thinking" not in server.exchanges[0].body


def test_spend_is_the_usage_where_it_arrived_and_a_bound_where_it_was_cut(server, spending, claude):
    server.add(GOOD, Status(529, "overloaded_error"), CUT, GOOD, UNUSABLE["text only"], GOOD)
    researcher = claude(server)
    for _ in range(3):
        researcher.propose(history(), spending.budget)
    whole = sum(hand_price(e.usage) for e in server.exchanges if e.whole)
    cut = next(e.usage for e in server.exchanges if e.usage and not e.whole)
    lost = next(e.usd for e in spending.settled if e.usage["settled"] == "upper bound")
    assert spending.state.spent() == pytest.approx(whole + lost)
    most = max(e.usd for e in spending.money if e.op == "reserve")
    assert hand_price({**cut, "output_tokens": 32_000}) <= lost <= most


def test_a_cut_after_the_usage_was_told_is_bounded_by_that_prompt_and_a_full_answer(
    server, spending, claude
):
    server.add(propose("cut", "a", "b", error_after=3), GOOD)
    claude(server).propose(history(), spending.budget)
    most = hand_price({**server.exchanges[0].usage, "output_tokens": 32_000})
    assert spending.settled[0].usd == pytest.approx(most)


def test_a_limit_is_refused_before_the_call_and_never_exceeded(tmp_path, claude):
    for serial, limit in enumerate((0.01, 0.5, 0.9, 1.2, 2.5)):
        spending, draw = Spending(tmp_path / str(serial), max_usd=limit), random.Random(serial)
        faults = [GOOD, GOOD, UNUSABLE["text only"], CUT, Drop(), Status(500)]
        with ApiServer(
            default=lambda body, draw=draw, faults=faults: draw.choice(faults)
        ) as server:
            researcher = claude(server)
            with pytest.raises(Paused, match="--max-usd"):
                for _ in range(1000):
                    try:
                        researcher.propose(history(), spending.budget)
                    except ProposerError:
                        continue
            billed = sum(hand_price(e.usage) for e in server.exchanges if e.usage)
        assert billed <= spending.state.spent() <= limit
        assert len(server.exchanges) > 0 or limit < worst_usd(PRICES[DEFAULT_MODEL], 20_000, 32_000)
        spending.close()


def test_a_reservation_covers_every_byte_of_the_request(server, spending, claude):
    server.add(GOOD)
    long = history(60, train_source=TRAIN + "# ünïcödé 漢字\n" * 200)
    claude(server).propose(long, spending.budget)
    reserved = next(e.usd for e in spending.money if e.op == "reserve")
    assert reserved >= (8.0 * len(server.exchanges[0].raw) + 20.0 * 32_000) / 1e6
