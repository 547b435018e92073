"""What stands behind the API: models that refuse, efforts, odd servers, lessons, several ideas."""

import json
import threading
import typing
from dataclasses import replace

import pytest
from anthropic.types.model import Model
from api_server import KEY, Message, Raw, Status, propose, thinking, tool
from researching import GOOD, REFUSAL, TRAIN, hand_price, history, row, rows

from autorl.cli.run import RunOptions, check_proposer
from autorl.errors import Paused, ProposerError, UserError
from autorl.proposers import prompt
from autorl.proposers.claude import DEFAULT_MODEL, ClaudeProposer, tuned
from autorl.proposers.prices import price_of, usage_usd
from autorl.proposers.search import SearchProposer
from autorl.source.edits import apply_edits

SECOND = "claude-opus-4-8"


def given(title: str = "gamma", **more) -> dict:
    edits = [{"search": "GAMMA = 0.99", "replace": "GAMMA = 0.9"}]
    known = {"title": title, "hypothesis": "h", "expected_effect": "e", "edits": edits}
    return {**known, "lesson": "expected more, got less", **more}


def call(**more) -> Message:
    return Message([tool("propose_experiment", given(**more))])


def other(k: int) -> dict:
    return given(f"idea {k}", edits=[{"search": "GAMMA = 0.99", "replace": f"GAMMA = 0.9{k}1"}])


# -- models ----------------------------------------------------------------------------------------


def test_every_model_that_the_sdk_knows_has_a_price():
    known = [name for part in typing.get_args(Model) for name in typing.get_args(part)]
    assert len(known) > 15 and [name for name in known if price_of(name) is None] == []


@pytest.mark.parametrize(
    ("model", "effort", "sent", "thinks"),
    [
        (DEFAULT_MODEL, "high", "high", True),
        ("claude-fable-5-2", "max", "max", True),
        ("claude-opus-4-5-20251101", "max", "high", False),
        ("claude-haiku-4-5", "high", None, False),
        ("qwen3-coder", "high", None, False),
    ],
)
def test_effort_is_sent_to_the_models_that_take_it(model, effort, sent, thinks):
    made = tuned(model, effort, None)
    assert made.get("output_config") == (sent and {"effort": sent})
    assert ("thinking" in made) == thinks and made["max_tokens"] >= 32_000
    assert tuned(model, effort, 5000)["max_tokens"] == 5000


def test_a_refusal_goes_to_the_next_model_and_both_are_billed_at_their_prices(
    server, spending, claude
):
    look = Message([thinking("hm"), tool("list_experiments", {})])
    server.add(look, REFUSAL, GOOD)
    proposal = claude(server).propose(history(8), spending.budget)
    first, again, second = server.exchanges
    assert [e.body["model"] for e in server.exchanges] == [DEFAULT_MODEL, DEFAULT_MODEL, SECOND]
    assert second.body["messages"][0] == first.body["messages"][0]
    assert "thinking" not in json.dumps(second.body["messages"][1:])  # bound to the other model
    assert first.body["output_config"] == second.body["output_config"] == {"effort": "high"}
    cost = hand_price(first.usage) + hand_price(again.usage)
    assert proposal.cost_usd == pytest.approx(cost + usage_usd(price_of(SECOND), second.usage))
    (note,) = [n for n in spending.notes if n.startswith("refusal: ")]
    for word in (DEFAULT_MODEL, "frontier_llm", f"${hand_price(again.usage):.4f}", SECOND):
        assert word in note


def test_where_every_model_refuses_search_steps_in_and_it_is_said(server, spending, claude):
    server.add(REFUSAL, REFUSAL, REFUSAL, REFUSAL)
    researcher = claude(server, stand_in=SearchProposer())
    proposal = researcher.propose(history(8), spending.budget)
    assert proposal.proposer == "search"
    assert proposal.cost_usd == pytest.approx(spending.state.spent())
    assert spending.notes[-1].endswith("search steps in") and len(spending.notes) == 3
    with pytest.raises(ProposerError, match="search has nothing to propose"):
        researcher.propose(history(8, vet=lambda source: "no"), spending.budget)


