"""The whole path from proposal to report: real git, judge and environment, a toy train.py."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TOYS, clean_env, git

pytestmark = pytest.mark.timeout(1200)  # runs wait for a busy machine

CRIPPLED = (
    (TOYS / "train_es.py").read_text().replace("LEARNING_RATE = 0.5 ", "LEARNING_RATE = 1e-6 ")
)
NOOP_RENAME = [
    {
        "search": "total, steps, over = 0.0, 0, False",
        "replace": "total, steps, over = 0.0, 0, bool(0)",
    }
]
NOOP_ORDER = [
    {"search": "def get_action(self, obs):", "replace": "def get_action(self, obs, unused=None):"}
]
FIX = [{"search": "LEARNING_RATE = 1e-6 ", "replace": "LEARNING_RATE = 0.5 "}]
BROKEN = [
    {
        "search": "    steps = 0\n",
        "replace": "    steps = 0\n    raise RuntimeError('the idea was bad')\n",
    }
]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A crippled baseline; a no-op, a crash, the fix, an edit that does not fit, another no-op."""
    import os

    from conftest import make_repo

    tmp = tmp_path_factory.mktemp("session")
    train = tmp / "train.py"
    train.write_text(CRIPPLED)
    repo = make_repo(tmp / "repo", train)
    ideas = [
        {"title": "no-op: bool(0)", "edits": NOOP_RENAME},
        {"title": "a crash\twith a tab", "edits": BROKEN},
        {
            "title": "a learning rate that learns",
            "hypothesis": "1e-6 cannot move the weights",
            "edits": FIX,
        },
        {"title": "does not fit", "edits": [{"search": "NOT THERE", "replace": "x"}]},
        {"title": "no-op: unused argument", "edits": NOOP_ORDER},
    ]
    (tmp / "ideas.json").write_text(json.dumps(ideas))
    (repo / "notes.txt").write_text("mine, untracked\n")
    before = (
        git(repo, "status", "--porcelain"),
        git(repo, "rev-parse", "HEAD"),
        git(repo, "branch", "--show-current"),
    )
    command = [
        sys.executable,
        "agent_loop.py",
        "run",
        "--tag",
        "session",
        "--env-id",
        "InvertedPendulum-v5",
        "--budget",
        "8",
        "--episodes",
        "5",
    ]
    command += ["--proposer", "replay", "--replay", str(tmp / "ideas.json"), "--seed", "7"]
    done = subprocess.run(
        command, cwd=repo, env=clean_env(tmp), capture_output=True, text=True, timeout=1000
    )
    assert done.returncode == 0, done.stderr
    assert os.path.exists(repo / "results")
    return repo, done, before


def rows(repo: Path) -> list[dict[str, str]]:
    lines = (repo / "results/InvertedPendulum-v5/session/results.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]


def test_the_fix_is_kept_among_no_ops(session) -> None:
    repo, _, _ = session
    by_title = {r["description"]: r for r in rows(repo)}
    assert by_title["a learning rate that learns"]["status"] == "keep"
    assert float(by_title["a learning rate that learns"]["avg_return"]) > 2 * float(
        by_title["baseline"]["avg_return"]
    )
    assert "a learning rate that learns" in git(repo, "log", "--format=%s", "autoresearch/session")


def test_the_table_begins_with_the_columns_of_zjianyi_autorl(session) -> None:
    header = (
        (session[0] / "results/InvertedPendulum-v5/session/results.tsv").read_text().splitlines()[0]
    )
    assert header.split("\t")[:4] == ["commit", "avg_return", "status", "description"]


def test_a_crash_has_an_empty_score_and_a_reason_and_the_loop_went_on(session) -> None:
    repo, _, _ = session
    crash = next(r for r in rows(repo) if r["description"].startswith("a crash"))
    assert crash["status"] == "crash" and crash["avg_return"] == ""
    journal = [
        json.loads(line)
        for line in (repo / "results/InvertedPendulum-v5/session/journal.jsonl")
        .read_text()
        .splitlines()
    ]
    record = next(
        e["record"] for e in journal if e["type"] == "run" and e["record"]["status"] == "crash"
    )
    assert (
        record["avg_return"] is None and "the idea was bad" in record["reason"] + record["log_tail"]
    )


def test_a_proposal_that_does_not_fit_is_in_the_journal_and_not_in_the_table(session) -> None:
    repo, _, _ = session
    assert "does not fit" not in {r["description"] for r in rows(repo)}
    journal = [
        json.loads(line)
        for line in (repo / "results/InvertedPendulum-v5/session/journal.jsonl")
        .read_text()
        .splitlines()
    ]
    assert any(e["type"] == "refused" for e in journal)


def test_every_hash_resolves_and_every_attempt_is_pinned(session) -> None:
    repo, _, _ = session
    for n, row in enumerate(rows(repo)):
        assert git(repo, "cat-file", "-t", row["commit"]) == "commit"
        assert git(repo, "rev-parse", f"refs/autorl/session/{n}").startswith(row["commit"])


def test_the_checkout_is_untouched(session) -> None:
    repo, _, (status, head, branch) = session
    assert (
        git(repo, "rev-parse", "HEAD") == head and git(repo, "branch", "--show-current") == branch
    )
    after = [
        line for line in git(repo, "status", "--porcelain").splitlines() if line != "?? results/"
    ]
    assert after == status.splitlines()


def test_each_measured_run_has_a_record_with_its_seeds(session) -> None:
    repo, _, _ = session
    journal = [
        json.loads(line)
        for line in (repo / "results/InvertedPendulum-v5/session/journal.jsonl")
        .read_text()
        .splitlines()
    ]
    records = [e["record"] for e in journal if e["type"] == "run" and e["record"]["status"] == "ok"]
    assert len(records) >= 7
    assert all(
        len(r["returns"]) == 5 and len(set(r["eval_seeds"])) == 5 and r["training_seconds"] <= 11
        for r in records
    )
    seeds = [e["seed"] for e in journal if e["type"] == "started"]
    assert len(set(seeds)) == len(seeds)  # no run shares its training seed with another
    assert len(
        list((repo / "results/InvertedPendulum-v5/session/runs").glob("*/*/record.json"))
    ) == len([e for e in journal if e["type"] == "run"])


def test_the_picture_is_a_picture(session) -> None:
    assert (
        (session[0] / "results/InvertedPendulum-v5/session/progress.png")
        .read_bytes()
        .startswith(b"\x89PNG")
    )


def test_evidence_is_attached_as_a_note(session) -> None:
    note = git(session[0], "log", "--notes=autorl", "-1", "--format=%N", "autoresearch/session")
    assert note.startswith("Kept") and "Training seeds: " in note


def test_after_ctrl_c_the_command_to_resume_is_the_one_that_was_typed(repo, tmp_path):
    typed = ["run", "--tag", "q", "--quick", "--confirm-runs", "0"]
    command = [sys.executable, "agent_loop.py", *typed]
    loop = subprocess.Popen(
        command,
        cwd=repo,
        env=clean_env(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = repo / "results/InvertedDoublePendulum-v5/q/journal.jsonl"
    end = time.monotonic() + 60
    while (
        not (journal.is_file() and '"type":"started"' in journal.read_text())
        and time.monotonic() < end
    ):
        time.sleep(0.05)
    loop.send_signal(signal.SIGINT)
    _, said = loop.communicate(timeout=60)
    assert loop.returncode == 130 and f"uv run python agent_loop.py {' '.join(typed)}\n" in said, (
        said
    )
