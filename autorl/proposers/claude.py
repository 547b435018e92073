"""The researcher on the Anthropic API: a short conversation with tools that ends in proposals.

    export ANTHROPIC_API_KEY=...             # or ANTHROPIC_AUTH_TOKEN
    uv run python agent_loop.py run --max-usd 20      # claude is the default when a key is set

The ledger, the incumbent's train.py and the task go in; the model may look at earlier experiments
through tools; as many calls of `propose_experiment` as ideas are wanted end it. What misses, or the
harness refuses, goes back with the reason. Where a model's classifier refuses to answer, the next
model is asked, and after the last one search stands in. What it does not do: run anything, touch a
file, or let a reply change a setting.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from autorl.errors import EditMiss, Paused, ProposerError, UserError
from autorl.interfaces import Budget, Proposer
from autorl.proposers import prompt
from autorl.proposers.answers import Reply
from autorl.proposers.anthropic_api import Api, ModelUnavailable
from autorl.proposers.prices import price_of
from autorl.proposers.tools import TOOLS, error, look, read_proposal, result, tried_before
from autorl.records import History, Proposal
from autorl.system.text import one_line

DEFAULT_MODEL = "claude-opus-5-5"
DEFAULT_MODELS = f"{DEFAULT_MODEL},claude-opus-4-8"  # the second has no classifiers that refuse
MAX_TOKENS = {"low": 16_000, "medium": 24_000, "high": 32_000, "max": 64_000}  # of one reply
MAX_MISSES = 3  # refused proposals in a row that are explained back
MAX_LOOKS = 12  # looks before it must propose


class ClaudeProposer:
    """See the head of this file.

    Args:
        model: model ids with commas between them; the next one is asked where one refuses. One
            without a price in prices.py works, but not under a limit in dollars.
        effort: low, medium, high or max; sent to models that take it.
        max_tokens: of one reply, thinking included; None: what suits the effort.
        stand_in: who proposes where every model refuses.
        patience: further arguments of anthropic_api.Api: key and address, waits, backoff, timeout.

    Raises:
        UserError: no key is to be found, or no model is named.
    """

    name = "claude"

    def __init__(
        self,
        model: str = DEFAULT_MODELS,
        effort: str = "high",
        max_tokens: int | None = None,
        stand_in: Proposer | None = None,
        **patience: Any,
    ):
        self.models = [name for part in model.split(",") if (name := part.strip())]
        if not self.models:
            raise UserError("--model needs the name of a model, or several with commas between.")
        self.effort, self.max_tokens = effort, max_tokens
        self.stand_in = stand_in
        self._stopped: Callable[[], bool] = lambda: False  # that of the history it thinks about
        self.api = Api(lambda: self._stopped(), **patience)
        self.unpriced = [name for name in self.models if price_of(name) is None]

    def close(self) -> None:
        """Close the connections; a call under way in another thread fails."""
        self.api.close()

    def propose(self, history: History, budget: Budget) -> Proposal | tuple[Proposal, ...] | None:
        """One conversation, up to `history.wanted` ideas that fit the incumbent and pass its vet.

        Raises:
            ProposerError: unusable replies in spite of a re-ask, or a proposal refused more than
                three times in a row, before there was any idea.
            Paused: the key, the account or the model is refused, money is spent, an outage lasted
                too long, or a stop was asked for, likewise.
        """
        self._stopped = history.stopped
        models = list(self.models)
        talk = Talk(history, budget, self._request(history, models[0]))
        what = f"proposal after {len(history.rows)} experiments"
        try:
            while models and not talk.over:
                try:
                    reply = self.api.call(talk.request, budget, what)
                except ModelUnavailable as unavailable:
                    if models[0] == self.models[0]:
                        raise
                    reply = Reply(refused=str(unavailable))
                talk.usd, talk.seconds = talk.usd + reply.usd, talk.seconds + reply.seconds
                if reply.refused:
                    self._next_model(models, reply, talk, what)
                else:
                    talk.go_on(reply)
        except (ProposerError, Paused) as trouble:
            if not talk.found:
                raise
            had = f"{len(talk.found)} of {history.wanted} ideas"
            budget.note("fewer ideas", f"{had}: {one_line(str(trouble), 300)}")
        ideas = talk.found or [self._stand_in(talk)]
        usd, seconds = talk.usd / len(ideas), talk.seconds / len(ideas)
        ideas = [replace(idea, cost_usd=usd, seconds=seconds) for idea in ideas]
        return ideas[0] if len(ideas) == 1 else tuple(ideas)

    def _next_model(self, models: list[str], reply: Reply, talk: "Talk", what: str) -> None:
        """Drop the model that refused and turn the conversation to the next one."""
        refused = models.pop(0)
        then = f"asking {models[0]}" if models else "no model is left"
        cost = "no price known" if refused in self.unpriced else f"${reply.usd:.4f}"
        talk.budget.note(
            "refusal", f"{refused} refused the {what} ({reply.refused}), {cost}; {then}"
        )
        if models:
            talk.change_model(tuned(models[0], self.effort, self.max_tokens))

    def _stand_in(self, talk: "Talk") -> Proposal:
        """The idea in place of the one that every model refused."""
        refused = f"Every model refused ({', '.join(self.models)})"
        if self.stand_in is None:
            raise ProposerError(f"{refused}.")
        name = self.stand_in.name
        talk.budget.note("refusal", f"{refused}; {name} steps in")
        idea = self.stand_in.propose(talk.history, talk.budget)
        if not isinstance(idea, Proposal):
            raise ProposerError(f"{refused}, and {name} has nothing to propose.")
        return idea

    def _request(self, history: History, model: str) -> dict[str, Any]:
        """The first request: everything up to the incumbent's train.py stays in the cache."""
        opening: list[dict[str, Any]] = [
            {"type": "text", "text": text} for text in prompt.opening_texts(history)
        ]
        system: dict[str, Any] = {"type": "text", "text": prompt.system_text(history)}
        request: dict[str, Any] = {
            "tools": TOOLS,
            # Current models refuse forced tool use. Several ideas are several calls.
            "tool_choice": {"type": "auto"},
            "system": [system],
            "messages": [{"role": "user", "content": opening}],
        }
        if "claude" in model:  # servers of other models may refuse what they do not know
            # An experiment outlives the five-minute cache.
            cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
            system |= cached
            opening[-2] |= cached
            # The growing end of this conversation is read again within seconds.
            request["cache_control"] = {"type": "ephemeral"}
        return request | tuned(model, self.effort, self.max_tokens)


