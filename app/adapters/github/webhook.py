"""GitHub's webhooks: verified, read at a glance for the intake, and understood. No I/O.

Reading is lenient: GitHub adds events, actions and members at any time, and a third of its own published examples do
not fit its own schema. Only what is used is looked at, and what cannot be used is Ignored or Malformed, never a crash.
"""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from app.adapters.github.alerts import read_alert
from app.domain.delivery import Delivery
from app.domain.errors import Malformed
from app.domain.event import (
    AnyEvent,
    ButtonPressed,
    CommandGiven,
    Ignored,
    InstallationChanged,
    PullClosed,
    Pushed,
    RunFinished,
    SecurityAlertChanged,
)
from app.domain.incident import FIX_BRANCHES, ONBOARDING_BRANCH
from app.domain.tenant import SELECTIONS, Repository, Sender

COMMAND = "/heal"
BRANCHES = "refs/heads/"
MAX_COMMAND_WORDS = 20
MAX_COMMAND_CHARACTERS = 1_000

# GitHub shortens a push's list of commits: to 20 in the past and in part of its payloads, to 2,048 today.
_SHORTENED = (20, 2_048)
_LARGEST_ID = 2**63 - 1

_GUID = re.compile(r"[A-Za-z0-9-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FULL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")

Json = Mapping[str, Any]


def verify(body: bytes, signature: str | None, secrets: Sequence[bytes]) -> bool:
    """Whether `signature` (`X-Hub-Signature-256`) was made over `body` with one of the active secrets.

    Every secret is tried whatever the first one says, so the time taken tells nothing. No secret: never.
    """
    given = (signature or "").encode("utf-8", "replace")
    right = False
    for secret in secrets:
        if secret:
            expected = b"sha256=" + hmac.digest(secret, body, "sha256").hex().encode()
            right |= hmac.compare_digest(given, expected)
    return right


def peek(headers: Mapping[str, str], body: bytes) -> Delivery:
    """The delivery with what the intake needs to keep it. Raises Malformed, saying what to do.

    `headers` is a mapping that ignores case, or one whose keys are all lower case or all as GitHub writes them.
    """
    event = _header(headers, "X-GitHub-Event")
    guid = _header(headers, "X-GitHub-Delivery")
    if not _NAME.fullmatch(event):
        raise Malformed("X-GitHub-Event must name an event, e.g. workflow_run; GitHub always sends it")
    if not _GUID.fullmatch(guid):
        raise Malformed("X-GitHub-Delivery must be the delivery's GUID; GitHub always sends it")
    content = _parse(body)
    repository = _object(content, "repository")
    full_name = _text(repository, "full_name")
    action = _text(content, "action")
    return Delivery(
        guid=guid,
        source="github",
        event=event,
        action=action if _NAME.fullmatch(action) else "",
        body=body,
        installation_id=_id(_object(content, "installation")) or None,
        repository_id=_id(repository) or None,
        repository=full_name if _FULL_NAME.fullmatch(full_name) else "",
    )


def interpret(delivery: Delivery, *, app_slug: str, app_id: int) -> AnyEvent | Ignored:
    """What happened, or why nothing follows from it. Raises Malformed where a member that we need is missing.

    What we caused ourselves is ignored, except the end of a workflow run: a run on our branch, and a re-run that we
    asked for, are the proof that a repair worked.
    """
    content = _parse(delivery.body)
    read = _READERS.get((delivery.event, delivery.action)) or _READERS.get((delivery.event, ""))
    if read is None:
        what = f"{delivery.event}.{delivery.action}" if delivery.action else delivery.event
        return Ignored(f"{what} is not an event that the bot acts on")
    installation_id = _id(_object(content, "installation"))
    if not installation_id:
        return Ignored("not sent for an installation of the App, so there is no access to act with")
    ours = _text(_object(content, "sender"), "login") == f"{app_slug}[bot]"
    if ours and delivery.event != "workflow_run":
        return Ignored("the bot caused this itself")
    return read(content, installation_id, app_id)


