"""GitHub's deliveries, as they are, as they should not be, and as nobody expects them."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.github.webhook import interpret, peek, verify
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
from app.domain.tenant import Repository, Sender

EXAMPLES_FILE = Path(__file__).parent.parent / "contract_data" / "webhook-examples.json.gz"
EXAMPLES = [
    (f"{group['name']}-{number}", group["name"], example)
    for group in json.loads(gzip.decompress(EXAMPLES_FILE.read_bytes()))
    for number, example in enumerate(group["examples"])
]
ALERTS = ("dependabot_alert", "code_scanning_alert")
ACTED_ON = ("workflow_run", "check_run", "issue_comment", "pull_request", "push", "installation", *ALERTS)
USED = [(event, example) for _, event, example in EXAMPLES if event.startswith(ACTED_ON)]
EVENTS = RunFinished | ButtonPressed | CommandGiven | PullClosed | Pushed | InstallationChanged | SecurityAlertChanged
APP_ID = 42


def deliver(event: str, body: Any) -> Delivery:
    headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
    return peek(headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def understand(event: str, body: Any) -> AnyEvent | Ignored:
    return interpret(deliver(event, body), app_slug="heal", app_id=APP_ID)


def example(event: str, **members: Any) -> dict[str, Any]:
    """GitHub's first example of an event with these members, sent to an installation."""
    wanted = members.pop("action", None)
    found: dict[str, Any] = next(
        e for _, name, e in EXAMPLES if name == event and (wanted is None or e.get("action") == wanted)
    )
    return copy.deepcopy(found) | {"installation": {"id": 5}} | members


def failed_run(**members: Any) -> dict[str, Any]:
    body = example("workflow_run", action="completed")
    body["workflow_run"] |= {
        "conclusion": "failure",
        "path": ".github/workflows/ci.yml@refs/heads/main",
        "run_attempt": 2,
        "run_started_at": "2026-11-21T09:00:00Z",
        "head_repository": {"id": body["repository"]["id"]},
    } | members
    return body


def comment(text: str, **user: Any) -> dict[str, Any]:
    body = example("issue_comment", action="created")
    body["comment"]["body"] = text
    body["comment"]["user"] |= user
    body["sender"] |= user
    return body


def push(commits: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    body = example("push", ref="refs/heads/main", commits=commits, forced=False, deleted=False)
    return body | {"after": "a" * 40} | members


BOT = {"login": "heal[bot]", "type": "Bot"}


# signatures
def test_githubs_own_test_vector_verifies() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify(b"Hello, World!", signature, [b"It's a Secret to Everybody"])
    assert not verify(b"Hello, World?", signature, [b"It's a Secret to Everybody"])


def test_both_secrets_are_good_while_they_are_rotated() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify(b"Hello, World!", signature, [b"new", b"It's a Secret to Everybody"])
    assert verify(b"Hello, World!", signature, [b"It's a Secret to Everybody", b"former"])
    assert not verify(b"Hello, World!", signature, [b"new", b"newer"])


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "sha1=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "sha256=757107EA0EB2509FC211221CCE984B8A37570B6D7586C22C46F4379C8B043E17",
        "sha256=ümlaut",
        "\udcff",
    ],
)
def test_anything_but_the_right_signature_is_wrong(signature: str | None) -> None:
    assert not verify(b"Hello, World!", signature, [b"It's a Secret to Everybody"])


@pytest.mark.parametrize("secrets", [[], [b""]])
def test_without_a_secret_nothing_verifies(secrets: list[bytes]) -> None:
    empty_key = "sha256=eee9f9e3ac1a8a3cbba7a4e4c0f7b1e4a7e0b1a7d4b6a0f4d6ad8a3ac8f1f0de"
    assert not verify(b"", empty_key, secrets)
    assert not verify(b"", None, secrets)


# at a glance
def test_the_intake_sees_who_and_what_without_the_rest() -> None:
    delivery = deliver("workflow_run", failed_run())
    assert (delivery.source, delivery.event, delivery.action) == ("github", "workflow_run", "completed")
    assert delivery.guid == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert delivery.installation_id == 5
    assert delivery.repository_id == failed_run()["repository"]["id"]
    assert delivery.repository == failed_run()["repository"]["full_name"]


def test_the_body_is_kept_as_it_was_signed() -> None:
    assert deliver("ping", b' {"zen" : 1}\n').body == b' {"zen" : 1}\n'


