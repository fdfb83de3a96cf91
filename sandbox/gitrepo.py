"""A bare git repository, driven through git's plumbing commands."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ZERO = "0" * 40
SHA = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@=,#-]*")


class GitError(subprocess.SubprocessError):
    """git refused; the message is what it said."""


@dataclass(frozen=True)
class Signature:
    """Who and when, as a commit records it."""

    name: str
    email: str
    at: datetime


@dataclass(frozen=True)
class Commit:
    """A commit as git stores it."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Signature
    committer: Signature
    message: str


@dataclass(frozen=True)
class Entry:
    """One line of a tree; `size` is -1 for a folder."""

    mode: str
    type: str
    sha: str
    size: int
    path: str


@dataclass(frozen=True)
class Change:
    """One file that differs between two commits."""

    path: str
    status: str
    previous: str | None
    sha: str
    additions: int
    deletions: int
    patch: str


STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}


class GitRepository:
    """One bare repository on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        """Run git here and return its output. Raises GitError."""
        done = subprocess.run(
            ["git", "--git-dir", str(self.path), *arguments],
            input=stdin,
            env=clean_environment() | dict(environment or {}),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise GitError((done.stderr or done.stdout).decode(errors="replace").strip())
        return done.stdout

    def create(self, default_branch: str) -> None:
        self.path.mkdir(parents=True)
        self.run("init", "--quiet", "--bare", f"--initial-branch={default_branch}")
        for key, value in (("http.receivepack", "true"), ("gc.auto", "0"), ("core.logAllRefUpdates", "false")):
            self.run("config", key, value)

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag, a full ref or a SHA names; branches win over anything else."""
        if not REVISION.fullmatch(revision) or ".." in revision:
            return None
        for name in (f"refs/heads/{revision}", f"refs/{revision}", revision):
            try:
                return self.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
            except GitError:
                continue
        return None

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        lines = self.run("for-each-ref", "--format=%(refname) %(objectname)", prefix).decode().splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def set_ref(self, ref: str, sha: str, expected: str) -> None:
        """Compare and swap; `expected` is ZERO for a ref that must not exist. Raises GitError."""
        self.run("check-ref-format", ref)
        self.run("update-ref", ref, sha, expected)

    def delete_ref(self, ref: str) -> None:
        self.run("update-ref", "-d", ref)

    def commit(self, sha: str) -> Commit:
        raw = self.run("cat-file", "commit", sha).decode(errors="replace")
        head, _, message = raw.partition("\n\n")
        fields: dict[str, list[str]] = {}
        for line in head.splitlines():
            key, _, value = line.partition(" ")
            fields.setdefault(key, []).append(value)
        return Commit(
            sha,
            fields["tree"][0],
            tuple(fields.get("parent", ())),
            _signature(fields["author"][0]),
            _signature(fields["committer"][0]),
            message,
        )

    def write_commit(
        self, tree: str, parents: Iterable[str], author: Signature, committer: Signature, message: str
    ) -> str:
        """Equal input gives an equal SHA, as on GitHub."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {_signed(author)}", f"committer {_signed(committer)}", "", message]
        return (
            self.run("hash-object", "-t", "commit", "-w", "--stdin", stdin="\n".join(lines).encode()).decode().strip()
        )

    def write_blob(self, content: bytes) -> str:
        return self.run("hash-object", "-w", "--stdin", stdin=content).decode().strip()

    def write_tree(self, base: str | None, entries: Iterable[tuple[str, str | None, str]]) -> str:
        """A tree from `base` with (mode, blob or None to remove, path) put on top. Raises GitError."""
        with tempfile.TemporaryDirectory(prefix="sandbox-index-") as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.run("read-tree", *([base] if base else ["--empty"]), environment=index)
            lines = [f"{mode} {sha}\t{path}\0" if sha else f"0 {ZERO}\t{path}\0" for mode, sha, path in entries]
            self.run("update-index", "-z", "--index-info", stdin="".join(lines).encode(), environment=index)
            return self.run("write-tree", environment=index).decode().strip()

    def entries(self, treeish: str, *, recursive: bool = False, path: str = "") -> list[Entry]:
        """The lines of a tree; of the folder `path` in it when that is given."""
        target = f"{treeish}:{path}" if path else treeish
        raw = self.run("ls-tree", "-z", "--long", *(["-r", "-t"] if recursive else []), target).decode(errors="replace")
        found = []
        for line in raw.split("\0")[:-1]:
            meta, _, name = line.partition("\t")
            mode, kind, sha, size = meta.split()
            found.append(Entry(mode, kind, sha, -1 if size == "-" else int(size), f"{path}/{name}" if path else name))
        return found

    def entry(self, treeish: str, path: str) -> Entry | None:
        """What stands at one path, or None."""
        raw = self.run("--literal-pathspecs", "ls-tree", "-z", "--long", "--full-tree", treeish, "--", path)
        for line in raw.decode(errors="replace").split("\0")[:-1]:
            meta, _, name = line.partition("\t")
            mode, kind, sha, size = meta.split()
            if name == path:
                return Entry(mode, kind, sha, -1 if size == "-" else int(size), name)
        return None

    def blob(self, sha: str) -> bytes:
        return self.run("cat-file", "blob", sha)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        return self.merge_base(ancestor, descendant) == ancestor

    def merge_base(self, one: str, other: str) -> str | None:
        try:
            return self.run("merge-base", one, other).decode().strip()
        except GitError:
            return None

    def between(self, base: str, head: str) -> list[str]:
        """The commits that `head` has and `base` has not, oldest first."""
        return self.run("rev-list", "--reverse", f"{base}..{head}").decode().split()

    def merged_tree(self, base: str, head: str) -> str | None:
        """The tree of merging two commits, None if they conflict."""
        try:
            return self.run("merge-tree", "--write-tree", base, head).decode().split("\n", 1)[0]
        except GitError:
            return None

    def changes(self, base: str, head: str) -> list[Change]:
        """The files that differ, with their patches as GitHub shows them (hunks only)."""
        raw = self.run("diff", "--raw", "-z", "--no-abbrev", "-M", base, head).decode(errors="replace").split("\0")
        counts = self._counts(base, head)
        found: list[Change] = []
        position = 0
        while position < len(raw) and raw[position]:
            _, _, _, sha, letter = raw[position].split()
            moved = letter[0] in "RC"
            previous = raw[position + 1] if moved else None
            path = raw[position + 2 if moved else position + 1]
            position += 3 if moved else 2
            added, removed = counts.get(path, (0, 0))
            paths = [path] if previous is None else [previous, path]
            text = self.run("--literal-pathspecs", "diff", "-M", base, head, "--", *paths).decode(errors="replace")
            start = text.find("\n@@")
            patch = text[start + 1 :].rstrip("\n") if start >= 0 else ""
            found.append(Change(path, STATUS.get(letter[0], "changed"), previous, sha, added, removed, patch))
        return found

    def _counts(self, base: str, head: str) -> dict[str, tuple[int, int]]:
        raw = self.run("diff", "--numstat", "-z", "-M", base, head).decode(errors="replace").split("\0")
        counts: dict[str, tuple[int, int]] = {}
        position = 0
        while position < len(raw) and raw[position]:
            added, removed, path = raw[position].split("\t", 2)
            if not path:
                path = raw[position + 2]
                position += 2
            position += 1
            counts[path] = (0 if added == "-" else int(added), 0 if removed == "-" else int(removed))
        return counts

    def check_out(self, sha: str, target: Path) -> None:
        """A work tree of one commit with a repository of its own, which knows no way back to this one."""
        clone = ["git", "clone", "--quiet", "--no-checkout", "--no-hardlinks", str(self.path), str(target)]
        for command in (
            clone,
            ["git", "-C", str(target), "checkout", "--quiet", "--detach", sha],
            ["git", "-C", str(target), "remote", "remove", "origin"],
        ):
            done = subprocess.run(command, env=clean_environment(), capture_output=True, check=False)
            if done.returncode != 0:
                raise GitError(done.stderr.decode(errors="replace").strip())


def clean_environment() -> dict[str, str]:
    """git's environment: none of the caller's settings."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": tempfile.gettempdir(),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }


def _signature(text: str) -> Signature:
    match = re.fullmatch(r"(.*?) ?<(.*)> (-?\d+) ([+-]\d\d)(\d\d)", text)
    if match is None:
        raise GitError(f"unreadable signature {text!r}")
    name, email, seconds, _, _ = match.groups()
    return Signature(name, email, datetime.fromtimestamp(int(seconds)).astimezone())


def _signed(signature: Signature) -> str:
    name, email = (re.sub(r"[<>\n\0]", "", part).strip() for part in (signature.name, signature.email))
    offset = signature.at.strftime("%z") or "+0000"
    return f"{name} <{email}> {int(signature.at.timestamp())} {offset[:5]}"
