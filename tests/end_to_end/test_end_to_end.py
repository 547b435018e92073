"""The whole path from proposal to report: real git, judge and environment, a toy train.py."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from conftest import TOYS, agent_loop, clean_env, git, make_repo
from ground import until

pytestmark = pytest.mark.timeout(1200)  # runs wait for a busy machine

FOLDER = "results/InvertedPendulum-v5/session"
CRIPPLED = (
    (TOYS / "train_es.py").read_text().replace("LEARNING_RATE = 0.5 ", "LEARNING_RATE = 1e-6 ")
)
IDEAS = {  # what is searched and what replaces it
    "no-op: bool(0)": ("over = 0.0, 0, False", "over = 0.0, 0, bool(0)"),
    "a crash\twith a tab": ("steps = 0", "raise RuntimeError('the idea was bad')"),
    "a learning rate that learns": ("LEARNING_RATE = 1e-6 ", "LEARNING_RATE = 0.5 "),
    "does not fit": ("NOT THERE", "x"),
    "no-op: unused argument": ("get_action(self, obs):", "get_action(self, obs, unused=None):"),
}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A crippled baseline; a no-op, a crash, the fix, an edit that does not fit, another no-op."""
    tmp = tmp_path_factory.mktemp("session")
    train = tmp / "train.py"
    train.write_text(CRIPPLED)
    repo = make_repo(tmp / "repo", train)
    ideas = [
        {"title": title, "edits": [{"search": search, "replace": replace}]}
        for title, (search, replace) in IDEAS.items()
    ]
    (tmp / "ideas.json").write_text(json.dumps(ideas))
    (repo / "notes.txt").write_text("mine, untracked\n")
    asked = (["status", "--porcelain"], ["rev-parse", "HEAD"], ["branch", "--show-current"])
    before = [git(repo, *words) for words in asked]
    words = "run --tag session --env-id InvertedPendulum-v5 --budget 8 --episodes 5 --seed 7"
    argv = [*words.split(), "--proposer", "replay", "--replay", str(tmp / "ideas.json")]
    done = agent_loop(repo, *argv, env=clean_env(tmp), timeout=1000)
    assert done.returncode == 0, done.stderr
    return repo, done, before


def rows(repo: Path) -> list[dict[str, str]]:
    lines = (repo / FOLDER / "results.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]


def journal(repo: Path) -> list[dict]:
    lines = (repo / FOLDER / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_fix_is_kept_among_no_ops(session) -> None:
    repo, _, _ = session
    by_title = {r["description"]: r for r in rows(repo)}
    fixed = by_title["a learning rate that learns"]
    assert fixed["status"] == "keep"
    assert float(fixed["avg_return"]) > 2 * float(by_title["baseline"]["avg_return"])
    assert "a learning rate that learns" in git(repo, "log", "--format=%s", "autoresearch/session")


def test_the_table_begins_with_the_columns_of_zjianyi_autorl(session) -> None:
    assert list(rows(session[0])[0])[:4] == ["commit", "avg_return", "status", "description"]


def test_a_crash_has_an_empty_score_and_a_reason_and_the_loop_went_on(session) -> None:
    repo, _, _ = session
    crash = next(r for r in rows(repo) if r["description"].startswith("a crash"))
    assert crash["status"] == "crash" and crash["avg_return"] == ""
    records = [e["record"] for e in journal(repo) if e["type"] == "run"]
    record = next(record for record in records if record["status"] == "crash")
    assert record["avg_return"] is None
    assert "the idea was bad" in record["reason"] + record["log_tail"]


def test_a_proposal_that_does_not_fit_is_in_the_journal_and_not_in_the_table(session) -> None:
    repo, _, _ = session
    assert "does not fit" not in {r["description"] for r in rows(repo)}
    assert any(e["type"] == "refused" for e in journal(repo))


def test_every_hash_resolves_and_every_attempt_is_pinned(session) -> None:
    repo, _, _ = session
    for n, row in enumerate(rows(repo)):
        assert git(repo, "cat-file", "-t", row["commit"]) == "commit"
        assert git(repo, "rev-parse", f"refs/autorl/session/{n}").startswith(row["commit"])


def test_the_checkout_is_untouched(session) -> None:
    repo, _, (status, head, branch) = session
    assert git(repo, "rev-parse", "HEAD") == head
    assert git(repo, "branch", "--show-current") == branch
    after = git(repo, "status", "--porcelain").splitlines()
    assert [line for line in after if line != "?? results/"] == status.splitlines()


def test_each_measured_run_has_a_record_with_its_seeds(session) -> None:
    repo, _, _ = session
    runs = [e["record"] for e in journal(repo) if e["type"] == "run"]
    records = [record for record in runs if record["status"] == "ok"]
    assert len(records) >= 7
    assert all(len(r["returns"]) == 5 and len(set(r["eval_seeds"])) == 5 for r in records)
    assert all(r["training_seconds"] < 8.5 for r in records)
    seeds = [e["seed"] for e in journal(repo) if e["type"] == "started"]
    assert len(set(seeds)) == len(seeds)  # no run shares its training seed with another
    assert len(list((repo / FOLDER / "runs").glob("*/*/record.json"))) == len(runs)


def test_the_picture_is_a_picture(session) -> None:
    assert (session[0] / FOLDER / "progress.png").read_bytes().startswith(b"\x89PNG")


def test_evidence_is_attached_as_a_note(session) -> None:
    note = git(session[0], "log", "--notes=autorl", "-1", "--format=%N", "autoresearch/session")
    assert note.startswith("Kept") and "Training seeds: " in note


def test_after_ctrl_c_the_command_to_resume_is_the_one_that_was_typed(repo, tmp_path):
    typed = ["run", "--tag", "q", "--quick", "--confirm-runs", "0"]
    command, env = [sys.executable, "agent_loop.py", *typed], clean_env(tmp_path)
    loop = subprocess.Popen(command, cwd=repo, env=env, stdout=DEVNULL, stderr=PIPE, text=True)
    journal = repo / "results/InvertedDoublePendulum-v5/q/journal.jsonl"
    until(lambda: journal.is_file() and '"type":"started"' in journal.read_text(), 60)
    loop.send_signal(signal.SIGINT)
    _, said = loop.communicate(timeout=60)
    assert loop.returncode == 130, said
    assert f"uv run python agent_loop.py {' '.join(typed)}\n" in said, said
