"""What a person sees while runs are under way: lines that stay, and a dashboard under them.

On a terminal the dashboard is live (rich): what is the best so far, what runs now with its curve
against the incumbent's at equal time, the last verdicts, money, time left. In a pipe each run gets
a plain line every half minute. What it does not do: know anything that is not handed to it.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from autorl.records import Progress as Look
from autorl.report.curves import Curve, grid
from autorl.report.tables import duration
from autorl.system.text import one_line

PLAIN_SECONDS = 30.0
LIVE_SECONDS = 1.0  # between two pictures: the cores are busy with runs
FEW = 2  # runs at once whose curves are drawn
BARS = "▁▂▃▄▅▆▇█"
COLOURS = {"keep": "green", "baseline": "green", "crash": "red", "taken back": "magenta"}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a session has so far, for the dashboard."""

    title: str
    incumbent: str  # in words
    curve: tuple[float, ...]  # of the incumbent, at equal shares of the time budget; NaN: unknown
    verdicts: tuple[tuple[str, str], ...]  # (outcome, what it was about), the newest last
    so_far: str  # counts, money
    bounds: tuple[str, ...] = ()  # what else ends the session, and how far it is
    ends: float | None = None  # on the monotonic clock, seconds


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


def sparkline(values: Iterable[float], low: float, high: float) -> str:
    """A bar for each value between `low` and `high`; a blank where it is not known."""
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(
        BARS[max(0, min(len(BARS) - 1, round((v - low) / step)))] if math.isfinite(v) else " "
        for v in values
    )


def resample(curve: Sequence[float] | Curve, width: int) -> list[float]:
    """`width` of a curve's values, at equal distances."""
    return [float(curve[i * len(curve) // width]) for i in range(width)] if len(curve) else []


class Dashboard:
    """An interfaces.Console on standard error; use as a context manager.

    Attributes:
        standing: asked for at every picture; None: only the runs are shown.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.standing: Callable[[], Standing] | None = None
        self._console = console or Console(stderr=True, highlight=False)
        self._draws = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._start = self._last_plain = time.monotonic()
        self._last_picture = -math.inf

    def __enter__(self) -> "Dashboard":
        if self._draws:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def abandon(self) -> None:
        """Show the cursor again, from a signal handler at any instant: no lock, no buffer."""
        if self._draws:
            os.write(2, b"\x1b[?25h\r\n")

    def say(self, text: str) -> None:
        """One line that stays, with the minutes since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        line = f"{minutes:3d}:{seconds:02d}  {text}"
        self._console.print(line, markup=False, soft_wrap=not self._live.is_started)

    def progress(self, runs: list[tuple[str, Look | None]], waiting: str = "") -> None:
        """Bring the picture up to date; called many times a second.

        Args:
            runs: (name, what is known of it).
            waiting: what is waited for besides, shown without figures.
        """
        now = time.monotonic()
        if self._live.is_started:
            if now - self._last_picture > LIVE_SECONDS:
                self._last_picture = now
                self._live.update(self._picture(runs, waiting, now), refresh=True)
        elif (runs or waiting) and now - self._last_plain > PLAIN_SECONDS:
            self._last_plain = now
            for name, look in runs:
                self.say(f"{name}: {describe(look)}")
            if waiting:
                self.say(waiting)

    def _picture(self, runs: list[tuple[str, Look | None]], waiting: str, now: float) -> Panel:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(style="dim", no_wrap=True, width=9)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        standing = self.standing() if self.standing else None
        if standing:
            table.add_row("incumbent", Text(one_line(standing.incumbent), style="bold"))
        few = len(runs) <= FEW
        for name, look in runs:
            table.add_row("now", Text(name if few else f"{name}  {describe(look)}"))
            if few:
                table.add_row("", Text(describe(look)))
                self._add_curves(table, look, standing.curve if standing else ())
        if waiting or not runs:
            table.add_row("" if runs else "now", Text(one_line(waiting) or "between two runs"))
        if not standing:
            return Panel(table, border_style="dim")
        for k, (outcome, what) in enumerate(standing.verdicts):
            word = Text(f"{outcome:<10} ", style=COLOURS.get(outcome, "dim"))
            table.add_row("" if k else "verdicts", word + Text(one_line(what), style="default"))
        table.add_row("so far", Text(one_line(standing.so_far)))
        time_left = [f"{duration(max(0.0, standing.ends - now))} left"] if standing.ends else []
        if bounds := [*time_left, *standing.bounds]:
            table.add_row("bounds", Text(", ".join(bounds)))
        title = Text(one_line(standing.title, 60))
        return Panel(table, title=title, title_align="left", border_style="dim")

    def _add_curves(self, table: Table, look: Look | None, best: Sequence[float]) -> None:
        """A run's curve and the incumbent's, on one scale and one axis of time."""
        if look is None or not look.curve or not self._console.encoding.startswith("utf"):
            return
        width = max(10, self._console.width - 15)
        mine = resample(grid(look.curve, look.time_budget).tolist(), width)
        theirs = resample(best, width)
        known = [v for v in (*mine, *theirs) if math.isfinite(v)]
        for label, values, style in (("this run", mine, "cyan"), ("incumbent", theirs, "green")):
            if any(math.isfinite(v) for v in values):
                line = sparkline(values, min(known), max(known))
                table.add_row(label, Text(line.rstrip(), style=style))
