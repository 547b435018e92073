"""A night in which every model refuses one proposal in three: the session goes on, and says so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from api_server import KEY, ApiServer, Message, propose
from conftest import agent_loop, clean_env, make_repo
from researching import REFUSAL, hand_price

from autorl.proposers.claude import DEFAULT_MODEL, DEFAULT_MODELS

TRAIN = '''"""A scripted run with constants to tune."""

SCRIPT = {"return": 10.0, "noise": 1.0, "seconds": 0.02, "end": "ok"}
GAMMA = 0.99  # [0.9, 0.999]
LEARNING_RATE = 3e-4  # [1e-5, 1e-2] log
'''


def test_the_session_goes_on_and_says_who_refused_what_it_cost_and_who_stepped_in(tmp_path: Path):
    (tmp_path / "train.py").write_text(TRAIN)
    repo = make_repo(tmp_path / "repo", tmp_path / "train.py")
    asked = 0

    def answer(body: dict[str, Any]) -> Message:
        nonlocal asked
        asked += body["model"] == DEFAULT_MODEL
        if body["model"] != DEFAULT_MODEL or asked % 3 == 0:
            return REFUSAL
        (here,) = re.findall(r"^GAMMA = .*$", body["messages"][0]["content"][-2]["text"], re.M)
        return propose(f"gamma {asked}", here, f"GAMMA = 0.9{asked}5  # [0.9, 0.999]")

    options = (
        "--tag night --env-id Pendulum-v1 --budget 20 --episodes 3 --runner scripted "
        "--proposer claude --experiments 6 --max-usd 60 --seed 5"
    )
    with ApiServer(default=answer) as server:
        env = clean_env(tmp_path) | {"ANTHROPIC_AUTH_TOKEN": KEY, "NO_PROXY": "127.0.0.1"}
        env["ANTHROPIC_BASE_URL"] = server.url
        done = agent_loop(repo, "run", *options.split(), env=env)
        shown = agent_loop(repo, "history", "--json", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    path = repo / "results/Pendulum-v1/night/journal.jsonl"
    journal = [json.loads(line) for line in path.read_text().splitlines()]
    tried = [e for e in journal if e["type"] == "attempt" and e["n"]]
    assert [e["proposer"] for e in tried] == ["claude", "claude", "search"] * 2
    notes = [e["detail"] for e in journal if e["type"] == "note" and e["event"] == "refusal"]
    first, second = DEFAULT_MODELS.split(",")
    for k in (0, 3):
        assert notes[k].startswith(f"{first} refused") and f"asking {second}" in notes[k]
        assert "(frontier_llm), $0." in notes[k] and notes[k + 1].startswith(f"{second} refused")
        assert notes[k + 2].endswith("; search steps in")
    assert len(notes) == 6 and all(f"refusal: {note}" in done.stderr for note in notes)
    billed = [hand_price(e.usage) for e in server.exchanges if e.body["model"] == first]
    spent = {e["ticket"]: e["usd"] for e in journal if e["type"] == "money"}
    assert sum(spent.values()) == pytest.approx(sum(e["cost_usd"] for e in tried))
    assert sum(spent.values()) > sum(billed)  # the second model's are billed too
    taught = [e["lesson"] != "" for e in json.loads(shown.stdout)["experiments"]]
    assert taught == [False, True, False, True, True, False, False]
