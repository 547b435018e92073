"""The page in a real headless Chromium (flags: support/browser.py): it draws, opens, grows."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from browser import Browser, chromium
from ground import Site, script
from made_session import make_session
from recorded import record, session

from autorl.cli.serve import HOST, Answer, Watched
from autorl.cli.status import write_report

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium() is None, reason="apt-get install chromium"),
]
PROJECT = Path(__file__).resolve().parents[2]
INK = """(id => { const c = document.querySelector(`#${id} canvas`), d = c.getContext('2d')
  .getImageData(0, 0, c.width, c.height).data, seen = new Set();
  for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) seen.add(`${d[i]} ${d[i+1]} ${d[i+2]}`);
  return seen.size; })"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as one:
        yield one


def test_from_a_file_it_draws_and_opens_an_experiment_and_asks_nobody(browser, tmp_path) -> None:
    make_session(tmp_path, 24, rows=60, evil=True)
    path = tmp_path / write_report(tmp_path, None)[-1]
    for width, dark in ((1280, False), (390, True)):
        browser.open(path.as_uri(), width=width, dark=dark)
        browser.until("document.querySelectorAll('#experiments details').length === 24")
        assert browser.evaluate(f"{INK}('progress')") > 20
        assert browser.evaluate(f"{INK}('curves')") > 20
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        words = browser.evaluate("document.body.innerText")
        assert not {"undefined", "NaN", "null", "false"} & set(words.split()), words
        browser.evaluate("document.getElementById('progress').focus()")
        browser.press("Home")
        browser.press("ArrowRight")
        assert browser.evaluate("document.getElementById('picked').innerText").startswith("#1 ")
        browser.press("Enter")
        browser.until("document.getElementById('e1').open")
        browser.until("document.getElementById('e1').textContent.includes('training seed')")
        shown = browser.evaluate("document.getElementById('e1').textContent")
        assert "+CLIP_COEF = 1" in shown and "<script>fetch" in shown
        browser.press("Enter")  # the focus is on its line now
        browser.until("!document.getElementById('e1').open")
        assert browser.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert browser.requests == [path.as_uri()] and browser.errors == []


def test_the_served_page_grows_while_a_session_runs(browser, tmp_path) -> None:
    ideas = [{"title": f"idea {n}", "source": script(10.0 + n, seconds=0.5)} for n in range(12)]
    site = Site.new(tmp_path / "site", ideas, baseline=script(10.0, seconds=0.4))
    env = os.environ | site.env | {"PYTHONPATH": str(PROJECT)}
    program = [sys.executable, str(site.repo / "agent_loop.py")]
    argv = [*program, *site.argv("--experiments", "12")]
    loop = subprocess.Popen(argv, cwd=site.repo, env=env, stdout=DEVNULL, stderr=DEVNULL)
    while not (site.folder / "results.tsv").exists():
        assert loop.poll() is None
        time.sleep(0.05)
    served = subprocess.Popen(
        [*program, "serve", "--port", "0"], cwd=site.repo, env=env, stdout=PIPE, text=True
    )
    try:
        assert served.stdout
        url = next(word for word in served.stdout.readline().split() if word.startswith("http"))
        count = "document.querySelectorAll('#experiments details').length"
        browser.open(url)
        browser.until(f"{count} > 0")
        before = browser.evaluate(count)
        browser.until("!document.getElementById('now').hidden", 60.0)
        browser.until(f"{count} > {before}", 60.0)
        browser.until(f"{count} === 13", 90.0)
        browser.until("document.getElementById('where').innerText.includes('finished')", 60.0)
        asked = set(browser.requests)
        assert asked == {url, f"{url}now.json", f"{url}data.json"}
        assert browser.errors == [] and loop.wait(60) == 0
    finally:
        for process in (served, loop):
            process.kill()
            process.communicate()


def test_the_replay_plays_inside_the_page_from_a_file_and_served(browser, tmp_path) -> None:
    session(tmp_path, "CartPole-v1", {0: [1.0], 1: [2.0]})
    for run in range(2):
        record("CartPole-v1", tmp_path / "runs" / str(run), steps=200)
    path = tmp_path / write_report(tmp_path, None)[-1]

    def plays(url: str) -> None:
        browser.open(url)
        browser.until("document.querySelector('#replay iframe') !== null")
        browser.evaluate("document.querySelector('#replay iframe').scrollIntoView()")
        end, pictures = time.monotonic() + 30, set[bytes]()
        while len(pictures) < 4:  # nothing else on the page moves
            assert time.monotonic() < end, len(pictures)
            browser.screenshot(tmp_path / "now.png")
            pictures.add((tmp_path / "now.png").read_bytes())
        assert browser.errors == []

    plays(path.as_uri())
    watched = Watched(tmp_path, None)
    with ThreadingHTTPServer((HOST, 0), partial(Answer, watched)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        url = f"http://{HOST}:{http.server_port}/"
        plays(url)
        data = browser.evaluate("fetch('data.json').then(answer => answer.text())")
        assert len(data) < 100_000 and '"replay_at":"replay.html?' in data
        http.shutdown()
