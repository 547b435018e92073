"""`agent_loop.py confirm`: evidence on fresh seeds, once, twice, after a kill, or none to find; and
what follows from it.

Real processes and git; runs are scripted (autorl/runners/scripted.py), so what is proved is the
path, not a number.
"""

import base64
import json
import os
import re
import signal
import zlib
from pathlib import Path

import pytest
from forge import Forge
from ground import Site, git, script

from autorl.session.state import CONFIRM_SEEDS

IDEAS = [{"title": "worse", "source": script(8.0)}, {"title": "far better", "source": script(20.0)}]


def researched(folder: Path, forge: Forge, ideas: list[dict] = IDEAS) -> Site:
    """A finished session without a claim."""
    site = Site.new(folder, ideas)
    code, out, err = forge.run(site.repo, site.argv("--experiments", str(len(ideas))), site.env)
    assert code == 0 and site.state().claim is None, out + err
    return site


def claims(site: Site) -> list[dict]:
    return [e["claim"] for e in site.events() if e["type"] == "claim"]


def test_confirm_measures_both_arms_on_fresh_seeds_prints_every_one_and_says_if_it_was_done_before(
    tmp_path, forge
):
    site = researched(tmp_path, forge)
    used = {e["seed"] for e in site.events() if e["type"] == "started"}
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "4"], site.env)
    assert code == 0, out + err
    assert re.findall(r"; (\d of 8) fresh runs are done", err) == [f"{k} of 8" for k in range(1, 9)]
    (claim,) = claims(site)
    arms = {arm: [r for r in claim["runs"] if r["arm"] == arm] for arm in ("baseline", "champion")}
    assert [len(runs) for runs in arms.values()] == [4, 4] and claim["title"] == "far better"
    seeds = [r["seed"] for r in claim["runs"]]
    assert len(set(seeds)) == 8 and not used & set(seeds)
    started = [e for e in site.events() if e["type"] == "started" and "confirm" in e["purpose"]]
    assert {e["seed_index"] >= CONFIRM_SEEDS for e in started} == {True}
    evaluation = [s for r in claim["runs"] for s in r["eval_seeds"]]
    assert len(set(evaluation)) == len(evaluation)
    # everything a reader needs is on the screen and in evidence.json
    assert all(str(seed) in out for seed in seeds) and "Shown" in out and "IQM" in out
    assert all(f"{r['avg_return']:.2f}" in out for r in claim["runs"])
    assert json.loads((site.folder / "evidence.json").read_text()) == claim
    assert claim["claim"]["runs"] == 4 and claim["claim"]["gain"] == pytest.approx(
        sum(r["avg_return"] for r in arms["champion"]) / 4
        - sum(r["avg_return"] for r in arms["baseline"]) / 4
    )
    note = git(site.repo, "notes", "--ref=autorl", "show", claim["commits"]["champion"])
    assert "Kept" in note and claim["claim"]["sentence"] in note
    # a second one goes on with the same runs, and says so
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "2"], site.env)
    assert code == 0, out + err
    first, second = claims(site)
    assert [r["run"] for r in first["runs"]] == [
        r["run"] for r in second["runs"] if r in first["runs"]
    ]
    assert (second["claim"]["runs"], second["claim"]["look"]) == (6, 2)
    assert "(look 1: shown)" in " ".join(out.split()) and site.broken_invariants() == []


def test_where_the_champion_is_ahead_and_nothing_is_shown_as_many_runs_follow(tmp_path, forge):
    site = Site.new(tmp_path, [{"title": "far better", "source": script(500.0)}])
    argv = site.argv("--experiments", "1", "--confirm-runs", "1")  # 1 + 1 runs show nothing
    code, out, err = forge.run(site.repo, argv, site.env)
    assert code == 0, out + err
    first, second = claims(site)
    assert first["claim"]["open"] and not first["claim"]["shown"]
    assert second["claim"]["shown"] and (second["claim"]["runs"], second["claims"]) == (2, 1)
    assert [row.state for row in site.state().rows()] == ["", "shown"]


LUCKY = {"title": "lucky in the search", "source": script(9.0, noise=3.51)}


@pytest.fixture(scope="module")
def behind(tmp_path_factory, forge) -> Site:
    """A finished session whose champion will turn out to be behind."""
    return researched(tmp_path_factory.mktemp("behind"), forge, [LUCKY])


@pytest.fixture(scope="module")
def claimed(tmp_path_factory, forge, behind) -> tuple[Site, str, dict[int, str]]:
    """A copy of it after `confirm`, what that printed, and its effects after the last run began."""
    folder = tmp_path_factory.mktemp("claimed")
    site, trace = behind.copy(folder), folder / "effects"
    env = site.env | {"AUTORL_EFFECT_TRACE": str(trace)}
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "2"], env)
    assert code == 0 and "the confirmation is done" in err, out + err
    kinds = dict(enumerate((x.partition(" ")[2] for x in trace.read_text().splitlines()), 1))
    last = max(n for n, kind in kinds.items() if kind == "child start")
    return site, out, {n: kind for n, kind in kinds.items() if n > last}


