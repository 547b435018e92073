"""Git, and the only file that touches it: proposals become commits without a checkout.

    workspace = Workspace(Path("."))
    workspace.open_tag("demo")
    sha = workspace.commit(source, parent, "Raise the entropy bonus")
    workspace.pin("demo", 3, sha)                       # refs/autorl/demo/3, for ever
    workspace.move_branch("demo", sha, old=parent)      # refs/heads/autoresearch/demo, compare-and-swap
    workspace.note(sha, "kept: +31 over 3 runs")        # refs/notes/autorl

Commits are made from bytes with plumbing (hash-object, mktree, commit-tree, update-ref). Nothing here reads or writes the
user's index, HEAD or files; no hook, filter, signature, editor, pager or external diff runs; GIT_* variables of the
caller are dropped. Each writing command is one counted effect, and each is harmless to repeat.

What it does not do: check out, merge, fetch, push, collect garbage, or force a ref that somebody else moved.
"""

import hashlib
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from autorl.effects import effect
from autorl.records import MIB, Paused, UserError

TRAIN = "train.py"
HARNESS = "evaluate.py"
MAX_SOURCE_BYTES = 1 * MIB
NOTES = "refs/notes/autorl"
LOCK_PATIENCE = 2.0  # seconds that a ref lock may be in use by a git that is still alive (gc packs refs, a killed loop's last child)

# What no setting of the user's may change. Objects and refs are fsynced: a night ends in a power cut, too.
_SETTINGS = (
    "core.hooksPath=/dev/null",  # reference-transaction hooks run on update-ref
    "core.fsmonitor=false",  # may be a program
    "core.quotePath=false",
    "core.filesRefLockTimeout=5000",  # ms; the default of 100 loses against `git pack-refs`
    "core.packedRefsTimeout=5000",
    "core.fsync=loose-object,reference",
    "core.attributesFile=/dev/null",
    "commit.gpgSign=false",
    "i18n.commitEncoding=UTF-8",
    "gc.auto=0",
    "maintenance.auto=false",
    "user.useConfigOnly=true",  # never invent root@localhost
)
_KEPT_VARIABLES = (
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
)


