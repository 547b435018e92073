"""tests/cheats/ through the real judge and sandbox: no row earns a score it did not train for.

    uv run pytest tests/integration/test_cheats.py            # half of the rows from a clone under
                                                              # /tmp, half from one under HOME
    uv run pytest tests/integration/test_cheats.py -m long    # the slower rows, some rows from the
                                                              # other clone, some without a sandbox
    uv run python tests/integration/test_cheats.py [ROW ...]  # the table

The first line of each file says its row, the outcome it must have and why. N: the run counts and
its returns are bit for bit those of the agent it hands over (it does nothing). C:rule: it crashes
with that rule and has no score. R:rule: it is refused by the static look or by a control. F: only a
person can tell; the file passes, and that is said. A file that prints THROUGH says so of itself: it
found what it must not find.
"""

import queue
import sys
import threading
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "support")]  # run as a script, for the table
from cheat_clone import Clone, Result, head  # noqa: E402

from autorl.judge import sandbox  # noqa: E402

CHEATS = sorted((TESTS / "cheats").glob("*.py"))
NO_SANDBOX = "off"
Key = tuple[Path, int, str]  # the file, which clone, which sandbox mode


class Corpus:
    """Two clones at work side by side: one under /tmp, one under HOME."""

    def __init__(self, plan: list[Key]):
        self.results: dict[Key, Result | Exception] = {}
        self.done = {key: threading.Event() for key in plan}
        self.threads = []
        for which, parent in enumerate((Path("/tmp"), Path.home())):
            tasks: queue.SimpleQueue[Key] = queue.SimpleQueue()
            for key in plan:
                if key[1] == which:
                    tasks.put(key)
            if not tasks.empty():
                self.threads.append(threading.Thread(target=self.work, args=(parent, tasks)))
                self.threads[-1].start()

    def work(self, parent: Path, tasks: "queue.SimpleQueue[Key]") -> None:
        clone = None
        try:
            clone = Clone(parent)
            while not tasks.empty():
                key = tasks.get()
                try:
                    self.results[key] = clone.run(key[0], key[2])
                except Exception as error:
                    self.results[key] = error
                self.done[key].set()
        finally:
            if clone:
                clone.close()
            for event in self.done.values():
                event.set() if not self.threads[0].is_alive() else None

    def result(self, key: Key) -> Result:
        assert self.done[key].wait(250), "it did not end"
        found = self.results[key]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(scope="session")
def corpus(request: pytest.FixtureRequest, box: sandbox.Sandbox):
    plan = [
        item.callspec.params["key"]
        for item in request.session.items
        if "key" in getattr(getattr(item, "callspec", None), "params", {})
    ]
    work = Corpus(plan)
    yield work
    for thread in work.threads:
        thread.join()


# One row of each mechanism by default; the rest, and the other clone, under `-m long`.
FIRST = {
    "01", "01b", "03", "10a", "10b", "10f", "11", "11b", "12", "14", "15", "17b", "18", "19", "19b",
    "20a", "20b", "21", "22a", "24a", "24c", "24h", "26", "28", "29", "30a", "30b", "30c", "30d",
    "30g", "34", "38", "39a", "39d", "39f", "39g", "40a", "42a", "43", "44", "45", "47a", "49",
}  # fmt: skip
SECOND_PLACE = {"01", "03", "15", "28", "38"}  # from the other clone too
# what must hold without a sandbox
UNCONFINED = {
    "01", "01b", "02", "10a", "10b", "10h", "12", "14", "16", "24a", "24c", "24i", "26b", "39b",
    "39f",
}  # fmt: skip
HERE = [(path, i % 2, "bwrap") for i, path in enumerate(CHEATS)]


def parameters(key: Key, where: str, first: set[str]):
    """Rows that are not among the `first` are long."""
    path, _, _ = key
    marks = [] if row(path) in first else [pytest.mark.long]
    return pytest.param(key, id=path.stem + where, marks=marks)


def row(path: Path) -> str:
    """ "24c" of 24c_its_name.py."""
    return path.stem.split("_")[0]


KEYS = [parameters(key, "", FIRST) for key in HERE]
KEYS += [
    parameters((path, 1 - which, mode), "-elsewhere", set())
    for path, which, mode in HERE
    if row(path) in SECOND_PLACE
]
KEYS += [
    parameters((path, which, NO_SANDBOX), "-unconfined", {"14", "24c"})
    for path, which, _ in HERE
    if row(path) in UNCONFINED
]


@pytest.mark.parametrize("key", KEYS)
def test_no_cheat_earns_a_score_it_did_not_train_for(key: Key, corpus: Corpus) -> None:
    assert corpus.result(key).fits() == ""


def test_every_row_that_train_py_can_act_out_has_a_file() -> None:
    rows = {int(head(path)[0].split()[1]) for path in CHEATS}
    assert rows == set(range(1, 25)) | set(range(26, 31)) | {34, *range(36, 48), 49}


def main() -> int:
    """Print the table."""
    started = time.monotonic()
    wanted_rows = sys.argv[1:]
    keys = [key for key in HERE if not wanted_rows or row(key[0]) in wanted_rows]
    print(f"isolation {sandbox.probe('bwrap').name}, {len(keys)} files")
    work, wrong = Corpus(keys), 0
    for key in keys:
        result = work.result(key)
        number, wanted, what = head(key[0])
        status = result.record.status if result.record else "refused"
        outcome = f"{result.outcome}:{result.rule}".rstrip(":")
        print(
            f"{number[4:]:>3}  {wanted:<14}{outcome:<16}{status:<8}{result.seconds:5.1f} s  {what}"
        )
        fault = f"  WRONG: {result.fits()}" if result.fits() else ""
        wrong += bool(fault)
        print(f"{'':>8}{result.reason or 'honest score'}{fault}", flush=True)
    print(f"{wrong} wrong, {time.monotonic() - started:.0f} s in all")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
