"""Git's plumbing, and the one place that starts git. workspace.py says what for.

    git = Git(Path("."))                             # UserError in one sentence when that is no usable repository
    blob = git.store(b"print(1)\n")
    commit = git.commit(git.replace("HEAD", ["train.py"], blob), "HEAD", "Idea", 1_700_000_000)
    git.update_ref("refs/autorl/demo/1", commit, git.zero, "why")     # GitError when it is there already

No hook, filter, signature, editor, pager or external diff runs; GIT_* variables of the caller are dropped; the index is
never written. Each writing command is one counted effect, retried when the disk is full, and harmless to repeat.

What it does not do: check out, merge, fetch, push, collect garbage.
"""

import errno
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from autorl.errors import Paused, UserError
from autorl.system.faults import effect, retry_when_full

# What no setting of the user's may change. Objects and refs are fsynced: a night ends in a power cut, too.
SETTINGS = (
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
# GIT_* of the caller that say who the user is and where their settings are; all others are dropped.
KEPT_VARIABLES = {
    "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM",
}  # fmt: skip
OWN_VARIABLES = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C", "LANGUAGE": "C"}  # fmt: skip

REGULAR = (b"100644 blob", b"100755 blob")
Entry = tuple[bytes, bytes, bytes]  # ("mode kind", name, hash)


class GitError(Exception):
    """A git command failed; the message is git's own."""


class Git:
    """One repository, seen from a folder in it.

    Attributes:
        top: the checkout's top folder.   prefix: the folder below it, "" or ending in a slash.
        git_dir, common_dir: this worktree's and the repository's git folder.   zero: the hash of "no such ref".
        author, committer: "Name <email>", as configured.

    Raises:
        UserError: git is not installed, no repository, bare, another user's, or no identity.
    """

    def __init__(self, folder: Path):
        self.top = folder
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in KEPT_VARIABLES} | OWN_VARIABLES
        try:
            answer = self.run("rev-parse", "--is-bare-repository", "--is-inside-git-dir").split()
        except FileNotFoundError:
            raise UserError("git is not installed: install it and run the same command.") from None
        except GitError as error:
            if "dubious ownership" in str(error):
                raise UserError(f"Git does not trust {folder}, which belongs to another user: run `git config --global --add safe.directory {folder}`.") from None  # fmt: skip
            if "not a git repository" in str(error):
                raise UserError(f"{folder} is not in a git repository: run `git init`, then commit train.py and evaluate.py.") from None
            raise UserError(f"Git cannot read the repository at {folder}: {error}.") from None
        if b"true" in answer:
            raise UserError(f"{folder} is a bare repository or the inside of one: clone it and run autoRL in the clone.")
        asked = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir", "--show-object-format", "--show-prefix")
        # one call each: a path may hold a newline
        top, git_dir, common, object_format, self.prefix = (os.fsdecode(self.run("rev-parse", what).removesuffix(b"\n")) for what in asked)
        self.top, self.git_dir, self.common_dir = Path(top), Path(git_dir), (folder / common).resolve()
        self.zero = "0" * (64 if object_format == "sha256" else 40)
        try:
            self.author, self.committer = (self._identity(who) for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"))
        except GitError:
            raise UserError('Git does not know who you are: run `git config --global user.name "Your Name"` and `git config --global user.email you@example.org`.') from None  # fmt: skip

    def _identity(self, who: str) -> str:
        return self.run("var", who).decode("utf-8", "replace").rpartition("> ")[0] + ">"

    def run(self, *args: str, data: bytes = b"", check: bool = True) -> bytes:
        """One git command that reads, or the inside of one counted effect; its standard output.

        Raises:
            GitError: with git's own line.   OSError: ENOSPC, when git says that the disk is full.
        """
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        argv = ["git", "--no-pager", "--literal-pathspecs", *settings, *args]
        # its own process group: a Ctrl-C at the terminal is for the loop, not for a git that is moving a ref
        done = subprocess.run(argv, cwd=self.top, env=self._env, input=data, capture_output=True, process_group=0)
        if check and done.returncode:
            text = done.stderr.decode("utf-8", "replace").strip()
            lines = text.splitlines() or [f"git {args[0]} ended with exit code {done.returncode}"]
            if os.strerror(errno.ENOSPC) in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.common_dir))
            raise GitError(next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1]))
        return done.stdout

    def fails(self, *args: str) -> bool:
        """Whether a command that reads says no."""
        try:
            self.run(*args)
        except (GitError, ValueError):  # ValueError: a NUL in an argument
            return True
        return False

    # -- refs --------------------------------------------------------------------------------------------------------

    def ref(self, name: str) -> str | None:
        """What a ref or revision names, or None."""
        return self.run("rev-parse", "--verify", "--quiet", name, check=False).decode().strip() or None

    def refs(self, *prefixes: str) -> dict[str, str]:
        """Name -> hash of every ref at or below the prefixes."""
        lines = self.run("for-each-ref", "--format=%(objectname) %(refname)", *prefixes).decode().splitlines()
        return {name: sha for sha, _, name in (line.partition(" ") for line in lines)}

    def update_ref(self, name: str, new: str, old: str, why: str) -> None:
        """Compare-and-swap; `old` is `zero` for a ref that must not be there yet. Raises GitError when it is not `old`."""
        command = ("update-ref", "--no-deref", "-m", why, name, new, old)
        try:
            retry_when_full(lambda: effect("ref move", lambda: self.run(*command)))
        except OSError as error:
            raise Paused(f"Git cannot move {name} ({error.strerror}): mend that, then run the same command; nothing is lost.") from error

    # -- objects -----------------------------------------------------------------------------------------------------

    def _write(self, *args: str, data: bytes) -> str:
        try:
            return retry_when_full(lambda: effect("git object", lambda: self.run(*args, data=data))).decode().strip()
        except (GitError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise Paused(
                f"Git cannot write to {self.common_dir} ({why}): mend that, then run the same command; nothing is lost."
            ) from error

    def store(self, data: bytes) -> str:
        """A blob of these bytes, whatever filters and line-end settings say; its hash."""
        return self._write("hash-object", "--no-filters", "-w", "--stdin", data=data)

    def contents(self, hashes: Iterable[bytes]) -> list[bytes]:
        """The bytes of objects, in one process. Raises UserError when one is not there (a partial clone)."""
        out, at, found = self.run("cat-file", "--batch", data=b"".join(sha + b"\n" for sha in hashes)), 0, []
        while at < len(out):
            end = out.index(b"\n", at)
            head, size = out[at:end], out[at:end].rpartition(b" ")[2]
            if size == b"missing":
                raise UserError(f"The repository lacks the object {head.decode()}: a partial clone? Run `git fetch --refetch`.")
            found.append(out[end + 1 : end + 1 + int(size)])
            at = end + 1 + int(size) + 1
        return found

    def entries(self, treeish: str, *paths: str, deep: bool = False) -> list[Entry]:
        """The entries of a tree, or those at `paths`; `deep`: of the trees below as well, by path. Raises GitError."""
        flags = ("-z", "--full-tree", *(("-r",) if deep else ()))
        found = []
        for line in self.run("ls-tree", *flags, treeish, *paths).split(b"\0")[:-1]:
            meta, _, name = line.partition(b"\t")
            kind, _, sha = meta.rpartition(b" ")
            found.append((kind, name, sha))
        return found

    def tree(self, entries: Iterable[Entry]) -> str:
        """A tree of these entries, in any order."""
        return self._write("mktree", "-z", "--missing", data=b"".join(b"%s %s\t%s\0" % (kind, sha, name) for kind, name, sha in entries))

    def replace(self, treeish: str, parts: list[str], blob: str) -> str:
        """The tree with the blob of one file replaced, its mode and all other entries kept. `parts`: its path."""
        name = os.fsencode(parts[0])
        entries = self.entries(f"{treeish}^{{tree}}")
        kind, _, old = next((entry for entry in entries if entry[1] == name), (REGULAR[0], name, b""))
        if len(parts) > 1:
            kind, new = b"040000 tree", self.replace(old.decode(), parts[1:], blob)
        else:
            kind, new = (kind if kind in REGULAR else REGULAR[0]), blob
        return self.tree([*(entry for entry in entries if entry[1] != name), (kind, name, new.encode())])

    def commit(self, tree: str, parent: str | None, message: str, when: int) -> str:
        """A commit from its bytes: no editor, signature, template or clean-up can come between. `when`: epoch seconds."""
        text = message.replace("\0", " ").encode("utf-8", "replace").rstrip(b"\n") + b"\n"
        head = [f"tree {tree}"]
        if parent:
            head.append(f"parent {parent if len(parent) == len(self.zero) else self.ref(f'{parent}^{{commit}}')}")
        head += [f"author {self.author} {when} +0000", f"committer {self.committer} {when} +0000"]
        return self._write("hash-object", "-t", "commit", "-w", "--stdin", data="\n".join(head).encode() + b"\n\n" + text)
