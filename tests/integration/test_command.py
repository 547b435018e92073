"""A coding agent as the researcher: real child processes that play good, bad and hostile agents."""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from conftest import make_repo
from researching import Spending, history, row

from autorl.errors import Paused, ProposerError, UserError
from autorl.git.repository import Repository
from autorl.proposers.command import MAX_SOURCE_BYTES, CommandProposer

TRAIN = "LEARNING_RATE = 3e-4\nprint(LEARNING_RATE)\n"


@pytest.fixture(autouse=True)
def private_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the exported copies appear."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def agent(tmp_path: Path):
    """Writes a script and returns the proposer that runs it."""

    def make(body: str, **more) -> CommandProposer:
        script = tmp_path / "agent.py"
        script.write_text("import os, sys, time\nfrom pathlib import Path\n" + body)
        root = tmp_path / "repo"
        root.mkdir(exist_ok=True)
        (root / "evaluate.py").write_text("TIME_BUDGET = 720\n")
        return CommandProposer(f"{sys.executable} -I {script}", root=root, **more)

    return make


GONE = "os.unlink('train.py'); "
IMPROVE = """
source = Path('train.py').read_text()
Path('train.py').write_text(source.replace('3e-4', '1e-3'))
"""


def ask(proposer: CommandProposer, spending: Spending, **more):
    told = history(more.pop("count", 9), train_source=TRAIN, **more)
    return proposer.propose(told, spending.budget)


def test_the_edited_file_is_the_proposal(agent, spending, private_tmp):
    proposal = ask(agent(IMPROVE + "print('raise the learning rate')\n"), spending)
    assert proposal.source == TRAIN.replace("3e-4", "1e-3") and proposal.edits == ()
    assert proposal.title == "raise the learning rate" and proposal.proposer == "command"
    assert proposal.seconds > 0 and list(private_tmp.iterdir()) == []  # the copy is gone


def test_the_idea_file_names_it(agent, spending):
    idea = "# lr x3\n\napprox_kl is tiny\nso the steps are timid\n"
    write = f"{IMPROVE}Path('idea.md').write_text({idea!r})\nprint('noise')\n"
    proposal = ask(agent(write), spending)
    assert proposal.title == "lr x3"
    assert proposal.hypothesis == "approx_kl is tiny\nso the steps are timid"


def test_without_words_it_still_has_a_title(agent, spending):
    assert ask(agent(IMPROVE), spending).title.startswith("edit by python")


def test_the_copy_holds_what_an_agent_needs(agent, spending, tmp_path):
    seen = tmp_path / "seen"
    look = f"""
seen = Path({str(seen)!r}); seen.mkdir()
(seen / 'stdin').write_text(sys.stdin.read())
(seen / 'listing').write_text('\\n'.join(sorted(str(p) for p in Path('.').rglob('*'))))
(seen / 'history.tsv').write_text(Path('history.tsv').read_text())
(seen / 'experiment').write_text(Path('experiments/6.txt').read_text())
modes = [oct(os.stat(name).st_mode & 0o777) for name in ('evaluate.py', '.')]
(seen / 'mode').write_text(' '.join(modes))
(seen / 'where').write_text(os.getcwd())
"""
    ask(agent(look + IMPROVE), spending)
    files = "train.py program.md evaluate.py history.tsv history.json"
    files += " experiments/0.txt experiments/6.txt"
    assert set(files.split()) <= set((seen / "listing").read_text().splitlines())
    assert (seen / "mode").read_text() == "0o444 0o700"
    assert (seen / "history.tsv").read_text().count("\n") == 10
    assert "approx_kl=0.0123" in (seen / "experiment").read_text()
    prompted = (seen / "stdin").read_text()
    for words in ("BipedalWalker-v3", "experiment 9", "program.md", "#6 keep"):
        assert words in prompted
    where = Path((seen / "where").read_text())
    # no tool in it finds the user's repository
    assert not any((parent / ".git").exists() for parent in (where, *where.parents))


def test_the_environment_is_an_allow_list(agent, spending, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-1")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "secret-3")
    monkeypatch.setenv("AGENT_KEY", "secret-2")
    monkeypatch.setenv("AUTORL_TIME_BUDGET", "3")
    seen = tmp_path / "environ"
    lines = r"'\n'.join(f'{k}={v}' for k, v in os.environ.items())"
    dump = f"Path({str(seen)!r}).write_text({lines})\n"
    ask(agent(dump + IMPROVE), spending)
    shown = seen.read_text()
    assert "secret" not in shown and "AUTORL" not in shown and f"PATH={os.environ['PATH']}" in shown
    ask(agent(dump + IMPROVE, pass_env=("AGENT_KEY",)), spending)
    assert "AGENT_KEY=secret-2" in seen.read_text() and "secret-1" not in seen.read_text()


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        ("", "unchanged"),
        ("os.unlink('train.py')", "No such file"),
        (GONE + "os.symlink('/etc/passwd', 'train.py')", "no file that can be read"),
        (GONE + "os.mkfifo('train.py')", "not a regular file"),
        (GONE + "os.mkdir('train.py')", "not a regular file"),
        (GONE + "os.symlink('/dev/zero', 'train.py')", "no file that can be read"),
        (f"Path('train.py').write_text('#' * {MAX_SOURCE_BYTES + 1})", "larger than"),
        ("os.truncate('train.py', 10**12)", "larger than"),
        ("Path('train.py').write_bytes(b'x = 1\\n\\xff\\xfe')", "not UTF-8"),
        (IMPROVE + "sys.exit('I give up')", "ended with code 1; it last said: I give up"),
        (IMPROVE + "os.kill(os.getpid(), 9)", "ended with code -9"),
    ],
)
def test_what_is_no_usable_file_is_refused_with_the_reason(deed, why, agent, spending, private_tmp):
    with pytest.raises(ProposerError, match=why) as refused:
        ask(agent(deed), spending)
    assert "\n" not in str(refused.value) and list(private_tmp.iterdir()) == []


