"""What a person sees while runs are under way: lines that stay, and one progress bar for each run.

On a terminal the bars are live (rich); in a pipe each run gets a plain line every half minute. What
it does not do: know anything that is not handed to it.
"""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from autorl.records import Progress as Look

PLAIN_SECONDS = 30.0


def describe(look: Look | None) -> str:
    """`312/720 s  return 123.4  20,100 steps/s`, with what is not known left out."""
    if look is None:
        return "starting"
    if look.phase == "evaluating":
        return "evaluating"
    parts = [f"{min(look.elapsed, look.time_budget):.0f}/{look.time_budget:.0f} s"]
    if look.episode_return is not None:
        parts.append(f"return {look.episode_return:.1f}")
    if look.steps_per_second is not None:
        parts.append(f"{look.steps_per_second:,.0f} steps/s")
    return "  ".join(parts)


class ProgressBars:
    """A Screen on standard error; use as a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal or self._console.is_dumb_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._start = self._last_plain = time.monotonic()

    def __enter__(self) -> "ProgressBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """One line that stays, with the minutes since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        self._console.print(f"{minutes:3d}:{seconds:02d}  {text}", markup=False, soft_wrap=True)

    def progress(self, runs: list[tuple[str, Look | None]], waiting: str = "") -> None:
        """Bring the bars up to date; called many times a second.

        Args:
            runs: (name, what is known of it).
            waiting: what is waited for besides, shown without figures.
        """
        shown = {name: (look, describe(look)) for name, look in runs}
        if waiting:
            shown[waiting] = None, ""
        if self._bars.disable:
            if shown and time.monotonic() - self._last_plain > PLAIN_SECONDS:
                self._last_plain = time.monotonic()
                for name, (_, text) in shown.items():
                    self.say(f"{name}: {text}" if text else name)
            return
        for name in self._tasks.keys() - shown.keys():
            self._bars.remove_task(self._tasks.pop(name))
        for name, (look, text) in shown.items():
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=None, text="")
            self._bars.update(
                self._tasks[name],
                total=(look.time_budget or 1.0) if look else None,
                completed=min(look.elapsed, look.time_budget) if look else None,
                text=text,
            )
