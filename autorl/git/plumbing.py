"""Git's plumbing through GitPython, and the one place that starts git. repository.py says what for.

    drop_git_variables()                             # where the program starts
    git = Git(Path("."))                             # UserError when that is no usable repository
    head, blob = git.ref("HEAD^{commit}"), git.store(b"print(1)\n")
    commit = git.commit(git.replace(head, ["train.py"], blob), head, "Idea", 1_700_000_000)
    git.update_ref("refs/autorl/demo/1", commit, None, "why")  # GitError when it is there already

`git.Repo` says where the repository lies and `Repo.git` runs the commands. No more of GitPython is
used: its objects and refs know no sha256 and no reftable, its way to set a ref is no
compare-and-swap, its Actor invents an identity, and notes it has none.

No hook, filter, signature, editor, pager or external diff runs, and the index is never written.
Each writing command is one counted effect, retried when the disk is full, and harmless to repeat.
What it does not do: check out, merge, fetch, push, collect garbage.
"""

import errno
import os
import shutil
from functools import partial
from pathlib import Path
from subprocess import PIPE

from autorl.errors import Paused, UserError
from autorl.system.faults import effect, retry_when_full

# What no setting of the user's may change. Objects and refs are fsynced: power may be lost, too.
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
OPTIONS = ("--no-pager", "--literal-pathspecs", *(word for s in SETTINGS for word in ("-c", s)))
OWN_VARIABLES = {f"GIT_{name}": "1" for name in ("NO_REPLACE_OBJECTS", "NO_LAZY_FETCH")}
OWN_VARIABLES |= {f"GIT_{name}": "0" for name in ("OPTIONAL_LOCKS", "TERMINAL_PROMPT")}
# GIT_* of the caller that say who the user is and where their settings are. All others could
# redirect git (GIT_DIR), configure it (GIT_CONFIG_COUNT) or replace it (GIT_PYTHON_...).
KEPT_VARIABLES = (
    "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM",
)  # fmt: skip
# What git says of a folder in which it does not work -> what we say.
REFUSALS = {
    "dubious ownership": "Git does not trust {0}, which belongs to another user: "
    "run `git config --global --add safe.directory {0}`.",
    "not a git repository": "{0} is not in a git repository: "
    "run `git init`, then commit train.py and evaluate.py.",
    "must be run in a work tree": "{0} is a bare repository or the inside of one: "
    "clone it and run autoRL in the clone.",
}
REPAIR = "fix that, then run the same command"
NOBODY = (
    'Git does not know who you are: run `git config --global user.name "Your Name"` and '
    "`git config --global user.email you@example.org`."
)

REGULAR = (b"100644 blob", b"100755 blob")  # a file and an executable file
Entries = dict[bytes, bytes]  # name -> b"mode kind hash"


def _foreign_variables() -> list[str]:
    return [n for n in os.environ if n.startswith("GIT_") and n not in KEPT_VARIABLES]


def drop_git_variables() -> None:
    """Remove the caller's GIT_* from os.environ, all but KEPT_VARIABLES.

    GitPython reads os.environ when it is imported and hands it to git, and can only add to it: so
    this is called where a program starts, and `Git` refuses to work otherwise.
    """
    for name in _foreign_variables():
        del os.environ[name]


class GitError(Paused):
    """A git command failed, for the reason that the message quotes."""


