"""Git as autoRL uses it: proposals become commits on a branch that is never checked out.

    workspace = Workspace(Path("."))
    workspace.open_tag("demo")
    sha = workspace.commit(source, parent, "Raise the entropy bonus")
    workspace.pin("demo", 3, sha)                       # refs/autorl/demo/3, for ever
    workspace.move_branch("demo", sha, old=parent)      # refs/heads/autoresearch/demo, compare-and-swap
    workspace.note(sha, "kept: +31 over 3 runs")        # refs/notes/autorl

Commits are made from bytes (see plumbing.py, which starts git). Nothing here writes the user's index, HEAD or files, so
the checkout may be dirty, on any branch, in the middle of a rebase. Doing anything here twice is doing it once.

What it does not do: check out, merge, fetch, push, or force a ref that somebody else moved.
"""

import hashlib
import os
import re
import stat
import time
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from autorl.errors import Paused, UserError
from autorl.git.plumbing import REGULAR, Git, GitError
from autorl.records import MIB
from autorl.system.faults import effect

TRAIN = "train.py"
HARNESS = "evaluate.py"
MAX_SOURCE_BYTES = 1 * MIB
NOTES = "refs/notes/autorl"
LOCK_PATIENCE = 2.0  # seconds that a ref lock may be in use by a git that is still alive (gc packs refs, a killed loop's last child)