def test_swapping_the_folder_for_a_link_gains_nothing(agent, spending, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.py").write_text("STOLEN = 1\n")
    swap = "here = os.getcwd()\nos.rename(here, here + '-moved')\n"
    swap += f"os.symlink({str(other)!r}, here)\n"
    proposal = ask(agent(IMPROVE + swap), spending)
    assert "STOLEN" not in proposal.source and (other / "train.py").read_text() == "STOLEN = 1\n"


def test_what_the_harness_refuses_is_refused(agent, spending):
    with pytest.raises(ProposerError, match="same code as experiment 4"):
        ask(agent(IMPROVE), spending, vet=lambda source: "It is the same code as experiment 4.")


def test_only_train_py_is_taken(agent, spending, tmp_path):
    vandal = """
os.chmod('evaluate.py', 0o644)
Path('evaluate.py').write_text('cheat')
Path('extra.py').write_text('x')
Path('../beside.py').write_text('x')
"""
    proposal = ask(agent(vandal + IMPROVE), spending)
    assert proposal.source == TRAIN.replace("3e-4", "1e-3")
    left = {p.name: p.read_bytes() for p in (tmp_path / "repo").iterdir()}
    assert left == {"evaluate.py": b"TIME_BUDGET = 720\n"}


def alive(marker: Path) -> bool:
    """Whether the process that keeps touching `marker` still does."""
    first = marker.stat().st_mtime_ns
    time.sleep(0.3)
    return marker.stat().st_mtime_ns != first


HEARTBEAT = """
import subprocess
beat = "import time, pathlib\\nwhile True: pathlib.Path({!r}).touch(); time.sleep(0.02)"
subprocess.Popen([sys.executable, "-c", beat])
"""
WAIT_FOR = "while not os.path.exists({!r}): time.sleep(0.02)\n"


def test_a_timeout_ends_the_whole_group(agent, spending, tmp_path):
    marker = tmp_path / "beat"
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += IMPROVE + HEARTBEAT.format(str(marker)) + "time.sleep(600)\n"
    began = time.monotonic()
    with pytest.raises(ProposerError, match="was stopped after 2 s"):
        ask(agent(stubborn, timeout=2.0), spending)
    assert time.monotonic() - began < 12 and marker.exists() and not alive(marker)


def test_what_an_agent_leaves_running_is_ended(agent, spending, tmp_path):
    marker = tmp_path / "beat"
    beats = HEARTBEAT.format(str(marker)) + WAIT_FOR.format(str(marker))
    assert ask(agent(IMPROVE + beats), spending) is not None
    assert marker.exists() and not alive(marker)


def test_a_stop_ends_the_agent_at_once(agent, spending, tmp_path):
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Paused, match="Stopped"):
        ask(agent("time.sleep(600)\n"), spending, stopped=stop.is_set)
    assert time.monotonic() - began < 5


def test_an_agent_that_does_not_read_or_talks_without_end_does_not_block(agent, spending):
    big = tuple(row(n, "discard") for n in range(400))
    # a prompt longer than a pipe holds, never read
    assert ask(agent(IMPROVE), spending, rows=big).source
    with pytest.raises(ProposerError, match="printed too much"):
        ask(agent("while True: os.write(1, b'x' * 1_000_000)\n"), spending)


def test_the_title_is_one_plain_line(agent, spending):
    words = "print('\\n\\n\\x1b[31mred\\x1b[0m\\tand \\u2028 long ' + 'x' * 5000)\n"
    title = ask(agent(IMPROVE + words), spending).title
    assert title.startswith("red and") and len(title) <= 100
    assert "\n" not in title and "\x1b" not in title


def test_each_run_is_noted_for_the_morning(agent, spending):
    ask(agent(IMPROVE), spending)
    notes = [note for note in spending.notes if note.startswith("command: ")]
    assert any("ended with code 0" in note for note in notes)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "needs --command"),
        ("'unclosed", "cannot be read"),
        ("no-such-agent-xyz -p", "no program 'no-such-agent-xyz'"),
    ],
)
def test_a_command_that_cannot_run_is_refused_at_the_start(command, why):
    with pytest.raises(UserError, match=why):
        CommandProposer(command)


def test_a_checkout_that_changed_meanwhile_is_reported(agent, spending, tmp_path):
    repo = make_repo(tmp_path / "checkout")
    checkout = Repository(repo)
    ask(agent(IMPROVE, checkout=checkout.checkout_state), spending)
    assert not any("checkout changed" in note for note in spending.notes)
    mine = "# mine now, and longer than it was before\n" * 3
    meddle = f"Path({str(repo / 'train.py')!r}).write_text({mine!r})\n"
    proposal = ask(agent(meddle + IMPROVE, checkout=checkout.checkout_state), spending)
    assert "mine now" not in proposal.source
    assert sum("checkout changed" in note for note in spending.notes) == 1
    assert any("ran: train.py. Nothing" in note for note in spending.notes)


def test_a_missing_variable_is_refused_at_the_start():
    with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
        CommandProposer("true", pass_env=("NO_SUCH_KEY",))


def test_the_modes_of_what_it_exports_do_not_reach_the_file_taken(agent, spending):
    proposal = ask(agent("os.chmod('train.py', 0o755)\n" + IMPROVE), spending)
    assert type(proposal.source) is str  # bytes only, no mode
    assert proposal.source == TRAIN.replace("3e-4", "1e-3")