@pytest.mark.parametrize("missing", ["x-github-event", "x-github-delivery"])
def test_a_missing_header_is_named(missing: str) -> None:
    headers = {"x-github-event": "ping", "x-github-delivery": "1-2"}
    del headers[missing]
    with pytest.raises(Malformed, match=f"(?i){missing}"):
        peek(headers, b"{}")


@pytest.mark.parametrize("header", ["x-github-event", "x-github-delivery"])
@pytest.mark.parametrize("value", ["", "a b", "x" * 100, "ünknown", "a\nb", "../.."])
def test_a_header_that_cannot_be_true_is_refused(header: str, value: str) -> None:
    with pytest.raises(Malformed):
        peek({"x-github-event": "ping", "x-github-delivery": "1-2", header: value}, b"{}")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"1", b'"text"', b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 9999])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        deliver("ping", body)


def test_a_form_encoded_body_says_what_to_change() -> None:
    with pytest.raises(Malformed, match="application/json"):
        deliver("ping", b"payload=%7B%7D")


@pytest.mark.parametrize("value", [None, "5", 5.0, True, -1, 0, 2**63, [5], {"id": {"id": 5}}])
def test_an_id_that_is_no_number_of_a_thing_is_left_out(value: Any) -> None:
    body = {"installation": {"id": value}, "repository": {"id": value, "full_name": value}, "action": value}
    delivery = deliver("push", body)
    assert (delivery.installation_id, delivery.repository_id) == (None, None)


def test_a_name_that_cannot_be_a_repository_is_left_out() -> None:
    assert deliver("push", {"repository": {"full_name": "a\0/b"}}).repository == ""
    assert deliver("push", {"repository": {"full_name": "no-owner"}}).repository == ""


# everything GitHub publishes
@pytest.mark.parametrize(("event", "body"), [(e, b) for _, e, b in EXAMPLES], ids=[name for name, _, _ in EXAMPLES])
def test_every_published_example_is_accepted(event: str, body: dict[str, Any]) -> None:
    for sent in (body, body | {"installation": {"id": 5}}):
        found = understand(event, sent)
        assert isinstance(found, EVENTS) or len(found.reason) > 10


def test_the_published_examples_reach_what_we_act_on() -> None:
    """The run examples are successes and there is no button of ours among them; both are added below."""
    found = {type(understand(e, b | {"installation": {"id": 5}})) for _, e, b in EXAMPLES}
    assert {RunFinished, PullClosed, InstallationChanged, Ignored} <= found


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.none() | st.integers() | st.dictionaries(st.text(max_size=3), st.none(), max_size=2), max_size=3),
    st.dictionaries(st.sampled_from(["id", "login", "ref", "repo"]), st.none() | st.integers() | st.text(), max_size=3),
)
_DELETE = object()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_delivery_with_wrong_members_is_understood_ignored_or_malformed(data: st.DataObject) -> None:
    event, published = data.draw(st.sampled_from(USED))
    body = copy.deepcopy(published) | {"installation": {"id": 5, "account": {"login": "acme"}}}
    if event == "check_run":
        body |= {"action": "requested_action", "requested_action": {"identifier": "approve"}}
        body["check_run"]["app"] = {"id": APP_ID}
    for _ in range(data.draw(st.integers(1, 4))):
        node: Any = body
        while isinstance(node, dict | list) and node:
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
                node = node[key]
                continue
            value = data.draw(st.just(_DELETE) | _VALUES)
            if value is _DELETE:
                del node[key]
            else:
                node[key] = value
            break
    try:
        found = understand(event, body)
    except Malformed:
        return
    assert isinstance(found, EVENTS | Ignored)


@settings(max_examples=200, deadline=None)
@given(event=st.text(max_size=30), guid=st.text(max_size=70), body=st.binary(max_size=200))
def test_any_bytes_at_all_are_a_delivery_or_malformed(event: str, guid: str, body: bytes) -> None:
    try:
        delivery = peek({"x-github-event": event, "x-github-delivery": guid}, body)
    except Malformed:
        return
    assert delivery.body == body


# runs
def test_a_failed_run_is_read_in_full() -> None:
    body = failed_run()
    run = body["workflow_run"]
    found = understand("workflow_run", body)
    assert isinstance(found, RunFinished)
    assert found.kind == "workflow_run.failed"
    assert found.repository == Repository(body["repository"]["id"], body["repository"]["full_name"], 5)
    assert found.sender == Sender(body["sender"]["login"], is_bot=False, id=body["sender"]["id"])
    assert (found.run_id, found.attempt, found.head_sha) == (run["id"], 2, run["head_sha"])
    assert (found.workflow, found.workflow_path) == (run["name"], ".github/workflows/ci.yml")
    assert (found.head_branch, found.trigger, found.from_fork) == (run["head_branch"], run["event"], False)
    assert found.started_at is not None
    assert found.started_at.isoformat() == "2026-11-21T09:00:00+00:00"