class Workspace:
    """One git repository, seen from the folder that holds train.py.

    Attributes:
        root: that folder, absolute.
    """

    def __init__(self, root: Path):
        """Look before anything is made.

        Raises:
            UserError: no git or no repository, bare, no commits, no identity, train.py or evaluate.py missing in
                HEAD, evaluate.py edited and not committed.
        """
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise UserError(f"There is no folder {self.root}.")
        self._git = Git(self.root)
        head = self._git.ref("HEAD^{commit}")
        if head is None:
            raise UserError(f"The repository {self.root} has no commits yet: commit train.py and evaluate.py first.")
        self._head = head
        self.head_source(TRAIN)
        self._refuse_edited(HARNESS)

    # -- what the user has -------------------------------------------------------------------------------------------

    def head(self) -> str:
        """The commit that HEAD named when this object was made."""
        return self._head

    def head_source(self, path: str = TRAIN) -> str:
        """A file as HEAD has it. Raises UserError: missing, a symlink, too large, not UTF-8."""
        return self._source(self._head, path, "HEAD")

    def working_source(self) -> str:
        """./train.py as it lies in the checkout: a regular file of at most 1 MiB of UTF-8. Raises UserError otherwise."""
        return _text(_read_regular(self.root / TRAIN), "./train.py")

    def checkout_fingerprint(self) -> str:
        """One word for the user's checkout: HEAD, the index's bytes, and type, size and times of every tracked file.

        Nothing is refreshed and no filter runs. Two equal words: the checkout was left alone; a file that was only
        touched counts as changed.
        """
        digest = hashlib.sha256()
        for name in ("HEAD", "index"):
            path = self._git.git_dir / name
            digest.update(path.read_bytes() if path.exists() else b"-")
        digest.update((self._git.ref("HEAD") or "").encode())
        top = os.fsencode(self._git.top)
        for file in sorted(set(self._git.run("ls-files", "-z", "--full-name").split(b"\0")) - {b""}):
            try:
                found = os.lstat(os.path.join(top, file))
                digest.update(b"%s\0%o %d %d\0" % (file, found.st_mode, found.st_size, found.st_mtime_ns))
            except OSError:
                digest.update(file + b"\0gone\0")
        return digest.hexdigest()[:16]

    # -- a tag -------------------------------------------------------------------------------------------------------

    def check_tag(self, tag: str) -> None:
        """Raises UserError when the name cannot be a branch, a folder and a ref."""
        if (
            not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", tag)
            or tag.endswith(".")
            or self._git.fails("check-ref-format", _branch(tag))
        ):
            raise UserError(f"{tag[:80]!r} cannot be a tag: use letters, digits, dot, dash and underscore, at most 64, beginning with a letter or digit.")  # fmt: skip

    def open_tag(self, tag: str) -> None:
        """Check that this tag can be worked on. Raises UserError: the name, a ref in the way, a worktree on the branch."""
        self.check_tag(tag)
        there = set(self._git.refs("refs/heads/autoresearch", "refs/autorl"))
        in_the_way = {"refs/heads/autoresearch", "refs/autorl", f"refs/autorl/{tag}"} & there
        in_the_way |= {name for name in there if name.startswith(_branch(tag) + "/")}
        if in_the_way:
            ref = sorted(in_the_way)[0]
            mend = f"git branch -m {ref.removeprefix('refs/heads/')} NEW" if ref.startswith("refs/heads/") else f"git update-ref -d {ref}"
            raise UserError(f"The ref {ref} is in the way of {_branch(tag)}: rename or delete it (`{mend}`).")
        self._refuse_worktree_on(tag, UserError)

    def commit(self, source: str, parent: str, message: str, when: int | str | None = None) -> str:
        """A commit on top of `parent` with train.py replaced and every other entry of its tree kept.

        Equal input (the date included) makes the equal commit, so doing it twice is doing it once.

        Args:
            source: the new train.py.
            parent: a commit.
            when: seconds since the epoch or an ISO time, UTC; None is now.

        Returns:
            The hash.
        """
        tree = self._git.replace(parent, (self._git.prefix + TRAIN).split("/"), self._git.store(source.encode("utf-8")))
        return self._git.commit(tree, parent, message, _seconds(when))

    def pin(self, tag: str, n: int, sha: str) -> None:
        """refs/autorl/<tag>/<n> -> sha: made once, never moved. Raises Paused when it is something else already."""
        ref = f"refs/autorl/{tag}/{int(n)}"
        try:
            self._git.update_ref(ref, sha, self._git.zero, f"autorl: attempt {n}")
        except GitError as error:
            there = self._git.ref(ref)
            if there != sha:
                was = f"is {there[:12]} already and not {sha[:12]}" if there else f"cannot be made ({error})"
                raise Paused(f"{ref} {was}: look at it with `git show {ref}`, then start a new tag or delete the ref with `git update-ref -d {ref}`.") from None  # fmt: skip

    def pinned(self, tag: str) -> dict[int, str]:
        """Attempt number -> commit, of every pin of a tag."""
        numbered = ((name.rpartition("/")[2], sha) for name, sha in self._git.refs(f"refs/autorl/{tag}/").items())
        return {int(n): sha for n, sha in numbered if n.isdigit()}

    def branch(self, tag: str) -> str | None:
        """The tip of autoresearch/<tag>, or None."""
        return self._git.ref(_branch(tag))

    def move_branch(self, tag: str, new: str, old: str | None) -> None:
        """autoresearch/<tag> from `old` (None: not there yet) to `new`, in one compare-and-swap.

        Raises:
            Paused: somebody else moved, made or deleted it, or stands on it; the message says what to do.
        """
        ref = _branch(tag)
        if self._git.ref(ref) == new != old:
            return  # done before a kill
        self._refuse_worktree_on(tag, Paused)
        try:
            self._git.update_ref(ref, new, old or self._git.zero, "autorl: keep")
        except GitError as error:
            there = self._git.ref(ref)
            if there == old:
                raise Paused(f"Git could not move {ref} ({error}): mend that, then run the same command.") from None
            name = ref.removeprefix("refs/heads/")
            mend = f"git update-ref {ref} {old}" if old else f"git branch -m {name} SOMETHING-ELSE"
            raise Paused(
                f"The branch {name} was {'deleted' if there is None else f'moved to {there[:12]}'} by somebody else (expected {old[:12] if old else 'no such branch'}): "
                f"keep what you need of it under another name, put it back with `{mend}`, then run the same command."
            ) from None

    def note(self, sha: str, text: str) -> None:
        """Attach text to a commit in refs/notes/autorl, in place of what was there; read it with `git log --notes=autorl`."""
        git, kind = self._git, REGULAR[0]
        blob = git.store(text.rstrip("\n").encode("utf-8", "replace") + b"\n").encode()
        for _ in range(5):  # other tags' loops write the same ref
            old = git.ref(NOTES)
            # git may have fanned the names out into folders (ab/cdef...): flat again, or a note would be there twice
            flat = {name.replace(b"/", b""): (kind, sha) for kind, name, sha in (git.entries(old, deep=True) if old else ())}
            if flat.get(sha.encode()) == (kind, blob):
                return
            flat[sha.encode()] = (kind, blob)
            tree = git.tree((kind, name, found) for name, (kind, found) in flat.items() if len(name) == len(git.zero))
            new = git.commit(tree, old, f"autorl: note on {sha[:12]}", int(time.time()))
            try:
                return git.update_ref(NOTES, new, old or git.zero, "autorl: note")
            except GitError as error:
                trouble = error
                if git.ref(NOTES) == old:
                    break
        raise Paused(f"Git could not move {NOTES} ({trouble}): mend that, then run the same command.")

    def source_at(self, sha: str) -> str:
        """train.py of a commit."""
        return self._source(sha, TRAIN, sha[:12])

    def diff(self, a: str, b: str) -> str:
        """Unified diff of train.py between two commits, whatever diff settings and attributes the user has."""
        flags = ("--patch", "-r", "--unified=3", "--text", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")  # fmt: skip
        prefix = self._git.prefix
        return self._git.run("diff-tree", *flags, f"--relative={prefix}", a, b, "--", prefix + TRAIN).decode("utf-8", "replace")

    def export(self, sha: str, folder: Path) -> None:
        """The files of a commit, byte for byte, in a new folder without git; links that lead outside are left out."""
        folder.mkdir(parents=True, exist_ok=True)
        prefix = self._git.prefix
        wanted = []
        for kind, name, blob in self._git.entries(sha, *([prefix] if prefix else []), deep=True):
            relative = PurePosixPath(os.fsdecode(name.removeprefix(os.fsencode(prefix))))
            if kind.endswith(b" blob") and not ({"..", ".git"} & {part.lower() for part in relative.parts}):
                wanted.append((kind, blob, relative))
        for (kind, _, relative), data in zip(wanted, self._git.contents(blob for _, blob, _ in wanted), strict=True):
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind in REGULAR:
                path.write_bytes(data)
                path.chmod(0o755 if kind == REGULAR[1] else 0o644)
            elif not os.path.normpath(relative.parent / os.fsdecode(data)).startswith(("/", "..")):
                path.symlink_to(os.fsdecode(data))

    def clear_stale_locks(self, tag: str) -> list[str]:
        """Remove lock files that a killed git left on *our* refs; the caller holds the tag's lock.

        A lock that is there is watched for LOCK_PATIENCE first: a living git is done by then. index.lock,
        packed-refs.lock, HEAD.lock and the locks of every other ref are the user's and never touched.

        Returns:
            One sentence for each lock removed.
        """
        common = self._git.common_dir

        def ours() -> dict[Path, int]:
            found = [common / f"{_branch(tag)}.lock", common / f"{NOTES}.lock", *(common / "refs" / "autorl" / tag).glob("*.lock")]
            return {path: os.lstat(path).st_mtime_ns for path in found if os.path.lexists(path)}

        if not (before := ours()):
            return []
        time.sleep(LOCK_PATIENCE)
        after = ours()
        said = []
        for path in sorted(path for path, age in before.items() if after.get(path) == age):
            try:
                effect("lock removal", path.unlink)
            except OSError as error:
                raise Paused(f"Cannot remove {path}, left by a git that was killed ({error.strerror}): remove it, then run the same command.") from error  # fmt: skip
            said.append(f"Removed {path.relative_to(common)}, left by a git that was killed.")
        return said

    # -- inside ------------------------------------------------------------------------------------------------------

    def _refuse_edited(self, name: str) -> None:
        committed = self._git.entries(self._head, self._git.prefix + name)
        if not committed:
            raise UserError(f"{name} is not in the last commit: commit it first (`git add {name} && git commit`).")
        path = self.root / name
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{name} is missing in your checkout: put it back with `git checkout -- {name}`.")
        if _read_regular(path).replace(b"\r\n", b"\n") != self._git.contents([committed[0][2]])[0].replace(b"\r\n", b"\n"):
            raise UserError(f"{name} is edited and not committed: commit it first (`git commit {name}`) or put it back with `git checkout -- {name}`.")  # fmt: skip

    def _refuse_worktree_on(self, tag: str, error: type[UserError] | type[Paused]) -> None:
        """A worktree on the research branch would see its files and its HEAD part ways."""
        ref, name, where = _branch(tag), _branch(tag).removeprefix("refs/heads/"), ""
        for line in self._git.run("worktree", "list", "--porcelain").decode("utf-8", "replace").splitlines():
            if line.startswith("worktree "):
                where = line.removeprefix("worktree ")
            if line == f"branch {ref}":
                raise error(f"The worktree {where} stands on {name}: switch it to another branch (`git -C '{where}' switch -`), then run the same command.")  # fmt: skip
        for folder in (self._git.common_dir, *(self._git.common_dir / "worktrees").glob("*")):
            for state in ("rebase-merge/head-name", "rebase-apply/head-name"):
                if (folder / state).is_file() and (folder / state).read_text(errors="replace").strip() == ref:
                    raise error(f"A rebase of {name} is under way: finish it or run `git rebase --abort`, switch to another branch, then run the same command.")  # fmt: skip

    def _source(self, treeish: str, path: str, where: str) -> str:
        try:
            found = self._git.entries(treeish, self._git.prefix + path)
        except GitError:
            raise UserError(f"The commit {where} is not in this repository.") from None
        if not found:
            raise UserError(f"{path} is not in {where}: commit it first (`git add {path} && git commit`).")
        kind, _, blob = found[0]
        if kind not in REGULAR:
            raise UserError(f"{path} in {where} is not a regular file: replace the link or folder by the file itself and commit that.")
        return _text(self._git.contents([blob])[0], f"{path} in {where}")


def _branch(tag: str) -> str:
    return f"refs/heads/autoresearch/{tag}"


def _seconds(when: int | str | None) -> int:
    """Seconds since the epoch of a number, an ISO time or now."""
    if isinstance(when, str):
        at = datetime.fromisoformat(when)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    return int(time.time()) if when is None else int(when)


def _read_regular(path: Path) -> bytes:
    """A regular file of at most MAX_SOURCE_BYTES (and one byte more), without following a link or waiting on a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror
        raise UserError(f"Cannot read {path.name} ({why}): put a regular file there.") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UserError(f"{path.name} is not a regular file: put one there.")
    with open(fd, "rb") as file:
        return file.read(MAX_SOURCE_BYTES + 1)


def _text(data: bytes, what: str) -> str:
    if len(data) > MAX_SOURCE_BYTES:
        raise UserError(f"{what} is larger than 1 MiB: autoRL edits source code, nothing else.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