def _run_finished(content: Json, installation_id: int, _: int) -> AnyEvent | Ignored:
    run = _needed(content, "workflow_run")
    conclusion = _text(run, "conclusion")
    if not conclusion:
        return Ignored("a run without a conclusion; its end will be told again")
    repository = _repository(content, installation_id)
    path = _text(run, "path") or _text(_object(content, "workflow"), "path")
    return RunFinished(
        repository=repository,
        sender=_sender(content),
        run_id=_needed_id(run, "id"),
        attempt=_count(run, "run_attempt") or 1,
        workflow=_text(run, "name") or _text(_object(content, "workflow"), "name"),
        workflow_path=path.partition("@")[0],
        head_sha=_needed_text(run, "head_sha"),
        head_branch=_text(run, "head_branch"),
        trigger=_text(run, "event"),
        conclusion=conclusion,
        from_fork=_id(_object(run, "head_repository")) != repository.id,
        url=_text(run, "html_url"),
        started_at=_time(_text(run, "run_started_at")),
    )


def _button_pressed(content: Json, installation_id: int, app_id: int) -> AnyEvent | Ignored:
    check = _needed(content, "check_run")
    if _id(_object(check, "app")) != app_id:
        return Ignored("a button of another App's check run")
    return ButtonPressed(
        repository=_repository(content, installation_id),
        sender=_sender(content),
        external_id=_text(check, "external_id"),
        head_sha=_needed_text(check, "head_sha"),
        button=_needed_text(_needed(content, "requested_action"), "identifier"),
    )


def _command_given(content: Json, installation_id: int, _: int) -> AnyEvent | Ignored:
    comment = _needed(content, "comment")
    issue = _needed(content, "issue")
    if _sender(content).is_bot or _text(_object(comment, "user"), "type") == "Bot":
        return Ignored("a comment by a bot")
    words = _command(_text(comment, "body"))
    if words is None:
        return Ignored(f"a comment without a {COMMAND} command")
    return CommandGiven(
        repository=_repository(content, installation_id),
        sender=_sender(content),
        issue_number=_needed_id(issue, "number"),
        comment_id=_needed_id(comment, "id"),
        words=words,
    )


def _command(body: str) -> tuple[str, ...] | None:
    """The words after `/heal`, if the first line that is neither blank nor a quotation begins with it."""
    for line in body.splitlines():
        line = line.strip()
        if line and not line.startswith(">"):
            first, *rest = line[:MAX_COMMAND_CHARACTERS].split()
            return tuple(rest[:MAX_COMMAND_WORDS]) if first == COMMAND else None
    return None


def _pull_closed(content: Json, installation_id: int, _: int) -> AnyEvent | Ignored:
    pull = _needed(content, "pull_request")
    repository = _repository(content, installation_id)
    head = _needed(pull, "head")
    if _id(_object(head, "repo")) not in (0, repository.id):
        return Ignored("a pull request from a fork; the bot's own come from the repository itself")
    return PullClosed(
        repository=repository,
        sender=_sender(content),
        number=_needed_id(pull, "number"),
        merged=pull.get("merged") is True,
        head_branch=_needed_text(head, "ref"),
        head_sha=_needed_text(head, "sha"),
    )


def _pushed(content: Json, installation_id: int, _: int) -> AnyEvent | Ignored:
    ref = _needed_text(content, "ref")
    if not ref.startswith(BRANCHES):
        return Ignored("a push of something other than a branch")
    if content.get("deleted") is True:
        return Ignored("a branch was deleted")
    if ref.startswith(BRANCHES + FIX_BRANCHES) and ref != BRANCHES + ONBOARDING_BRANCH:
        return Ignored("a push to one of the bot's own branches")
    commits = _list(content, "commits")
    shortened = len(commits) == _SHORTENED[0] or len(commits) >= _SHORTENED[1]
    before = _text(content, "before")
    return Pushed(
        repository=_repository(content, installation_id),
        sender=_sender(content),
        branch=ref.removeprefix(BRANCHES),
        before="" if content.get("created") is True or not before.strip("0") else before,
        head_sha=_needed_text(content, "after"),
        paths=frozenset(
            path
            for commit in commits
            if isinstance(commit, dict)
            for member in ("added", "modified", "removed")
            for path in _list(commit, member)
            if isinstance(path, str)
        ),
        complete=not (shortened or content.get("forced") is True),
        url=_text(content, "compare"),
    )


