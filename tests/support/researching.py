"""What the tests of researchers share: a history, its spending, replies good and bad."""

from pathlib import Path
from typing import Any

from api_server import Message, broken_tool, propose, text, thinking, tool

from autorl.loop.budget import SpendLimit
from autorl.records import Experiment, History, Row, RunRecord, Verdict
from autorl.session import Session, Settings
from autorl.session.event_log import EventLog, Follower
from autorl.session.events import Baseline, Created, Money, Note

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """\
import evaluate

LEARNING_RATE = 3e-4  # [1e-5, 1e-2] log
GAMMA = 0.99

print(LEARNING_RATE, GAMMA)
"""
GOOD = propose(
    "lr x3", "LEARNING_RATE = 3e-4", "LEARNING_RATE = 1e-3", hypothesis="approx_kl is tiny"
)


def row(n: int, status: str = "discard", **more) -> Row:
    titles = (
        "a wider critic with layer normalisation",
        "gae lambda 0.9 for a shorter horizon",
        "twice the environments, half the steps",
    )
    given = {
        "commit": f"{n:040x}",
        "avg_return": 100.0 + n if status != "crash" else None,
        "description": f"{titles[n % 3]} ({n})",
        "runs": 2,
        "stderr": 3.25,
        "reason": f"Its mean is {n % 7}.5 sd below the incumbent's.",
        "hypothesis": "The critic lags: explained variance stays under 0.5 in the first two "
        "minutes, so advantages are mostly noise there.",
    }
    return Row(n=n, status=status, **{**given, **more})


def rows(count: int) -> tuple[Row, ...]:
    """A night: every sixth experiment kept, every ninth a crash."""
    return tuple(
        row(n, "keep" if n % 6 == 0 else "crash" if n % 9 == 4 else "discard") for n in range(count)
    )


def record(**more) -> RunRecord:
    diagnostics = {"approx_kl": 0.0123, "clipfrac": 0.21, "explained_variance": 0.43}
    diagnostics |= {"entropy": 2.1, "sps": 5800.0}
    given: dict[str, Any] = {"avg_return": 131.2, "std_return": 12.5, "training_seconds": 720.0}
    given |= {"returns": (140.0, 20.5, 233.1), "lengths": (900, 61, 1600)}
    given |= {"total_timesteps": 4_176_000, "num_updates": 255, "diagnostics": diagnostics}
    return RunRecord("ok", **{**given, **more})


def history(count: int = 1, **more) -> History:
    all_rows = more.pop("rows", rows(count))

    def experiment(n: int) -> Experiment:
        verdict = Verdict(n, "discard", "Below the incumbent.")
        diff = "-GAMMA = 0.9\n+GAMMA = 0.99\n"
        return Experiment(all_rows[n], diff, (record(),), verdict, "log\n")

    kept = max((r.n for r in all_rows if r.status == "keep"), default=0)
    given: dict[str, Any] = {"program": (ROOT / "program.md").read_text(), "train_source": TRAIN}
    given |= {"incumbent": kept, "experiment": experiment, "source_of": lambda n: TRAIN}
    place = ("BipedalWalker-v3", 720.0, 100, "2 cores, no GPU")
    return History(*place, rows=all_rows, solved_at=300.0, **{**given, **more})


class Spending:
    """A real budget on a real journal."""

    def __init__(self, folder: Path, max_usd: float | None = None):
        first = Created(
            env_id="Toy-v0", tag="t", settings={}, root_seed=1, base="", baseline=Baseline("", "")
        )
        log, events = EventLog.open(folder / "journal.jsonl", first)
        self.session = Session(folder, folder, "t", Settings(), log, None, None)  # type: ignore[arg-type]
        for event in events:
            self.session.take_in(event)
        self.state = self.session.state
        self.budget = SpendLimit(self.session, max_usd)

    @property
    def money(self) -> list[Money]:
        return [e for e in Follower(self.session.log.path).new() if isinstance(e, Money)]

    @property
    def settled(self) -> list[Money]:
        return [e for e in self.money if e.op == "settle"]

    @property
    def notes(self) -> list[str]:
        events = Follower(self.session.log.path).new()
        return [f"{e.event}: {e.detail}" for e in events if isinstance(e, Note)]

    def close(self) -> None:
        self.session.log.close()


def proposed(raw: str, stop_reason: str = "tool_use") -> Message:
    """A proposal whose input is these very characters."""
    return Message([broken_tool("propose_experiment", raw)], stop_reason)


REFUSAL = Message(
    [text("I")], "refusal", stop_details={"category": "frontier_llm", "explanation": "no"}
)
UNUSABLE = {
    "empty": Message([], "end_turn"),
    "blank text": Message([text("")], "end_turn"),
    "thinking only": Message([thinking("hm")], "end_turn"),
    "text only": Message([text("I would raise the learning rate.")], "end_turn"),
    "two proposals": Message([GOOD.content[1], GOOD.content[1]]),
    "truncated": proposed('{"title": "lr", "edits": [{"sea', "max_tokens"),
    "window full": Message([text("and so")], "model_context_window_exceeded"),
    "malformed input": proposed('{"title": oops}'),
    "input is a list": proposed("[1, 2]"),
    "input is nothing": proposed(""),
    "edits of the wrong shape": proposed('{"title": "t", "edits": {"search": "a"}}'),
    "title is a number": proposed('{"title": 7, "edits": [{"search": "a", "replace": "b"}]}'),
    "an unknown tool": Message([tool("rm", {"path": "/"})]),
    "a lone surrogate": proposed(
        '{"title": "\\ud800", "edits": [{"search": "\\ud800", "replace": "b"}]}'
    ),
}


def hand_price(usage: dict[str, Any], model: str = "claude-opus-5-5") -> float:
    """A million tokens in, out, into the cache for 5 minutes and 1 hour, from it: in dollars,
    Claude Opus 5.5: 4, 20, 5, 8, .20; Claude Opus 4.8: 5, 25, 6.25, 10, .50."""
    older = model == "claude-opus-4-8"
    prices = (5.0, 25.0, 6.25, 10.0, 0.5) if older else (4.0, 20.0, 5.0, 8.0, 0.2)
    split = usage["cache_creation"]
    tokens = (
        usage["input_tokens"],
        usage["output_tokens"],
        split["ephemeral_5m_input_tokens"],
        split["ephemeral_1h_input_tokens"],
        usage["cache_read_input_tokens"],
    )
    return float(sum(p * n for p, n in zip(prices, tokens, strict=True))) / 1e6