@pytest.mark.parametrize("action", ["requested", "in_progress"])
def test_a_run_that_is_not_over_is_ignored(action: str) -> None:
    found = understand("workflow_run", failed_run() | {"action": action})
    assert found == Ignored(f"workflow_run.{action} is not an event that the bot acts on")


def test_the_end_of_a_run_that_we_caused_is_the_proof_and_not_ignored() -> None:
    found = understand("workflow_run", failed_run(head_branch="heal/3f2a", conclusion="success") | {"sender": BOT})
    assert isinstance(found, RunFinished)
    assert found.kind == "workflow_run.succeeded"
    assert found.sender.is_bot


@pytest.mark.parametrize("head", [{"id": 1}, None, {}])
def test_a_run_of_a_fork_is_marked(head: dict[str, Any] | None) -> None:
    found = understand("workflow_run", failed_run(head_repository=head))
    assert isinstance(found, RunFinished)
    assert found.from_fork


# buttons
def button(app_id: int = APP_ID, sender: dict[str, Any] | None = None) -> dict[str, Any]:
    body = example("check_run", action="requested_action", requested_action={"identifier": "approve"})
    body["check_run"] |= {"app": {"id": app_id}, "external_id": "incident-7", "head_sha": "b" * 40}
    return body | ({"sender": sender} if sender else {})


def test_a_button_of_ours_is_a_button_pressed() -> None:
    found = understand("check_run", button())
    assert isinstance(found, ButtonPressed)
    assert (found.button, found.external_id) == ("approve", "incident-7")
    assert found.head_sha == "b" * 40


def test_a_button_of_another_app_is_ignored() -> None:
    assert understand("check_run", button(app_id=7)) == Ignored("a button of another App's check run")


def test_what_we_caused_ourselves_is_ignored() -> None:
    for event, body in (
        ("check_run", button(sender=BOT)),
        ("issue_comment", comment("/heal retry", **BOT)),
        ("pull_request", example("pull_request", action="closed", sender=BOT)),
        ("push", push([{"modified": [".github/heal.yml"]}], sender=BOT)),
    ):
        assert understand(event, body) == Ignored("the bot caused this itself"), event


# commands
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/heal approve", ("approve",)),
        ("/heal", ()),
        ("\r\n  /heal  retry   all \r\nplease", ("retry", "all")),
        ("> what should I do?\n> /heal undo\n\n/heal why", ("why",)),
        ("/heal\tpause", ("pause",)),
        ("/heal " + "x " * 100, ("x",) * 20),
    ],
)
def test_a_line_that_begins_with_heal_is_a_command(text: str, words: tuple[str, ...]) -> None:
    found = understand("issue_comment", comment(text))
    assert isinstance(found, CommandGiven)
    assert found.words == words
    assert found.issue_number == 1


@pytest.mark.parametrize(
    "text",
    ["", "thanks", "> /heal approve", "use /heal approve", "/healing", "hello\n/heal approve", "/HEAL x", "`/heal`"],
)
def test_a_comment_that_only_mentions_heal_is_no_command(text: str) -> None:
    assert understand("issue_comment", comment(text)) == Ignored("a comment without a /heal command")


@pytest.mark.parametrize("user", [{"type": "Bot"}, {"login": "other[bot]"}])
def test_a_comment_by_any_bot_is_ignored(user: dict[str, Any]) -> None:
    assert understand("issue_comment", comment("/heal approve", **user)) == Ignored("a comment by a bot")


@pytest.mark.parametrize("action", ["edited", "deleted"])
def test_only_a_new_comment_is_a_command(action: str) -> None:
    assert isinstance(understand("issue_comment", comment("/heal approve") | {"action": action}), Ignored)


def test_a_command_on_a_pull_request_is_read_as_on_an_issue() -> None:
    body = comment("/heal why")
    body["issue"]["pull_request"] = {"url": "https://api.github.com/repos/acme/model/pulls/1"}
    found = understand("issue_comment", body)
    assert isinstance(found, CommandGiven)
    assert (found.issue_number, found.words) == (1, ("why",))