def test_a_fallback_that_the_key_may_not_use_is_passed_over(server, spending, claude):
    gone = Status(404, "not_found_error", "model: nope")
    server.add(REFUSAL, gone, GOOD, gone)
    researcher = claude(server, model=f"{DEFAULT_MODEL}, nope,{SECOND}")
    assert researcher.propose(history(8), spending.budget).title == "lr x3"
    assert server.exchanges[-1].body["model"] == SECOND
    with pytest.raises(Paused, match="--model"):
        researcher.propose(history(8), spending.budget)


def test_a_token_does_in_place_of_a_key(server, spending, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    assert check_proposer(RunOptions()) == "claude"
    server.add(GOOD)
    researcher = ClaudeProposer()
    assert researcher.propose(history(), spending.budget).title == "lr x3"
    researcher.close()
    assert server.exchanges[0].headers["authorization"] == f"Bearer {KEY}"
    with pytest.raises(UserError, match="--model"):
        ClaudeProposer(" , ")


# -- lessons, what was tried before, whole files ---------------------------------------------------


def test_a_lesson_is_asked_for_once_and_comes_with_the_number_it_is_about(server, spending, claude):
    bare = call(lesson="")
    server.add(bare, call(lesson="expected\nmore, got less"), bare, bare)
    proposal = claude(server).propose(history(8), spending.budget)
    assert (proposal.lesson_of, proposal.lesson) == (7, "expected more, got less")
    assert "#7" in server.exchanges[1].body["messages"][-1]["content"][0]["content"]
    assert claude(server).propose(history(8), spending.budget).lesson == ""
    assert len(server.exchanges) == 4
    required = server.exchanges[0].body["tools"][-1]["input_schema"]["required"]
    assert required[0] == "lesson"


def test_no_lesson_is_asked_for_before_there_is_a_verdict(server, spending, claude):
    server.add(call(lesson=""))
    assert claude(server).propose(history(1), spending.budget).lesson_of == 0
    assert len(server.exchanges) == 1


def test_later_prompts_hold_the_lessons():
    night = tuple(replace(r, lesson=f"lesson {r.n}") for r in rows(120))
    for n in (40, 119):  # folded into the digest, and the last
        assert f"lesson {n}" in "\n".join(prompt.opening_texts(history(rows=night)))


def test_what_resembles_a_discarded_experiment_is_asked_about_once(server, spending, claude):
    night = (row(0, "keep"), row(1, parent=0), row(2, parent=0, state="superseded"))
    added = "GAMMA = 0.99\nA = 1\nB = 2\nC = 3\n"
    tried = TRAIN.replace("GAMMA = 0.99\n", f"{added}D = 4\n")
    before = history(rows=night, source_of={0: TRAIN, 1: tried, 2: tried}.__getitem__)
    similar = call(edits=[{"search": "GAMMA = 0.99\n", "replace": f"{added}D = 5\n"}])
    server.add(similar, similar)
    assert claude(server).propose(before, spending.budget).title == "gamma"
    assert len(server.exchanges) == 2
    said = server.exchanges[1].body["messages"][-1]["content"][0]["content"]
    assert said.startswith("You tried #1 (") and "what differs?" in said
    server.add(call())
    claude(server).propose(before, spending.budget)  # another thing: nothing is asked
    assert len(server.exchanges) == 3


def test_a_whole_file_does_in_place_of_edits_and_is_offered_when_they_miss(
    server, spending, claude
):
    miss = propose("typo", "NOT THERE", "x")
    source = TRAIN.replace("0.99", "0.5") + "# another algorithm\n"
    server.add(miss, miss, call(edits=[], source=source))
    proposal = claude(server).propose(history(8), spending.budget)
    assert proposal.source == source and proposal.edits == ()
    answers = [e.body["messages"][-1]["content"][0].get("content") for e in server.exchanges[1:]]
    assert ["`source`" in answer for answer in answers] == [False, True]


# -- several ideas ---------------------------------------------------------------------------------


def test_several_ideas_come_from_one_conversation_each_vetted(server, spending, claude):
    calls = [tool("propose_experiment", other(k)) for k in (1, 2, 2)]
    server.add(Message(calls), Message([tool("propose_experiment", other(3))]))
    ideas = claude(server).propose(history(8, wanted=3), spending.budget)
    assert [idea.title for idea in ideas] == ["idea 1", "idea 2", "idea 3"]
    assert len({apply_edits(TRAIN, idea.edits) for idea in ideas}) == 3
    assert sum(idea.cost_usd for idea in ideas) == pytest.approx(spending.state.spent())
    first, second = (e.body["messages"] for e in server.exchanges)
    assert "3 independent ideas" in first[0]["content"][-1]["text"]
    assert [a.get("is_error", False) for a in second[-1]["content"]] == [False, False, True]
    assert "disable_parallel_tool_use" not in server.exchanges[0].body["tool_choice"]


def test_fewer_ideas_than_wanted_are_better_than_none(server, spending, claude):
    one = Message([tool("propose_experiment", other(1))])
    server.add(one, Message([{"type": "text", "text": "No more."}], "end_turn"))
    assert claude(server).propose(history(8, wanted=3), spending.budget).title == "idea 1"
    server.add(one, Status(401, "authentication_error", "revoked"))
    assert claude(server).propose(history(8, wanted=3), spending.budget).title == "idea 1"
    assert spending.notes[-1].startswith("fewer ideas: 1 of 3 ideas: The API did not accept")


# -- servers and proxies that speak the API more or less -------------------------------------------

TOO_LONG = Status(400, "invalid_request_error", "prompt is too long: 213000 tokens > 200000")
TOO_SMALL = Status(400, "exceed_context_size_error", "exceeds the available context size")
HABITS = [
    "", "no text", "no usage", "null usage", "no input", "no id", "no start of a block",
    "no start of a message", "no stop reason", "another's stop reason", "the whole input at once",
    "an unknown event", "a bare thinking block", "no stream",
]  # fmt: skip


def stream(habit: str = "") -> Raw:
    """One proposal, as a server with this habit streams it."""
    edit = json.dumps(given())
    block = {"type": "tool_use", "id": "t1", "name": "propose_experiment", "input": {}}
    words, usage = {"type": "text", "text": ""}, {"input_tokens": 10, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    start = {"type": "message_start", "message": message}
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    delta = {"type": "message_delta", "delta": end, "usage": {"output_tokens": 20}}
    said = {"type": "text_delta", "text": "I will."}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": words},
        {"type": "content_block_delta", "index": 0, "delta": said},
    ]
    given_as = {"type": "input_json_delta", "partial_json": edit}
    parts = [
        {"type": "content_block_start", "index": 1, "content_block": block},
        {"type": "content_block_delta", "index": 1, "delta": given_as},
    ]
    if habit == "no text":
        del words["text"]
    elif habit == "no usage":
        del message["usage"], delta["usage"]
    elif habit == "null usage":
        message["usage"] = delta["usage"] = None
    elif habit == "no input":
        del block["input"]
    elif habit == "no id":
        del block["id"]
    elif habit == "no start of a block":
        del events[0]
    elif habit == "no start of a message":
        start = {"type": "ping"}
    elif habit == "no stop reason":
        end["stop_reason"] = None
    elif habit == "another's stop reason":
        end["stop_reason"] = "tool_calls"
    elif habit == "the whole input at once":
        block["input"] = given()
        del parts[1]
    elif habit == "an unknown event":
        events.insert(0, {"type": "gateway_metadata", "x": 1})
    elif habit == "a bare thinking block":
        thought = {"type": "thinking_delta", "thinking": "hm"}
        begin = {"type": "content_block_start", "index": 9, "content_block": {"type": "thinking"}}
        events[:0] = [begin, {"type": "content_block_delta", "index": 9, "delta": thought}]
    elif habit == "no stream":
        whole = {**message, "content": [{**block, "input": given()}], "stop_reason": "tool_use"}
        return Raw(json.dumps(whole).encode(), "application/json")
    events = [start, *events, *parts, delta, {"type": "message_stop"}]
    return Raw("".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode())


@pytest.mark.parametrize("habit", HABITS)
def test_a_server_with_habits_of_its_own_is_understood(habit, server, spending, claude):
    server.add(stream(habit))
    assert claude(server).propose(history(8), spending.budget).title == "gamma"
    known = "usage" not in habit and habit != "no start of a message"
    settled = spending.settled[0]
    assert settled.usage["settled"] == ("usage" if known else "upper bound") and settled.usd > 0


ODD = {
    "a captive portal": (
        Raw(b"<html><b>Sign in</b> to the company network</html>", "text/html"),
        "a web page, as a captive portal or a proxy sends: Sign in to the company network",
    ),
    "JSON that is no message": (Raw(b'{"ok": 1}', "application/json"), "application/json"),
    "no event": (Raw(b""), "ended before its end"),
    "an event that is no JSON": (Raw(b"event: message_start\ndata: {oops\n\n"), "be read"),
    "an event that is a list": (Raw(b"event: message_start\ndata: [1]\n\n"), "ended before"),
}


@pytest.mark.parametrize(("answer", "cause"), ODD.values(), ids=ODD.keys())
def test_an_answer_that_is_none_is_asked_again_and_then_pauses_with_its_cause(
    answer, cause, server, spending, claude
):
    server.add(answer, stream())
    assert claude(server).propose(history(8), spending.budget).title == "gamma"
    assert spending.notes[0].startswith("outage: ") and cause in spending.notes[0]
    server.add(*[answer] * 12)
    with pytest.raises(Paused, match="10 answers in a row") as pause:
        claude(server).propose(history(8), spending.budget)
    assert cause in str(pause.value) and "ANTHROPIC_BASE_URL" in str(pause.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Raw(b"<html>Proxy Authentication Required</html>", "text/html", 407), "HTTPS_PROXY"),
        (Status(400, "invalid_request_error", "max_tokens: 32000 > 8192"), "--max-tokens"),
        (TOO_LONG, "does not fit the context window of qwen3-coder"),
        (TOO_SMALL, "enlarge it in the server"),
    ],
)
def test_what_only_a_person_can_do_is_said(answer, says, server, spending, claude):
    server.add(answer)
    with pytest.raises(Paused, match=says):
        claude(server, model="qwen3-coder").propose(history(), spending.budget)


