"""Sessions through the command line: a short one, and one of forty experiments and API faults.

    python tests/end_to_end/test_night.py   # prints summary, spend ledger, one conversation

Real git, real journal, real HTTP, real processes; only the model and the training are scripted. The
process is killed with -9 while it waits for an answer, and paused by a refused key; the same
command goes on each time.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from api_server import KEY, ApiServer, Drop, Exchange, Message, Status, propose, thinking, tool
from conftest import TOYS, agent_loop, clean_env, git, make_repo
from researching import REFUSAL, UNUSABLE, hand_price

pytestmark = pytest.mark.timeout(1200)
SCRIPT = re.compile(r"^SCRIPT = .*$", re.MULTILINE)
SOON = {"retry-after": "0.05"}
OVERLOADED = Status(529, "overloaded_error", headers=SOON)
NO_KEY = Status(401, "authentication_error", "invalid x-api-key")
BROKEN = [Status(500, headers=SOON), Status(503, headers=SOON), Status(502, "", headers=SOON)]
LOOKS = [
    Message([thinking("look"), tool("list_experiments", {"first": 1, "last": 9})]),
    Message([tool("read_experiment", {"n": 4})]),
    Message([tool("read_train_py", {})]),
]


def incumbent_of(body: dict[str, Any]) -> str:
    """The SCRIPT line of the incumbent, from the opening message."""
    opening = "\n".join(block["text"] for block in body["messages"][0]["content"])
    return SCRIPT.findall(opening)[0]


def idea(number: int, body: dict[str, Any], **more: Any) -> Message:
    """Idea `number`: a little better or worse than the incumbent; every ninth breaks."""
    line = incumbent_of(body)
    script = ast.literal_eval(line.removeprefix("SCRIPT = "))
    script["return"] = round(
        script["return"] + (3.0 if number % 4 == 0 else -2.0) + number / 1000, 3
    )
    script["end"] = {4: "raise", 7: "nan", 8: "flood"}.get(number % 9, "ok")
    return propose(f"idea {number}", line, f"SCRIPT = {script!r}", **more)


def edit(
    search: Callable[[str], str], replace: Callable[[str], str], title: str = "odd"
) -> Callable[[dict[str, Any]], Message]:
    return lambda body: propose(
        title, search(incumbent_of(body)), replace(incumbent_of(body)), output_tokens=900
    )


def same(line: str) -> str:
    return line


MISS = edit(lambda line: line + "!", same)
REFUSED = {  # what the harness turns away before any run
    "not Python": edit(same, lambda line: "SCRIPT = {"),
    "unchanged": edit(same, same),
    "equal but for a comment": edit(same, lambda line: line + "  # the same program"),
    "too large": edit(same, lambda line: line + "\n# " + "x" * 200_000),
    "NUL": edit(same, lambda line: line + "\n# \0"),
    "CRLF": edit(same, lambda line: line + "\r\n"),
    "BOM": edit(lambda line: '"""A train.py', lambda line: '\ufeff"""A train.py'),
    "another path": edit(lambda line: "--- a/evaluate.py", lambda line: "+++ b/evaluate.py"),
}


@dataclass
class Night:
    """The scripted side: which faults come before which idea, and what was served."""

    experiments: int
    pid: int = 0  # of the loop, to be killed
    idea: int = 1
    step: int = 0
    served: list[str] = field(default_factory=list)  # ideas sent whole
    kills: int = 0

    def __post_init__(self) -> None:
        self.before: dict[int, list[Any]] = self.whole() if self.experiments >= 40 else self.short()

    def short(self) -> dict[int, list[Any]]:
        return {
            1: [OVERLOADED, UNUSABLE["malformed input"]],
            2: [lambda body: idea(2, body, cut_after=9), MISS],
            3: [self.kill],
            4: [NO_KEY],
        }

    def whole(self) -> dict[int, list[Any]]:
        return {
            2: [Status(429, "rate_limit_error", headers=SOON)] * 3,
            4: [OVERLOADED] * 5,
            6: BROKEN,
            8: [Drop()],
            10: [lambda body: idea(10, body, cut_after=9)],
            11: [self.kill],
            12: [lambda body: idea(12, body, error_after=6)],
            13: [UNUSABLE["text only"]],
            14: [UNUSABLE["two proposals"]],
            15: [UNUSABLE["truncated"]],
            16: [UNUSABLE["malformed input"]],
            17: [REFUSAL, REFUSAL],  # both models; search has nothing to tune here
            18: [UNUSABLE["empty"], UNUSABLE["empty"]],
            20: [MISS, MISS, MISS],
            21: [MISS, MISS, MISS, MISS],  # one too many
            22: [REFUSED["not Python"], REFUSED["unchanged"], REFUSED["equal but for a comment"]],
            23: [REFUSED["too large"], REFUSED["NUL"], REFUSED["CRLF"]],
            24: [REFUSED["BOM"], REFUSED["another path"]],
            26: LOOKS,
            27: [NO_KEY],  # pauses
            29: [Message([tool("propose_experiment", {"title": 1})]), OVERLOADED],
            33: [UNUSABLE["blank text"], Drop()],
            35: [self.kill, lambda body: idea(35, body, cut_after=3)],
        }

    def kill(self, body: dict[str, Any]) -> Drop:
        """The loop dies while it waits for this answer."""
        self.kills += 1
        os.kill(self.pid, signal.SIGKILL)
        return Drop()

    def answer(self, body: dict[str, Any]) -> Any:
        faults = self.before.get(self.idea, [])
        if self.step < len(faults):
            step = faults[self.step]
            self.step += 1
            return step(body) if callable(step) else step
        reply = idea(self.idea, body)
        self.served.append(f"idea {self.idea}")
        self.idea, self.step = self.idea + 1, 0
        return reply


@dataclass
class Morning:
    """What is left of the night."""

    repo: Path
    night: Night
    exchanges: list[Exchange]
    sittings: list[tuple[int, str]]  # (exit code, standard error)
    journal: list[dict[str, Any]]
    status: dict[str, Any]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.journal if e["type"] == kind]


def spend_the_night(folder: Path, experiments: int) -> Morning:
    """Run the loop until it is done, starting it again whenever it ended early."""
    repo = make_repo(folder / "repo", TOYS / "train_scripted.py")
    night, sittings = Night(experiments), []
    options = (
        "--tag night --env-id Pendulum-v1 --budget 20 --episodes 3 --runner scripted "
        f"--proposer claude --experiments {experiments} --max-usd 60 --seed 5"
    )
    command = [sys.executable, "agent_loop.py", "run", *options.split()]
    with ApiServer(default=night.answer) as server:
        env = clean_env(folder) | {"ANTHROPIC_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
        env["ANTHROPIC_BASE_URL"] = server.url
        while not sittings or (sittings[-1][0] != 0 and len(sittings) < 8):
            with open(folder / "stderr", "wb+") as err, open(folder / "stdout", "ab") as out:
                loop = subprocess.Popen(
                    command, cwd=repo, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err
                )
                night.pid = loop.pid
                loop.wait(timeout=250)
                err.seek(0)
                sittings.append((loop.returncode, err.read().decode()))
        status = agent_loop(repo, "status", "--json", env=env)
    path = repo / "results/Pendulum-v1/night/journal.jsonl"
    journal = [json.loads(line) for line in path.read_text().splitlines()]
    return Morning(repo, night, server.exchanges, sittings, journal, json.loads(status.stdout))


@pytest.fixture(
    scope="module",
    params=[pytest.param(4, id="short"), pytest.param(40, id="whole", marks=pytest.mark.long)],
)
def morning(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Morning:
    return spend_the_night(tmp_path_factory.mktemp("night"), request.param)


def test_it_ended_by_itself_after_kills_and_a_pause(morning):
    expected = [-9, 3, -9, 0] if morning.night.experiments == 40 else [-9, 3, 0]
    assert [code for code, _ in morning.sittings] == expected, morning.sittings[-1][1]
    assert "ANTHROPIC_API_KEY" in morning.sittings[1][1].strip().splitlines()[-1]
    assert not any("Traceback" in err for _, err in morning.sittings)


def test_no_experiment_is_lost_or_counted_twice(morning):
    attempts = [e for e in morning.of("attempt") if e["n"] > 0 and not e.get("retry_of")]
    assert [e["title"] for e in attempts] == morning.night.served
    assert morning.night.served == [f"idea {i}" for i in range(1, morning.night.experiments + 1)]
    verdicts = [e["verdict"] for e in morning.of("verdict")]
    decided = [v["attempt"] for v in verdicts if v["outcome"] in ("keep", "discard", "crash")]
    assert sorted(decided) == [e["n"] for e in attempts]
    table = (morning.repo / "results/Pendulum-v1/night/results.tsv").read_text().splitlines()
    assert len(table) == 2 + morning.night.experiments  # header, baseline, the ideas
    for n in range(morning.night.experiments + 1):
        assert git(morning.repo, "rev-parse", "--verify", f"refs/autorl/night/{n}")


def test_every_fault_came_and_only_ideas_without_any_use_were_given_up(morning):
    whole = morning.night.experiments == 40
    assert morning.night.kills == (2 if whole else 1)
    assert max(morning.night.before) <= morning.night.experiments
    # two refusals, two empty replies, four misses
    assert len(morning.of("refused")) == (3 if whole else 0)
    codes = {step.code for e in morning.exchanges if isinstance(step := e.step, Status)}
    assert codes == ({401, 429, 500, 502, 503, 529} if whole else {401, 529})


def test_the_spend_is_the_usage_where_it_arrived_and_a_bound_where_it_did_not(morning):
    settled = {e["ticket"]: e for e in morning.of("money") if e["op"] == "settle"}
    reserved = {e["ticket"]: e for e in morning.of("money") if e["op"] == "reserve"}
    exact = [e["usd"] for e in settled.values() if e["usage"]["settled"] == "usage"]
    bounds = [e["usd"] for e in settled.values() if e["usage"]["settled"] == "upper bound"]
    free = [e["usd"] for e in settled.values() if e["usage"]["settled"] == "not billed"]
    # the loop was killed meanwhile
    opened = [e["usd"] for ticket, e in reserved.items() if ticket not in settled]
    billed = [e for e in morning.exchanges if e.usage]
    whole = [hand_price(e.usage, e.body["model"]) for e in billed if e.whole]
    cut = [hand_price(e.usage, e.body["model"]) for e in billed if not e.whole]
    assert len(exact) == len(whole) and sum(exact) == pytest.approx(sum(whole))
    assert len(bounds) >= len(cut) >= 1 and all(b >= max(cut) for b in bounds)
    assert len(opened) == morning.night.kills and sum(free) == 0
    assert all(settled[t]["usd"] <= reserved[t]["usd"] + 1e-12 for t in settled)
    assert len(settled) + len(opened) == len(morning.exchanges)  # each attempt is counted
    told = morning.status["summary"]["cost_usd"]
    assert told == pytest.approx(sum(exact) + sum(bounds) + sum(opened), abs=1e-3) and told <= 60


def test_each_ideas_price_stands_in_the_table(morning):
    lines = (morning.repo / "results/Pendulum-v1/night/results.tsv").read_text().splitlines()
    column = lines[0].split("\t").index("cost_usd")
    costs = [float(line.split("\t")[column] or 0) for line in lines[2:]]
    assert all(cost > 0 for cost in costs)
    assert sum(costs) <= morning.status["summary"]["cost_usd"] + 0.01 * morning.night.experiments


def test_the_prompt_does_not_grow_with_the_night(morning):
    sizes: dict[int, int] = {}
    for exchange in morning.exchanges:
        if len(exchange.body["messages"]) == 1:
            asked = exchange.body["messages"][0]["content"][-1]["text"]
            number = int(re.search(r"Propose experiment (\d+)", asked)[1])
            sizes[number] = max(sizes.get(number, 0), len(exchange.raw))
    assert sorted(sizes) == list(range(1, morning.night.experiments + 1))
    assert max(sizes.values()) <= 1.5 * sizes[min(20, max(sizes))]


def test_the_prefix_is_the_same_bytes_all_night(morning):
    fixed = {json.dumps([e.body["tools"], e.body["system"]]) for e in morning.exchanges}
    assert len(fixed) == 1
    usages = [e.usage for e in morning.exchanges if e.usage]
    read = sum(usage["cache_read_input_tokens"] for usage in usages)
    sent = sum(u["input_tokens"] + u["cache_creation_input_tokens"] for u in usages)
    assert read > 0.5 * (read + sent)


def test_the_key_is_written_nowhere(morning):
    for path in morning.repo.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert KEY.encode() not in path.read_bytes(), path


def test_the_night_can_be_told(morning):
    told = summary(morning)
    assert "verdicts:" in told and "status says" in told and "--- assistant tool_use" in told


def summary(morning: Morning) -> str:
    """The night for a person: what came, what it cost, one conversation."""
    lines = ["sitting  exit code  last words"]
    lines += [
        f"{i:>7}  {code:>9}  {err.strip().splitlines()[-1] if err.strip() else ''}"
        for i, (code, err) in enumerate(morning.sittings, 1)
    ]
    outcomes = Counter(e["verdict"]["outcome"] for e in morning.of("verdict"))
    lines.append(f"\nverdicts: {dict(outcomes)}")
    lines.append(
        f"API attempts: {len(morning.exchanges)}, "
        f"replies sent whole: {sum(e.whole for e in morning.exchanges)}"
    )
    notes = Counter(e["event"] for e in morning.of("note"))
    lines.append(f"notes: {dict(notes)}; ideas given up: {len(morning.of('refused'))}")
    money = morning.of("money")
    lines.append("\nspend ledger: settled by, calls, US dollars")
    settled = [e for e in money if e["op"] == "settle"]
    for how in ("usage", "upper bound", "not billed"):
        usd = [e["usd"] for e in settled if e["usage"]["settled"] == how]
        lines.append(f"  {how:<12} {len(usd):>4}  {sum(usd):8.4f}")
    opened = [
        e["usd"]
        for e in money
        if e["op"] == "reserve" and e["ticket"] not in {s["ticket"] for s in settled}
    ]
    lines.append(f"  {'never (kill)':<12} {len(opened):>4}  {sum(opened):8.4f}")
    lines.append(f"  {'status says':<12}       {morning.status['summary']['cost_usd']:8.4f}")
    last = max((e for e in morning.exchanges if e.whole), key=lambda e: len(e.body["messages"]))
    lines.append("\none conversation, as sent (texts cut at 1500 characters) and received:")
    for message in last.body["messages"]:
        for block in message["content"]:
            said = next(block[k] for k in ("text", "content", "thinking", "input") if k in block)
            head = " ".join([message["role"], block["type"], block.get("name", "")]).strip()
            lines.append(f"--- {head}\n{str(said)[:1500]}")
    lines += ["--- received", *(json.dumps(event) for event in last.events)]
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(summary(spend_the_night(Path(place), 40)))
