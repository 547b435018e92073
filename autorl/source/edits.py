"""Exact search/replace blocks on train.py: applied all or nothing, or found between two versions.

Pure: text in, text out.
"""

import contextlib
import difflib
import re
from collections import Counter

from autorl.errors import EditMiss
from autorl.records import Edit


def apply_edits(source: str, edits: tuple[Edit, ...]) -> str:
    """Apply exact search/replace blocks one after another, all or nothing.

    Raises:
        EditMiss: a block is empty, absent (the nearest real lines are quoted) or not unique.
    """
    for number, edit in enumerate(edits, 1):
        count = source.count(edit.search)
        if not edit.search:
            raise EditMiss(
                f"Edit {number} has an empty search block; quote the lines to replace exactly."
            )
        if count > 1:
            raise EditMiss(
                f"Edit {number}: the search block occurs {count} times; "
                "add lines around it until it is unique."
            )
        if count == 0:
            raise EditMiss(
                f"Edit {number}: the search block is not in train.py. "
                f"The nearest real lines are:\n{nearest_lines(source, edit.search)}"
            )
        source = source.replace(edit.search, edit.replace)
    return source


def edits_from(data: object) -> tuple[Edit, ...]:
    """Edits out of JSON data; EditMiss if it is no list of {"search": …, "replace": …}."""
    if isinstance(data, list) and data and all(isinstance(each, dict) for each in data):
        pairs = [(each.get("search"), each.get("replace")) for each in data]
        if all(isinstance(text, str) for pair in pairs for text in pair):
            return tuple(Edit(*pair) for pair in pairs)
    raise EditMiss("Edits are a list of objects with the strings search and replace, at least one.")


def nearest_lines(source: str, wanted: str) -> str:
    """The window of `source` most like `wanted`, as many lines as `wanted` has (difflib ratio)."""
    lines, size = source.splitlines(), max(1, len(wanted.splitlines()))
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted.strip())
    best, best_ratio = 0, -1.0
    for start in range(max(1, len(lines) - size + 1)):
        matcher.set_seq1("\n".join(lines[start : start + size]).strip())
        if matcher.real_quick_ratio() <= best_ratio or matcher.quick_ratio() <= best_ratio:
            continue
        if (ratio := matcher.ratio()) > best_ratio:
            best, best_ratio = start, ratio
    return "\n".join(lines[best : best + size])


def edits_between(old: str, new: str) -> tuple[Edit, ...]:
    """Exact search/replace blocks from `old` to `new`, each grown by lines until it is unique.

    Where no such blocks lead there, one block replaces the whole file.
    """
    a, b = lines_of(old), lines_of(new)
    blocks: list[list[int]] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        before = after = 0
        while i1 - before > 0 or i2 + after < len(a):
            if (text := "".join(a[i1 - before : i2 + after])) and old.count(text) == 1:
                break
            before, after = before + (i1 - before > 0), after + (i2 + after < len(a))
        i1, j1, i2, j2 = i1 - before, j1 - before, i2 + after, j2 + after
        if blocks and i1 < blocks[-1][1]:  # overlaps the block before: one block for both
            blocks[-1][1], blocks[-1][3] = max(i2, blocks[-1][1]), max(j2, blocks[-1][3])
        else:
            blocks.append([i1, i2, j1, j2])
    edits = tuple(Edit("".join(a[i1:i2]), "".join(b[j1:j2])) for i1, i2, j1, j2 in blocks)
    with contextlib.suppress(EditMiss):
        if apply_edits(old, edits) == new:
            return edits
    return (Edit(old, new),)


def changed_lines(old: str, new: str) -> list[str]:
    """The lines that `new` lacks ("-") and those that it adds ("+"), without their indentation,
    sorted."""
    a, b = (Counter(line.strip() for line in source.splitlines()) for source in (old, new))
    return sorted([f"-{line}" for line in a - b] + [f"+{line}" for line in b - a])


def lines_of(source: str) -> list[str]:
    """Lines with their ends as Python counts them (str.splitlines also breaks at U+2028)."""
    return re.findall(r"[^\n]*\n|[^\n]+", source)