class Git:
    """One repository, seen from a folder in it.

    Attributes:
        top: the checkout's top folder.   prefix: the folder below it, "" or ending in a slash.
        git_dir, common_dir: this worktree's and the repository's git folder.
        author, committer: "Name <email>", as configured.

    Raises:
        UserError: no git; no repository, bare, another user's; no identity; GIT_* variables.
    """

    def __init__(self, folder: Path):
        if names := _foreign_variables():
            raise UserError(f"Git would obey {', '.join(names)}: unset it, then run this again.")
        if shutil.which("git") is None:
            raise UserError("git is not installed: install it and run the same command.")
        import git  # not earlier: it runs git when it is imported

        self.top, self._git = folder, git.Git(folder)
        try:  # git searches: GitPython heeds neither safe.directory nor GIT_CEILING_DIRECTORIES
            top, self.prefix = (
                os.fsdecode(self.run("rev-parse", what).removesuffix(b"\n"))
                for what in ("--show-toplevel", "--show-prefix")
            )
            repo = git.Repo(top, expand_vars=False)
        except (GitError, git.GitError) as error:
            sentences = (REFUSALS[said] for said in REFUSALS if said in str(error))
            raise UserError(next(sentences, "{1}").format(folder, error)) from None
        self.top, self._git = Path(top), repo.git
        self.git_dir, self.common_dir = Path(repo.git_dir), Path(repo.common_dir).resolve()
        try:
            who = (self.run("var", f"GIT_{role}_IDENT") for role in ("AUTHOR", "COMMITTER"))
            self.author, self.committer = (
                x.decode("utf-8", "replace").split(">")[0] + ">" for x in who
            )
        except GitError:
            raise UserError(NOBODY) from None

    def run(self, *args: str, data: bytes = b"", check: bool = True) -> bytes:
        """One git command that reads, or the inside of one counted effect; its standard output.

        `check`: whether exit code 1 is a failure, and not a no.

        Raises:
            GitError: it failed.   OSError: ENOSPC, it failed because the disk is full.
        """
        from git import GitCommandNotFound

        # -C: GitPython would run git in the current folder when its own is gone
        argv = ["git", "-C", str(self.top), *OPTIONS, *args]
        try:  # process_group: a Ctrl-C is for the loop, not for a git that is moving a ref
            process = self._git.execute(
                argv, istream=PIPE, as_process=True, env=OWN_VARIABLES, process_group=0
            )
        except GitCommandNotFound:
            raise GitError("Git is gone: install it, then run the same command.") from None
        out, err = process.communicate(data)
        if process.returncode not in ((0,) if check else (0, 1)):
            text = err.decode("utf-8", "replace").strip() or f"exit code {process.returncode}"
            if os.strerror(errno.ENOSPC) in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.top))
            lines = text.splitlines()
            why = next((x for x in lines if x.startswith(("fatal:", "error:"))), lines[-1])
            raise GitError(f"Git failed in {self.top} ({why}): {REPAIR}.")
        return bytes(out)

    def _write(self, kind: str, *args: str, data: bytes = b"") -> str:
        run = partial(self.run, *args, data=data)
        try:
            return retry_when_full(lambda: effect(kind, run)).decode().strip()
        except OSError as error:
            why = f"Git cannot write to {self.common_dir} ({error.strerror})"
            raise Paused(f"{why}: {REPAIR}.") from error

    def ref(self, name: str) -> str | None:
        """What a ref or revision names, or None."""
        found = self.run("rev-parse", "--verify", "--quiet", name, check=False)
        return found.decode().strip() or None

    def refs(self, *prefixes: str) -> dict[str, str]:
        """Name -> hash of every ref at or below the prefixes."""
        lines = self.run("for-each-ref", "--format=%(refname) %(objectname)", *prefixes)
        return dict(line.split(" ") for line in lines.decode().splitlines())

    def update_ref(self, name: str, new: str, old: str | None, why: str) -> None:
        """Compare-and-swap; `old` is None for a ref that must not be there yet, else GitError."""
        self._write("ref move", "update-ref", "--no-deref", "-m", why, name, new, old or "")

    def entries(self, *args: str) -> Entries:
        """The entries of a tree. Args: `-r` to look below as well; tree or commit; paths or all."""
        lines = self.run("ls-tree", "-z", "--full-tree", *args).split(b"\0")[:-1]
        return {name: found for found, _, name in (line.partition(b"\t") for line in lines)}

    def store(self, data: bytes) -> str:
        """A blob of these bytes, whatever filters and line-end settings say; its hash."""
        command = ("hash-object", "--no-filters", "-w", "--stdin")
        return self._write("git object", *command, data=data)

    def tree(self, entries: Entries) -> str:
        """A tree of these entries; its hash."""
        data = b"".join(b"%s\t%s\0" % (found, name) for name, found in entries.items())
        return self._write("git object", "mktree", "-z", "--missing", data=data)

    def replace(self, treeish: str, parts: list[str], blob: str) -> str:
        """The tree with the file at `parts` replaced by the blob, its mode and all else kept."""
        entries, name = self.entries(treeish), os.fsencode(parts[0])
        kind, _, old = entries.get(name, b"").rpartition(b" ")
        if len(parts) > 1:
            kind, blob = b"040000 tree", self.replace(old.decode(), parts[1:], blob)
        elif kind not in REGULAR:
            kind = REGULAR[0]
        return self.tree(entries | {name: b"%s %s" % (kind, blob.encode())})

    def commit(self, tree: str, parent: str | None, message: str, when: int) -> str:
        """A commit from its bytes, so no editor, signature or template comes between.

        `parent`: a full hash, None for a first commit; `when`: seconds since the epoch.
        """
        head = [f"tree {tree}", *([f"parent {parent}"] if parent else [])]
        head += [f"author {self.author} {when} +0000", f"committer {self.committer} {when} +0000"]
        text = message.replace("\0", " ").encode("utf-8", "replace").rstrip(b"\n") + b"\n"
        data = "\n".join(head).encode() + b"\n\n" + text
        return self._write("git object", "hash-object", "-t", "commit", "-w", "--stdin", data=data)