def tuned(model: str, effort: str, max_tokens: int | None) -> dict[str, Any]:
    """What a request holds for this model only.

    Source: https://platform.claude.com/docs/en/build-with-claude/effort
    """
    made: dict[str, Any] = {"model": model, "max_tokens": max_tokens or MAX_TOKENS[effort]}
    old = "-4-5" in model
    if model.startswith("claude-") and not old:
        made["thinking"] = {"type": "adaptive"}
    if model.startswith("claude-") and (not old or "opus" in model):
        made["output_config"] = {"effort": "high" if old and effort == "max" else effort}
    return made


@dataclass
class Talk:
    """One conversation: what was said, and what it came to so far.

    Attributes:
        found: the ideas that were accepted.
        over: as many ideas are there as are wanted, or no more come.
    """

    history: History
    budget: Budget
    request: dict[str, Any]
    usd: float = 0.0
    seconds: float = 0.0
    found: list[Proposal] = field(default_factory=list)
    over: bool = False
    _sources: set[str] = field(default_factory=set)  # of the ideas found
    _asked: set[str] = field(default_factory=set)  # what is asked only once
    _looks: int = 0
    _misses: int = 0
    _edits_missed: int = 0
    _reasks: int = 0

    def change_model(self, made: dict[str, Any]) -> None:
        """Go on with another model; thoughts are bound to the model that had them."""
        for name in ("thinking", "output_config"):
            self.request.pop(name, None)
        self.request |= made
        for message in self.request["messages"]:
            kept = [b for b in message["content"] if "thinking" not in b["type"]]
            message["content"] = kept

    def go_on(self, reply: Reply) -> None:
        """Take a reply in, and answer it.

        Raises:
            ProposerError: enough is enough.
        """
        uses = [block for block in reply.content if block["type"] == "tool_use"]
        if not uses and not reply.problem and self.found:
            self.over = True  # it has no more ideas
            return
        if problem := reply.problem or self._misuse(uses):
            self._ask_again(problem)
            answers = [error(use, problem) for use in uses]
        else:
            answers = [self._answer(use) for use in uses]
        messages = self.request["messages"]
        if reply.too_long:
            del messages[1:]
        elif reply.content:
            messages.append({"role": "assistant", "content": reply.content})
        messages.append({"role": "user", "content": answers or [{"type": "text", "text": problem}]})
        self.over = len(self.found) >= self.history.wanted

    def _misuse(self, uses: list[dict[str, Any]]) -> str:
        """What is wrong with the tool calls of a reply, taken together; "" when nothing is."""
        left = self.history.wanted - len(self.found)
        if not uses:
            return "Your reply had no tool call. Call propose_experiment with one idea."
        if (many := sum(use["name"] == "propose_experiment" for use in uses)) > left:
            return f"Your reply proposed {many} experiments; {left} wanted. Propose the best."
        return ""

    def _ask_again(self, problem: str) -> None:
        short = one_line(problem, 300)
        self.budget.note("re-ask", short)
        self._reasks += 1
        if self._reasks > 1:
            raise ProposerError(f"The researcher gave nothing usable twice; it was told: {short}")

    def _answer(self, use: dict[str, Any]) -> dict[str, Any]:
        """The answer to one tool call, whatever it calls."""
        if use["name"] == "propose_experiment":
            return self._consider(use)
        self._looks += 1
        if self._looks > MAX_LOOKS + 3:
            raise ProposerError(f"The researcher looked {self._looks} times and proposed nothing.")
        if self._looks > MAX_LOOKS:
            return error(use, "Enough looking: call propose_experiment now.")
        return look(use, self.history)

    def _consider(self, use: dict[str, Any]) -> dict[str, Any]:
        """Accept a proposal, or say what is wrong with it or unclear."""
        try:
            proposal, source = read_proposal(use["input"], self.history)
            if source in self._sources:
                raise ProposerError("This is the same as another of your proposals here.")
        except ProposerError as refusal:
            return error(use, self._explain(refusal))
        if question := self._question(proposal, source):
            self.budget.note("re-ask", one_line(question, 300))
            return error(use, question)
        self.found.append(proposal)
        self._sources.add(source)
        self._misses = self._edits_missed = 0
        left = self.history.wanted - len(self.found)
        return result(use, f"Taken. {left} more wanted, independent of it.")

    def _explain(self, refusal: ProposerError) -> str:
        """Why a proposal is not taken.

        Raises:
            ProposerError: that was one too many.
        """
        problem = str(refusal)
        short = one_line(problem, 300)
        self.budget.note("proposal refused", short)
        self._misses += 1
        self._edits_missed += isinstance(refusal.__cause__, EditMiss)
        if self._misses > MAX_MISSES:
            raise ProposerError(
                f"{self._misses} proposals in a row could not be used; the last one: {short}"
            )
        if self._edits_missed > 1:
            problem += " Or give the whole new file as `source` in place of edits."
        return problem

    def _question(self, proposal: Proposal, source: str) -> str:
        """What is asked once before a proposal is taken; "" for nothing."""
        n = prompt.last_decided(self.history)
        if n and not proposal.lesson and not self.found and "lesson" not in self._asked:
            self._asked.add("lesson")
            return (
                f"`lesson` is missing: say in a line what #{n} taught (what was expected, what "
                "came), and call propose_experiment again with the same idea."
            )
        if "differs" not in self._asked and (alike := tried_before(source, self.history)):
            self._asked.add("differs")
            return alike
        return ""
