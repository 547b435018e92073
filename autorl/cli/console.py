"""What a person sees while the loop works: lines that stay, and one progress bar for each run under way.

On a terminal the bars are live (rich); in a log each run gets one plain line every half minute. What it does not do:
know anything that is not handed to it.
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


class Terminal:
    """The loop's Screen; use as a context manager."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_plain = time.monotonic()
        self._began = time.monotonic()

    def __enter__(self) -> "Terminal":
        if self.console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
                console=self.console,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """One line that stays, with the minutes since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        console = self._live.console if self._live else self.console
        console.print(f"{minutes:3d}:{seconds:02d}  {text}", markup=False, soft_wrap=True)

    def progress(self, runs: list[tuple[str, Look | None]], waiting: str) -> None:
        """Bring the bars up to date; called many times a second."""
        shown = dict(runs)
        if waiting:
            shown[waiting] = None
        if self._live is None:
            if shown and time.monotonic() - self._last_plain > PLAIN_SECONDS:
                self._last_plain = time.monotonic()
                for name, look in shown.items():
                    self.say(f"{name}: {describe(look)}" if name != waiting else name)
            return
        for name in [n for n in self._tasks if n not in shown]:
            self._live.remove_task(self._tasks.pop(name))
        for name, look in shown.items():
            if name not in self._tasks:
                self._tasks[name] = self._live.add_task(name, total=None, text="")
            text = "" if name == waiting else describe(look)
            if look is None:
                self._live.update(self._tasks[name], text=text)
            else:
                self._live.update(
                    self._tasks[name],
                    total=look.time_budget or 1.0,
                    completed=min(look.elapsed, look.time_budget),
                    text=text,
                )
