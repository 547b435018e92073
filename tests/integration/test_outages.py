"""The Claude researcher when the API fails: it waits, or pauses where only a person can help."""

import itertools
import random
import re
import socket
import threading
import time

import pytest
from api_server import KEY, Drop, Message, Status, propose
from researching import GOOD, hand_price, history

from autorl.errors import Paused

SPENT = "enforced_spend_limit_reached"
PASSING = {
    "429": Status(429, "rate_limit_error", headers={"retry-after": "0.05"}),
    "ramp limit": Status(429, "rate_limit_error", error_code="ramp_limit_exceeded"),
    "500": Status(500),
    "502 that is no JSON": Status(502, "", headers={"content-type": "text/html"}),
    "529": Status(529, "overloaded_error"),
    "408": Status(408, "timeout_error"),
    "no answer": Drop(),
    "cut at once": propose("cut", "a", "b", cut_after=0),
    "cut after the usage": propose("cut", "a", "b", cut_after=1),
    "cut within the proposal": propose("cut", "a", "b", cut_after=9),
    "overloaded within the stream": propose("cut", "a", "b", error_after=3),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_an_outage_is_waited_out_and_settled(fault, server, spending, claude):
    server.add(fault, fault, fault, GOOD)
    assert claude(server).propose(history(), spending.budget).title == "lr x3"
    assert len(server.exchanges) == 4
    assert [n.startswith("outage: ") for n in spending.notes] == [True] * 3
    *lost, last = spending.settled
    streamed = isinstance(fault, Message | Drop)
    assert {e.usage["settled"] for e in lost} == {"upper bound" if streamed else "not billed"}
    assert all((e.usd > 0) == streamed for e in lost) and last.usage["settled"] == "usage"
    for event, exchange in zip(lost, server.exchanges, strict=False):
        if exchange.usage is not None:
            assert event.usd >= hand_price(exchange.usage)  # never below what may have been billed


def test_fifty_refusals_in_a_row_cost_nothing_and_no_experiment(server, spending, claude):
    server.add(*[Status(529, "overloaded_error")] * 50, GOOD)
    researcher = claude(server, backoff_seconds=0.001, backoff_cap_seconds=0.002)
    assert researcher.propose(history(), spending.budget).title == "lr x3"
    assert len(server.exchanges) == 51
    assert spending.state.spent() == pytest.approx(hand_price(server.exchanges[-1].usage))


def test_the_wait_asked_for_is_kept(server, spending, claude):
    server.add(
        Status(429, "rate_limit_error", headers={"retry-after": "0.6"}),
        Status(529, "overloaded_error", headers={"retry-after-ms": "400"}),
        GOOD,
    )
    claude(server).propose(history(), spending.budget)
    first, second, third = (e.at for e in server.exchanges)
    assert second - first >= 0.6 and third - second >= 0.4
    waits = [float(re.search(r"next in ([\d.]+) s", note)[1]) for note in spending.notes]
    assert 0.6 <= waits[0] <= 0.8 and 0.4 <= waits[1] <= 0.6


def test_the_backoff_grows_and_is_capped(server, spending, claude):
    random.seed(0)  # of the jitter
    server.add(*[Status(500)] * 8, GOOD)
    researcher = claude(server, backoff_seconds=0.02, backoff_cap_seconds=0.2)
    researcher.propose(history(), spending.budget)
    waits = [float(re.search(r"next in ([\d.]+) s", note)[1]) for note in spending.notes]
    gaps = [b.at - a.at for a, b in itertools.pairwise(server.exchanges)]
    due = [min(0.2, 0.02 * 2**k) for k in range(8)]
    for wait, gap, whole in zip(waits, gaps, due, strict=True):
        assert 0.5 * whole - 0.05 <= wait <= whole + 0.05 and gap >= 0.5 * whole
    assert sum(gaps) >= 0.7


def test_nobody_listening_is_an_outage_that_costs_nothing(spending, claude):
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
    researcher = claude(None, base_url=f"http://127.0.0.1:{port}", max_wait_seconds=0.2)
    with pytest.raises(Paused, match="has not answered"):
        researcher.propose(history(), spending.budget)
    assert spending.state.spent() == 0 and len(spending.settled) >= 3


def test_an_unknown_host_is_an_outage_that_costs_nothing(spending, claude):
    researcher = claude(None, base_url="http://no-such-host.invalid", max_wait_seconds=0.05)
    with pytest.raises(Paused, match="has not answered"):
        researcher.propose(history(), spending.budget)
    assert spending.state.spent() == 0


def test_silence_counts_as_a_cut(server, spending, claude):
    server.add(propose("slow", "a", "b", pause_seconds=8.0), GOOD)
    assert claude(server, read_timeout=3.0).propose(history(), spending.budget).title == "lr x3"
    assert [e.usage["settled"] for e in spending.settled] == ["upper bound", "usage"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Status(401, "authentication_error", "invalid x-api-key"), "ANTHROPIC_API_KEY"),
        (Status(403, "permission_error", "not allowed"), "permissions"),
        (Status(402, "billing_error", "no credit"), "credit"),
        (Status(429, "rate_limit_error", "limit", error_code=SPENT), "may not spend"),
        (Status(400, "invalid_request_error", "Your credit balance is too low"), "may not spend"),
        (Status(404, "not_found_error", "model: nope"), "--model"),
        (Status(400, "invalid_request_error", "thinking is odd"), "thinking is odd"),
        (Status(413, "request_too_large", "too large"), "413"),
    ],
)
def test_what_only_a_person_can_fix_pauses_at_once(fault, says, server, spending, claude):
    server.add(fault, GOOD)
    with pytest.raises(Paused) as pause:
        claude(server).propose(history(), spending.budget)
    assert says in str(pause.value) and "\n" not in str(pause.value) and KEY not in str(pause.value)
    assert len(server.exchanges) == 1 and spending.state.spent() == 0


def test_a_stop_ends_a_long_wait_at_once(server, spending, claude):
    stop, asked = threading.Event(), []

    def busy(body):  # the stop comes once it was asked, however late that is
        asked.append(time.monotonic())
        threading.Timer(0.3, stop.set).start()
        return Status(429, "rate_limit_error", headers={"retry-after": "600"})

    server.add(busy, GOOD)
    with pytest.raises(Paused, match="Stopped"):
        claude(server).propose(history(stopped=stop.is_set), spending.budget)
    assert time.monotonic() - asked[0] < 3 and len(server.exchanges) == 1  # of 600 s


def test_a_stop_within_a_stream_is_obeyed_and_billed_from_above(server, spending, claude):
    stop = threading.Event()

    def slow(body):  # the stop comes within the stream, however late that begins
        threading.Timer(0.4, stop.set).start()
        return propose("slow", "a", "b" * 4000, event_seconds=0.05)

    server.add(slow)
    with pytest.raises(Paused, match="Stopped"):
        claude(server).propose(history(stopped=stop.is_set), spending.budget)
    settled = spending.settled[0]
    assert settled.usage["settled"] == "upper bound"
    assert settled.usd >= hand_price(server.exchanges[0].usage)
