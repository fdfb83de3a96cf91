"""The action that has people revoke a leaked secret."""

import re
from dataclasses import replace
from typing import Any

import pytest
from markdown_it import MarkdownIt

from actions.rotate_secret import RotateSecret
from actions.secret_types import ISSUERS, fitting, issuer_of, names_in
from app.domain.errors import Refused
from app.domain.finding import EvidenceLine
from app.domain.outcome import Conclusion
from detectors.playbooks import ladder_of
from detectors.security.secrets import KINDS
from tests.actions.stage import Stage, crash_everywhere, stage

ACTION = RotateSecret()
CANARY = "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi"
HASH = "0badcafe"
PUBLISH = ".github/workflows/publish.yml"
FILES = {
    PUBLISH: "jobs:\n  a:\n    env:\n      T: ${{ secrets.HF_TOKEN }}\n      G: ${{ secrets.GITHUB_TOKEN }}\n",
    ".github/workflows/other.yaml": "env: {A: \"${{ secrets['hf_write'] }}\", B: '${{ secrets.STRIPE_KEY }}'}\n",
    "docs/workflow.yml": "${{ secrets.HF_NOT_A_WORKFLOW }}\n",
    "upload.py": f"import hub\nhub.login({CANARY!r})\n",
}
PUSHED = {"type": "hugging_face_token", "path": "upload.py", "line": 2, "hash": HASH}


def leaked(facts: dict[str, Any] | None = None, *, kind: str = "secret_leaked", **finding: Any) -> Stage:
    world = stage(FILES, facts=PUSHED if facts is None else facts)
    told = {
        "detector": "security_vulnerability",
        "kind": kind,
        "job": "",
        "summary": f"a secret was pushed: {CANARY}",
        "lines": (EvidenceLine(2, f"hub.login({CANARY!r})", "upload.py", root=True),),
        **finding,
    }
    incident = replace(world.incident, finding=replace(world.incident.finding, **told))
    tools = replace(world.tools, incident=replace(incident, run_id=0))  # what a push brings has no run
    return replace(world, incident=incident, tools=tools)


def issue(world: Stage) -> Any:
    repair = world.repair(ACTION)
    outcome = world.apply(ACTION, repair)
    return world.forge.issues[outcome.data["issue"]]


def test_the_issue_says_where_it_leaked_and_what_to_do() -> None:
    world = leaked()
    found = issue(world)
    assert found.title == "Revoke a leaked secret: Hugging Face token"
    assert found.labels == ("heal", "security")
    assert "- File: `upload.py`, line 2" in found.body
    assert f"`{world.incident.head_sha}`" in found.body
    assert "- Type: `hugging_face_token`" in found.body
    assert "(https://huggingface.co/settings/tokens)" in found.body
    assert "(https://huggingface.co/docs/hub/security-tokens)" in found.body
    assert "Deleting the line, or the commit, is not enough" in found.body
    assert "- [ ] " in found.body
    assert "`/heal reject 1`" in found.body


@pytest.mark.parametrize(
    "facts",
    [
        PUSHED,
        {
            "rule": CANARY,
            "alert": 12,
            "url": f"https://github.com/a/b?t={CANARY}",
            "message": CANARY,
            "validity": CANARY,
        },
        {"type": f"x {CANARY}", "path": f"keys/{CANARY}.txt", "line": 3, "hash": HASH, "snippet": CANARY},
        {"kind": "scanner", "match": CANARY, "secret": CANARY},
    ],
)
def test_no_part_of_the_secret_and_no_hash_of_it_stands_in_plan_issue_or_outcome(facts: dict[str, Any]) -> None:
    world = leaked(facts)
    plan = world.plan(ACTION)
    outcome = world.apply(ACTION, world.repair(ACTION))
    found = world.forge.issues[outcome.data["issue"]]
    for text in (str(plan), str(outcome), found.title, found.body):
        for length in (len(CANARY), 12, 8):
            parts = (CANARY[at : at + length] for at in range(len(CANARY) - length + 1))
            assert not [part for part in parts if part in text]
        assert HASH not in text
        assert world.incident.fingerprint not in text


def test_the_names_of_secrets_that_fit_are_told_and_never_as_certain() -> None:
    body = issue(leaked()).body
    assert "- `HF_TOKEN` in `.github/workflows/publish.yml`" in body
    assert "- `HF_WRITE` in `.github/workflows/other.yaml`" in body
    assert "STRIPE_KEY" not in body
    assert "HF_NOT_A_WORKFLOW" not in body
    assert "GITHUB_TOKEN" not in body
    assert "may be the same one" in body
    assert "cannot know" in body


def test_where_no_name_fits_nothing_is_guessed() -> None:
    body = issue(leaked({**PUSHED, "type": "telegram_bot_token"})).body
    assert "may be in use" not in body


def test_an_alert_is_named_with_its_link_and_ends_the_incident() -> None:
    url = "https://github.com/acme/trainer/security/secret-scanning/12"
    facts = {"rule": "openai_api_key", "alert": 12, "url": url, "validity": "active", "publicly_leaked": True}
    body = issue(leaked(facts)).body
    assert f"[alert 12]({url})" in body
    assert "still works" in body
    assert "in public" in body
    assert "Close GitHub's alert as revoked" in body
    assert "platform.openai.com" in body


def test_an_address_that_is_none_is_no_link() -> None:
    body = issue(leaked({"rule": "openai_api_key", "alert": 12, "url": "javascript:alert(1)"})).body
    assert "javascript" not in body


