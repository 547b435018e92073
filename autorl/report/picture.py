"""progress.png: every experiment a dot, the kept ones named, the incumbent's mean with its standard error.

A missing score is a mark at the bottom edge, never a number. Drawn by matplotlib's Agg backend, without a display;
matplotlib is imported when the first picture is asked for.
"""

import io
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

from autorl.records import Row
from autorl.report.tables import headline, plain, summarize

INK, KEPT, DULL, BAD, GOAL = "#222222", "#1a7f4b", "#b8bcc2", "#c0392b", "#8e6bbf"


def progress_png(
    rows: Sequence[Row], env_id: str, title: str = "", solved_at: float | None = None
) -> bytes:
    """Every experiment a dot, the kept ones named, the incumbent's mean with its standard error, crashes at the bottom edge.

    Args:
        rows: attempts, oldest first.   solved_at: gymnasium's reward threshold, drawn as a line.
    Returns:
        a PNG, 1800 x 960 pixels or wider.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    decided = [r for r in rows if r.status != "running"]
    scored = [
        r
        for r in decided
        if r.status != "crash" and r.avg_return is not None and math.isfinite(r.avg_return)
    ]
    crashed = [
        r
        for r in decided
        if r.status == "crash" or r.avg_return is None or not math.isfinite(r.avg_return)
    ]
    kept = [r for r in scored if r.status == "keep" and r.state != "undone"]
    undone = [r for r in scored if r.state == "undone"]
    discarded = [r for r in scored if r.status != "keep" and r.state != "undone"]

    figure = Figure(
        figsize=(min(12 + max(0, len(rows) - 60) * 0.04, 18), 6.4), dpi=150, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    last = max((r.n for r in decided), default=1)
    axes.set_xlim(-0.6, max(last, 3) + max(0.6, last * 0.04))
    axes.set_xlabel("experiment")
    axes.set_ylabel("average return")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    heading = plain(title or env_id, 90)
    axes.set_title(
        f"{heading}\n{headline(summarize(rows))}",
        loc="left",
        fontsize=10,
        color=INK,
        parse_math=False,
    )

    goal_shown = False
    if scored:
        low, high = _limits(scored, kept)
        goal_shown = solved_at is not None and (
            len(scored) < 3 or solved_at <= high + 1.5 * (high - low)
        )
        if goal_shown and solved_at is not None:
            low, high = min(low, solved_at), max(high, solved_at)
        pad = (high - low) * 0.08
        axes.set_ylim(low - pad, high + 2.2 * pad)
        if goal_shown and solved_at is not None:
            axes.axhline(solved_at, color=GOAL, lw=1.2, ls="--", zorder=1)
            axes.text(0.005, solved_at, f"solved at {solved_at:g}", color=GOAL, fontsize=8, ha="left", va="bottom", transform=axes.get_yaxis_transform())  # fmt: skip
        elif solved_at is not None:
            axes.text(0.995, 0.99, f"solved at {solved_at:g}, above this picture", color=GOAL, fontsize=8, ha="right", va="top", transform=axes.transAxes)  # fmt: skip
        for group, size, color, face, label in (
            (discarded, 26, DULL, DULL, "discarded"),
            (undone, 30, KEPT, "white", "kept, later undone"),
        ):
            inside = [r for r in group if _score(r) >= low]
            if inside:
                axes.scatter(
                    [r.n for r in inside],
                    [_score(r) for r in inside],
                    s=size,
                    facecolors=face,
                    edgecolors=color,
                    zorder=2,
                    label=label,
                )
        below = [r for r in (*discarded, *undone) if _score(r) < low]
        if below:
            axes.scatter([r.n for r in below], [0.012] * len(below), s=26, marker="v", color=DULL, transform=axes.get_xaxis_transform(), zorder=2, label="discarded, below this picture")  # fmt: skip
        if kept:
            xs, ys = [r.n for r in kept], [_score(r) for r in kept]
            axes.step(
                [*xs, max(last, xs[-1] + 0.5)],
                [*ys, ys[-1]],
                where="post",
                color=KEPT,
                lw=1.4,
                alpha=0.8,
                zorder=3,
            )
            axes.errorbar(xs, ys, yerr=[r.stderr or 0.0 for r in kept], fmt="o", ms=6, color=KEPT, ecolor=KEPT, elinewidth=1, capsize=2.5, zorder=4, label="kept (mean ± standard error)")  # fmt: skip
    else:
        axes.set_yticks([])
        axes.text(
            0.5,
            0.5,
            "no scored experiment yet",
            ha="center",
            va="center",
            color="#888888",
            fontsize=13,
            transform=axes.transAxes,
        )
    if crashed:
        axes.scatter([r.n for r in crashed], [0.03] * len(crashed), s=32, marker="x", color=BAD, transform=axes.get_xaxis_transform(), zorder=4, label="crashed (no score)")  # fmt: skip
    if decided:
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph this font lacks is drawn as a box
        if kept:
            _name(figure, axes, kept, scored, last, solved_at if goal_shown else None)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _score(row: Row) -> float:
    assert row.avg_return is not None  # only scored rows come here
    return row.avg_return


def _limits(scored: Sequence[Row], kept: Sequence[Row]) -> tuple[float, float]:
    """The returns worth showing: everything above, and below no further than the bulk; a disaster would flatten the rest."""
    values = sorted(_score(r) for r in scored)
    edges = [
        v for r in kept for v in (_score(r) - (r.stderr or 0.0), _score(r) + (r.stderr or 0.0))
    ]
    high = max(*values, *edges) if edges else values[-1]
    bulk = values[len(values) // 5]
    low = max(values[0], min(bulk, *edges) - 0.5 * (high - bulk)) if edges else values[0]
    low = min([low, *edges])
    if high - low < 1e-9 * max(1.0, abs(high)):
        margin = max(1.0, abs(high) * 0.1)
        return low - margin, high + margin
    return low, high


def _name(
    figure: Any,
    axes: Any,
    kept: Sequence[Row],
    scored: Sequence[Row],
    last: float,
    goal: float | None,
) -> None:
    """Write each kept row's description where it covers neither another name nor a dot; by number alone where nothing is free."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    scale = figure.dpi / 72
    dots = [axes.transData.transform((r.n, _score(r))) for r in scored]
    taken: list[tuple[float, float, float, float]] = [
        t.get_window_extent(renderer).extents for t in axes.texts
    ]  # "solved at ..."
    paths = [
        _bars(axes, kept, last),
        [axes.transData.transform((x, goal)) for x in axes.get_xlim()] if goal is not None else [],
    ]

    def crossed(box: tuple[float, float, float, float]) -> int:
        """How many of the picture's lines run through a box."""
        return sum(_meets(box, a, b) for path in paths for a, b in itertools.pairwise(path))

    def free(box: tuple[float, float, float, float]) -> bool:
        x0, y0, x1, y1 = box
        if x0 < frame.x0 or x1 > frame.x1 or y0 < frame.y0 or y1 > frame.y1:
            return False
        return not any(x0 < b[2] and b[0] < x1 and y0 < b[3] and b[1] < y1 for b in taken)

    offsets = [
        (dx, dy)
        for dy in (14, -16, 28, -30, 42, -44, 58, -60, 76, -78, 96, -100, 120, -130, 150, -160)
        for dx in (8, -8)
    ]
    for row in reversed(kept):  # the newest first: they matter most
        x, y = axes.transData.transform((row.n, _score(row)))
        words = "baseline" if row.n == 0 else plain(row.description, 34)
        for text, places in ((words, offsets), (f"#{row.n}", offsets[:4])):
            best: tuple[int, int, int] | None = None
            probe = axes.text(0, 0, text, fontsize=7.5, parse_math=False)
            extent = probe.get_window_extent(renderer)
            probe.remove()
            width, height = extent.width, extent.height
            for dx, dy in places:
                left = x + dx * scale if dx > 0 else x + dx * scale - width
                box = (
                    left - 3,
                    y + dy * scale - height / 2 - 3,
                    left + width + 3,
                    y + dy * scale + height / 2 + 3,
                )
                if not free(box):
                    continue
                covered = sum(
                    box[0] - 4 < a < box[2] + 4 and box[1] - 4 < b < box[3] + 4 for a, b in dots
                ) + crossed(box)
                if best is None or covered < best[0]:
                    best = (covered, dx, dy)
                if covered == 0:
                    break
            if best is None:
                continue
            _, dx, dy = best
            left = x + dx * scale if dx > 0 else x + dx * scale - width
            taken.append(
                (
                    left - 3,
                    y + dy * scale - height / 2 - 3,
                    left + width + 3,
                    y + dy * scale + height / 2 + 3,
                )
            )
            axes.annotate(
                text, (row.n, _score(row)), xytext=(dx, dy), textcoords="offset points", fontsize=7.5, color=INK, parse_math=False,
                ha="left" if dx > 0 else "right", va="center", zorder=5, annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": "#888888", "lw": 0.6, "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip
            break


def _bars(axes: Any, kept: Sequence[Row], last: float) -> list[Any]:
    """The incumbent's line as one path in pixels, its error bars as detours."""
    path: list[Any] = []
    for k, row in enumerate(kept):
        spread = row.stderr or 0.0
        path += [
            (row.n, _score(row)),
            (row.n, _score(row) - spread),
            (row.n, _score(row) + spread),
            (row.n, _score(row)),
        ]
        path.append((kept[k + 1].n if k + 1 < len(kept) else max(last, row.n + 0.5), _score(row)))
    return [axes.transData.transform(point) for point in path]


def _meets(box: tuple[float, float, float, float], a: Any, b: Any) -> bool:
    """Does an upright or level segment touch a box? (x0, y0, x1, y1), pixels."""
    return bool(
        min(a[0], b[0]) < box[2]
        and max(a[0], b[0]) > box[0]
        and min(a[1], b[1]) < box[3]
        and max(a[1], b[1]) > box[1]
    )