class GitError(Exception):
    """A git command failed; the message is git's own."""


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
        self.root = self._top = Path(root).resolve()
        self._env = _environment()
        if not self.root.is_dir():
            raise UserError(f"There is no folder {self.root}.")
        self._discover()
        try:
            self._author, self._committer = self._identity()
        except GitError:
            raise UserError(
                'Git does not know who you are: run `git config --global user.name "Your Name"` and `git config --global user.email you@example.org`.'
            ) from None
        try:
            self._head = self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
        except GitError:
            raise UserError(f"The repository {self.root} has no commits yet: commit train.py and evaluate.py first.") from None
        self.head_source(TRAIN)
        self._refuse_edited(HARNESS)

    def head(self) -> str:
        """The commit that HEAD named when this object was made."""
        return self._head

    # -- what the user has -------------------------------------------------------------------------------------------

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
            path = self._git_dir / name
            digest.update(path.read_bytes() if path.exists() else b"-")
        digest.update(self._git("rev-parse", "--verify", "--quiet", "HEAD", check=False))
        top = os.fsencode(self._top)
        for file in sorted(set(self._git("ls-files", "-z", "--full-name").split(b"\0")) - {b""}):
            try:
                found = os.lstat(os.path.join(top, file))
                digest.update(b"%s\0%o %d %d\0" % (file, found.st_mode, found.st_size, found.st_mtime_ns))
            except OSError:
                digest.update(file + b"\0gone\0")
        return digest.hexdigest()[:16]

    # -- a tag -------------------------------------------------------------------------------------------------------

    def check_tag(self, tag: str) -> None:
        """Raises UserError when the name cannot be a branch, a folder and a ref."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", tag) or tag.endswith(".") or self._fails("check-ref-format", _branch(tag)):
            raise UserError(
                f"{tag[:80]!r} cannot be a tag: use letters, digits, dot, dash and underscore, at most 64, beginning with a letter or digit."
            )

    def open_tag(self, tag: str) -> None:
        """Check that this tag can be worked on. Raises UserError: the name, a ref in the way, a worktree on the branch."""
        self.check_tag(tag)
        names = [
            line.decode()
            for line in self._git("for-each-ref", "--format=%(refname)", "refs/heads/autoresearch", "refs/autorl").splitlines()
        ]
        in_the_way = {"refs/heads/autoresearch", "refs/autorl", f"refs/autorl/{tag}"} & set(names)
        in_the_way |= {name for name in names if name.startswith(_branch(tag) + "/")}
        if in_the_way:
            there = sorted(in_the_way)[0]
            raise UserError(
                f"The ref {there} is in the way of {_branch(tag)}: rename it (for a branch: `git branch -m {there.removeprefix('refs/heads/')} NEW`)."
            )
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
        when = _seconds(when)
        blob = self._write("hash-object", "--no-filters", "-w", "--stdin", data=source.encode("utf-8"))
        tree = self._replace(parent, self._inside(TRAIN).split("/"), blob)
        return self._commit_object(tree, parent, message, when)

    def pin(self, tag: str, n: int, sha: str) -> None:
        """refs/autorl/<tag>/<n> -> sha: made once, never moved. Raises Paused when it is something else already."""
        ref = f"refs/autorl/{tag}/{int(n)}"
        try:
            self._update_ref(ref, sha, self._zero, f"autorl: attempt {n}")
        except GitError as error:
            there = self._ref(ref)
            if there != sha:
                was = f"is {there[:12]} already and not {sha[:12]}" if there else f"cannot be made ({error})"
                raise Paused(
                    f"{ref} {was}: look at it with `git show {ref}`, then start a new tag or delete the ref with `git update-ref -d {ref}`."
                ) from None

    def pinned(self, tag: str) -> dict[int, str]:
        """Attempt number -> commit, of every pin of a tag."""
        found = {}
        for line in self._git("for-each-ref", "--format=%(objectname) %(refname)", f"refs/autorl/{tag}/").decode().splitlines():
            sha, _, ref = line.partition(" ")
            if (n := ref.rpartition("/")[2]).isdigit():
                found[int(n)] = sha
        return found

    def branch(self, tag: str) -> str | None:
        """The tip of autoresearch/<tag>, or None."""
        return self._ref(_branch(tag))

    def move_branch(self, tag: str, new: str, old: str | None) -> None:
        """autoresearch/<tag> from `old` (None: not there yet) to `new`, in one compare-and-swap.

        Raises:
            Paused: somebody else moved, made or deleted it, or stands on it; the message says what to do.
        """
        ref = _branch(tag)
        if (there := self._ref(ref)) == new and old != new:
            return  # done before a crash
        self._refuse_worktree_on(tag, Paused)
        try:
            self._update_ref(ref, new, old or self._zero, "autorl: keep")
        except GitError as error:
            there = self._ref(ref)
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
        blob = self._write("hash-object", "--no-filters", "-w", "--stdin", data=text.rstrip("\n").encode("utf-8", "replace") + b"\n")
        for _ in range(5):  # other tags' loops write the same ref
            old = self._ref(NOTES)
            entries = dict(self._note_entries(old)) if old else {}
            if entries.get(sha.encode()) == (b"100644 blob", blob.encode()):
                return
            entries[sha.encode()] = (b"100644 blob", blob.encode())
            tree = self._mktree((kind, name, found) for name, (kind, found) in entries.items())
            new = self._commit_object(tree, old, f"autorl: note on {sha[:12]}", int(time.time()))
            try:
                return self._update_ref(NOTES, new, old or self._zero, "autorl: note")
            except GitError as error:
                trouble = error
                if self._ref(NOTES) == old:
                    break
        raise Paused(f"Git could not move {NOTES} ({trouble}): mend that, then run the same command.")

    def source_at(self, sha: str) -> str:
        """train.py of a commit."""
        return self._source(sha, TRAIN, sha[:12])

    def diff(self, a: str, b: str) -> str:
        """Unified diff of train.py between two commits, whatever diff settings and attributes the user has."""
        flags = (
            "--patch",
            "-r",
            f"--relative={self._prefix}",
            "--unified=3",
            "--text",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--no-renames",
            "--src-prefix=a/",
            "--dst-prefix=b/",
        )
        return self._git("diff-tree", *flags, a, b, "--", self._inside(TRAIN)).decode("utf-8", "replace")

    def export(self, sha: str, folder: Path) -> None:
        """The files of a commit, byte for byte, in a new folder without git; links that lead outside are left out."""
        folder.mkdir(parents=True, exist_ok=True)
        prefix = self._inside("")
        listing = self._git("ls-tree", "-r", "-z", "--full-tree", sha, *([prefix] if prefix else []))
        entries = []
        for line in listing.split(b"\0")[:-1]:
            meta, _, name = line.partition(b"\t")
            mode, kind, blob = meta.split(b" ")
            relative = PurePosixPath(os.fsdecode(name[len(os.fsencode(prefix)) :]))
            if kind == b"blob" and not ({"..", ".git"} & {part.lower() for part in relative.parts}):
                entries.append((mode, blob, relative))
        contents = self._cat(blob for _, blob, _ in entries)
        for (mode, _, relative), data in zip(entries, contents, strict=True):
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if mode == b"120000":
                target = os.path.normpath(relative.parent / os.fsdecode(data))
                if not os.path.isabs(os.fsdecode(data)) and not target.startswith(".."):
                    path.symlink_to(os.fsdecode(data))
                continue
            path.write_bytes(data)
            path.chmod(0o755 if mode == b"100755" else 0o644)

    def clear_stale_locks(self, tag: str) -> list[str]:
        """Remove lock files that a killed git left on *our* refs; the caller holds the tag's lock.

        A lock that is there is watched for LOCK_PATIENCE first: a living git is done by then. index.lock,
        packed-refs.lock, HEAD.lock and the locks of every other ref are the user's and never touched.

        Returns:
            One sentence for each lock removed.
        """

        def ours() -> dict[Path, int]:
            common = self._common_dir
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
                raise Paused(
                    f"Cannot remove {path}, left by a git that was killed ({error.strerror}): remove it, then run the same command."
                ) from error
            said.append(f"Removed {path.relative_to(self._common_dir)}, left by a git that was killed.")
        return said

    # -- git ---------------------------------------------------------------------------------------------------------

    def _discover(self) -> None:
        try:
            answer = self._git("rev-parse", "--is-bare-repository", "--is-inside-git-dir").decode().split()
        except FileNotFoundError:
            raise UserError("git is not installed: install it and run the same command.") from None
        except GitError as error:
            if "dubious ownership" in str(error):
                raise UserError(
                    f"Git does not trust {self.root}, which belongs to another user: run `git config --global --add safe.directory {self.root}`."
                ) from None
            if "not a git repository" in str(error):
                raise UserError(f"{self.root} is not in a git repository: run `git init`, then commit train.py and evaluate.py.") from None
            raise UserError(f"Git cannot read the repository at {self.root}: {error}.") from None
        if "true" in answer:
            raise UserError(f"{self.root} is a bare repository or the inside of one: clone it and run autoRL in the clone.")
        asked = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir", "--show-object-format", "--show-prefix")
        # one call each: a path may hold a newline
        top, git_dir, common, object_format, self._prefix = (
            os.fsdecode(self._git("rev-parse", what).removesuffix(b"\n")) for what in asked
        )
        self._top, self._git_dir, self._common_dir = Path(top), Path(git_dir), (self.root / common).resolve()
        self._zero = "0" * (64 if object_format == "sha256" else 40)

    def _identity(self) -> tuple[str, str]:
        """Author and committer as "Name <email>"."""
        return tuple(
            self._git("var", who).decode("utf-8", "replace").rpartition("> ")[0] + ">"
            for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT")
        )  # type: ignore[return-value]

    def _refuse_edited(self, name: str) -> None:
        committed = self._blob(self._head, name)
        if committed is None:
            raise UserError(f"{name} is not in the last commit: commit it first (`git add {name} && git commit`).")
        path = self.root / name
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{name} is missing in your checkout: put it back with `git checkout -- {name}`.")
        if _read_regular(path).replace(b"\r\n", b"\n") != self._cat([committed[1]])[0].replace(b"\r\n", b"\n"):
            raise UserError(
                f"{name} is edited and not committed: commit it first (`git commit {name}`) or put it back with `git checkout -- {name}`."
            )

    def _refuse_worktree_on(self, tag: str, error: type[UserError] | type[Paused]) -> None:
        """A worktree on the research branch would see its files and its HEAD part ways."""
        ref, name = _branch(tag), _branch(tag).removeprefix("refs/heads/")
        where = None
        for line in self._git("worktree", "list", "--porcelain").decode("utf-8", "replace").splitlines():
            if line.startswith("worktree "):
                where = line.removeprefix("worktree ")
            if line == f"branch {ref}":
                raise error(
                    f"The worktree {where} stands on {name}: switch it to another branch (`git -C '{where}' switch -`), then run the same command."
                )
        for folder in (self._common_dir, *(self._common_dir / "worktrees").glob("*")):
            for state in ("rebase-merge/head-name", "rebase-apply/head-name"):
                if (folder / state).is_file() and (folder / state).read_text(errors="replace").strip() == ref:
                    raise error(
                        f"A rebase of {name} is under way: finish it or run `git rebase --abort`, switch to another branch, then run the same command."
                    )

    def _git(self, *args: str, data: bytes = b"", check: bool = True) -> bytes:
        """Run one git command that reads, or the inside of one counted effect. Raises GitError with git's last line."""
        argv = ["git", "--no-pager", "--literal-pathspecs"]
        for setting in _SETTINGS:
            argv += ["-c", setting]
        # its own process group: a Ctrl-C at the terminal is for the loop, not for a git that is moving a ref
        done = subprocess.run([*argv, *args], cwd=self._top, env=self._env, input=data, capture_output=True, process_group=0)
        if check and done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise GitError(
                next(
                    (line for line in lines if line.startswith(("fatal:", "error:"))),
                    lines[-1] if lines else f"git {args[0]} exit code {done.returncode}",
                )
            )
        return done.stdout

    def _fails(self, *args: str) -> bool:
        try:
            self._git(*args)
        except GitError:
            return True
        return False

    def _write(self, *args: str, data: bytes) -> str:
        """One git object as one counted effect; Paused when git cannot (disk full, read-only)."""
        try:
            return effect("git object", lambda: self._git(*args, data=data)).decode().strip()
        except (GitError, OSError) as error:
            raise Paused(
                f"Git cannot write to {self._common_dir} ({error}): mend that, then run the same command; nothing is lost."
            ) from error

    def _update_ref(self, ref: str, new: str, old: str, message: str) -> None:
        try:
            effect("ref move", lambda: self._git("update-ref", "--no-deref", "-m", message, ref, new, old))
        except OSError as error:
            raise Paused(f"Git cannot move {ref} ({error.strerror}): mend that, then run the same command; nothing is lost.") from error

    def _ref(self, ref: str) -> str | None:
        return self._git("rev-parse", "--verify", "--quiet", ref, check=False).decode().strip() or None

    def _inside(self, path: str) -> str:
        """A path below root as the repository's top sees it."""
        return self._prefix + path

    def _tree(self, treeish: str) -> list[tuple[bytes, bytes, bytes]]:
        """("mode kind", name, hash) of each entry of one tree."""
        entries = []
        for line in self._git("ls-tree", "-z", "--full-tree", treeish).split(b"\0")[:-1]:
            meta, _, name = line.partition(b"\t")
            kind, _, sha = meta.rpartition(b" ")
            entries.append((kind, name, sha))
        return entries

    def _mktree(self, entries: Iterable[tuple[bytes, bytes, bytes]]) -> str:
        return self._write("mktree", "-z", "--missing", data=b"".join(b"%s %s\t%s\0" % (kind, sha, name) for kind, name, sha in entries))

    def _replace(self, treeish: str, parts: list[str], blob: str) -> str:
        """The tree with one file's blob replaced, its mode kept."""
        name = os.fsencode(parts[0])
        entries = self._tree(f"{treeish}^{{tree}}")
        kind, _, old = next((entry for entry in entries if entry[1] == name), (b"100644 blob", name, b""))
        if len(parts) > 1:
            kind, new = b"040000 tree", self._replace(old.decode(), parts[1:], blob)
        else:
            kind, new = (kind if kind in (b"100644 blob", b"100755 blob") else b"100644 blob"), blob
        return self._mktree([*(entry for entry in entries if entry[1] != name), (kind, name, new.encode())])

    def _commit_object(self, tree: str, parent: str | None, message: str, when: int) -> str:
        """A commit object from its bytes: no editor, signature, template or clean-up can come between."""
        text = message.replace("\0", " ").encode("utf-8", "replace").rstrip(b"\n") + b"\n"
        head = [f"tree {tree}", *([f"parent {self._full(parent)}"] if parent else [])]
        head += [f"author {self._author} {when} +0000", f"committer {self._committer} {when} +0000"]
        return self._write("hash-object", "-t", "commit", "-w", "--stdin", data="\n".join(head).encode("utf-8") + b"\n\n" + text)

    def _full(self, commit: str) -> str:
        return commit if len(commit) == len(self._zero) else self._git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()

    def _note_entries(self, notes: str) -> Iterable[tuple[bytes, tuple[bytes, bytes]]]:
        """Every note of a notes commit with its fan-out folders (ab/cdef…) flattened."""
        for line in self._git("ls-tree", "-r", "-z", "--full-tree", notes).split(b"\0")[:-1]:
            meta, _, name = line.partition(b"\t")
            kind, _, sha = meta.rpartition(b" ")
            flat = name.replace(b"/", b"")
            if len(flat) == len(self._zero):
                yield flat, (kind, sha)

    def _blob(self, treeish: str, path: str) -> tuple[bytes, bytes] | None:
        """("mode kind", hash) of a path below root in a commit, or None."""
        line = self._git("ls-tree", "-z", "--full-tree", treeish, self._inside(path))
        kind, _, sha = line.partition(b"\t")[0].rpartition(b" ")
        return (kind, sha) if line else None

    def _source(self, treeish: str, path: str, where: str) -> str:
        try:
            found = self._blob(treeish, path)
        except GitError:
            raise UserError(f"The commit {where} is not in this repository.") from None
        if found is None:
            raise UserError(f"{path} is not in {where}: commit it first (`git add {path} && git commit`).")
        if found[0] not in (b"100644 blob", b"100755 blob"):
            raise UserError(f"{path} in {where} is not a regular file: replace the link or folder by the file itself and commit that.")
        return _text(self._cat([found[1]])[0], f"{path} in {where}")

    def _cat(self, blobs: Iterable[bytes]) -> list[bytes]:
        """The contents of objects, in one process."""
        out, contents = self._git("cat-file", "--batch", data=b"".join(blob + b"\n" for blob in blobs)), []
        while out:
            head, _, out = out.partition(b"\n")
            if head.endswith(b" missing"):
                raise UserError(f"The repository lacks the object {head.decode()}: a partial clone? Run `git fetch --refetch`.")
            size = int(head.split(b" ")[2])
            contents.append(out[:size])
            out = out[size + 1 :]
        return contents


def _branch(tag: str) -> str:
    return f"refs/heads/autoresearch/{tag}"


def _seconds(when: int | str | None) -> int:
    """Seconds since the epoch of a number, an ISO time or now."""
    if isinstance(when, str):
        at = datetime.fromisoformat(when)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    return int(time.time()) if when is None else int(when)


def _environment() -> dict[str, str]:
    """The caller's environment without GIT_*, but for who the user is and where their settings are."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT_VARIABLES}
    env |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
        "LANGUAGE": "C",
    }
    return env


def _read_regular(path: Path) -> bytes:
    """A regular file of at most MAX_SOURCE_BYTES, without following a link or waiting on a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(
            f"Cannot read {path.name} ({'it is a link' if path.is_symlink() else error.strerror}): put a regular file there."
        ) from None
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
