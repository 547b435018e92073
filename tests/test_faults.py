"""A night without a person: whatever happens, I1-I8 hold and the same rows and decisions come out.

Real processes, real kills, real git; runs are scripted (autorl/runners/scripted.py). The full sweep and the soak are
`long`:  uv run pytest tests/test_faults.py -m "long or not long".  Tables: tests/faults/sweep.py, benchmarks/soak.py.
"""

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "faults"), str(HERE.parent / "benchmarks")]

from conftest import TOYS, clean_env, make_repo  # noqa: E402
from forge import Forge  # noqa: E402
from ground import ENV_ID, Site, children_in, git, script  # noqa: E402
from sweep import IDEAS, MORE, Sweep, table  # noqa: E402

from autorl.journal import Journal, encode  # noqa: E402
from autorl.locks import CoreSlots  # noqa: E402

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def forge():
    forge = Forge()
    yield forge
    forge.close()


@pytest.fixture(scope="module")
def sweep(forge, tmp_path_factory):
    return Sweep(tmp_path_factory.mktemp("sweep"), forge)


def until(condition, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def types(site: Site) -> list[str]:
    return [e["type"] for e in site.events()] if (site.folder / "journal.jsonl").exists() else []


# -- the invariants themselves can break -----------------------------------------------------------------------------


def test_the_undisturbed_session_is_what_the_sweep_takes_it_for(sweep):
    assert sweep.breaks == []
    outcomes = {row[1]: row[2] for row in sweep.decisions["rows"]}
    assert outcomes["better with a tab"] == outcomes["far better"] == "keep" and outcomes["crashes"] == "crash"
    assert outcomes["a little worse"] == outcomes["not as good"] == "discard"
    assert len(sweep.decisions["refused"]) == 2 and sweep.decisions["refused"][1] == "the same again"
    assert set(sweep.kinds) >= {"journal append", "git object", "ref move", "child start", "file write", "lock"}
    assert sweep.undisturbed.ledger().claim is not None


def _lose_the_pin(site: Site) -> None:
    git(site.repo, "update-ref", "-d", f"refs/autorl/{site.tag}/2")


def _rewrite(site: Site, change) -> None:
    events = change(site.events())
    lines = [encode({**event, "seq": seq}) for seq, event in enumerate(events)]
    (site.folder / "journal.jsonl").write_bytes(b"".join(lines))


def _count_a_run_twice(events: list[dict]) -> list[dict]:
    run = next(e for e in events if e["type"] == "run")
    return [*events, run]


def _score_without_record(events: list[dict]) -> list[dict]:
    run = next(e for e in events if e["type"] == "run")
    run["record"] = {**run["record"], "returns": run["record"]["returns"][:-1]}
    return events


def _a_child(site: Site) -> None:
    child = subprocess.Popen(["sleep", "10"], cwd=site.repo)
    site.test_child = child  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [
        ("I1", lambda s: git(s.repo, "update-ref", f"refs/heads/autoresearch/{s.tag}", f"refs/autorl/{s.tag}/1")),
        ("I1", _lose_the_pin),
        ("I1", lambda s: git(s.repo, "update-ref", "-d", "refs/notes/autorl")),
        ("I2", lambda s: _rewrite(s, _count_a_run_twice)),
        ("I2", lambda s: _rewrite(s, lambda events: [e for e in events if not (e["type"] == "run" and e["run"] == 3)])),
        ("I3", lambda s: _rewrite(s, _score_without_record)),
        ("I4", lambda s: (s.repo / "notes.txt").write_text("changed")),
        ("I4", lambda s: git(s.repo, "add", "notes.txt")),
        ("I4", lambda s: git(s.repo, "checkout", "-q", "-b", "elsewhere")),
        ("I5", _a_child),
        ("I6", lambda s: (s.folder / "results.tsv").write_text((s.folder / "results.tsv").read_text().replace("\tkeep\t", "\tdiscard\t", 1))),
        ("I6", lambda s: (s.folder / "results.tsv").write_text((s.folder / "results.tsv").read_text() + "half a row")),
    ],
)  # fmt: skip
def test_every_invariant_notices_when_it_is_broken(sweep, tmp_path, invariant, spoil):
    site = sweep.undisturbed.copy(tmp_path)
    assert site.broken_invariants() == []
    spoil(site)
    try:
        assert any(line.startswith(invariant) for line in site.broken_invariants()), site.broken_invariants()
    finally:
        if child := getattr(site, "test_child", None):
            child.kill()
            child.wait()


