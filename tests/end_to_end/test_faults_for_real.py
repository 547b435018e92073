"""Faults with nothing scripted: kills during real training; file systems full or read-only."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT, TOYS, clean_env, make_repo
from ground import Site, git, until
from sweep import IDEAS

from autorl.session.event_log import Follower
from autorl.session.events import Closed, RunEnded, RunStarted

APART = ["unshare", "--user", "--map-root-user", "--mount"]

pytestmark = pytest.mark.timeout(3600)


# -- through the real judge ------------------------------------------------------------------------


def test_kill_9_and_sigterm_during_real_training_leave_no_process_and_the_seed_is_repeated(
    tmp_path,
):
    repo = make_repo(tmp_path / "repo", TOYS / "train_es.py")
    ideas = tmp_path / "ideas.json"
    edit = {"search": "get_action(self, obs):", "replace": "get_action(self, obs, more=None):"}
    ideas.write_text(json.dumps([{"title": "a no-op", "edits": [edit]}]))
    words = "run --tag t --env-id InvertedPendulum-v5 --budget 6 --episodes 3 --seed 1"
    argv = [sys.executable, "agent_loop.py", *words.split()]
    argv += ["--proposer", "replay", "--replay", str(ideas)]
    journal = repo / "results/InvertedPendulum-v5/t/journal.jsonl"

    def training() -> list[str]:
        """Processes whose command line or working directory is in or beside the repository."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    told = (entry / "cmdline").read_bytes() + os.readlink(entry / "cwd").encode()
                except OSError:
                    continue
                if str(tmp_path).encode() in told:
                    found.append(entry.name)
        return found

    def start() -> subprocess.Popen[bytes]:
        null = subprocess.DEVNULL
        return subprocess.Popen(argv, cwd=repo, env=clean_env(tmp_path), stdout=null, stderr=null)

    loop = start()
    try:
        # the loop, the judge, its workers, the confined trainer
        assert until(lambda: len(training()) >= 4, 60)
        time.sleep(1.5)
    finally:
        loop.kill()
        loop.wait()
    assert until(lambda: not training(), 5), training()
    loop = start()
    try:
        assert until(
            lambda: sum(isinstance(e, RunStarted) for e in Follower(journal).new()) == 2, 60
        )
        first, second = (e for e in Follower(journal).new() if isinstance(e, RunStarted))
        assert first.seed == second.seed and until(lambda: len(training()) >= 4, 60)
        loop.terminate()  # once: the record is finished, the trainer killed
        assert loop.wait(20) == 130
    finally:
        loop.kill()
        loop.wait()
    assert until(lambda: not training(), 5), training()
    records = [e.record for e in Follower(journal).new() if isinstance(e, RunEnded)]
    assert [r.status for r in records] == ["interrupted"] * 2
    assert [r.rule for r in records] == ["lost", "stopped"]
    assert isinstance(Follower(journal).new()[-1], Closed)
    assert list((tmp_path / "autorl-home").rglob("run-*/*")) == []


# -- a real read-only and a real full file system --------------------------------------------------


def mounted(site: Site, options: str) -> subprocess.CompletedProcess[str]:
    """The loop with results/ on a file system of its own, in a mount namespace of its own."""
    (site.repo / "results").mkdir(exist_ok=True)
    inside = f'mount {options} results && exec "$@"'
    argv = [*APART, "sh", "-c", inside, "sh", sys.executable, "agent_loop.py", *site.argv()]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUTORL_", "GIT_"))}
    env = kept | site.env | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(argv, cwd=site.repo, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(
    subprocess.run([*APART, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
    != 0,
    reason="this machine gives no mount namespace",
)
@pytest.mark.parametrize(
    ("options", "codes", "word"),
    [
        ("-t tmpfs -o ro none", (2, 3), "writable"),
        ("-t tmpfs -o size=256k none", (3,), "GiB of disk are free"),
    ],
    ids=["read-only", "full"],
)
def test_results_on_a_read_only_or_full_file_system_are_refused_before_a_run(
    tmp_path, options, codes, word
):
    site = Site.new(tmp_path / "site", IDEAS)
    done = mounted(site, options)
    said = [line for line in done.stderr.splitlines() if line.startswith("autorl: ")]
    assert done.returncode in codes and len(said) == 1 and word in said[0], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert git(site.repo, "for-each-ref", "refs/heads/autoresearch").count("autoresearch") <= 1
    assert site.broken_invariants() == []
