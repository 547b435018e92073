"""`environments`: what is offered, and figures of it. Real environments."""

import json

from click.testing import CliRunner

from autorl.cli.environments import look
from autorl.cli.main import cli
from autorl.environments import PLAUSIBLE


def test_what_is_offered_can_be_made_and_our_worlds_come_first() -> None:
    done = CliRunner().invoke(cli, ["environments", "--json", "--fast"])
    rows = json.loads(done.stdout)
    assert done.exit_code == 0 and [row["env_id"] for row in rows] == list(PLAUSIBLE)
    assert [row for row in rows if "problem" in row] == []
    assert [row["backend"] == "worlds" for row in rows] == [True] * 5 + [False] * (len(rows) - 5)
    (cart,) = (row for row in rows if row["env_id"] == "CartPole-v1")
    assert (cart["observations"], cart["actions"], cart["threshold"]) == (4, "2 choices", 475.0)


def test_scores_and_speed_are_measured_here() -> None:
    row = look("CartPole-v1", fast=False)
    assert 8 <= row["nothing"] <= 11  # pushed one way it falls at once
    assert row["steps_per_second"] > 1000 and row["plausible_maximum"] == 500.0


def test_an_environment_that_cannot_be_made_says_why() -> None:
    assert "Gymnasium cannot make Gone-v0" in look("Gone-v0", fast=True)["problem"]
