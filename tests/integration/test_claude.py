"""The Claude researcher: real SDK, real HTTP, the scripted server; money in a real journal."""

import pytest
from api_server import KEY, ApiServer, Message, propose, thinking, tool
from researching import GOOD, TRAIN, UNUSABLE, hand_price, history

from autorl.errors import ProposerError
from autorl.proposers.claude import MAX_MISSES
from autorl.source.edits import apply_edits

# -- one proposal ----------------------------------------------------------------------------------


def test_a_proposal_comes_back_whole_and_fits_the_incumbent(server, spending, claude):
    server.add(GOOD)
    proposal = claude(server).propose(history(), spending.budget)
    said = (proposal.title, proposal.hypothesis, proposal.proposer)
    assert said == ("lr x3", "approx_kl is tiny", "claude")
    assert "LEARNING_RATE = 1e-3" in apply_edits(TRAIN, proposal.edits)
    assert proposal.cost_usd == pytest.approx(spending.state.spent())
    assert proposal.cost_usd > 0 and proposal.seconds > 0


def test_a_request_streams_forces_no_tool_and_carries_the_key_nowhere_but_in_its_header(
    server, spending, claude
):
    server.add(GOOD)
    claude(server).propose(history(), spending.budget)
    sent = server.exchanges[0]
    # current models refuse forced tool use
    assert sent.body["stream"] is True and sent.body["tool_choice"]["type"] == "auto"
    assert not {"temperature", "top_p", "top_k"} & sent.body.keys()  # and sampling settings
    assert sent.headers["x-stainless-retry-count"] == "0" and KEY.encode() not in sent.raw
    offered = ["list_experiments", "read_experiment", "read_train_py", "propose_experiment"]
    assert [t["name"] for t in sent.body["tools"]] == offered
    long_lived = {"type": "ephemeral", "ttl": "1h"}
    assert sent.body["system"][-1]["cache_control"] == long_lived
    marks = [block.get("cache_control") for block in sent.body["messages"][0]["content"]]
    assert marks.count(long_lived) == 1


def test_looking_is_answered_before_proposing(server, spending, claude):
    looks = [
        tool("list_experiments", {"status": "keep"}),
        tool("read_experiment", {"n": 3}),
        tool("read_train_py", {"n": 2}),
        tool("read_experiment", {"n": 99}),
    ]
    server.add(*(Message([thinking("hm"), look]) for look in looks), GOOD)
    assert claude(server).propose(history(8), spending.budget).title == "lr x3"
    answers = (e.body["messages"][-1]["content"][0] for e in server.exchanges[1:])
    listed, read, source, wrong = answers
    assert "#0 keep" in listed["content"] and "#6 keep" in listed["content"]
    assert "#1 discard" not in listed["content"]
    best = "best episode 233.1 in 1600 steps, worst 20.5 in 61 steps"
    figures = ("+GAMMA = 0.99", "approx_kl=0.0123", "explained_variance=0.43", "5800 steps/s", best)
    for wanted in figures:
        assert wanted in read["content"], wanted
    assert TRAIN in source["content"]
    assert wrong["is_error"] and "no experiment 99" in wrong["content"]
    thought = server.exchanges[1].body["messages"][1]["content"][0]
    # goes back untouched: it is bound to its prefix
    assert thought == {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}


def test_endless_looking_is_ended(server, spending, claude):
    with (
        ApiServer(default=Message([tool("list_experiments", {})])) as endless,
        pytest.raises(ProposerError, match="proposed nothing"),
    ):
        claude(endless).propose(history(), spending.budget)
    assert len(endless.exchanges) == 16


def test_a_miss_goes_back_with_the_nearest_lines_and_is_billed(server, spending, claude):
    server.add(propose("typo", "LEARNING_RATE = 3e-3", "LEARNING_RATE = 1e-3"), GOOD)
    assert claude(server).propose(history(), spending.budget).title == "lr x3"
    answer = server.exchanges[1].body["messages"][-1]["content"][0]
    assert answer["is_error"] and "LEARNING_RATE = 3e-4  # [1e-5, 1e-2] log" in answer["content"]
    assert len(spending.settled) == 2 and all(e.usd > 0 for e in spending.settled)


def test_misses_are_explained_three_times_and_no_more(server, spending, claude):
    server.add(*[propose("typo", "NOT THERE", "x")] * 10)
    with pytest.raises(ProposerError, match="nearest real lines"):
        claude(server).propose(history(), spending.budget)
    assert len(server.exchanges) == MAX_MISSES + 1 == 4


def test_what_the_harness_refuses_goes_back_with_the_reason(server, spending, claude):
    server.add(propose("gamma", "GAMMA = 0.99", "GAMMA = 1.99"), GOOD)
    fussy = history(vet=lambda source: "GAMMA must be below 1." if "1.99" in source else "")
    assert claude(server).propose(fussy, spending.budget).title == "lr x3"
    said = server.exchanges[1].body["messages"][-1]["content"][0]["content"]
    assert "GAMMA must be below 1." in said


def test_a_reply_changes_nothing_but_the_proposal(server, spending, claude):
    given = {
        "title": "all\nof\tit\x1b[31m",
        "hypothesis": "h",
        "expected_effect": "e",
        "edits": [{"search": "GAMMA = 0.99", "replace": "GAMMA = 0.9"}],
    }
    more = {"proposer": "person", "cost_usd": -5, "source": "x", "time_budget": 9e9, "seed": 3}
    server.add(Message([tool("propose_experiment", given | more)]))
    proposal = claude(server).propose(history(), spending.budget)
    assert proposal.title == "all of it" and proposal.proposer == "claude"
    assert proposal.source is None and proposal.cost_usd > 0


# -- unusable replies ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_reply_is_asked_again_with_what_was_wrong(bad, server, spending, claude):
    server.add(bad, GOOD)
    assert claude(server).propose(history(), spending.budget).title == "lr x3"
    before, after = (e.body["messages"] for e in server.exchanges)
    assert after[: len(before)] == before and len(after) > len(before)
    said = after[-1]["content"][0]
    assert after[-1]["role"] == "user" and len(said.get("text") or said["content"]) > 20
    assert len(spending.settled) == 2 and spending.state.spent() == pytest.approx(
        sum(hand_price(e.usage) for e in server.exchanges)
    )


@pytest.mark.parametrize(
    "bad", ["empty", "text only", "two proposals", "truncated", "malformed input"]
)
def test_the_same_trouble_twice_gives_up_this_idea_only(bad, server, spending, claude):
    server.add(UNUSABLE[bad], UNUSABLE[bad], GOOD)
    researcher = claude(server)
    with pytest.raises(ProposerError, match="nothing usable twice"):
        researcher.propose(history(), spending.budget)
    assert researcher.propose(history(), spending.budget).title == "lr x3"
