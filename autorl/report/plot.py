"""progress.png: every experiment a dot, the kept ones named, the incumbent's mean with its error;
beside them the fresh runs of the claim, once there is one.

A missing score is a mark at the bottom edge, never a number. Drawn by matplotlib's Agg backend,
without a display; matplotlib is imported when the first plot is asked for.
"""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from autorl.records import Row
from autorl.report.tables import headline, mean, summarize
from autorl.system.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, KEPT, DULL, BAD, GOAL = "#222222", "#1a7f4b", "#b8bcc2", "#c0392b", "#8e6bbf"

# Where a name may stand, in points from its dot; the first free place that covers nothing is taken.
HEIGHTS = (14, -16, 28, -30, 42, -44, 58, -60, 76, -78, 96, -100, 120, -130, 150, -160)
OFFSETS = [(dx, dy) for dy in HEIGHTS for dx in (8, -8)]
FONT: dict[str, Any] = {"fontsize": 7.5, "parse_math": False}
LEADER = dict(arrowstyle="-", color="#888888", lw=0.6, shrinkA=0, shrinkB=3)
DPI = 150


def progress_png(
    rows: Sequence[Row],
    env_id: str,
    solved_at: float | None = None,
    claim: Mapping[str, Any] | None = None,
) -> bytes:
    """Every experiment a dot, the kept ones named, crashes at the bottom edge.

    Args:
        rows: attempts, oldest first.
        solved_at: gymnasium's reward threshold, drawn as a line.
        claim: of confirm.make_claim; its runs are drawn beside the experiments.

    Returns:
        a PNG, 1800 x 960 pixels or wider.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    decided = [r for r in rows if r.status != "running"]
    scored = [r for r in decided if _has_score(r)]
    kept = [r for r in scored if r.status == "keep" and r.state != "taken back"]
    last = max((r.n for r in decided), default=1)

    width = min(12 + max(0, len(rows) - 60) * 0.04, 18)  # inches
    figure = Figure(figsize=(width, 6.4), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    title, fresh = f"{one_line(env_id, 90)}\n{headline(summarize(rows))}", _fresh_runs(claim)
    if claim and any(fresh.values()):
        title += f"\n{one_line(claim['claim']['sentence'].partition(';')[0], 150)}"
        axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[6, 1])
        _draw_fresh_runs(beside, fresh)
    else:
        axes = figure.add_subplot()
    _prepare(axes, last, title)
    goal = None
    if scored:
        low, goal = _set_limits(axes, scored, solved_at, [*chain(*fresh.values())])
        _draw_rejected(axes, scored, low)
        _draw_kept(axes, kept, last)
    else:
        axes.set_yticks([])
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": "#888888", "fontsize": 13}
        axes.text(0.5, 0.5, "no scored experiment yet", transform=axes.transAxes, **style)
    crashed = [r.n for r in decided if not _has_score(r) and r.state != "cancelled"]
    label = "crashed (no score)"
    _mark_edge(axes, crashed, 0.03, marker="x", s=32, color=BAD, zorder=4, label=label)
    if decided:
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph this font lacks is drawn as a box
        figure.draw_without_rendering()  # now pixels are known
        _name_kept(axes, scored, kept, last, goal)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _has_score(row: Row) -> bool:
    return (score := mean(row)) is not None and math.isfinite(score)


def _score(row: Row) -> float:
    assert row.avg_return is not None  # only rows with a score come here
    return row.avg_return


def _error(row: Row) -> float:
    """The length of an error bar; one run has none."""
    return row.stderr or 0.0


# -- The axes and what stands on them --------------------------------------------------------------


def _prepare(axes: "Axes", last: int, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    xlim = (-0.6, max(last, 3) + max(0.6, last * 0.04))
    axes.set(xlim=xlim, xlabel="experiment", ylabel="average return")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize=10, color=INK, parse_math=False)


def limits(rows: Sequence[Row], fresh: Sequence[float] = ()) -> tuple[float, float] | None:
    """The returns worth showing: everything above, and below no further than the bulk.

    A disaster would flatten the rest, so it is marked at the edge. None without a score.
    """
    scored = [r for r in rows if r.status != "running" and _has_score(r)]
    kept = [r for r in scored if r.status == "keep" and r.state != "taken back"]
    if not scored:
        return None
    values = sorted(_score(r) for r in scored)
    edges = [*(_score(r) + sign * _error(r) for r in kept for sign in (-1, 1)), *fresh]
    low, high = values[0], max([*values, *edges])
    if edges:
        bulk = values[len(values) // 5]
        low = min([max(low, min([bulk, *edges]) - 0.5 * (high - bulk)), *edges])
    if high - low < 1e-9 * max(1.0, abs(high)):
        margin = max(1.0, abs(high) * 0.1)
        return low - margin, high + margin
    return low, high


def _set_limits(
    axes: "Axes", scored: Sequence[Row], solved_at: float | None, fresh: Sequence[float]
) -> tuple[float, float | None]:
    """Choose the visible returns and draw the threshold, or say that it lies above them.

    Returns:
        the lowest visible return, and the threshold where it is drawn.
    """
    low, high = limits(scored, fresh) or (0.0, 1.0)
    near = len(scored) < 3 or (solved_at is not None and solved_at <= high + 1.5 * (high - low))
    goal = solved_at if near else None
    if goal is not None:
        low, high = min(low, goal), max(high, goal)
    pad = (high - low) * 0.08
    axes.set_ylim(low - pad, high + 2.2 * pad)
    style: dict[str, Any] = {"color": GOAL, "fontsize": 8}
    if goal is not None:
        axes.axhline(goal, color=GOAL, lw=1.2, ls="--", zorder=1)
        style |= {"ha": "left", "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(0.005, goal, f"solved at {goal:g}", **style)
    elif solved_at is not None:
        style |= {"ha": "right", "va": "top", "transform": axes.transAxes}
        axes.text(0.995, 0.99, f"solved at {solved_at:g}, above this picture", **style)
    return low, goal


def _draw_rejected(axes: "Axes", scored: Sequence[Row], low: float) -> None:
    """What was discarded or taken back: dots, and marks at the bottom edge for what lies below."""
    taken_back = [r for r in scored if r.state == "taken back"]
    discarded = [r for r in scored if r.state != "taken back" and r.status != "keep"]
    for group, size, edge, face, label in (
        (discarded, 26, DULL, DULL, "discarded"),
        (taken_back, 30, KEPT, "white", "kept, later taken back"),
    ):
        inside = [r for r in group if _score(r) >= low]
        if inside:
            x, y = [r.n for r in inside], [_score(r) for r in inside]
            axes.scatter(x, y, s=size, facecolors=face, edgecolors=edge, zorder=2, label=label)
    below = [r.n for r in (*discarded, *taken_back) if _score(r) < low]
    label = "discarded, below this picture"
    _mark_edge(axes, below, 0.012, marker="v", s=26, color=DULL, zorder=2, label=label)


def _mark_edge(axes: "Axes", numbers: Sequence[int], height: float, **style: Any) -> None:
    """Marks near the bottom of the axes, at a height from 0 to 1."""
    if numbers:
        y = [height] * len(numbers)
        axes.scatter(numbers, y, transform=axes.get_xaxis_transform(), **style)


def _draw_kept(axes: "Axes", kept: Sequence[Row], last: int) -> None:
    """The incumbent's mean as a staircase, its standard errors as bars."""
    if not kept:
        return
    x, y = [r.n for r in kept], [_score(r) for r in kept]
    ends = [*x, max(last, x[-1] + 0.5)]
    axes.step(ends, [*y, y[-1]], where="post", color=KEPT, lw=1.4, alpha=0.8, zorder=3)
    bars: dict[str, Any] = {"yerr": [_error(r) for r in kept], "elinewidth": 1, "capsize": 2.5}
    label = "kept (mean ± standard error)"
    axes.errorbar(x, y, fmt="o", ms=6, color=KEPT, ecolor=KEPT, zorder=4, label=label, **bars)


