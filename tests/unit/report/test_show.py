"""`show`: one experiment in 12 kB, beside another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_session import BUDGET, make_session

from autorl.cli.show import diagnosis, look_up, metrics_data, show_data, show_text
from autorl.errors import UserError
from autorl.proposers.prompt import DIAGNOSTICS
from autorl.records import Progress, to_json
from autorl.session import read_state
from autorl.session.event_log import EventLog
from autorl.session.events import RunStarted

ROWS = "\n".join(("seconds,step,episode_return,approx_kl,entropy,my_own", "{}", ""))


def metrics(*returns: float) -> str:
    """A row at the end of each quarter of the budget; approx_kl is a hundredth of the return."""
    seconds = [(i + 1) * BUDGET / 4 - 1 for i in range(len(returns))]
    return ROWS.format(
        "\n".join(f"{s},1,{v},{v / 100},nan,7" for s, v in zip(seconds, returns, strict=True))
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    make_session(tmp_path, 20, rows=40)
    return tmp_path


def test_metrics_stand_beside_the_incumbents_or_anothers_at_each_quarter(made: Path) -> None:
    path = made / "results/Walker2d-v5/made/journal.jsonl"
    state = read_state(path)
    best = state.incumbent()
    assert best is not None and best.n > 0
    other = next(n for n in state.attempts if n not in (0, best.n))
    for n, values in ((0, (1, 2, 3, 4)), (best.n, (10, 20, 30, 40)), (other, (5, 6))):
        for run in state.every_run_of(n):
            (made / run.folder / "metrics.csv").write_text(metrics(*values))
    data = show_data(look_up(made, str(other), None, None))
    assert data["beside"] == best.n and data["metrics_at"] == [0.25, 0.5, 0.75, 1.0]
    assert data["metrics"] == {
        "approx_kl": [[0.05, 0.06, None, None], [0.1, 0.2, 0.3, 0.4]],
        "episode_return": [[5, 6, None, None], [10, 20, 30, 40]],
        "my_own": [[7, 7, None, None], [7, 7, 7, 7]],
    }
    assert show_data(look_up(made, "best", "baseline", None))["metrics"]["episode_return"] == [
        [10, 20, 30, 40],
        [1, 2, 3, 4],
    ]
    assert show_data(look_up(made, "best", None, None))["beside"] == best.parent
    text = show_text(look_up(made, str(other), "0", None))
    assert "episode_return       5 6 - - | 1 2 3 4" in text and "+CLIP_COEF" in text
    few = diagnosis(made, state, other)
    assert few["beside"] == best.n and few["metrics"] == data["metrics"]


def test_a_crash_says_its_line_and_the_end_of_its_log(made: Path) -> None:
    state = read_state(made / "results/Walker2d-v5/made/journal.jsonl")
    n = next(a.n for a in state.attempts.values() if a.outcome == "crash")
    log = made / state.every_run_of(n)[-1].folder / "run.log"
    log.write_text("x\n" * 10_000 + "ValueError: at last\n")
    seen = look_up(made, str(n), None, None)
    data, text = show_data(seen), show_text(seen)
    assert data["crash"]["code"].startswith("def main") and data["avg_return"] is None
    assert data["log"].endswith("at last\n") or data["log"].endswith("at last")
    assert f"line {data['crash']['line']} of train.py" in text and "| ValueError: at last" in text


def test_it_fits_into_12_kB_whatever_the_session(tmp_path: Path) -> None:
    make_session(tmp_path, 12, rows=300, evil=True)
    state = read_state(tmp_path / "results/Walker2d-v5/made/journal.jsonl")
    for n, attempt in state.attempts.items():
        attempt.source = "\n".join(f'"\\{n}\U0001f642{i}" = x' for i in range(1_000))
        for run in state.every_run_of(n):
            (tmp_path / run.folder / "run.log").write_bytes(b"\xff\n\x1b[31m" * 9_000)
    for n in state.attempts:
        seen = look_up(tmp_path, str(n), None, None)[2]
        for found in (("made", state, e, []) for e in (seen, _with_diff(seen))):
            assert len(json.dumps(show_data(found), ensure_ascii=False).encode()) <= 12_000
            assert len(show_text(found).encode()) <= 12_000
            assert "\x1b" not in show_text(found) and "\u202e" not in show_text(found)


def _with_diff(experiment):
    from dataclasses import replace

    return replace(experiment, diff='+"\\\U0001f642"\n' * 9_000)


def test_the_commands_print_it_and_wait_says_how_it_learnt_beside_the_incumbent(made: Path) -> None:
    from autorl.cli.main import cli

    shown = CliRunner().invoke(cli, ["show", "3", "0", "--json"], obj=made)
    data = json.loads(shown.output)
    assert shown.exit_code == 0 and (data["experiment"], data["beside"]) == (3, 0)
    done = CliRunner().invoke(cli, ["wait", "3"], obj=made)
    assert done.exit_code == 0 and "metrics_at:       0.25 0.5 0.75 1" in done.output
    own, other = done.output.split("  approx_kl")[1].splitlines()[0].split(" | ")
    assert [float(v) for v in own.split()] == data["metrics"]["approx_kl"][0]
    best = show_data(look_up(made, "best", None, None))["metrics"]["approx_kl"][0]
    assert [float(v) for v in other.split()] == best


def test_a_run_under_way_says_how_far_it_is(made: Path) -> None:
    path = made / "results/Walker2d-v5/made/journal.jsonl"
    best = read_state(path).incumbent()
    assert best is not None
    about = {"attempt": best.n, "purpose": "incumbent", "kind": "measure", "epoch": 0}
    log, _ = EventLog.open(path)
    log.append(RunStarted(run=10_000, seed_index=9, seed=9, folder="under_way", **about))
    log.close()
    assert "under way (or was, when the loop ended): run 10000: starting" in show_text(
        look_up(made, "best", None, None)
    )
    (made / "under_way").mkdir()
    look = Progress("training", 30.0, BUDGET, 9_000, 300.0, 41.25)
    (made / "under_way" / "progress.json").write_text(json.dumps(to_json(look)))
    seen = look_up(made, "best", None, None)
    assert "run 10000: 30/720 s  return 41.2  300 steps/s" in show_text(seen)
    assert show_data(seen)["under_way"] == ["run 10000: 30/720 s  return 41.2  300 steps/s"]


def test_what_is_not_there_is_one_sentence(made: Path) -> None:
    with pytest.raises(UserError, match="a number up to 19, or the id that `try` printed"):
        look_up(made, "20", None, None)
    with pytest.raises(UserError, match="tffff"):
        look_up(made, "tffff", None, None)


def test_of_many_metrics_wait_has_those_that_only_this_file_logs(made: Path) -> None:
    found, some, none = look_up(made, "best", None, None)[2], (1.0,) * 4, (None,) * 4
    both, only = (
        dict.fromkeys([*DIAGNOSTICS[:9], "gamma"], (some, some)),
        {"survivors": (some, none)},
    )
    logged = both | only
    found = replace(found, metrics=logged | dict.fromkeys(DIAGNOSTICS[9:], (none, some)))
    assert [*metrics_data(found, 8)] == [*DIAGNOSTICS[:7], "survivors"]
    assert len(metrics_data(found)) == len(DIAGNOSTICS) + 2
