"""GitHub's shapes: commits, references, trees, files and changes."""

from __future__ import annotations

import base64

from sandbox.gitrepo import Change, Commit, Entry, Signature
from sandbox.present import account, repository_api, repository_page
from sandbox.state import Account, Json, Repository, State, node_id, stamp


def signature(who: Signature) -> Json:
    return {"name": who.name, "email": who.email, "date": stamp(who.at)}


def author_of(state: State, who: Signature) -> Account | None:
    """The account behind a commit's author: its login is the name the sandbox wrote."""
    return state.accounts.get(who.name.lower())


def _verification() -> Json:
    return {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}


def commit(state: State, which: Repository, value: Commit) -> Json:
    url, page = repository_api(state, which), repository_page(state, which)
    author, committer = author_of(state, value.author), author_of(state, value.committer)
    return {
        "sha": value.sha,
        "node_id": node_id("C", value.sha),
        "url": f"{url}/commits/{value.sha}",
        "html_url": f"{page}/commit/{value.sha}",
        "comments_url": f"{url}/commits/{value.sha}/comments",
        "commit": {
            "url": f"{url}/git/commits/{value.sha}",
            "author": signature(value.author),
            "committer": signature(value.committer),
            "message": value.message,
            "comment_count": 0,
            "tree": {"sha": value.tree, "url": f"{url}/git/trees/{value.tree}"},
            "verification": _verification(),
        },
        "author": account(state, author) if author else None,
        "committer": account(state, committer) if committer else None,
        "parents": [{"sha": p, "url": f"{url}/commits/{p}", "html_url": f"{page}/commit/{p}"} for p in value.parents],
    }


def git_commit(state: State, which: Repository, value: Commit) -> Json:
    url, page = repository_api(state, which), repository_page(state, which)
    return {
        "sha": value.sha,
        "node_id": node_id("C", value.sha),
        "url": f"{url}/git/commits/{value.sha}",
        "html_url": f"{page}/commit/{value.sha}",
        "author": signature(value.author),
        "committer": signature(value.committer),
        "message": value.message,
        "tree": {"sha": value.tree, "url": f"{url}/git/trees/{value.tree}"},
        "parents": [
            {"sha": p, "url": f"{url}/git/commits/{p}", "html_url": f"{page}/commit/{p}"} for p in value.parents
        ],
        "verification": _verification(),
    }


def pushed_commit(state: State, which: Repository, value: Commit) -> Json:
    """A commit as `push` and `workflow_run` events carry it."""
    return {
        "id": value.sha,
        "tree_id": value.tree,
        "distinct": True,
        "message": value.message,
        "timestamp": stamp(value.committer.at),
        "url": f"{repository_page(state, which)}/commit/{value.sha}",
        "author": {"name": value.author.name, "email": value.author.email},
        "committer": {"name": value.committer.name, "email": value.committer.email},
    }


def ref(state: State, which: Repository, name: str, sha: str) -> Json:
    url = repository_api(state, which)
    return {
        "ref": name,
        "node_id": node_id("REF", f"{which.id}:{name}"),
        "url": f"{url}/git/{name}",
        "object": {"type": "commit", "sha": sha, "url": f"{url}/git/commits/{sha}"},
    }


def tree(state: State, which: Repository, sha: str, entries: list[Entry]) -> Json:
    url = repository_api(state, which)

    def line(entry: Entry) -> Json:
        shown: Json = {"path": entry.path, "mode": entry.mode, "type": entry.type, "sha": entry.sha}
        kind = "trees" if entry.type == "tree" else "blobs"
        return shown | ({} if entry.size < 0 else {"size": entry.size}) | {"url": f"{url}/git/{kind}/{entry.sha}"}

    return {"sha": sha, "url": f"{url}/git/trees/{sha}", "tree": [line(e) for e in entries], "truncated": False}


def content(state: State, which: Repository, entry: Entry, at: str, blob: bytes | None) -> Json:
    """A file (with its content when `blob` is given) or a folder's line."""
    url, page = repository_api(state, which), repository_page(state, which)
    folder = entry.type == "tree"
    links = {
        "self": f"{url}/contents/{entry.path}?ref={at}",
        "git": f"{url}/git/{'trees' if folder else 'blobs'}/{entry.sha}",
        "html": f"{page}/blob/{at}/{entry.path}",
    }
    shown: Json = {
        "type": "dir" if folder else "file",
        "size": max(entry.size, 0),
        "name": entry.path.rsplit("/", 1)[-1],
        "path": entry.path,
        "sha": entry.sha,
        "url": links["self"],
        "git_url": links["git"],
        "html_url": links["html"],
        "download_url": None if folder else f"{page}/raw/{at}/{entry.path}",
        "_links": links,
    }
    if blob is not None:
        shown |= {"encoding": "base64", "content": base64.encodebytes(blob).decode()}
    return shown


def change(state: State, which: Repository, value: Change, head: str) -> Json:
    page = repository_page(state, which)
    shown: Json = {
        "sha": value.sha,
        "filename": value.path,
        "status": value.status,
        "additions": value.additions,
        "deletions": value.deletions,
        "changes": value.additions + value.deletions,
        "blob_url": f"{page}/blob/{head}/{value.path}",
        "raw_url": f"{page}/raw/{head}/{value.path}",
        "contents_url": f"{repository_api(state, which)}/contents/{value.path}?ref={head}",
    }
    if value.patch:
        shown["patch"] = value.patch
    if value.previous:
        shown["previous_filename"] = value.previous
    return shown