# -- kill and fail at effect N ---------------------------------------------------------------------------------------


def sample(kinds: list[str], per_kind: int) -> list[int]:
    """Effect numbers: the first of each kind and others spread over the session."""
    chosen = set()
    for kind in sorted(set(kinds)):
        those = [n for n, k in enumerate(kinds, 1) if k == kind]
        chosen |= {those[i * (len(those) - 1) // max(1, per_kind - 1)] for i in range(per_kind)}
    return sorted(chosen)


def test_a_kill_at_a_sample_of_effects_changes_nothing(sweep):
    points = sweep.sweep(sample(sweep.kinds, 2), ["kill"]) + sweep.sweep(sample(sweep.kinds, 3)[1::4], ["kill after"])
    assert len(points) >= 12 and not [(p, p.trouble) for p in points if p.trouble]


@pytest.mark.long
def test_a_kill_at_every_effect_changes_nothing(sweep):
    points = sweep.sweep(range(1, len(sweep.kinds) + 1), ["kill", "kill after"])
    print(table(points))
    assert not [(p, p.trouble) for p in points if p.trouble]


def test_a_disk_that_is_full_or_broken_at_a_sample_of_effects_loses_nothing(sweep):
    points = sweep.sweep(sample(sweep.kinds, 2)[::2], ["ENOSPC"]) + sweep.sweep(sample(sweep.kinds, 2)[1::4], ["ENOSPC:ever", "EIO:ever"])
    assert len(points) >= 10 and not [(p, p.trouble) for p in points if p.trouble]


@pytest.mark.long
def test_a_disk_that_is_full_at_every_effect_or_broken_at_many_loses_nothing(sweep):
    last = len(sweep.kinds) + 1
    points = (
        sweep.sweep(range(1, last), ["ENOSPC"])
        + sweep.sweep(range(1, last, 2), ["ENOSPC:ever"])
        + sweep.sweep(range(1, last, 4), ["EIO:ever", "EROFS:ever"])
    )
    print(table(points))
    assert not [(p, p.trouble) for p in points if p.trouble]


def test_kills_in_a_row_are_survived(sweep, tmp_path, forge):
    """Killed at effect 3, 15, 27, ... of each sitting until one gets to the end."""
    site, n = sweep.base.copy(tmp_path), 3
    for _ in range(40):
        code, _, err = forge.run(site.repo, site.argv(*MORE), site.env | {"AUTORL_KILL_AT": str(n)})
        assert code in (-9, 0), err
        if code == 0:
            break
        n += 12
    assert code == 0 and site.broken_invariants() == [] and site.decisions() == sweep.decisions


# -- signals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_run(tmp_path, forge):
    """A loop in the middle of a run of half a minute."""
    site = Site.new(tmp_path / "site", [{"title": "slow", "source": script(12.0, seconds=30.0)}])
    argv = site.argv()
    argv[argv.index("--budget") + 1] = "60"
    process = forge.start(site.repo, argv, site.env)
    assert until(lambda: any(e.get("attempt") == 1 and e["type"] == "started" for e in (site.events() if types(site) else [])))
    assert until(lambda: bool(children_in(site.folder)))
    yield site, process
    if not process.ended.is_set():
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_the_record_and_says_how_to_resume(long_run, how):
    site, process = long_run
    began = time.monotonic()
    os.kill(process.pid, how)
    code, _, err = process.wait()
    assert code == 130 and time.monotonic() - began < 5
    assert "Resume with: uv run python agent_loop.py run --tag t" in err and "Traceback" not in err
    assert site.broken_invariants() == []
    last = [e for e in site.events() if e["type"] == "run"][-1]
    assert last["record"]["status"] == "interrupted" and types(site)[-1] == "closed"


def test_two_signals_end_it_at_once_and_lose_nothing(long_run):
    site, process = long_run
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    code, _, err = process.wait()
    assert code == 130 and time.monotonic() - began < 2 and "Traceback" not in err
    assert site.broken_invariants(ended=False) == []


def test_stop_from_another_terminal_is_one_signal(long_run, forge):
    site, process = long_run
    code, out, err = forge.run(site.repo, ["stop", "--tag", "t"], site.env)
    assert code == 0 and "resume with" in out.lower(), err
    assert process.wait()[0] == 130 and site.broken_invariants() == []
    code, _, err = forge.run(site.repo, ["stop", "--tag", "t"], site.env)
    assert code == 2 and "nothing to stop" in err


def test_a_second_loop_is_refused_by_pid_and_the_first_goes_on(long_run, forge):
    site, process = long_run
    code, _, err = forge.run(site.repo, site.argv(), site.env)
    assert code == 2 and f"pid {process.pid}" in err
    assert not process.ended.is_set() and children_in(site.folder)


def test_a_loop_never_measures_on_the_cores_of_another_session(sweep, tmp_path, forge):
    """The slots belong to the machine, not to a repository."""
    site, core = sweep.base.copy(tmp_path), min(os.sched_getaffinity(0))
    held = CoreSlots(site.home / "slots").acquire((core,))
    argv = [a for a in site.argv("--cores", str(core)) if a not in ("--runner", "scripted")]
    code, _, err = forge.run(site.repo, argv, site.env)
    assert held is not None and code == 2 and f"core {core} is held by pid {os.getpid()}" in err and "Traceback" not in err, err
    assert "started" not in types(site)
    held.release()


def test_kill_9_takes_the_run_along_and_it_is_repeated_once_on_the_same_seed(long_run, forge):
    site, process = long_run
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert until(lambda: not children_in(site.folder), 3)
    argv = site.argv()
    argv[argv.index("--budget") + 1] = "60"
    again = forge.start(site.repo, argv, site.env)
    assert until(lambda: sum(e.get("attempt") == 1 and e["type"] == "started" for e in site.events()) == 2)
    os.kill(again.pid, signal.SIGTERM)
    again.wait()
    first, second = [e for e in site.events() if e["type"] == "started" and e["attempt"] == 1][:2]
    assert first["seed"] == second["seed"]
    assert next(e for e in site.events() if e["type"] == "run" and e["run"] == first["run"])["record"]["status"] == "interrupted"


@pytest.mark.long
def test_when_every_candidate_crashes_it_stops_with_a_reason_and_what_was_kept_is_still_proved(tmp_path, forge):
    crashes = [{"title": f"crash {k}", "source": script(3.0 + k, "raise")} for k in range(7)]
    site = Site.new(tmp_path, [{"title": "far better", "source": script(20.0)}, *crashes])
    code, out, err = forge.run(site.repo, site.argv("--confirm-runs", "2"), site.env)
    assert code == 1 and "crashed while the incumbent" in out + err and "the ideas are at fault" in out + err, out + err
    ledger = site.ledger()
    assert sum(v.outcome == "crash" for v in ledger.verdicts) == 5
    assert ledger.claim is not None and ledger.claim["champion"] == 1
    assert site.broken_invariants() == []


# -- which session ---------------------------------------------------------------------------------------------------


def test_without_a_tag_the_newest_unfinished_session_goes_on_and_says_so(tmp_path, forge):
    site = Site.new(tmp_path / "site", IDEAS)
    argv = [a for a in site.argv(*MORE) if a not in ("--tag", "t")]
    code, _, err = forge.run(site.repo, argv, site.env | {"AUTORL_KILL_AT": "60"})
    assert code == -9
    (session,) = (site.repo / "results" / ENV_ID).iterdir()
    site.tag = session.name
    code, _, err = forge.run(site.repo, argv, site.env)
    assert code == 0 and re.search(rf"continuing {session.name}: \d+ experiments? and \d+ runs so far", err), err
    assert [p.name for p in (site.repo / "results" / ENV_ID).iterdir()] == [session.name]
    assert site.broken_invariants() == []
    code, _, err = forge.run(site.repo, argv, site.env)  # that one is finished: a new one from the date
    assert code == 0 and "new session" in err and len(list((site.repo / "results" / ENV_ID).iterdir())) == 2


# -- the journal, the clock, the branch ------------------------------------------------------------------------------


def test_a_torn_journal_goes_on_and_says_so_and_a_damaged_one_is_refused(sweep, tmp_path, forge):
    site = sweep.base.copy(tmp_path)
    assert forge.run(site.repo, site.argv(*MORE), site.env | {"AUTORL_KILL_AT": "70"})[0] == -9
    journal = site.folder / "journal.jsonl"
    good = journal.read_bytes()
    journal.write_bytes(good[:200] + b"X" + good[201:])
    code, _, err = forge.run(site.repo, site.argv(*MORE), site.env)
    assert code == 2 and "Line 1 of" in err and "Traceback" not in err
    journal.write_bytes(good.replace(b'{"v":1,"seq":0,', b'{"v":7,"seq":0,', 1))
    code, _, err = forge.run(site.repo, site.argv(*MORE), site.env)
    assert code == 2 and "newer autoRL" in err
    journal.write_bytes(good + b'{"v":1,"seq":' + b"\0" * 512)
    code, _, err = forge.run(site.repo, site.argv(*MORE), site.env)
    assert code == 0 and "was torn (525 bytes)" in err
    assert site.broken_invariants() == [] and site.decisions() == sweep.decisions


def test_a_wall_clock_that_jumps_by_years_changes_nothing(sweep, tmp_path, forge):
    """Order is by sequence number and durations are monotonic: the wall clock is for people."""
    site, rng = sweep.base.copy(tmp_path), random.Random(1)
    assert forge.run(site.repo, site.argv(*MORE), site.env | {"AUTORL_KILL_AT": "80"})[0] == -9

    def jump(events: list[dict]) -> list[dict]:
        return [
            {**e, "at": f"{rng.randrange(2022, 2031)}-{rng.randrange(1, 13):02}-01T00:00:00Z"} if e["type"] != "attempt" else e
            for e in events
        ]

    _rewrite(site, jump)
    assert forge.run(site.repo, site.argv(*MORE), site.env)[0] == 0
    assert site.broken_invariants() == [] and site.decisions() == sweep.decisions


@pytest.mark.parametrize("deed", ["moves", "deletes"])
def test_a_branch_that_the_user_touched_stops_the_loop_with_instructions_that_work(sweep, tmp_path, forge, deed):
    site = sweep.base.copy(tmp_path)
    assert forge.run(site.repo, site.argv(*MORE), site.env | {"AUTORL_KILL_AT": "80"})[0] == -9
    branch = "refs/heads/autoresearch/t"
    tip = git(site.repo, "rev-parse", branch)
    git(
        site.repo,
        "update-ref",
        *(["-d", branch] if deed == "deletes" else [branch, git(site.repo, "commit-tree", "HEAD^{tree}", "-p", tip, "-m", "mine")]),
    )
    theirs = git(site.repo, "rev-parse", branch, check=False)
    code, _, err = forge.run(site.repo, site.argv(*MORE), site.env)
    assert code == 3 and "by somebody else" in err and git(site.repo, "rev-parse", branch, check=False) == theirs
    command = re.search(r"put it back with `git ([^`]+)`", err)
    assert command is not None
    git(site.repo, *command[1].split())
    assert forge.run(site.repo, site.argv(*MORE), site.env)[0] == 0
    assert site.broken_invariants() == [] and site.decisions() == sweep.decisions


def test_a_stale_lock_of_ours_is_cleared_with_a_note(sweep, tmp_path, forge):
    site = sweep.base.copy(tmp_path)
    assert forge.run(site.repo, site.argv(*MORE), site.env | {"AUTORL_KILL_AT": "80"})[0] == -9
    locks = [
        site.repo / ".git" / name for name in ("refs/heads/autoresearch/t.lock", "refs/notes/autorl.lock", "index.lock", "packed-refs.lock")
    ]
    for lock in locks:
        lock.write_text("")
    code, _, err = forge.run(site.repo, site.argv(*MORE), site.env)
    assert code == 0 and "left by a git that was killed" in err and "note" in types(site)
    assert [lock.exists() for lock in locks] == [False, False, True, True]
    for lock in locks[2:]:
        lock.unlink()
    assert site.broken_invariants() == [] and site.decisions() == sweep.decisions


# -- garbage ---------------------------------------------------------------------------------------------------------


def test_clean_removes_what_dead_runs_left_and_nothing_else(sweep, tmp_path, forge):
    site = sweep.undisturbed.copy(tmp_path)
    for runs, env in ((site.repo / ".autorl" / "runs", {**site.env, "AUTORL_HOME": ""}), (site.home / "runs", site.env)):
        dead, alive = runs / "run-dead", runs / "run-alive"
        for folder in (dead, alive):
            (folder / "run").mkdir(parents=True)
            (folder / "run" / "policy.pkl").write_bytes(b"x" * 1_000_000)
            (folder / "lock").write_text("")
        (dead / "run").chmod(0o500)
        lock = os.open(alive / "lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        refs, journal = git(site.repo, "for-each-ref"), (site.folder / "journal.jsonl").read_bytes()
        code, out, err = forge.run(site.repo, ["clean", "--dry-run"], env)
        assert code == 0 and out.count(" MB ") == 1 and "run-dead" in out and dead.exists(), out + err
        code, out, err = forge.run(site.repo, ["clean", "--yes"], env)
        assert code == 0 and not dead.exists() and (alive / "run" / "policy.pkl").exists(), out + err
        os.close(lock)
        assert forge.run(site.repo, ["clean", "--yes"], env)[0] == 0 and not alive.exists()
        assert forge.run(site.repo, ["clean"], env)[1] == "Nothing to clean.\n"
        assert (git(site.repo, "for-each-ref"), (site.folder / "journal.jsonl").read_bytes()) == (refs, journal)
    assert site.broken_invariants() == []


# -- sizes -----------------------------------------------------------------------------------------------------------

RESUME = """
import sys, time
from pathlib import Path
from autorl.loop import Loop
from autorl.proposers.replay import Replay
from autorl.runners.scripted import ScriptedRunner
from autorl.session import Bounds, Settings, open_session
began = time.process_time()  # a machine that does other things as well is not what is measured
session = open_session(Path(sys.argv[1]), "t", Settings())
class Silent:
    def say(self, text): pass
    def progress(self, runs, waiting): pass
loop = Loop(session, Replay(sys.argv[2]), ScriptedRunner(), Bounds(), Silent())
print(session.journal.count, round(time.process_time() - began, 3))
"""


def test_a_journal_of_ten_thousand_events_is_resumed_within_two_seconds(sweep, tmp_path):
    """A finished session, its attempts repeated with new numbers until there are 10,000 events."""
    site = sweep.undisturbed.copy(tmp_path)
    events = site.events()
    first = next(i for i, e in enumerate(events) if e["type"] == "attempt" and e["n"] == 1)
    end = next(i for i, e in enumerate(events) if e["type"] == "attempt" and e["n"] == 2)
    runs = max(e["run"] for e in events if e["type"] == "run")
    many, extra = list(events), 0
    while len(many) < 10_000:
        extra += 1
        for event in events[first:end]:
            event = json.loads(json.dumps(event))
            if event["type"] == "attempt":
                event |= {
                    "n": 5 + extra,
                    "parent": next(e["parent"] for e in events if e["type"] == "attempt" and e["n"] == 5),
                    "key": f"key {extra}",
                }
            elif event["type"] == "pinned":
                event["n"] = 5 + extra
            elif event["type"] == "verdict":
                event["verdict"]["attempt"] = 5 + extra
            elif event["type"] in ("started", "handle", "run"):
                event["run"] += runs * extra
                if "attempt" in event:
                    event["attempt"] = 5 + extra if event["attempt"] == 1 else event["attempt"]
                    event["seed_index"] = 100 + extra
                if "record" in event:
                    event["record"] |= {"returns": [1.5] * 100, "eval_seeds": [2**31] * 100, "lengths": [1600] * 100}
            many.append(event)
    (site.folder / "journal.jsonl").write_bytes(b"".join(encode({**event, "seq": seq}) for seq, event in enumerate(many)))
    env = {**os.environ, **site.env, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", RESUME, str(site.repo), str(site.ideas)], env=env, cwd=site.repo, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    count, seconds = done.stdout.split()
    assert int(count) >= 10_000 and float(seconds) < 2.0, done.stdout


# -- through the real judge ------------------------------------------------------------------------------------------


def test_kill_9_and_sigterm_during_real_training_leave_no_process_and_the_seed_is_repeated(tmp_path):
    repo = make_repo(tmp_path / "repo", TOYS / "train_es.py")
    ideas = tmp_path / "ideas.json"
    ideas.write_text(
        json.dumps(
            [{"title": "a no-op", "edits": [{"search": "def get_action(self, obs):", "replace": "def get_action(self, obs, more=None):"}]}]
        )
    )
    argv = [
        sys.executable,
        "agent_loop.py",
        "run",
        "--tag",
        "t",
        "--env-id",
        "InvertedPendulum-v5",
        "--budget",
        "6",
        "--episodes",
        "3",
        "--seed",
        "1",
    ]
    argv += ["--proposer", "replay", "--replay", str(ideas), "--rigor", "bold"]
    journal = repo / "results/InvertedPendulum-v5/t/journal.jsonl"

    def training() -> list[str]:
        """Processes of this session: command line or working directory in the repository or beside it."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if str(tmp_path).encode() in (entry / "cmdline").read_bytes() + os.readlink(entry / "cwd").encode():
                        found.append(entry.name)
                except OSError:
                    continue
        return found

    loop = subprocess.Popen(argv, cwd=repo, env=clean_env(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: len(training()) >= 4, 60)  # the loop, the judge, its workers, the confined trainer
        time.sleep(1.5)
    finally:
        loop.kill()
        loop.wait()
    assert until(lambda: not training(), 5), training()
    loop = subprocess.Popen(argv, cwd=repo, env=clean_env(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: sum(e["type"] == "started" for e in Journal.read(journal)) == 2, 60)
        first, second = (e for e in Journal.read(journal) if e["type"] == "started")
        assert first["seed"] == second["seed"] and until(lambda: len(training()) >= 4, 60)
        loop.terminate()  # once: the record is finished, the trainer killed
        assert loop.wait(20) == 130
    finally:
        loop.kill()
        loop.wait()
    assert until(lambda: not training(), 5), training()
    records = [e["record"] for e in Journal.read(journal) if e["type"] == "run"]
    assert [(r["status"], r["rule"]) for r in records] == [("interrupted", "lost"), ("interrupted", "stopped")]
    assert Journal.read(journal)[-1]["type"] == "closed" and list((tmp_path / "autorl-home").rglob("run-*/*")) == []


@pytest.mark.long
def test_two_minutes_of_random_faults_break_nothing():
    from soak import soak

    report, breaks, faults = soak(2.0, random.randrange(10**6))
    print(report)
    assert not breaks, report
    assert sum(fault.injected for fault in faults.values()) >= 15


# -- a real read-only and a real full file system --------------------------------------------------------------------


def mounted(site: Site, options: str) -> subprocess.CompletedProcess[str]:
    """The loop with results/ on a file system of its own, in a mount namespace of its own."""
    (site.repo / "results").mkdir(exist_ok=True)
    inside = f'mount {options} results && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh", sys.executable, "agent_loop.py", *site.argv()]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AUTORL_", "GIT_"))} | site.env | {"PYTHONPATH": str(HERE.parent)}
    return subprocess.run(argv, cwd=site.repo, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
    ).returncode
    != 0,
    reason="this machine gives no mount namespace",
)
@pytest.mark.parametrize(
    ("options", "codes", "word"),
    [("-t tmpfs -o ro none", (2, 3), "writable"), ("-t tmpfs -o size=256k none", (3,), "GiB of disk are free")],
    ids=["read-only", "full"],
)
def test_results_on_a_read_only_or_full_file_system_are_refused_before_a_run(tmp_path, options, codes, word):
    site = Site.new(tmp_path / "site", IDEAS)
    done = mounted(site, options)
    said = [line for line in done.stderr.splitlines() if line.startswith("autorl: ")]
    assert done.returncode in codes and len(said) == 1 and word in said[0] and "Traceback" not in done.stderr, done.stderr
    assert git(site.repo, "for-each-ref", "refs/heads/autoresearch").count("autoresearch") <= 1 and site.broken_invariants() == []
