"""Git as autoRL uses it: proposals become commits on a branch that is never checked out.

    workspace = Repository(Path("."))
    workspace.open_tag("demo")
    sha = workspace.commit(source, parent, "Raise the entropy bonus")
    workspace.pin("demo", 3, sha)                   # refs/autorl/demo/3, for ever
    workspace.move_branch("demo", sha, old=parent)  # autoresearch/demo, compare-and-swap
    workspace.note(sha, "kept: +31 over 3 runs")    # refs/notes/autorl

Commits are made from bytes (see plumbing.py, which starts git). Nothing here writes the user's
index, HEAD or files, so the checkout may be dirty, on any branch, in the middle of a rebase. Doing
anything here twice is doing it once.
What it does not do: check out, merge, fetch, push, or force a ref that somebody else moved.
"""

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from autorl.errors import Paused, UserError
from autorl.git.plumbing import REGULAR, Git, GitError
from autorl.records import MIB
from autorl.system.faults import effect
from autorl.system.files import read_regular

TRAIN = "train.py"
HARNESS = "evaluate.py"
MAX_SOURCE_BYTES = 1 * MIB
NOTES = "refs/notes/autorl"
# Seconds that a living git may hold the lock of a ref (gc packs refs, a killed loop's last child).
LOCK_PATIENCE = 2.0
AGAIN = "then run the same command"
DIFF = (
    "--patch", "-r", "--unified=3", "--text", "--no-ext-diff", "--no-textconv", "--no-color",
    "--no-renames", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip


class Repository:
    """One git repository, seen from the folder that holds train.py.

    Attributes:
        root: that folder, absolute.

    Raises:
        UserError: no git or no repository, bare, no commits, no identity; train.py or evaluate.py
            missing in HEAD; evaluate.py edited and not committed.
    """

    def __init__(self, root: Path):
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise UserError(f"There is no folder {self.root}.")
        self._git = Git(self.root)
        head = self._git.ref("HEAD^{commit}")
        if head is None:
            remedy = "commit train.py and evaluate.py first"
            raise UserError(f"The repository {self.root} has no commits yet: {remedy}.")
        self._head = head
        self.head_source()
        self._refuse_edited(HARNESS)

    def head(self) -> str:
        """The commit that HEAD named when this object was made."""
        return self._head

    def head_source(self) -> str:
        """train.py as HEAD has it. Raises UserError: missing, a link, too large, not UTF-8."""
        return _text(self._committed(TRAIN), f"{TRAIN} in HEAD")

    def working_source(self) -> str:
        """./train.py of the checkout. Raises UserError: no regular file, over 1 MiB, not UTF-8."""
        return _text(_read_regular(self.root / TRAIN), "./train.py")

    def checkout_state(self, but: Path | None = None) -> dict[str, str]:
        """What lies in the checkout and how git is set up: name -> type, size and time.

        That is HEAD, the index, git's settings and hooks, every tracked and every untracked file
        but environments, bytecode, private run directories and the folder `but`. Nothing is
        refreshed and no filter runs. Two equal states: the checkout was left alone; a file that was
        only touched counts as changed.
        """
        left_out = [".venv", "__pycache__", ".autorl"]
        if but is not None:
            left_out.append(f"/{but.resolve().relative_to(self._git.top.resolve())}/")
        options = [f"--exclude={pattern}" for pattern in left_out]
        listed = self._git.run("ls-files", "-z", "--cached", "--others", *options).split(b"\0")
        paths = {os.fsdecode(name): self._git.top / os.fsdecode(name) for name in listed if name}
        for folder in {self._git.git_dir, self._git.common_dir}:
            own = [folder / name for name in ("HEAD", "index", "config", "config.worktree")]
            for path in (*own, *folder.glob("hooks/*"), *folder.glob("info/*")):
                paths[f".git/{path.relative_to(folder)}"] = path
        state = {"HEAD": self._git.ref("HEAD") or ""}
        for name, path in paths.items():
            try:
                found = path.lstat()
                state[name] = f"{found.st_mode:o} {found.st_size} {found.st_mtime_ns}"
            except OSError:
                continue
        return state

    def check_tag(self, tag: str) -> None:
        """Raises UserError when the name cannot be a branch, a folder and a ref."""
        wrong = ".." in tag or tag.endswith((".", ".lock"))
        if wrong or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", tag):
            rule = "letters, digits, dot, dash and underscore, at most 64, a letter or digit first"
            more = "no two dots together, no dot or .lock at the end"
            raise UserError(f"{tag[:80]!r} cannot be a tag: use {rule}, {more}.")

    def open_tag(self, tag: str) -> None:
        """Raises UserError: the name, a ref in the way, a worktree on the branch."""
        self.check_tag(tag)
        branch = _branch(tag)
        for ref in self._git.refs("refs/heads/autoresearch", "refs/autorl"):
            taken = ref in ("refs/heads/autoresearch", "refs/autorl", f"refs/autorl/{tag}")
            if taken or ref.startswith(branch + "/"):
                remedy = f"rename it or delete it (`git update-ref -d {ref}`)"
                raise UserError(f"The ref {ref} is in the way of {branch}: {remedy}.")
        self._refuse_worktree_on(tag, UserError)

    def commit(self, source: str, parent: str, message: str, when: str | None = None) -> str:
        """A commit on top of `parent` with train.py replaced and all else in its tree kept.

        `parent` is a full hash, `when` an ISO time with its zone (None: now). Equal input makes the
        equal commit, so doing it twice is doing it once. Returns the hash.
        """
        path = (self._git.prefix + TRAIN).split("/")
        tree = self._git.replace(parent, path, self._git.store(source.encode()))
        at = datetime.fromisoformat(when) if when else datetime.now(UTC)
        return self._git.commit(tree, parent, message, int(at.timestamp()))

    def pin(self, tag: str, n: int, sha: str) -> None:
        """refs/autorl/<tag>/<n> -> sha, made once. Raises Paused when it is another one already."""
        ref = f"refs/autorl/{tag}/{int(n)}"
        try:
            self._git.update_ref(ref, sha, None, f"autorl: attempt {n}")
        except GitError:
            there = self._git.ref(ref)
            if there is None:
                raise
            if there != sha:
                remedy = f"start a new tag or delete the ref with `git update-ref -d {ref}`"
                look = f"look at it with `git show {ref}`, then {remedy}"
                raise Paused(f"{ref} is {there[:12]}, not {sha[:12]}: {look}.") from None

    def pinned(self, tag: str) -> dict[int, str]:
        """Attempt number -> commit, of every pin of a tag."""
        refs = self._git.refs(f"refs/autorl/{tag}/")
        numbered = ((name.rpartition("/")[2], sha) for name, sha in refs.items())
        return {int(n): sha for n, sha in numbered if n.isdigit()}

    def branch(self, tag: str) -> str | None:
        """The tip of autoresearch/<tag>, or None."""
        return self._git.ref(_branch(tag))

    def move_branch(self, tag: str, new: str, old: str | None) -> None:
        """autoresearch/<tag> from `old` (None: not there yet) to `new`, in one compare-and-swap.

        Raises Paused when somebody else moved, made or deleted it, or stands on it.
        """
        ref = _branch(tag)
        if self._git.ref(ref) == new != old:
            return  # done before a kill
        self._refuse_worktree_on(tag, Paused)
        try:
            self._git.update_ref(ref, new, old, "autorl: keep")
        except GitError:
            there = self._git.ref(ref)
            if there == old:
                raise
            name = ref.removeprefix("refs/heads/")
            remedy = (
                f"git update-ref {ref} {old}" if old else f"git branch -m {name} SOMETHING-ELSE"
            )
            raise Paused(
                f"The branch {name} was {f'moved to {there[:12]}' if there else 'deleted'} by "
                f"somebody else (expected {old and old[:12]}): keep what you need of it under "
                f"another name, put it back with `{remedy}`, {AGAIN}."
            ) from None

    def note(self, sha: str, text: str) -> None:
        """Attach text to a commit in refs/notes/autorl, in place of what was there."""
        git = self._git
        blob = git.store(text.rstrip("\n").encode("utf-8", "replace") + b"\n")
        mine = b"%s %s" % (REGULAR[0], blob.encode())
        for tries_left in reversed(range(5)):  # other tags' loops write the same ref
            old = git.ref(NOTES)
            there = git.entries("-r", old) if old else {}
            # flat again where git fanned the names out into folders (ab/cdef...): no note twice
            flat = {name.replace(b"/", b""): entry for name, entry in there.items()}
            if flat.get(sha.encode()) == mine:
                return
            flat = {name: entry for name, entry in flat.items() if len(name) == len(sha)}
            tree = git.tree(flat | {sha.encode(): mine})
            new = git.commit(tree, old, f"autorl: note on {sha[:12]}", int(time.time()))
            try:
                return git.update_ref(NOTES, new, old, "autorl: note")
            except GitError:
                if not tries_left or git.ref(NOTES) == old:
                    raise

    def diff(self, a: str, b: str) -> str:
        """Unified diff of train.py between two commits, whatever diff settings the user has."""
        prefix = self._git.prefix
        where = (f"--relative={prefix}", a, b, "--", prefix + TRAIN)
        return self._git.run("diff-tree", *DIFF, *where).decode("utf-8", "replace")

    def clear_stale_locks(self, tag: str) -> list[str]:
        """Remove lock files that a killed git left on *our* refs; the caller holds the tag's lock.

        A lock is watched for LOCK_PATIENCE first: a living git is done by then. index.lock,
        packed-refs.lock, HEAD.lock and those of every other ref are the user's and never touched.
        Returns one sentence for each lock removed.
        """
        common = self._git.common_dir

        def ours() -> dict[Path, int]:
            found = [common / f"{ref}.lock" for ref in (_branch(tag), NOTES)]
            found += (common / "refs/autorl" / tag).glob("*.lock")
            return {path: path.lstat().st_mtime_ns for path in found if os.path.lexists(path)}

        if not (before := ours()):
            return []
        time.sleep(LOCK_PATIENCE)
        said = []
        for path, _ in sorted(before.items() & ours().items()):
            left = f"{path.relative_to(common)}, left by a git that was killed"
            try:
                effect("lock removal", path.unlink)
            except OSError as error:
                raise Paused(f"Cannot remove {left} ({error.strerror}): do so, {AGAIN}.") from error
            said.append(f"Removed {left}.")
        return said

    def _committed(self, name: str) -> bytes:
        """The bytes of a regular file in HEAD."""
        found = self._git.entries(self._head, path := self._git.prefix + name)
        if not found:
            remedy = f"commit it first (`git add {name} && git commit`)"
            raise UserError(f"{name} is not in HEAD: {remedy}.")
        kind, _, blob = found[os.fsencode(path)].rpartition(b" ")
        if kind not in REGULAR:
            remedy = "replace the link or folder by the file itself and commit that"
            raise UserError(f"{name} in HEAD is not a regular file: {remedy}.")
        return self._git.run("cat-file", "blob", blob.decode())

    def _refuse_edited(self, name: str) -> None:
        committed, path = self._committed(name), self.root / name
        back = f"put it back with `git checkout -- {name}`"
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{name} is missing in your checkout: {back}.")
        if _read_regular(path).replace(b"\r\n", b"\n") != committed.replace(b"\r\n", b"\n"):
            remedy = f"commit it first (`git commit {name}`) or {back}"
            raise UserError(f"{name} is edited and not committed: {remedy}.")

    def _refuse_worktree_on(self, tag: str, error: type[UserError] | type[Paused]) -> None:
        """A worktree on the research branch would see its files and its HEAD part ways."""
        ref, name = _branch(tag), _branch(tag).removeprefix("refs/heads/")
        trees = self._git.run("worktree", "list", "--porcelain").decode("utf-8", "replace")
        for where, *lines in (tree.splitlines() for tree in trees.strip().split("\n\n")):
            if f"branch {ref}" in lines:
                where = where.removeprefix("worktree ")
                remedy = f"switch it to another branch (`git -C '{where}' switch -`)"
                raise error(f"The worktree {where} stands on {name}: {remedy}, {AGAIN}.")
        for folder in (self._git.common_dir, *(self._git.common_dir / "worktrees").glob("*")):
            for state in ("rebase-merge/head-name", "rebase-apply/head-name"):
                path = folder / state
                if path.is_file() and path.read_text(errors="replace").strip() == ref:
                    remedy = "finish it or run `git rebase --abort`, switch to another branch"
                    raise error(f"A rebase of {name} is under way: {remedy}, {AGAIN}.")


def _branch(tag: str) -> str:
    return f"refs/heads/autoresearch/{tag}"


def _read_regular(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"Cannot read {path.name} ({error.strerror}): put a regular file there."
        ) from None


def _text(data: bytes, what: str) -> str:
    if len(data) > MAX_SOURCE_BYTES:
        raise UserError(f"{what} is larger than 1 MiB: autoRL edits source code, nothing else.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