def test_what_a_scanner_found_in_a_job_ends_when_the_job_passes() -> None:
    world = leaked({}, detector="pipeline_failure", job="scan")
    world = replace(world, tools=replace(world.tools, incident=replace(world.incident, run_id=77)))
    body = issue(world).body
    assert "when the job that found it passes" in body
    assert "run 77" in body


@pytest.mark.parametrize(
    "path",
    [
        "a`b.py",
        "x\n# Heading",
        "@octocat/#1.py",
        "<img src=x>.py",
        "](https://evil.example)",
        "a" * 5_000,
        "\u202egnp.py",
    ],
)
def test_names_of_files_are_text(path: str) -> None:
    body = issue(leaked({**PUSHED, "path": path})).body
    rendered = MarkdownIt("commonmark").render(body)
    assert "<h1>" not in rendered
    assert "<img" not in rendered
    assert 'evil.example"' not in rendered
    assert "\u202e" not in body
    assert len(body) < 10_000
    assert "@octocat" not in re.sub(r"`[^`]*`", "", body)


def test_what_is_no_leaked_secret_is_refused() -> None:
    assert "no leaked secret" in leaked(kind="vulnerable_dependency").plan(ACTION).refusal


def test_a_commit_that_is_gone_costs_only_the_names() -> None:
    world = leaked()
    world.forge.fail_next("paths", Refused("404"))
    assert "Where it leaked" in issue(world).body


def test_without_a_commit_the_default_branch_is_read() -> None:
    world = leaked()
    incident = replace(world.incident, head_sha="")
    world = replace(world, incident=incident, tools=replace(world.tools, incident=incident))
    body = issue(world).body
    assert "- Commit:" not in body
    assert "HF_TOKEN" in body


def test_it_is_opened_once_wherever_the_worker_stops() -> None:
    assert crash_everywhere(leaked, lambda world, tools: world.apply(ACTION, world.repair(ACTION), tools=tools)) == 1


def test_undo_closes_it_once_and_nothing_else_changes() -> None:
    world = leaked()
    before = world.picture()
    repair = world.done(ACTION)
    for _ in range(2):
        assert ACTION.undo(repair, world.tools).conclusion is Conclusion.SUCCESS
    after = world.picture()
    assert (after[0], after[1], after[2], after[5]) == (before[0], before[1], before[2], before[5])
    assert [each.state for each in world.forge.issues.values()] == ["closed"]
    assert ACTION.undo(world.repair(ACTION), world.tools).conclusion is Conclusion.NEUTRAL


def test_leaked_secrets_are_rotated_before_people_are_only_told() -> None:
    assert [rung.action for rung in ladder_of("secret_leaked")] == ["rotate_secret", "open_issue"]


# the table


@pytest.mark.parametrize("issuer", ISSUERS, ids=lambda issuer: issuer.name)
def test_every_issuer_has_steps_checks_and_a_source(issuer: Any) -> None:
    assert issuer.steps
    assert issuer.check
    assert issuer.source.startswith("https://")
    assert issuer.manage == "" or issuer.manage.startswith("https://")
    assert all(name == name.upper() for name in issuer.names)
    assert not any(text.endswith(".") for text in (*issuer.steps, *issuer.check))


def test_the_table_has_an_entry_for_each_type_that_pushes_are_searched_for() -> None:
    last = ISSUERS[-1]
    assert len(ISSUERS) >= 20
    assert [kind.name for kind in KINDS if issuer_of(kind.name) is last] == []
    assert issuer_of("private_key").name == "private key"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("aws_secret_access_key", "AWS access key"),
        ("google_api_key", "Google API key"),
        ("google_cloud_service_account_credentials", "Google Cloud service account key"),
        ("azure_storage_account_key", "Azure storage account key"),
        ("azure_active_directory_application_secret", "Azure or Entra client secret"),
        ("github_personal_access_token", "GitHub personal access token"),
        ("github_app_installation_access_token", "GitHub App or installation token"),
        ("github_ssh_private_key", "GitHub SSH key"),
        ("slack_incoming_webhook_url", "Slack webhook"),
        ("slack_api_token", "Slack token"),
        ("hf_user_access_token", "Hugging Face token"),
        ("npm_access_token", "npm token"),
        ("docker_personal_access_token", "Docker Hub token"),
        ("discord_bot_token", "Discord bot token, secret or webhook"),
        ("telegram_bot_token", "Telegram bot token"),
        ("postgres_connection_string", "database password"),
        ("openssh_private_key", "private key"),
        ("something_of_our_own", "secret"),
        ("", "secret"),
    ],
)
def test_githubs_names_of_types_lead_to_their_issuer(kind: str, name: str) -> None:
    assert issuer_of(kind).name == name


def test_no_entry_is_hidden_behind_another() -> None:
    for issuer in ISSUERS:
        samples = [pattern.replace("*", "zz") for pattern in issuer.types]
        assert any(issuer_of(sample) is issuer for sample in samples), issuer.name


def test_names_are_read_from_expressions_however_they_are_written() -> None:
    text = (
        "${{ secrets.A_B }} ${{secrets['c']}} ${{ secrets[\"D\"] }} mysecrets.E secrets.GITHUB_TOKEN secrets: inherit"
    )
    assert names_in(text) == {"A_B", "C", "D"}
    assert fitting(issuer_of("aws_access_key_id"), {"AWS_SECRET", "MY_AWS_KEY", "LAWS_1"}) == [
        "AWS_SECRET",
        "MY_AWS_KEY",
    ]