def test_a_full_context_begins_the_conversation_anew_and_is_named(server, spending, claude):
    look, full = tool("read_train_py", {}), "model_context_window_exceeded"
    for step in (Message([], full), TOO_LONG):
        server.add(Message([look]), step, GOOD)
        researcher = claude(server, model="qwen3-coder")
        assert researcher.propose(history(8), spending.budget).title == "lr x3"
        assert len(server.exchanges[-1].body["messages"]) == 2  # the look is gone
        assert "context window of qwen3-coder" in spending.notes[-1]


def test_other_servers_are_sent_nothing_that_they_may_not_know(server, spending, claude):
    server.add(GOOD)
    claude(server, model="qwen3-coder").propose(history(8), spending.budget)
    sent = server.exchanges[0]
    assert not {"thinking", "output_config", "cache_control"} & sent.body.keys()
    assert b"cache_control" not in sent.raw and sent.body["max_tokens"] == 32_000


def test_a_stop_is_obeyed_while_a_captive_portal_answers(server, spending, claude):
    server.add(*[ODD["a captive portal"][0]] * 2)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    researcher = claude(server, backoff_seconds=60.0, backoff_cap_seconds=60.0)
    with pytest.raises(Paused, match="Stopped"):
        researcher.propose(history(stopped=stop.is_set), spending.budget)
