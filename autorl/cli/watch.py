"""`watch`: the recorded episodes of an experiment beside the baseline's, as a page or a video.

What it does not do: record; the judge did, while it evaluated.
"""

import os
import sys
import webbrowser
from pathlib import Path

import click

from autorl.cli.status import newest, numbered
from autorl.errors import UserError
from autorl.records import Recording
from autorl.report.scenes import episodes_of, scene_of
from autorl.report.video import write_video
from autorl.report.viewer import arms, viewer_html
from autorl.session import SessionState
from autorl.session.experiment import recording
from autorl.system.files import atomic_write

Shown = list[tuple[str, int, Recording]]  # label, number of the run, what was recorded


def watch(root: Path, tag: str | None, what: str, episode: str, mp4: bool) -> None:
    """Write the page or the video, say where it is, open it where there is a screen.

    Args:
        what: best, baseline, an experiment's number, or the id that `try` printed.
        episode: worst, median, best or grid.

    Raises:
        UserError: there is no such experiment, or no recording of it.
    """
    folder, state = newest(root, tag, what)
    tag = folder.name
    n = numbered(state, what, tag)
    shown = recorded(root, state, n, alone=episode == "grid")
    target = folder / f"watch-{n}-{episode}"
    title = f"{state.about.env_id}, {tag}, {shown[-1][0].lower()}: {state.attempts[n].title}"
    try:
        target = (
            _video(target, shown, episode, title) if mp4 else _page(target, shown, episode, title)
        )
    except ValueError as error:
        raise UserError(f"The recording cannot be read: {error}.") from None
    click.echo(target.relative_to(root) if target.is_relative_to(root) else target)
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and (screen or sys.platform == "darwin"):
        webbrowser.open(target.resolve().as_uri())


def recorded(root: Path, state: SessionState, n: int, alone: bool = False) -> Shown:
    """What there is to see of the baseline, unless `alone`, and of experiment `n`.

    Raises:
        UserError: nothing of experiment `n`.
    """
    shown: Shown = []
    for number in sorted({n} if alone else {0, n}):
        if found := recording(root, state, number):
            label = f"Experiment {number}" if number else "Baseline"
            shown.append((label, found[0].run, found[1]))
        elif number == n:
            raise UserError(
                f"Nothing was recorded of experiment {n}: no run of it has a score, "
                f"autoRL did not record yet, or it has no pictures of {state.about.env_id}."
            )
    return shown


def page(shown: Shown, episode: str, title: str) -> str:
    """One offline page that plays them side by side; a ValueError if a recording is damaged."""
    sides = [a for label, run, r in shown for a in arms(r, label, episode, f"run {run}")]
    return viewer_html(title, "Recorded by the judge while it scored these runs.", sides)


def _page(target: Path, shown: Shown, episode: str, title: str) -> Path:
    target = target.with_suffix(".html")
    atomic_write(target, page(shown, episode, title).encode())
    return target


def _video(target: Path, shown: Shown, episode: str, title: str) -> Path:
    """A video; the page, with a sentence, where none can be made."""
    scenes, captions = [], []
    for label, _, r in shown:
        for recorded in episodes_of(r, episode):
            scenes.append(scene_of(r, recorded))
            score = f"{recorded.episode_return:,.0f}"
            which = f"{label}, {episode} of {r.num_episodes} episodes: {score}"
            captions.append(score if episode == "grid" else which)
    try:
        return write_video(target, scenes, captions)
    except UserError as error:
        click.echo(f"{error}\nHere is the page instead:", err=True)
        return _page(target, shown, episode, title)
