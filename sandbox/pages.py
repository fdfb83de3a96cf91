"""Read-only HTML pages, so that the links in a report lead somewhere. No scripts; repositories' text is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import escape

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sandbox.gitrepo import Change
from sandbox.state import CheckRun, Issue, Repository, Run, State, stamp

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
MOST_LOG_LINES = 5_000
STYLE = """
:root { color-scheme: light dark; --line: #d1d9e0; --soft: #f6f8fa; --add: #dafbe1; --del: #ffebe9; --dim: #59636e; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3d444d; --soft: #151b23; --add: #12261e; --del: #301b1e; --dim: #9198a1; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.note { color: var(--dim); } .box { border: 1px solid var(--line); border-radius: 6px; padding: .2rem 1rem; }
pre, code { font: 13px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .7rem; overflow-x: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }
ins, del { text-decoration: none; display: block; } ins { background: var(--add); } del { background: var(--del); }
"""

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def routes(state: State) -> list[Route]:
    """The pages and their stylesheet. They come last: their paths are the widest."""

    def page(show: Callable[[State, Repository, Request], tuple[str, str] | None]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            with state.lock:
                where = state.repository(request.path_params["owner"], request.path_params["repo"])
                found = show(state, where, request) if where else None
            return _page(where, *found) if where and found else _page(None, "Not found", "<p>Nothing is here.</p>", 404)

        return endpoint

    def style(_: Request) -> Response:
        return Response(STYLE, media_type="text/css")

    home = "/{owner}/{repo}"
    return [
        Route("/static.css", style),
        Route(home, page(_repository)),
        Route(f"{home}/pull/{{number:int}}", page(_issue)),
        Route(f"{home}/issues/{{number:int}}", page(_issue)),
        Route(f"{home}/actions/runs/{{number:int}}", page(_run)),
        Route(f"{home}/actions/runs/{{number:int}}/job/{{job:int}}", page(_run)),
        Route(f"{home}/runs/{{number:int}}", page(_check)),
        Route(f"{home}/commit/{{sha}}", page(_commit)),
    ]


def _page(where: Repository | None, title: str, body: str, status: int = 200) -> Response:
    home = f'<p class="note"><a href="/{where.full_name}">{escape(where.full_name)}</a></p>' if where else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/static.css"></head>'
        f"<body><main>{home}<h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(text, status, headers)


def _prose(text: str | None) -> str:
    """Markdown without HTML and images; markdown-it itself refuses script links."""
    return f'<div class="box">{_markdown.render(_COMMENT.sub("", text or "") or "_No description._")}</div>'


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else '<p class="note">None.</p>'


def _issue_link(where: Repository, issue: Issue) -> str:
    kind = "pull" if issue.pull else "issues"
    return f'<a href="/{where.full_name}/{kind}/{issue.number}">#{issue.number} {escape(issue.title)}</a>'


def _run_link(run: Run) -> str:
    href = f"/{run.repository.full_name}/actions/runs/{run.id}"
    ended = run.conclusion or run.status
    return f'<a href="{href}">{escape(run.name)} #{run.number}</a>, attempt {run.attempt}: {ended} ({run.event})'


def _repository(state: State, where: Repository, _: Request) -> tuple[str, str]:
    issues = sorted(where.issues.values(), key=lambda i: -i.number)
    runs = sorted((r for r in state.runs.values() if r.repository is where), key=lambda r: -r.id)
    head = where.git.resolve(where.default_branch)
    files = where.git.entries(head, recursive=True) if head else []
    return where.full_name, "".join(
        (
            "<h2>Pull requests</h2>",
            _list(f"{_issue_link(where, i)} ({_state(i)})" for i in issues if i.pull),
            "<h2>Issues</h2>",
            _list(f"{_issue_link(where, i)} ({_state(i)})" for i in issues if not i.pull),
            "<h2>Workflow runs</h2>",
            _list(_run_link(run) for run in runs),
            f"<h2>Files on {escape(where.default_branch)}</h2>",
            _list(escape(entry.path) for entry in files if entry.type == "blob"),
        )
    )


def _state(issue: Issue) -> str:
    return "merged" if issue.pull and issue.pull.merged_at else issue.state


def _issue(state: State, where: Repository, request: Request) -> tuple[str, str] | None:
    issue = where.issues.get(request.path_params["number"])
    if issue is None:
        return None
    parts = [f'<p class="note">{_state(issue)}, by {escape(issue.user.login)}, {stamp(issue.created_at)}']
    if issue.pull:
        parts.append(f": <code>{escape(issue.pull.head_ref)}</code> into <code>{escape(issue.pull.base_ref)}</code>")
    parts += ["</p>", _prose(issue.body)]
    if issue.pull:
        base = where.git.merge_base(issue.pull.base_sha, issue.pull.head_sha) or issue.pull.base_sha
        checks = [c for c in state.checks.values() if c.repository is where and c.head_sha == issue.pull.head_sha]
        parts += ["<h2>Checks</h2>", _list(map(_check_line, checks))]
        parts += ["<h2>Changes</h2>", _diff(where.git.changes(base, issue.pull.head_sha))]
    parts.append(f"<h2>Comments ({len(issue.comments)})</h2>")
    for comment in issue.comments:
        note = f"{escape(comment.user.login)}, {stamp(comment.created_at)}"
        parts.append(f'<p class="note" id="issuecomment-{comment.id}">{note}</p>{_prose(comment.body)}')
    return f"{issue.title} #{issue.number}", "".join(parts)


def _check_line(check: CheckRun) -> str:
    href = f"/{check.repository.full_name}/runs/{check.id}"
    return f'<a href="{href}">{escape(check.name)}</a>: {escape(check.conclusion or check.status)}'


def _diff(changes: Iterable[Change]) -> str:
    return "".join(f"<h3><code>{escape(c.path)}</code> {c.status}</h3><pre>{_patch(c.patch)}</pre>" for c in changes)


def _patch(patch: str) -> str:
    marks = {"+": "ins", "-": "del"}
    lines = []
    for line in patch.splitlines():
        mark = marks.get(line[:1])
        lines.append(f"<{mark}>{escape(line)}</{mark}>" if mark else f"{escape(line)}\n")
    return "".join(lines)


def _run(state: State, where: Repository, request: Request) -> tuple[str, str] | None:
    run = state.runs.get(request.path_params["number"])
    if run is None or run.repository is not where:
        return None
    wanted = request.path_params.get("job")
    jobs = [job for job in run.jobs if job.id == wanted] if wanted else run.jobs_of(run.attempt)
    parts = [f"<p>{_run_link(run)} of <a href='/{where.full_name}/commit/{run.head_sha}'>{run.head_sha[:8]}</a></p>"]
    for job in jobs:
        ended = f"{job.conclusion or job.status}, attempt {job.run_attempt}"
        parts.append(f"<h2>{escape(job.name)} <span class='note'>{ended}</span></h2>")
        parts.append(_list(f"{escape(step.name)}: {step.conclusion or step.status}" for step in job.steps))
        parts.append(f"<pre>{escape(chr(10).join(job.log.splitlines()[-MOST_LOG_LINES:]))}</pre>")
    return f"{run.name} #{run.number}", "".join(parts)


def _check(state: State, where: Repository, request: Request) -> tuple[str, str] | None:
    check = state.checks.get(request.path_params["number"])
    if check is None or check.repository is not where:
        return None
    parts = [f'<p class="note">{check.conclusion or check.status}, by {escape(check.app.name)}</p>']
    if check.output:
        parts += [f"<h2>{escape(check.output.get('title') or '')}</h2>", _prose(check.output.get("summary"))]
        parts.append(_prose(check.output["text"]) if check.output.get("text") else "")
    notes = (
        f"<code>{escape(str(n['path']))}:{n['start_line']}</code> {escape(n['message'])}" for n in check.annotations
    )
    parts += ["<h2>Annotations</h2>", _list(notes)]
    parts += ["<h2>Buttons</h2>", _list(f"{escape(a['label'])}: {escape(a['description'])}" for a in check.actions)]
    return check.name, "".join(parts)


def _commit(_: State, where: Repository, request: Request) -> tuple[str, str] | None:
    sha = where.git.resolve(request.path_params["sha"])
    if sha is None:
        return None
    commit = where.git.commit(sha)
    subject, _newline, rest = commit.message.partition("\n")
    base = commit.parents[0] if commit.parents else where.git.write_tree(None, [])
    note = f'<p class="note">{escape(commit.author.name)}, {stamp(commit.author.at)}, {sha}</p>'
    return subject, f"{note}<pre>{escape(rest.strip())}</pre>{_diff(where.git.changes(base, sha))}"
