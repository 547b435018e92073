"""The documentation is held against reality: README's tree, its commands, and what --help says."""

import re
import subprocess

import pytest
from conftest import LONGEST, PROJECT

from autorl.cli.main import cli

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PROGRAM = (PROJECT / "program.md").read_text(encoding="utf-8")
TEXTS = README + PROGRAM + (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
# every `agent_loop.py …` that README, program.md or SECURITY.md tell a reader to type
COMMANDS = sorted(set(re.findall(r"agent_loop\.py ([a-z]+(?: --?[a-z][a-z-]*)*)", TEXTS)))
OPTIONS = {  # command -> its flags, as click knows them
    name: {flag for p in command.params for flag in p.opts} | {"--help", "-h"}
    for name, command in cli.commands.items()
}


def test_the_layout_exists() -> None:
    layout = README.split("## Layout")[1].split("```")[1]
    names = [line.split()[0] for line in layout.strip().splitlines() if not line.startswith(" ")]
    assert len(names) >= 8
    assert [n for n in names if not (PROJECT / n).exists()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_in_the_documentation_exist(command: str) -> None:
    name, *flags = command.split()
    assert name in OPTIONS, command
    assert [f for f in flags if f not in OPTIONS[name]] == []


def test_links_to_files_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert [link for link in links if not (PROJECT / link.partition("#")[0]).exists()] == []


def test_every_command_explains_itself() -> None:
    for name, command in cli.commands.items():
        assert command.help and len(command.help) > 30, name
        told = (p.help or p.param_type_name == "argument" or p.hidden for p in command.params)
        assert all(told), name


def test_run_has_no_more_flags_than_a_screen_holds() -> None:
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