def _alert_changed(source: str, content: Json, installation_id: int, _: int) -> AnyEvent | Ignored:
    found = read_alert(source, _text(content, "action"), content)
    if found is None:
        return Ignored("an alert that does not say what it is about")
    repository = _repository(content, installation_id)
    if found.branch not in ("", repository.default_branch):
        return Ignored("an alert about another branch than the default one")
    alert = _needed(content, "alert")
    return SecurityAlertChanged(
        repository=repository,
        sender=_sender(content),
        source=source,
        number=_needed_id(alert, "number"),
        open=found.open,
        rule=found.rule,
        severity=found.severity,
        summary=found.summary,
        url=_text(alert, "html_url"),
        details=found.details,
    )


def _installation_changed(content: Json, installation_id: int, _: int) -> AnyEvent | Ignored:
    change = _needed_text(content, "action")
    installation = _object(content, "installation")
    selection = _text(content, "repository_selection") or _text(installation, "repository_selection")
    return InstallationChanged(
        installation_id=installation_id,
        change=change,
        added=_ids(content, "repositories_added"),
        removed=_ids(content, "repositories" if change == "deleted" else "repositories_removed"),
        selection=selection if selection in SELECTIONS else "",
        account=_text(_object(installation, "account"), "login"),
    )


def _ids(content: Json, member: str) -> tuple[int, ...]:
    return tuple(_id(one) for one in _list(content, member) if isinstance(one, dict) and _id(one))


_READERS: Mapping[tuple[str, str], Callable[[Json, int, int], AnyEvent | Ignored]] = {
    ("workflow_run", "completed"): _run_finished,
    ("check_run", "requested_action"): _button_pressed,
    ("issue_comment", "created"): _command_given,
    ("pull_request", "closed"): _pull_closed,
    ("push", ""): _pushed,
    ("dependabot_alert", ""): partial(_alert_changed, "dependabot"),
    ("code_scanning_alert", ""): partial(_alert_changed, "code_scanning"),
    ("secret_scanning_alert", ""): partial(_alert_changed, "secret_scanning"),
    ("installation", ""): _installation_changed,
    ("installation_repositories", ""): _installation_changed,
}


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name.lower()) or headers.get(name) or ""


def _parse(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; set the webhook's content type to application/json" if body.startswith(b"payload=") else ""
        raise Malformed(f"the body is not JSON{hint}") from error
    if not isinstance(content, dict):
        raise Malformed("the body is not a JSON object")
    return content


def _repository(content: Json, installation_id: int) -> Repository:
    found = _needed(content, "repository")
    full_name = _needed_text(found, "full_name")
    if not _FULL_NAME.fullmatch(full_name):
        raise Malformed("repository.full_name is not owner/name")
    return Repository(_needed_id(found, "id"), full_name, installation_id, _text(found, "default_branch") or "main")


def _sender(content: Json) -> Sender:
    sender = _object(content, "sender")
    login = _text(sender, "login")
    return Sender(login, is_bot=_text(sender, "type") == "Bot" or login.endswith("[bot]"), id=_count(sender, "id"))


def _object(content: Json, member: str) -> Json:
    value = content.get(member)
    return value if isinstance(value, dict) else {}


def _list(content: Json, member: str) -> list[Any]:
    value = content.get(member)
    return value if isinstance(value, list) else []


def _text(content: Json, member: str) -> str:
    """A string, or empty: also for one with a NUL character, which PostgreSQL does not take."""
    value = content.get(member)
    return value if isinstance(value, str) and "\0" not in value else ""


def _count(content: Json, member: str) -> int:
    """A positive whole number that fits a database column, or 0."""
    value = content.get(member)
    return value if type(value) is int and 0 < value <= _LARGEST_ID else 0


def _id(content: Json) -> int:
    return _count(content, "id")


def _needed(content: Json, member: str) -> Json:
    return _object(content, member) or _missing(member)


def _needed_text(content: Json, member: str) -> str:
    return _text(content, member) or _missing(member)


def _needed_id(content: Json, member: str) -> int:
    return _count(content, member) or _missing(member)


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None


def _missing(member: str) -> Any:
    raise Malformed(f"the delivery has no usable `{member}`")
