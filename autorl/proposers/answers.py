"""What a server of the Messages API answered, as a `Reply`.

Servers and proxies speak the API more or less: no field of an answer is taken for granted, an
answer that is no stream is taken whole, and what cannot be used is named in a sentence that goes
back to the model. What this file does not do: call anybody, or know what is asked.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from autorl.system.text import one_line

# The fields of the API's usage that are billed.
BILLED = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "cache_creation", "inference_geo",
)  # fmt: skip


@dataclass
class Reply:
    """One answer of the API, whole or not, and what all attempts at it cost."""

    content: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    opened: bool = False  # the API began to answer, so it may bill
    problem: str = ""  # why it cannot go into the conversation; its content is empty then
    refused: str = ""  # a classifier of the model withheld it: the category
    too_long: bool = False  # the conversation fills the model's context
    usd: float = 0.0
    seconds: float = 0.0  # waiting for the API, outages not included


def gather(
    events: Iterable[Any],
    request: dict[str, Any],
    reply: Reply,
    check_stop: Callable[[], None] = lambda: None,
) -> None:
    """Put the events of a streamed answer together into `reply`, as far as they come."""
    blocks: dict[int, dict[str, Any]] = {}
    for event in map(_fields, events):
        check_stop()
        kind, index = event.get("type"), event.get("index") or 0
        if kind == "message_start":
            reply.usage.update(_billed(_fields(event.get("message")).get("usage")))
        elif kind == "content_block_start":
            blocks[index] = _fields(event.get("content_block"))
        elif kind == "content_block_delta":
            _extend(blocks.setdefault(index, {}), _fields(event.get("delta")))
        elif kind == "message_delta":
            delta = _fields(event.get("delta"))
            reply.stop_reason = delta.get("stop_reason") or reply.stop_reason
            reply.usage.update(_billed(event.get("usage")))
            if reply.stop_reason == "refusal":
                details = _fields(delta.get("stop_details"))
                reply.refused = str(details.get("category") or "no category")
        elif kind == "message_stop":
            reply.stop_reason = reply.stop_reason or "end_turn"
    for index, block in sorted(blocks.items()):
        if raw := block.pop("partial_json", ""):
            try:
                block["input"] = json.loads(raw)
            except (ValueError, RecursionError) as error:
                block["input"] = error
        if block.get("type") == "tool_use":
            block |= {"id": block.get("id") or f"call_{index}", "name": block.get("name") or ""}
        if block.get("type") and (block["type"] != "text" or block.get("text")):
            reply.content.append(block)
    reply.problem = _problem(reply, request)
    if reply.problem:
        reply.content = []


def _fields(part: Any) -> dict[str, Any]:
    """A part of an answer as a dictionary; {} where the server left it out."""
    if hasattr(part, "to_dict"):  # a model of the SDK's
        part = part.to_dict(warnings=False)
    return dict(part) if isinstance(part, dict) else {}


def _extend(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """Continue the block whose field of the same name a part of the stream continues."""
    kind = str(delta.pop("type", ""))  # text_delta, thinking_delta, input_json_delta, ...
    begun = {"input_json_delta": "tool_use", "signature_delta": "thinking"}
    block.setdefault("type", begun.get(kind, kind.removesuffix("_delta")))
    for name, part in delta.items():
        if isinstance(part, str):
            block[name] = (block.get(name) or "") + part


def unstreamed(response: Any) -> list[dict[str, Any]]:
    """The events that an answer which is no stream amounts to; [] where it is one.

    Raises:
        ValueError: it is no message, such as the page of a captive portal.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind not in ("application/json", "text/html", "text/plain"):
        return []
    text = response.read().decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        message = json.loads(text)
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            starts = [
                {"type": "content_block_start", "index": i, "content_block": block}
                for i, block in enumerate(message["content"])
            ]
            end = {"type": "message_delta", "delta": message, "usage": message.get("usage")}
            return [*starts, end, {"type": "message_stop"}]
    what = "a web page, as a captive portal or a proxy sends" if "html" in kind else kind
    raise ValueError(f"it was {what}: {words(text)}")


def words(text: str) -> str:
    """What a server said, bounded, without the tags of a page."""
    return one_line(re.sub(r"<[^>]*>", " ", text), 200)


def _problem(reply: Reply, request: dict[str, Any]) -> str:
    """Why a complete reply cannot go into the conversation; "" when it can."""
    if reply.refused:
        return f"{request['model']} refused to answer ({reply.refused})."
    if reply.stop_reason == "model_context_window_exceeded":
        reply.too_long = True
        return full(request)
    if reply.stop_reason == "max_tokens":
        return (
            f"Your last reply was cut off at its limit of {request['max_tokens']} tokens "
            "(--max-tokens). Be brief: one small edit."
        )
    if not any(block["type"] in ("text", "tool_use") for block in reply.content):
        return "Your last reply was empty. Call propose_experiment with one idea."
    for block in reply.content:
        if block["type"] == "tool_use" and not isinstance(block.get("input"), dict):
            given = block.get("input")
            why = f" ({given})" if isinstance(given, Exception) else ""
            what = f"The input of your tool call {one_line(str(block['name']), 60)}"
            return f"{what} was not a JSON object{why}. Call it again."
        try:
            json.dumps(block, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError, TypeError):
            return "Your last reply held characters that are no Unicode text. Answer again."
    return ""


def full(request: dict[str, Any]) -> str:
    """What is said where the model's context is full."""
    return (
        f"The conversation filled the context window of {request['model']} (where a server runs "
        "the model, it can be enlarged there), so it began anew. Look at little, and propose one "
        "small edit."
    )


def _billed(usage: Any) -> dict[str, Any]:
    """The usage fields that are billed, where present (later events carry totals)."""
    return {k: v for k, v in _fields(usage).items() if k in BILLED and v is not None}
