"""What a person sees, word for word: --help of every command, table and verdicts of one session.

The files in golden/ are what was shown when they were last looked at. A change is looked at, then
written anew with `AUTORL_WRITE_GOLDEN=1 uv run pytest tests/unit/project/test_golden.py`.
"""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from ground import Site, script

GOLDEN = Path(__file__).resolve().parent / "golden"
IDEAS = [
    {"title": "better", "hypothesis": "it is larger", "source": script(19.0)},
    {"title": "worse", "source": script(-5.0)},
    {"title": "raises", "source": script(30.0, end="raise")},
    {"title": "not Python", "source": "def ("},
    {"title": "the same again", "source": script(19.0)},
    {"title": "a little better", "source": script(21.0)},
]


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("AUTORL_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_help_of_every_command() -> None:
    from autorl.cli.main import cli

    runner, pages = CliRunner(), []
    for words in ([], *([name] for name in sorted(cli.commands))):
        done = runner.invoke(cli, [*words, "--help"], prog_name="agent_loop.py", terminal_width=110)
        assert done.exit_code == 0
        pages.append(done.output)
    compare("help.txt", "\n".join(pages))


@pytest.mark.timeout(600)
def test_rows_and_verdicts_of_a_session(tmp_path, forge) -> None:
    site = Site.new(tmp_path / "site", IDEAS)
    code, _, err = forge.run(site.repo, site.argv(), site.env)
    assert code == 0, err
    state = site.state()
    lines = [f"{v.attempt} {v.outcome}: {v.reason}" for v in state.verdicts]
    lines += [f"refused {r.title}: {r.reason}" for r in state.refusals]
    table = (site.folder / "results.tsv").read_text(encoding="utf-8").splitlines()
    names = table[0].split("\t")
    unsteady = {names.index(name) for name in ("commit", "seconds")}  # hashes hold the time
    for line in table:
        lines.append("\t".join(c for i, c in enumerate(line.split("\t")) if i not in unsteady))
    compare("session.txt", re.sub(r"\b[0-9a-f]{7,40}\b", "HASH", "\n".join(lines)) + "\n")
