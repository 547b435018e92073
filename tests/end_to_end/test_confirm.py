"""`agent_loop.py confirm`: evidence on fresh seeds, once, twice, after a kill, or none to find.

Real processes and git; runs are scripted (autorl/runners/scripted.py), so what is proved is the
path, not a number.
"""

import json
import os
import signal
from pathlib import Path

import pytest
from forge import Forge
from ground import Site, script

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
    (claim,) = claims(site)
    arms = {arm: [r for r in claim["runs"] if r["arm"] == arm] for arm in ("baseline", "champion")}
    assert [len(runs) for runs in arms.values()] == [4, 4] and claim["title"] == "far better"
    seeds = [r["seed"] for r in claim["runs"]]
    assert len(set(seeds)) == 8 and not used & set(seeds)
    assert {
        e["seed_index"] >= CONFIRM_SEEDS
        for e in site.events()
        if e["type"] == "started" and "confirm" in e["purpose"]
    } == {True}
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
    # a second one starts afresh, and says that it is the second
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "2"], site.env)
    assert code == 0, out + err
    first, second = claims(site)
    assert not {r["seed"] for r in first["runs"]} & {r["seed"] for r in second["runs"]}
    assert "claim number 2" in out and second["earlier_claims"] == 1
    assert site.broken_invariants() == []


def test_a_confirm_that_was_killed_goes_on_and_counts_each_run_once(tmp_path, forge):
    site = Site.new(
        tmp_path,
        [{"title": "far better", "source": script(20.0, seconds=0.4)}],
        baseline=script(10.0, seconds=0.4),
    )
    code, out, err = forge.run(site.repo, site.argv("--experiments", "1"), site.env)
    assert code == 0, out + err
    process = forge.start(site.repo, ["confirm", "--runs", "3"], site.env)

    def counted() -> int:
        started = {
            e["run"] for e in site.events() if e["type"] == "started" and "confirm" in e["purpose"]
        }
        return sum(e["type"] == "run" and e["run"] in started for e in site.events())

    while counted() < 2:
        assert not process.ended.wait(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not claims(site)
    code, out, err = forge.run(site.repo, ["confirm", "--runs", "3"], site.env)
    assert code == 0, out + err
    (claim,) = claims(site)
    assert (
        claim["claim"]["runs"] == claim["claim"]["runs0"] == 3
        and len({r["run"] for r in claim["runs"]}) == 6
    )
    assert counted() <= 7 and site.broken_invariants() == []


def test_where_nothing_was_kept_confirm_says_so_and_measures_nothing(tmp_path, forge):
    site = researched(tmp_path, forge, [{"title": "worse", "source": script(2.0)}])
    before = sum(e["type"] == "started" for e in site.events())
    code, _, err = forge.run(site.repo, ["confirm"], site.env)
    assert code == 2 and "no champion to confirm" in err and "Traceback" not in err
    assert sum(e["type"] == "started" for e in site.events()) == before and not claims(site)
