"""autoRL on the command line: research until stopped, and everything around it.

    uv run python agent_loop.py run --demo       # a demonstration of the whole in 3 minutes
    uv run python agent_loop.py run              # research until stopped; the same command resumes
    uv run python agent_loop.py --help

Exit codes: 0 done; 1 cannot go on; 2 something you can fix (one sentence says what); 3 paused,
resumable; 4 `wait` ran out of time; 130 stopped by a signal. What this file does not do: research
(autorl/loop/loop.py).
"""

import errno
import json
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from autorl import __version__
from autorl.cli import keyboard, options


class Group(click.Group):
    """A command group whose user errors are one plain sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        from autorl.errors import AutoRLError

        try:
            return super().invoke(ctx)
        except AutoRLError as error:
            self.refuse(str(error), error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            where = f"{error.filename}: " if error.filename else ""
            self.refuse(
                f"{where}{error.strerror or error}; see to that, then run the same command.", 1
            )

    @staticmethod
    def refuse(sentence: str, code: int) -> NoReturn:
        """Say it, to a program that asked for --json as an object too, and leave."""
        click.echo(f"autorl: {sentence}", err=True)
        if "--json" in sys.argv:
            click.echo(json.dumps({"error": sentence, "exit_code": code}))
        sys.exit(code)


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="autoRL")
def cli() -> None:
    """Autoresearch for reinforcement learning: a better train.py, and evidence that it is."""
    from autorl.git.plumbing import drop_git_variables
    from autorl.system.text import any_terminal

    any_terminal()
    drop_git_variables()  # before anything imports GitPython


# ---------------------------------------------------------------------------
# run
# ---------------------------------------------------------------------------


@cli.command("run")
@click.option("--tag", help="name of the session and its branch; an existing one is continued")
@click.option("--new", is_flag=True, help="start a new session even if an unfinished one exists")
@click.option(
    "--demo", is_flag=True, help="a planted weakness is found and the gain shown, in 3 minutes"
)
@click.option(
    "--quick",
    is_flag=True,
    help="a short session on ./train.py: 5 minutes of InvertedDoublePendulum-v5, 12 s a run",
)
@options.together(*options.SESSION, *options.RESEARCHER)
@click.option(
    "--experiments",
    "--max-experiments",
    type=click.IntRange(0),
    help="stop after this many experiments in all, then confirm",
)
@click.option("--hours", type=float, help="stop after this long, the confirmation included")
@click.option("--max-usd", type=float, help="never spend more than this in all (API and compute)")
@click.option(
    "--confirm-runs",
    type=click.IntRange(0),
    help="fresh runs per arm at the end  [default: 5 with --experiments; 2 to 5 with --hours, "
    "a third of the time; else none]",
)
@click.option(
    "--runner",
    type=click.Choice(["local", "modal", "scripted"]),
    default="local",
    show_default=True,
    help="where runs happen; scripted invents scores, for tests",
)
@options.together(*options.MACHINE)
@click.option("--gpu", default="", help="CUDA device (local) or GPU name (modal)")
@click.option(
    "--seed",
    type=int,
    hidden=True,
    help="root of all training seeds, for a repeatable new session  [default: random]",
)
@click.option("--notify", metavar="COMMAND", help="run at a claim, pause, end; summary on stdin")
@click.option("--inbox-only", is_flag=True, hidden=True)
@click.pass_context
def run_(ctx: click.Context, /, **o: Any) -> None:
    """Research until stopped. Ctrl-C ends it cleanly; the same command goes on where it stopped."""
    from autorl.cli.run import RunOptions, run
    from autorl.session import Settings

    source, line = ctx.get_parameter_source, click.core.ParameterSource.COMMANDLINE
    typed = {name: value for name, value in o.items() if source(name) is line and value is not None}
    again: list[str] = []  # what a person has to type again to go on as before
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if name in typed.keys() - {"tag", "new", "seed"}:
            flag, value = max(parameter.opts, key=len), typed[name]
            value = json.dumps(value) if isinstance(value, dict) else value
            values = value if isinstance(value, tuple) else (value,)
            again += [flag] if value is True else [w for v in values for w in (flag, str(v))]
    settings = {name: typed[name] for name in Settings.__dataclass_fields__ if name in typed}
    chosen = RunOptions(**{name: o[name] for name in RunOptions.__dataclass_fields__})
    sys.exit(run(ctx.obj, chosen, settings, shlex.join(again)))


@cli.command("confirm")
@click.option("--tag", help="which session  [default: the newest unfinished one]")
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="fresh runs of the baseline and of the champion, each, at one look",
)
@click.option(
    "--anyway", is_flag=True, help="also what is not likely enough to be better than the baseline"
)
@click.pass_obj
def confirm_(root: Path, tag: str | None, runs: int, anyway: bool) -> None:
    """Baseline against champion on fresh seeds: the claim. A session makes no other."""
    from autorl.cli.run import confirm

    sys.exit(confirm(root, tag, runs, anyway))


for command in keyboard.COMMANDS:
    cli.add_command(command)


# ---------------------------------------------------------------------------
# Looking
# ---------------------------------------------------------------------------


@cli.command()
@click.option("--tag", help="which session  [default: the newest]")
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
@click.pass_obj
def status(root: Path, tag: str | None, as_json: bool) -> None:
    """Where a session stands: experiments, runs, money, disk."""
    from autorl.cli.status import print_status

    print_status(root, tag, as_json)


@cli.command()
@click.option("--tag", help="which session  [default: the newest]")
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
@click.pass_obj
def history(root: Path, tag: str | None, as_json: bool) -> None:
    """Every experiment of a session, why, and what was refused.

    What `try` refuses at once is told there only: it never reached the session.
    """
    from autorl.cli.status import print_history

    print_history(root, tag, as_json)


@cli.command()
@click.option("--tag", help="which session  [default: the newest]")
@click.option("--csv", "with_csv", is_flag=True, help="all learning curves too, in curves.csv")
@click.option("--tensorboard", is_flag=True, help="its runs as runs of TensorBoard too")
@click.pass_obj
def report(root: Path, tag: str | None, with_csv: bool, tensorboard: bool) -> None:
    """Write results.tsv, progress.png and report.html anew. It says where they are."""
    from autorl.cli.status import write_report

    for path in write_report(root, tag, with_csv, tensorboard):
        click.echo(path)


@cli.command()
@click.option("--tag", help="which session  [default: the newest]")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, help="0: any", show_default=True
)
@click.pass_obj
def serve(root: Path, tag: str | None, port: int) -> None:
    """Show report.html in a browser, growing with the session. For this machine only."""
    from autorl.cli.serve import serve_page

    serve_page(root, tag, port)


@cli.command()
@click.argument("what", default="best", metavar="[N|best|baseline]")
@click.option("--tag", help="which session  [default: the newest]")
@click.option(
    "--episode",
    type=click.Choice(["worst", "median", "best", "grid"]),
    default="median",
    show_default=True,
    help="of those that the judge evaluated; grid: all that it recorded",
)
@click.option("--mp4", is_flag=True, help="a video in place of a page")
@click.pass_obj
def watch(root: Path, what: str, tag: str | None, episode: str, mp4: bool) -> None:
    """See an experiment's episodes beside the baseline's. A page plays what was recorded."""
    from autorl.cli.watch import watch

    watch(root, tag, what, episode, mp4)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
@click.option("--fast", is_flag=True, help="measure nothing")
def environments(as_json: bool, fast: bool) -> None:
    """The environments that are known, and their speed here. With spaces, backend, known scores."""
    from autorl.cli.environments import print_environments

    print_environments(as_json, fast)


# ---------------------------------------------------------------------------
# Keeping house
# ---------------------------------------------------------------------------


@cli.command()
@click.option("--tag", help="which session  [default: the newest unfinished one]")
@click.pass_obj
def stop(root: Path, tag: str | None) -> None:
    """Stop the loop of a session, as Ctrl-C in its terminal would."""
    from autorl.cli.status import stop_session

    click.echo(stop_session(root, tag))


@cli.command()
@click.option("--yes", is_flag=True, help="remove without asking")
@click.option("--dry-run", is_flag=True, help="only list")
@click.pass_obj
def clean(root: Path, yes: bool, dry_run: bool) -> None:
    """List and remove what dead runs left behind. Never branches, refs, journals or results."""
    from autorl.cli.status import dead_folders
    from autorl.judge.run_dir import remove

    dead = dead_folders(root)
    for path, size in dead:
        click.echo(
            f"{size / 1e6:8.1f} MB  {path.relative_to(root) if path.is_relative_to(root) else path}"
        )
    if not dead:
        click.echo("Nothing to clean.")
    elif not dry_run and (yes or click.confirm(f"Remove {len(dead)} folders?")):
        for path, _ in dead:
            remove(path)
            if path.exists():
                click.echo(f"{path} could not be removed: delete it by hand.", err=True)


@cli.command()
@click.pass_obj
def doctor(root: Path) -> None:
    """Check what runs need, one line each. Torch, environments, sandbox, git, disk, keys, Modal."""
    from autorl.cli.doctor import checks

    bad = 0
    for check in checks(root):
        mark = "ok  " if check.ok else ("FAIL" if check.needed else "warn")
        bad += check.needed and not check.ok
        click.echo(f"{mark}  {check.name:<14} {check.sentence}")
    sys.exit(1 if bad else 0)


@cli.command()
@click.pass_obj
def init(root: Path) -> None:
    """Put evaluate.py, train.py, program.md into this folder. None is overwritten."""
    from autorl.system.files import PROJECT, STARTER

    source = STARTER if STARTER.is_dir() else PROJECT
    for name in ("evaluate.py", "train.py", "program.md"):
        if (root / name).exists():
            click.echo(f"{name} is here already")
        else:
            (root / name).write_bytes((source / name).read_bytes())
            click.echo(f"{name} written")
    click.echo(
        "Next: commit them (git init; git add .; git commit -m start), then: autorl run --demo"
    )


def main(root: Path | None = None) -> None:
    """The command line on the project in `root`; the current folder, when that is not said."""
    cli(obj=root or Path.cwd(), prog_name="agent_loop.py" if root else "autorl")
