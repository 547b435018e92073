"""The documentation is held against reality: README's tree, its commands, and what --help says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LONGEST

PROJECT = Path(__file__).resolve().parents[3]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
PROGRAM = (PROJECT / "program.md").read_text(encoding="utf-8")
TEXTS = README + PROGRAM + (PROJECT / "SECURITY.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every `agent_loop.py …` that README, program.md or SECURITY.md tell a reader to type."""
    return sorted(
        {
            m.group(1).strip()
            for m in re.finditer(r"agent_loop\.py ([a-z]+(?: --?[a-z][a-z-]*)*)", TEXTS)
        }
    )


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Command -> its flags, as click knows them."""
    sys.path.insert(0, str(PROJECT))
    from autorl.cli.main import cli

    return {
        name: {flag for p in command.params for flag in p.opts} | {"--help", "-h"}
        for name, command in cli.commands.items()
    }


def test_the_layout_exists() -> None:
    layout = README.split("## Layout")[1].split("```")[1]
    names = [line.split()[0] for line in layout.strip().splitlines() if not line.startswith(" ")]
    assert len(names) >= 8
    assert [n for n in names if not (PROJECT / n).exists()] == []


@pytest.mark.parametrize("command", commands())
def test_commands_in_the_documentation_exist(command: str, options: dict[str, set[str]]) -> None:
    name, *flags = command.split()
    assert name in options, command
    assert [f for f in flags if f not in options[name]] == []


def test_links_to_files_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert [link for link in links if not (PROJECT / link.partition("#")[0]).exists()] == []


def test_every_command_explains_itself(options: dict[str, set[str]]) -> None:
    from autorl.cli.main import cli

    for name, command in cli.commands.items():
        assert command.help and len(command.help) > 30, name
        assert all(p.help or p.param_type_name == "argument" or p.hidden for p in command.params), (
            name
        )


def test_run_has_no_more_flags_than_a_screen_holds() -> None:
    from autorl.cli.main import cli

    shown = [p for p in cli.commands["run"].params if not getattr(p, "hidden", False)]
    assert len(shown) <= 26


def test_the_files_that_start_first_exist() -> None:
    assert [name for name in LONGEST if not list((PROJECT / "tests").rglob(f"{name}.py"))] == []


def test_the_test_command_is_the_readmes() -> None:
    assert "uv run pytest" in README and "uv run pytest" in (PROJECT / ".ci/run").read_text()


def test_no_lock_file_and_no_address_of_a_registry_is_tracked() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    assert "uv.lock" not in tracked.stdout.splitlines()
    assert "[[tool.uv.index]]" not in (PROJECT / "pyproject.toml").read_text()