# pull requests
def test_a_closed_pull_request_is_read_in_full() -> None:
    body = example("pull_request", action="closed")
    body["pull_request"] |= {"merged": True}
    found = understand("pull_request", body)
    assert isinstance(found, PullClosed)
    assert (found.number, found.merged) == (body["number"], True)
    assert found.head_branch == body["pull_request"]["head"]["ref"]
    assert found.head_sha == body["pull_request"]["head"]["sha"]


def test_a_pull_request_from_a_fork_is_not_taken_for_ours() -> None:
    body = example("pull_request", action="closed")
    body["pull_request"]["head"] |= {"ref": "heal/3f2a", "repo": {"id": 1}}
    assert isinstance(understand("pull_request", body), Ignored)


# pushes
@pytest.mark.parametrize("member", ["added", "modified", "removed"])
def test_a_push_that_touches_the_configuration_is_told(member: str) -> None:
    found = understand(
        "push", push([{"modified": ["a.py"]}, {member: ["a", ".github/heal.yml"]}], ref="refs/heads/a/b")
    )
    assert isinstance(found, Pushed)
    assert found.may_touch(".github/heal.yml")
    assert (found.branch, found.head_sha) == ("a/b", "a" * 40)


@pytest.mark.parametrize("count", [20, 2048, 3000])
def test_a_push_whose_commits_were_cut_off_may_touch_the_configuration(count: int) -> None:
    found = understand("push", push([{"modified": ["a.py"]}] * count))
    assert isinstance(found, Pushed)
    assert found.may_touch(".github/heal.yml")


def test_a_forced_push_may_touch_the_configuration() -> None:
    found = understand("push", push([], forced=True))
    assert isinstance(found, Pushed)
    assert found.may_touch(".github/heal.yml")


def test_a_push_of_other_files_does_not_touch_the_configuration() -> None:
    found = understand("push", push([{"modified": ["heal.yml", "x/.github/heal.yml"]}, None, {"added": 1}]))
    assert isinstance(found, Pushed)
    assert not found.may_touch(".github/heal.yml")
    assert found.paths == {"heal.yml", "x/.github/heal.yml"}


@pytest.mark.parametrize("members", [{"created": True}, {"before": "0" * 40}])
def test_a_new_branch_has_no_commit_before(members: dict[str, Any]) -> None:
    found = understand("push", push([{"modified": ["a.py"]}]) | members)
    assert isinstance(found, Pushed)
    assert found.before == ""


@pytest.mark.parametrize(
    "members",
    [
        {"ref": "refs/tags/v1", "forced": True},
        {"deleted": True, "forced": True},
        {"ref": "refs/heads/heal/3f2a", "forced": True},
    ],
)
def test_another_push_is_ignored(members: dict[str, Any]) -> None:
    body = push([{"modified": ["heal.yml", "x/.github/heal.yml"]}]) | members
    assert isinstance(understand("push", body), Ignored)


def test_a_push_to_the_file_that_is_offered_is_looked_at() -> None:
    found = understand("push", push([{"modified": [".github/heal.yml"]}]) | {"ref": "refs/heads/heal/onboarding"})
    assert isinstance(found, Pushed)


# installations
@pytest.mark.parametrize(
    ("event", "members", "selection"),
    [
        ("installation", {"installation": {"id": 5, "repository_selection": "all"}}, "all"),
        ("installation_repositories", {"repository_selection": "selected"}, "selected"),
        ("installation", {"installation": {"id": 5, "repository_selection": "some"}}, ""),
        ("installation", {}, ""),
    ],
)
def test_an_installation_tells_what_it_covers(event: str, members: dict[str, Any], selection: str) -> None:
    found = understand(event, example(event) | {"repository_selection": None} | members)
    assert isinstance(found, InstallationChanged)
    assert found.selection == selection


def test_a_new_installation_takes_nothing_away() -> None:
    found = understand("installation", example("installation", action="created"))
    assert isinstance(found, InstallationChanged)
    assert (found.installation_id, found.change) == (5, "created")
    assert found.removed == ()


def test_a_deleted_installation_takes_its_repositories_away() -> None:
    body = example("installation", action="deleted")
    found = understand("installation", body)
    assert isinstance(found, InstallationChanged)
    assert found.removed == tuple(one["id"] for one in body["repositories"])