def off_the_branch(site: Site, out: str) -> None:
    """The champion of the last claim was taken back, and everything says so."""
    state, (claim,) = site.state(), claims(site)
    base, champion = (state.attempts[n].commit for n in (0, 1))
    assert claim["claim"]["behind"] and claim["back"]
    tips = git(site.repo, "rev-parse", "autoresearch/t", "refs/autorl/t/1").split()
    assert tips == [base, champion]
    note = git(site.repo, "notes", "--ref=autorl", "show", champion)
    assert claim["back"] in note and claim["claim"]["sentence"] in note
    row = (site.folder / "results.tsv").read_text().splitlines()[2].split("\t")
    assert row[4] == "taken back" and claim["back"] in row[-1]
    said = " ".join(out.split())
    assert "Not shown: the champion scores" in said and "goes back to the baseline" in said
    assert site.broken_invariants() == []


def test_a_champion_that_is_behind_is_taken_off_the_branch_and_everything_says_so(forge, claimed):
    site, out, _ = claimed
    off_the_branch(site, out)
    code, out, _ = forge.run(site.repo, ["report"], site.env)
    assert code == 0
    packed = (site.folder / "report.html").read_text().split("<script", 2)[1]
    page = str(zlib.decompress(base64.b64decode(packed.partition(">")[2].partition("<")[0])))
    assert "Not shown: the champion scores" in page and "taken back" in page


def killed(folder: Path, forge: Forge, behind: Site, at: str) -> None:
    """A confirm that is killed at an effect and started again ends as if nothing had been."""
    site = behind.copy(folder / at.replace(":", "-"))
    forge.run(site.repo, ["confirm", "--runs", "2"], site.env | {"AUTORL_KILL_AT": at})
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "2"], site.env)
    assert code == 0, out + err
    off_the_branch(site, out)


def test_a_kill_between_a_claim_and_its_consequences_changes_nothing(
    tmp_path, forge, behind, claimed
):
    written = [n for n, kind in claimed[2].items() if kind == "journal append"]
    killed(tmp_path, forge, behind, f"{written[-4]}:after")  # then verdict, branch, end


@pytest.mark.long
def test_a_kill_at_any_effect_after_the_last_run_changes_nothing(tmp_path, forge, behind, claimed):
    for n in claimed[2]:
        killed(tmp_path, forge, behind, str(n))


def test_a_confirm_that_was_killed_goes_on_and_counts_each_run_once(tmp_path, forge):
    ideas = [{"title": "far better", "source": script(20.0, seconds=0.4)}]
    site = Site.new(tmp_path, ideas, baseline=script(10.0, seconds=0.4))
    code, out, err = forge.run(site.repo, site.argv("--experiments", "1"), site.env)
    assert code == 0, out + err
    process = forge.start(site.repo, ["confirm", "--runs", "3"], site.env)

    def counted() -> int:
        events = [e for e in site.events() if e["type"] == "started" and "confirm" in e["purpose"]]
        started = {e["run"] for e in events}
        return sum(e["type"] == "run" and e["run"] in started for e in site.events())

    while counted() < 2:
        assert not process.ended.wait(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not claims(site)
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "3"], site.env)
    assert code == 0, out + err
    (claim,) = claims(site)
    assert claim["claim"]["runs"] == claim["claim"]["runs0"] == 3
    assert len({r["run"] for r in claim["runs"]}) == 6 and counted() <= 7
    assert site.broken_invariants() == []


def test_where_nothing_was_kept_confirm_says_so_and_measures_nothing(tmp_path, forge):
    site = researched(tmp_path, forge, [{"title": "worse", "source": script(2.0)}])
    before = sum(e["type"] == "started" for e in site.events())
    code, _, err = forge.run(site.repo, ["confirm"], site.env)
    assert code == 2 and "no champion to confirm" in err and "Traceback" not in err
    assert sum(e["type"] == "started" for e in site.events()) == before and not claims(site)


def test_what_is_not_likely_enough_is_confirmed_only_when_asked_for(tmp_path, forge):
    site = researched(tmp_path, forge, [{"title": "a little better", "source": script(11.7)}])
    assert [row.status for row in site.state().rows()] == ["keep", "keep"]
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "2"], site.env)
    assert code == 0 and claims(site) == [], out + err
    assert "experiment 1 is with " in err and "85 % are asked for (`confirm --anyway`" in err
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "2", "--anyway"], site.env)
    assert code == 0 and claims(site)[0]["champion"] == 1, out + err
    assert site.broken_invariants() == []
