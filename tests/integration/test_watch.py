"""`watch`: a session's recordings as a page; in a real browser (long), the page plays.

The browser: chromium --headless --no-sandbox --disable-gpu-sandbox, WebGL in software
(--use-angle=swiftshader --enable-unsafe-swiftshader), virtual time, its log and its network log.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from recorded import HOSTILE, record, session

from autorl.cli.main import cli

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
OWN = "not an origin"  # who asks for what the browser looks up by itself


def watch(root: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["watch", *words], obj=root)


def test_the_median_run_is_shown_beside_the_baseline(tmp_path: Path) -> None:
    folder = session(tmp_path, "CartPole-v1", {0: [1.0], 1: [9.0, 7.0, 8.0]})
    for run in range(4):
        record("CartPole-v1", tmp_path / "runs" / str(run))
    done = watch(tmp_path, "1", "--tag", "t", "--episode", "worst")
    assert (done.exit_code, done.output.strip()) == (0, "results/CartPole-v1/t/watch-1-worst.html")
    page = (folder / "watch-1-worst.html").read_text()
    assert HOSTILE not in page
    notes = re.findall(r'"note":"([^"]*)"', page)
    assert notes == ["worst of 3 episodes, run 0", "worst of 3 episodes, run 3"]
    assert watch(tmp_path, "baseline", "--episode", "grid").exit_code == 0
    page = (folder / "watch-0-grid.html").read_text()
    assert page.count('"label":""') == 3


def test_what_cannot_be_watched_is_a_sentence(tmp_path: Path) -> None:
    folder = session(tmp_path, "CartPole-v1", {0: [1.0], 1: [2.0]})
    done = watch(tmp_path, "7")
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "There is no experiment '7' in 't'" in done.output
    done = watch(tmp_path, "1")  # a session from before anything was recorded
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "Nothing was recorded of experiment 1" in done.output
    record("CartPole-v1", tmp_path / "runs" / "1")
    path = tmp_path / "runs" / "1" / "recording.json"
    whole = json.loads(path.read_text())
    assert watch(tmp_path, "1").exit_code == 0  # without a baseline beside it
    whole["episodes"][1]["states"]["data"] = "AAAA"
    path.write_text(json.dumps(whole))
    done = watch(tmp_path, "1")
    assert (done.exit_code, "cannot be read" in done.output) == (2, True)
    path.write_text("[]")
    assert watch(tmp_path, "1").exit_code == 2
    assert sorted(p.name for p in folder.glob("watch*")) == ["watch-1-median.html"]


def browse(page: str, folder: Path, seconds: float = 4.0, *flags: str) -> tuple[str, str, set[str]]:
    """(what the document became, lines of its console, addresses it asked for)."""
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--hide-scrollbars", "--window-size=1280,800",
        f"--virtual-time-budget={1000 * seconds:.0f}", "--enable-logging=stderr",
        f"--log-net-log={folder / 'net.json'}", f"--user-data-dir={folder / 'profile'}",
        "--disable-background-networking", "--no-first-run", *flags, "--dump-dom", page,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    net = json.loads((folder / "net.json").read_text())
    asked = [event["params"] for event in net["events"] if "url" in event.get("params", {})]
    urls = {p["url"] for p in asked if p.get("initiator", OWN) != OWN}
    return done.stdout, console, urls


@pytest.mark.long
@pytest.mark.skipif(not BROWSER, reason="no chromium here: apt-get install chromium")
@pytest.mark.parametrize("env_id", ["Hopper-v5", "BipedalWalker-v3"])
def test_the_page_plays_in_a_browser_and_asks_for_nothing(env_id: str, tmp_path: Path) -> None:
    folder = session(tmp_path, env_id, {0: [1.0], 1: [2.0]})
    for run in range(2):
        record(env_id, tmp_path / "runs" / str(run), steps=200)
    assert watch(tmp_path, "1").exit_code == 0
    page = (folder / "watch-1-median.html").as_uri()

    def frame(document: str) -> int:
        assert 'data-ready="1"' in document
        found = re.search(r'data-frame="(\d+)"', document)
        assert found
        return int(found[1])

    document, console, urls = browse(page, tmp_path, 1.0)
    assert console == ""
    assert urls == set()
    assert frame(document) > 0  # it plays by itself
    assert document.count("<canvas") == 2
    assert ">Baseline<" in document
    document, console, _ = browse(f"{page}#frame=4", tmp_path, 1.0)
    assert (frame(document), console) == (4, "")
    if env_id == "Hopper-v5":
        document, console, _ = browse(page, tmp_path, 1.0, "--disable-3d-apis")
        assert (document.count(">This browser shows no WebGL"), console) == (2, "")


@pytest.mark.long
@pytest.mark.skipif(not BROWSER, reason="no chromium here: apt-get install chromium")
def test_a_request_and_an_error_would_be_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://127.0.0.1:9/x.png'><script>nothing()</script>")
    _, console, urls = browse(bad.as_uri(), tmp_path, 1.0)
    assert "nothing is not defined" in console
    assert urls == {"http://127.0.0.1:9/x.png"}