def _fresh_runs(claim: Mapping[str, Any] | None) -> dict[str, list[float]]:
    """The scores of the claim's runs, by arm; one that crashed has none."""
    arms: dict[str, list[float]] = {"baseline": [], "champion": []}
    for run in claim["runs"] if claim else ():
        if run["avg_return"] is not None:
            arms[run["arm"]].append(run["avg_return"])
    return arms


def _draw_fresh_runs(axes: "Axes", fresh: Mapping[str, list[float]]) -> None:
    """Each run of the claim a dot, each arm's mean a line."""
    for x, (scores, color) in enumerate(zip(fresh.values(), (DULL, KEPT), strict=True)):
        if scores:
            spread = x + np.linspace(-0.18, 0.18, len(scores))
            axes.scatter(spread, scores, s=30, facecolors="white", edgecolors=color, zorder=3)
            axes.hlines(float(np.mean(scores)), x - 0.32, x + 0.32, color=color, lw=2, zorder=2)
    axes.set(xlim=(-0.6, 1.6), xticks=(0, 1), xticklabels=fresh.keys(), xlabel="fresh seeds")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", left=False, labelleft=False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)


# -- Names of the kept -----------------------------------------------------------------------------


def _name_kept(
    axes: "Axes", scored: Sequence[Row], kept: Sequence[Row], last: int, goal: float | None
) -> None:
    """Write each kept row's description where it covers no other name and few dots and lines.

    By number alone where nothing is free.
    """
    from matplotlib.transforms import Bbox

    if not kept:
        return
    frame = axes.get_window_extent()
    point = DPI / 72  # pixels
    to_pixels = axes.transData.transform
    dots = to_pixels([(r.n, _score(r)) for r in scored])
    lines = _segments(to_pixels(_staircase(kept, last)))
    if goal is not None:
        lines = np.concatenate([lines, _segments(to_pixels([(x, goal) for x in axes.get_xlim()]))])
    taken = [text.get_window_extent() for text in axes.texts]  # "solved at ..."

    def boxes(row: Row, text: str, offsets: Sequence[tuple[int, int]]) -> dict[Any, Bbox]:
        """The places inside the axes that no name has taken, by offset."""
        probe = axes.text(0, 0, text, **FONT)
        width, height = probe.get_window_extent().size
        probe.remove()
        x, y = to_pixels((row.n, _score(row)))
        found = {}
        for dx, dy in offsets:
            left = x + dx * point - (width if dx < 0 else 0)
            bottom = y + dy * point - height / 2
            box = Bbox.from_bounds(left, bottom, width, height).padded(3)
            inside = frame.contains(*box.min) and frame.contains(*box.max)
            if inside and not box.count_overlaps(taken):
                found[dx, dy] = box
        return found

    def covered(box: Bbox) -> int:
        """How many dots and lines a name in this box would cover."""
        return int(box.padded(4).count_contains(dots)) + int(box.count_overlaps(lines))

    limit = 34 if len(kept) > 8 else 56
    for row in reversed(kept):  # the newest first: they matter most
        description = "baseline" if row.n == 0 else one_line(row.description, limit)
        for text, offsets in ((description, OFFSETS), (f"#{row.n}", OFFSETS[:4])):
            free = boxes(row, text, offsets)
            if free:
                offset = min(free, key=lambda place: covered(free[place]))
                taken.append(free[offset])
                style: dict[str, Any] = {"color": INK, "va": "center", "zorder": 5, **FONT}
                style |= {"textcoords": "offset points", "arrowprops": LEADER}
                style |= {"xytext": offset, "ha": "left" if offset[0] > 0 else "right"}
                axes.annotate(text, (row.n, _score(row)), annotation_clip=False, **style)
                break


def _staircase(kept: Sequence[Row], last: int) -> list[tuple[float, float]]:
    """The incumbent's line as one path (experiment, return), its error bars as detours."""
    path: list[tuple[float, float]] = []
    ends = [*(float(r.n) for r in kept[1:]), max(last, kept[-1].n + 0.5)]
    for row, end in zip(kept, ends, strict=True):
        score, error = _score(row), _error(row)
        path += [(row.n, y) for y in (score, score - error, score + error, score)]
        path.append((end, score))
    return path


def _segments(path: Any) -> Any:
    """The pieces between the points of a path: (N, 2) -> (N - 1, 2, 2)."""
    return np.stack([path[:-1], path[1:]], axis=1)