def test_only_repositories_that_go_are_removed() -> None:
    one, other = {"id": 1, "full_name": "acme/a"}, {"id": 2, "full_name": "acme/b"}
    body = example("installation_repositories", repositories_added=[one], repositories_removed=[other])
    found = understand("installation_repositories", body)
    assert isinstance(found, InstallationChanged)
    assert (found.added, found.removed) == ((1,), (2,))


# what is left
def test_an_event_that_nobody_knows_yet_is_ignored_by_name() -> None:
    found = understand("quantum_flux", {"action": "collapsed", "installation": {"id": 5}})
    assert found == Ignored("quantum_flux.collapsed is not an event that the bot acts on")


def test_an_event_without_an_installation_is_ignored() -> None:
    body = failed_run()
    del body["installation"]
    assert isinstance(understand("workflow_run", body), Ignored)


@pytest.mark.parametrize("member", ["workflow_run", "repository"])
def test_a_missing_member_that_we_need_is_named(member: str) -> None:
    with pytest.raises(Malformed, match=member):
        understand("workflow_run", failed_run() | {member: None})


# security alerts
def test_a_dependabot_alert_is_read_in_full() -> None:
    body = example("dependabot_alert", action="created")
    body["alert"]["security_advisory"]["epss"] = {"percentage": 0.01152, "percentile": "0.77"}
    found = understand("dependabot_alert", body)
    assert isinstance(found, SecurityAlertChanged)
    assert (found.source, found.number, found.open, found.rule) == ("dependabot", 20, True, "GHSA-c2qf-rxjj-qqgw")
    assert found.summary == "semver vulnerable to Regular Expression Denial of Service"
    assert found.details == {
        "package": "semver",
        "ecosystem": "npm",
        "path": "package-lock.json",
        "scope": "runtime",
        "aliases": ["CVE-2022-25883"],
        "affected": "< 7.5.2",
        "fixed": "7.5.2",
        "score": 5.3,
        "exploited": 0.01152,
    }


@pytest.mark.parametrize("state", ["fixed", "dismissed", "auto_dismissed"])
def test_a_dependabot_alert_that_is_over_is_not_open(state: str) -> None:
    body = example("dependabot_alert", action="created")
    body["alert"]["state"] = state
    found = understand("dependabot_alert", body)
    assert isinstance(found, SecurityAlertChanged)
    assert not found.open


def test_a_code_scanning_alert_is_read_with_its_place() -> None:
    body = example("code_scanning_alert", action="closed_by_user")
    body["alert"] |= {"state": "open"}
    found = understand("code_scanning_alert", body)
    assert isinstance(found, SecurityAlertChanged)
    assert (found.source, found.number, found.open, found.severity) == ("code_scanning", 10, True, "error")
    assert found.details["tool"] == "Anchore Container Vulnerability Report (T0)"
    assert (found.details["path"], found.details["line"]) == (
        "/usr/local/jetty/lib/http2/http2-hpack-9.4.27.v20200227.jar",
        1,
    )


def test_a_code_scanning_alert_of_another_branch_is_ignored() -> None:
    body = example("code_scanning_alert", action="reopened")
    body["ref"] = "refs/heads/feature"
    found = understand("code_scanning_alert", body)
    assert found == Ignored("an alert about another branch than the default one")


def test_a_secret_scanning_alert_never_carries_the_secret() -> None:
    """GitHub publishes no example: this one has the members of its schema, and the secret beside them."""
    body = example("dependabot_alert", action="created")
    body["alert"] = {
        "number": 3,
        "secret_type": "pypi_api_token",
        "secret_type_display_name": "PyPI API token",
        "secret": "canary-8c1f",
        "resolution_comment": "canary-8c1f",
        "resolution": None,
        "validity": "active",
        "publicly_leaked": True,
        "html_url": "https://github.com/acme/model/security/secret-scanning/3",
    }
    found = understand("secret_scanning_alert", body)
    assert isinstance(found, SecurityAlertChanged)
    assert (found.source, found.rule, found.open) == ("secret_scanning", "pypi_api_token", True)
    assert found.details == {"validity": "active", "publicly_leaked": True, "resolution": ""}
    assert "canary" not in repr(found)
    body["alert"] |= {"resolution": "revoked"}
    resolved = understand("secret_scanning_alert", body | {"action": "resolved"})
    assert isinstance(resolved, SecurityAlertChanged)
    assert not resolved.open


def test_an_alert_that_says_nothing_of_itself_is_ignored() -> None:
    body = example("dependabot_alert", action="created") | {"alert": {"number": 1}}
    assert understand("dependabot_alert", body) == Ignored("an alert that does not say what it is about")
