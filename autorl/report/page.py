"""report.html: one self-contained page that works from a file, without any address to load from.

page.html, filled in by jinja2 (it comes with torch). Everything that a session says is in one block
of compressed JSON; page.js shows it as text, never as HTML, and page.html forbids requests.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from autorl.records import Row
from autorl.report.tables import duration, mean, number, summarize
from autorl.system.text import one_line, plain

HERE = Path(__file__).parent


class Table(NamedTuple):
    """A table of strings for the report: evidence of a claim, spend, machine."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""  # one sentence under it


def evidence_tables(evidence: Mapping[str, Any]) -> tuple[Table, ...]:
    """What `confirm` recorded, as tables: the statistics of both arms, and every run they rest on.

    Args:
        evidence: the claim's record: `claim` (the figures), `runs`, `commits`; what it lacks stays
            empty.
    """
    figures: Mapping[str, Any] = evidence.get("claim") or {}
    commits: Mapping[str, Any] = evidence.get("commits") or {}

    def show(name: str, digits: int = 2) -> str:
        return number(figures.get(name), digits)

    arms = []
    for arm, suffix in (("baseline", "0"), ("champion", "")):
        counts = (show(name + suffix, 0) for name in ("runs", "crashes"))
        scores = (show(name + suffix) for name in ("mean", "iqm", "std", "floor"))
        arms.append((arm, str(commits.get(arm, ""))[:7], *counts, *scores))
    low, high, confidence = show("low"), show("high"), figures.get("confidence")
    sd, gained = figures.get("sd"), figures.get("gain")
    gain = (
        show("gain"),
        f"{low} to {high}" if low and high else "",
        f"{100 * confidence:.0f} % {figures.get('method', '')}" if confidence else "",
        number(gained / sd, 1) if sd and gained is not None else "",
        show("probability_of_improvement"),
        show("smallest"),
    )
    runs = []
    for run in evidence.get("runs", ()):
        score, episodes = number(run["avg_return"], 2), str(len(run["returns"]))
        ended = run["status"], run.get("isolation", ""), run.get("reason", "")
        runs.append((run["arm"], str(run["seed"]), score, episodes, *ended))
    of_arm = ("runs", "crashes", "mean", "IQM", "sd of a run", "sd in the session")
    smallest = "smallest gain these runs could show"
    of_gain = ("gain", "interval", "method", "in sd", "probability of improvement", smallest)
    of_run = ("training seed", "avg_return", "episodes", "status", "isolation", "reason")
    fresh, sentence = "Its runs, on seeds no decision has used", str(figures.get("sentence", ""))
    return (
        Table("Evidence", ("arm", "commit", *of_arm), tuple(arms), sentence),
        Table("Gain", of_gain, (gain,)),
        Table(fresh, ("arm", *of_run), tuple(runs)),
    )


def summary_words(
    rows: Sequence[Row], env_id: str, time_budget: float, episodes: int, claim: str = ""
) -> tuple[str, ...]:
    """What was done and found, in sentences for somebody who has never seen this project.

    Args:
        episodes: of one evaluation.
        claim: the sentence of `confirm`, if it ran.
    """
    summary = summarize(rows)
    tried = f"{summary.attempts} {'idea was' if summary.attempts == 1 else 'ideas were'} tried"
    words = [
        f"train.py teaches a policy to act in {env_id}. autoRL edited it again and again: each "
        f"version trained from nothing for {duration(time_budget)}, then a judge that train.py "
        f"cannot reach let the trained policy play {episodes} fresh episodes. The score is the "
        f"mean return of these episodes; higher is better. {tried}, {summary.kept} kept, "
        f"{summary.discarded} discarded, {summary.crashed} crashed."
    ]
    best, first, now = summary.best, mean(summary.baseline), mean(summary.best)
    if best is not None and best.n and first is not None and now is not None:
        words.append(
            f"While searching, the mean return went from {first:,.2f} to {now:,.2f} with "
            f"experiment {best.n}, “{one_line(best.description, 120)}”."
        )
    if claim:
        words.append(f"On fresh seeds that no decision had used: {one_line(claim, 2000)}")
    elif summary.kept:
        words.append(
            "That is the search's own ledger, chosen among many noisy numbers: nothing is claimed "
            "until `confirm` measures baseline and champion again on fresh seeds."
        )
    else:
        words.append("Nothing is claimed: no change has been found worth keeping so far.")
    return tuple(words)


def data_json(data: Mapping[str, Any]) -> bytes:
    """The page's data; every text without control characters, NaN and infinity as null.

    `replay` goes as it is: a page that escaped its texts itself.
    """
    replay = {name: value for name, value in data.items() if name == "replay"}
    texts = {name: value for name, value in data.items() if name != "replay"}
    return msgspec.json.encode(_harmless(texts) | replay)


def filled_in(template: str, **values: Any) -> str:
    """A template of this folder with these values in place; texts are escaped, Markup is not."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template(template).render(values)


def report_html(data: Mapping[str, Any] | None) -> str:
    """The page of a session.

    Args:
        data: what cli/page.py gathers; None: the page asks the server that it came from.
    """
    packed = "" if data is None else base64.b64encode(zlib.compress(data_json(data), 9)).decode()
    title = "autoRL" if data is None else one_line(f"{data['env_id']} · {data['tag']}", 200)
    parts = {"css": "page.css", "script": "page.js"}
    parts |= {"chart_css": "uplot/uPlot.min.css", "chart_script": "uplot/uPlot.iife.min.js"}
    files = {name: (HERE / file).read_text(encoding="utf-8") for name, file in parts.items()}
    return filled_in("page.html", title=title, packed=packed, **files)


def _harmless(value: Any) -> Any:
    """Plain data whose texts hold no control characters; lines of a text stay lines."""
    if isinstance(value, str):
        return "\n".join(line[:2000] for line in plain(value.expandtabs(4)).split("\n"))
    if isinstance(value, Mapping):
        return {one_line(str(name), 64): _harmless(v) for name, v in value.items()}
    return [_harmless(v) for v in value] if isinstance(value, list | tuple) else value
