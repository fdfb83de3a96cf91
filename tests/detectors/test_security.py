"""What the security detector claims, and on what it is silent."""

import random
import re
import string
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.advisory import (
    AddedLine,
    AddedLines,
    Advisory,
    Affected,
    Bump,
    Dependencies,
    Imports,
    Known,
    LockedPackage,
    ModelFile,
    ModelFiles,
    WorkflowFiles,
)
from app.domain.event import Pushed, SecurityAlertChanged
from app.domain.evidence import Evidence, EvidenceBag
from app.domain.finding import Clear, Finding, Remedy, Severity
from app.domain.tenant import Repository, Sender
from app.healing.diagnose import masked
from app.security.imports import modules_of as imported_by
from detectors.security.actions import unpinned
from detectors.security.reach import reach
from detectors.security.secrets import KINDS, leaks_in
from detectors.security_vulnerability import SecurityVulnerability, bump_of, severity_of

REPOSITORY = Repository(1, "acme/model", 1)
PUSHED = Pushed(repository=REPOSITORY, sender=Sender("maria"), branch="main", before="a" * 40, head_sha="b" * 40)
AT = datetime(2026, 11, 21, tzinfo=UTC)
COMMIT = "8ade135a41bc03ea155e62e844d188df1ea18608"


def claims(event: Any, *evidence: Evidence, **settings: Any) -> list[Finding | Clear]:
    bag = EvidenceBag(*evidence, settings={"security_vulnerability": settings})
    return list(SecurityVulnerability().detect(event, bag))


def found(event: Any, *evidence: Evidence, **settings: Any) -> list[Finding]:
    return [claim for claim in claims(event, *evidence, **settings) if isinstance(claim, Finding)]


# secrets: every token is made at run time, so that no scanner finds one in this file


def drawn(alphabet: str, length: int, seed: int = 7) -> str:
    chosen = random.Random(seed)
    return "".join(chosen.choice(alphabet) for _ in range(length))


ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "_-"


def with_checksum(prefix: str) -> str:
    """As GitHub's post on its token formats has it: CRC-32 of the random part, base 62, six digits."""
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    body, value, tail = drawn(ALNUM, 30), zlib.crc32(drawn(ALNUM, 30).encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        tail = digits[digit] + tail
    return f"{prefix}_{body}{tail}"


TOKENS = {
    "github_token": with_checksum("ghp"),
    "github_app_token": with_checksum("ghs"),
    "github_fine_grained_token": f"github_pat_{drawn(ALNUM, 22)}_{drawn(ALNUM, 59)}",
    "npm_token": with_checksum("npm"),
    "pypi_token": "pypi-AgE" + drawn(URL_SAFE, 150),
    "aws_access_key_id": "AKIA" + drawn(string.ascii_uppercase + "234567", 16),
    "slack_token": f"xoxb-{drawn('2345678', 12)}-{drawn('2345678', 13)}-{drawn(ALNUM, 24)}",
    "slack_webhook": f"hooks.slack.com/services/T{drawn('ABCDEF2345', 8)}/B{drawn('ABCDEF2345', 8)}/{drawn(ALNUM, 24)}",
    "hugging_face_token": "hf_" + drawn(string.ascii_letters, 34),
    "openai_key": f"sk-proj-{drawn(ALNUM, 40)}T3BlbkFJ{drawn(ALNUM, 40)}",
    "anthropic_key": "sk-ant-api03-" + drawn(URL_SAFE, 95),
    "stripe_live_key": "sk_live_" + drawn(ALNUM, 24),
    "gitlab_token": "glpat-" + drawn(ALNUM, 20),
    "google_api_key": "AIza" + drawn(URL_SAFE, 35),
    "sendgrid_key": f"SG.{drawn(ALNUM, 22)}.{drawn(ALNUM, 43)}",
    "databricks_token": "dapi" + drawn("0123456789abcdef", 32),
    "digitalocean_token": "dop_v1_" + drawn("0123456789abcdef", 64),
    "azure_storage_key": drawn(ALNUM, 86) + "==",
}
KEY_BODY = drawn(ALNUM + "+/", 64)
KEY_MARK = "-----BEGIN RSA " + "PRIVATE KEY-----"


def line_with(kind: str) -> str:
    return f"AccountKey={TOKENS[kind]};" if kind == "azure_storage_key" else f'TOKEN = "{TOKENS[kind]}"  # ours'


def test_every_kind_has_its_example() -> None:
    assert {kind.name for kind in KINDS} == set(TOKENS)


@pytest.mark.parametrize("kind", TOKENS)
def test_a_secret_is_told_with_its_kind_and_place_and_nothing_of_itself(kind: str) -> None:
    lines = (AddedLine("train.py", 3, "import os"), AddedLine("train.py", 4, line_with(kind)))
    (leak,) = found(PUSHED, AddedLines(lines, b"salt"))
    assert (leak.kind, leak.subject, leak.facts["type"], leak.facts["line"]) == ("secret_leaked", "train.py", kind, 4)
    assert leak.ladder == (Remedy("rotate_secret"), Remedy("open_issue"))
    pieces = {TOKENS[kind][start : start + 8] for start in range(10, len(TOKENS[kind]) - 8)}
    assert not [piece for piece in pieces if piece in repr(leak)]
    assert masked(leak) == leak


@pytest.mark.parametrize(
    ("kind", "severity"), [("slack_token", "critical"), ("google_api_key", "high"), ("aws_access_key_id", "high")]
)
def test_what_a_format_proves_is_critical(kind: str, severity: str) -> None:
    (leak,) = found(PUSHED, AddedLines((AddedLine("a.py", 1, line_with(kind)),), b""))
    assert leak.severity == severity
    assert 0.8 < leak.confidence < 1


def test_a_private_key_is_told_in_one_line_and_over_several() -> None:
    assert [leak.kind for leak in leaks_in(f'key = "{KEY_MARK}\\n{KEY_BODY}\\n"')] == ["private_key"]
    assert [leak.kind for leak in leaks_in(KEY_MARK, KEY_BODY)] == ["private_key"]
    assert list(leaks_in(KEY_MARK, "...")) == []
    assert list(leaks_in(f'if "{KEY_MARK}" in text:', KEY_BODY)) == []
    lines = (AddedLine("id_rsa", 1, KEY_MARK), AddedLine("id_rsa", 2, KEY_BODY))
    assert [leak.facts["line"] for leak in found(PUSHED, AddedLines(lines, b""))] == [1]
    elsewhere = (AddedLine("a.md", 1, KEY_MARK), AddedLine("b.md", 2, KEY_BODY))
    assert found(PUSHED, AddedLines(elsewhere, b"")) == []


@pytest.mark.parametrize(
    "line",
    [
        "token = os.environ['HF_TOKEN']",
        "password = 'correct horse battery staple'",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        f"uses: actions/checkout@{COMMIT}",
        "sk-learn-model-selection-and-other-words-in-a-row",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "x" * 36,
        "ghp_" + "A" * 30 + "000000",
        "hf_" + "your" * 8 + "ab",
        "task_" + "AKIA2345672345672345"[:10],
        "https://hooks.slack.com/services/T00000000/B00000000/" + "X" * 24,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ maria@laptop",
        "",
    ],
)
def test_what_is_no_secret_is_passed_over(line: str) -> None:
    assert list(leaks_in(line)) == []


def test_a_token_with_a_wrong_checksum_is_none() -> None:
    token = TOKENS["github_token"]
    assert list(leaks_in(token[:-1] + ("0" if token[-1] != "0" else "1"))) == []


def test_the_same_secret_is_one_finding_of_a_file_and_another_is_another() -> None:
    other = "hf_" + drawn(string.ascii_letters, 34, seed=8)
    texts = (line_with("hugging_face_token"), line_with("hugging_face_token"), f"t = '{other}'")
    lines = tuple(AddedLine("a.py", number, text) for number, text in enumerate(texts, start=1))
    one, two = found(PUSHED, AddedLines(lines, b"salt"))
    assert (one.facts["line"], two.facts["line"]) == (1, 3)
    assert one.fingerprint != two.fingerprint
    (again,) = found(PUSHED, AddedLines(lines[:1], b"another salt"))
    assert again.facts["hash"] != one.facts["hash"]


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200), kind=st.sampled_from(sorted(TOKENS)))
def test_any_line_is_survived_and_a_secret_in_it_is_found(text: str, kind: str) -> None:
    list(leaks_in(text, text))
    assert kind in {leak.kind for leak in leaks_in(f"{re.sub(r'[A-Za-z0-9_-]', ' ', text)} {line_with(kind)}")}


@pytest.mark.parametrize("filler", ["a", "A2", "-", "sk-", "AKIA", "xoxb-1", "-----BEGIN ", "github_pat_", " "])
def test_a_long_line_takes_no_long_time(filler: str) -> None:
    assert list(leaks_in((filler * 20_000)[:20_000])) == []


# packages


def locked(name: str = "urllib3", version: str = "1.26.5", **more: Any) -> LockedPackage:
    return LockedPackage(**{"ecosystem": "PyPI", "name": name, "version": version, "path": "uv.lock", **more})


def advisory(name: str = "GHSA-34jh-p97f-mpxf", **more: Any) -> Advisory:
    return Advisory(name, **{"score": 8.1, "fixed": ("1.26.19",), **more})


def dependencies(*affected: Affected, packages: tuple[LockedPackage, ...] = (), **more: Any) -> Dependencies:
    known = Known(affected, AT, complete=True)
    everything = packages or tuple(one.package for one in affected)
    return Dependencies(("uv.lock",), everything, more.pop("known", known), **more)


def test_a_package_is_one_finding_with_all_its_advisories() -> None:
    evidence = dependencies(
        Affected(locked(line=3), (advisory(), advisory("GHSA-v845-jxx5-vc9f", score=5.9))),
        Affected(locked(version="1.26.4", line=9), (advisory(),)),
        Affected(locked("jinja2", "3.1.2"), (advisory("GHSA-h5c8-rqwp-cp95", score=5.4, fixed=()),)),
    )
    first, second = found(PUSHED, evidence)
    assert first.summary == (
        "urllib3 1.26.5, 1.26.4 is vulnerable: GHSA-34jh-p97f-mpxf, GHSA-v845-jxx5-vc9f; fixed in 1.26.19"
    )
    assert [(line.number, line.text) for line in first.lines] == [
        (3, "urllib3 1.26.5"),
        (9, "urllib3 1.26.4"),
        (3, "GHSA-34jh-p97f-mpxf, CVSS 8.1: "),
        (3, "GHSA-v845-jxx5-vc9f, CVSS 5.9: "),
    ]
    assert (first.severity, second.severity) == (Severity.HIGH, Severity.MEDIUM)
    assert (first.ladder, second.ladder) == ((Remedy("bump_dependency"), Remedy("open_issue")), ())
    assert second.summary.endswith("; no fixed version is known")


def test_the_fingerprint_stays_while_versions_and_advisories_change() -> None:
    (one,) = found(PUSHED, dependencies(Affected(locked(), (advisory(),))))
    (same,) = found(PUSHED, dependencies(Affected(locked(version="1.26.6"), (advisory("GHSA-v845-jxx5-vc9f"),))))
    (other,) = found(PUSHED, dependencies(Affected(locked("urllib2"), (advisory(),))))
    assert one.fingerprint == same.fingerprint
    assert other.fingerprint != one.fingerprint


def test_what_is_still_found_is_left_out_of_what_is_over() -> None:
    finding, clear = claims(PUSHED, dependencies(Affected(locked(), (advisory(),))))
    assert isinstance(finding, Finding)
    assert isinstance(clear, Clear)
    assert (clear.subject, clear.but) == ("uv.lock", {finding.fingerprint})


def test_an_incomplete_answer_ends_nothing() -> None:
    evidence = dependencies(packages=(locked(),), known=Known((), None, complete=False))
    assert claims(PUSHED, evidence) == []


def test_an_advisory_is_ignored_by_any_of_its_names() -> None:
    evidence = dependencies(Affected(locked(), (advisory(aliases=("CVE-2024-37891", "PYSEC-2024-1")),)))
    for name in ("GHSA-34jh-p97f-mpxf", "CVE-2024-37891", "PYSEC-2024-1"):
        assert found(PUSHED, evidence, ignore=[name]) == []
    assert len(found(PUSHED, evidence, ignore=["CVE-2024-37892"])) == 1


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        (advisory(score=9.0), "critical"),
        (advisory(score=8.9), "high"),
        (advisory(score=7.0), "high"),
        (advisory(score=4.0), "medium"),
        (advisory(score=6.9), "medium"),
        (advisory(score=3.9), "low"),
        (advisory(score=None, severity="critical"), "critical"),
        (advisory(score=None, severity="strange"), "medium"),
        (advisory(score=5.0, exploited=0.1), "high"),
        (advisory(score=5.0, exploited=0.09), "medium"),
        (advisory(score=9.9, exploited=0.9), "critical"),
    ],
)
def test_severity_follows_the_score_and_how_likely_an_attack_is(given: Advisory, severity: str) -> None:
    assert severity_of([advisory(score=1.0), given]) == severity


def test_long_lists_are_cut_and_counted() -> None:
    many = tuple(advisory(f"GHSA-{letter}", fixed=(f"1.{number}",)) for number, letter in enumerate("abcde"))
    (finding,) = found(PUSHED, dependencies(Affected(locked(), many)))
    assert finding.summary == (
        "urllib3 1.26.5 is vulnerable: GHSA-a, GHSA-b, GHSA-c and 2 more; fixed in 1.0 and 1.1 and 1.2"
    )
    (three,) = found(PUSHED, dependencies(Affected(locked(), many[:3])))
    assert " more" not in three.summary
    hundred = tuple(Affected(locked(version=f"1.{n}"), (advisory(),)) for n in range(100))
    (finding,) = found(PUSHED, dependencies(*hundred))
    assert len(finding.facts["versions"]) == 20


def test_a_name_that_was_carried_over_from_conda_is_less_sure() -> None:
    (sure,) = found(PUSHED, dependencies(Affected(locked(), (advisory(),))))
    (less,) = found(PUSHED, dependencies(Affected(locked(exact=False), (advisory(),))))
    assert (sure.confidence, less.confidence) == (0.95, 0.75)


# reach

GRAPH = (
    locked("requests", needs=frozenset({"urllib3"})),
    locked("urllib3", needs=frozenset()),
    locked("pillow", needs=frozenset()),
)


@pytest.mark.parametrize(
    ("package", "modules", "how", "through"),
    [
        ("urllib3", {"urllib3": ("a.py",)}, "imported", ""),
        ("urllib3", {"requests": ("a.py",)}, "through", "requests"),
        ("urllib3", {"PIL": ("a.py",)}, "not imported", ""),
        ("pillow", {"PIL": ("a.py",)}, "imported", ""),
        ("pillow", {"requests": ("a.py",)}, "not imported", ""),
    ],
)
def test_reach_follows_who_needs_whom(package: str, modules: Any, how: str, through: str) -> None:
    reached = reach(locked(package), GRAPH, Imports(modules))
    assert (reached.how, reached.through) == (how, through)
    assert reached.files == (("a.py",) if how != "not imported" else ())


def test_not_imported_is_said_only_where_it_is_known() -> None:
    nothing = Imports({})
    assert reach(locked("urllib3"), GRAPH, None).how == "unknown"
    assert reach(locked("urllib3"), GRAPH, Imports({}, complete=False)).how == "unknown"
    assert reach(locked("urllib3"), (locked("urllib3", needs=None),), nothing).how == "unknown"
    assert reach(locked("urllib3"), (), nothing).how == "unknown"
    assert reach(locked("semver", ecosystem="npm"), GRAPH, nothing).how == "unknown"


def test_packages_that_need_each_other_do_not_go_round_for_ever() -> None:
    ring = (locked("a", needs=frozenset({"b"})), locked("b", needs=frozenset({"a"})))
    assert reach(locked("a"), ring, Imports({})).how == "not imported"


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy as np, os.path", {"numpy", "os"}),
        ("    from torch.nn import functional as F", {"torch"}),
        ("from . import sibling\nfrom .x import y", set()),
        ("importlib.import_module('yaml')", {"yaml"}),
        ("important = 1\nimporting()\n# of import", set()),
        ("type X = int\nimport jax", {"jax"}),
        ("import " + "x" * 5_000, set()),
    ],
)
def test_imports_are_told_by_their_lines(source: str, modules: set[str]) -> None:
    assert imported_by(source) == modules


# Dependabot


@pytest.mark.parametrize(
    "bump",
    [
        Bump(1, "", "dependabot/pip/urllib3-2.2.2", "Bump urllib3 from 1.26.5 to 2.2.2", ""),
        Bump(
            1,
            "",
            "dependabot/pip/web/pip-a1b2c3",
            "Bump the pip group with 2 updates",
            "x\nUpdates `urllib3` from 1 to 2",
        ),
        Bump(1, "", "dependabot/pip/urllib3-2.2.2", "build(deps): bump URLlib3 from 1.26.5 to 2.2.2", ""),
        Bump(
            1, "", "dependabot/uv/urllib3-2.2.2", "Update", "Bumps [urllib3](https://github.com/urllib3/urllib3) from 1"
        ),
    ],
)
def test_dependabots_own_pull_request_is_recognised(bump: Bump) -> None:
    assert bump_of("urllib3", [bump]) is bump
    assert bump_of("urllib", [bump]) is None
    (finding,) = found(PUSHED, dependencies(Affected(locked(), (advisory(),)), bumps=(bump,)))
    assert finding.ladder == ()
    assert "Dependabot's pull request #1 is about it" in finding.summary


# GitHub's alerts


def alert(source: str, *, open: bool = True, rule: str = "GHSA-1", severity: str = "", **details: Any) -> Any:
    return SecurityAlertChanged(
        repository=REPOSITORY,
        sender=Sender("github"),
        source=source,
        number=12,
        open=open,
        rule=rule,
        severity=severity,
        summary="a summary",
        details=details,
    )


PIP = {"package": "URLlib3", "ecosystem": "PyPI", "path": "uv.lock", "aliases": ["CVE-1"], "fixed": "2.0"}


def test_an_alert_of_dependabots_is_the_lockfiles_finding() -> None:
    (from_lockfile,) = found(PUSHED, dependencies(Affected(locked(), (advisory(),))))
    (from_alert,) = found(alert("dependabot", severity="critical", **PIP))
    assert from_alert.fingerprint == from_lockfile.fingerprint
    assert (from_alert.severity, from_alert.facts["reachable"]) == (Severity.CRITICAL, "unknown")
    (clear,) = claims(alert("dependabot", open=False, **PIP))
    assert isinstance(clear, Clear)
    assert (clear.subject, clear.only) == ("uv.lock", from_lockfile.fingerprint)
    assert found(alert("dependabot", **PIP), ignore=["CVE-1"]) == []


@pytest.mark.parametrize(
    ("changed", "kind", "severity"),
    [
        (alert("code_scanning", severity="critical", scored=True), "code_vulnerability", "critical"),
        (alert("code_scanning", severity="error", scored=False), "code_vulnerability", "medium"),
        (alert("code_scanning", severity="note", scored=False), "code_vulnerability", "low"),
        (alert("secret_scanning"), "secret_leaked", "high"),
        (alert("secret_scanning", validity="active"), "secret_leaked", "critical"),
        (alert("secret_scanning", publicly_leaked=True), "secret_leaked", "critical"),
        (alert("secret_scanning", validity="inactive"), "secret_leaked", "low"),
    ],
)
def test_other_alerts_are_claimed_by_their_number(changed: Any, kind: str, severity: str) -> None:
    (finding,) = found(changed)
    assert (finding.kind, finding.severity) == (kind, severity)
    assert finding.subject.endswith("alert 12")


def test_an_alert_is_sure_of_itself_and_shows_its_line() -> None:
    (code,) = found(alert("code_scanning", path="train.py", line=7, message="eval of a request", tool="CodeQL"))
    assert [(line.number, line.text, line.step) for line in code.lines] == [(7, "eval of a request", "train.py")]
    assert code.summary == "CodeQL: a summary in train.py"
    assert (code.confidence, found(alert("dependabot", **PIP))[0].confidence) == (0.9, 0.97)
    assert found(alert("code_scanning"))[0].lines == ()


def test_why_an_alert_is_over_is_told() -> None:
    (over,) = claims(alert("dependabot", open=False, **PIP))
    (ignored,) = claims(alert("dependabot", **PIP), ignore=["CVE-1"])
    assert isinstance(over, Clear)
    assert isinstance(ignored, Clear)
    assert (over.why, ignored.why) == ("GHSA-1 is over", "GHSA-1 is ignored by heal.yml")


@pytest.mark.parametrize("source", ["code_scanning", "secret_scanning"])
def test_a_closed_alert_ends_its_own_incident(source: str) -> None:
    (finding,), (clear,) = found(alert(source)), claims(alert(source, open=False))
    assert isinstance(clear, Clear)
    assert (clear.subject, clear.kinds) == (finding.subject, {finding.kind})


# model files and workflows


def test_a_model_file_that_hides_its_imports_is_told() -> None:
    (finding,) = found(PUSHED, ModelFiles((ModelFile("m.pt", ("collections.OrderedDict",), hidden=1),)))
    assert (finding.severity, finding.facts["hidden"]) == (Severity.HIGH, 1)
    assert "hides" in finding.summary


def test_a_model_file_that_could_not_be_read_whole_is_neither_bad_nor_well() -> None:
    assert claims(PUSHED, ModelFiles((ModelFile("m.pt", problem="it is too long"),))) == []


WORKFLOW = f"""\
jobs:
  train:
    uses: acme/workflows/.github/workflows/train.yml@main
    steps:
      - uses: actions/checkout@v5
      - name: Deploy
        uses: "acme/deploy/sub@v1.2"  # not pinned
      - uses: acme/pinned@{COMMIT} # v3
      - uses: ./.github/actions/ours
      - uses: docker://alpine:3.20
      - run: |
          uses: acme/text@v1
          echo done
      - uses: acme/after@v2
"""


def test_uses_by_tag_or_branch_are_found_with_their_lines() -> None:
    assert [(use.action, use.version, use.line) for use in unpinned(WORKFLOW)] == [
        ("acme/workflows/.github/workflows/train.yml", "main", 3),
        ("actions/checkout", "v5", 5),
        ("acme/deploy/sub", "v1.2", 7),
        ("acme/after", "v2", 14),
    ]


@pytest.mark.parametrize(("wanted", "count"), [("third_party", 3), ("all", 4), ("off", 0)])
def test_whose_actions_must_be_pinned_is_a_setting(wanted: str, count: int) -> None:
    findings = found(PUSHED, WorkflowFiles({"ci.yml": WORKFLOW}), unpinned_actions=wanted)
    assert sum(len(finding.facts["actions"]) for finding in findings) == count


def test_unpinned_actions_are_shown_at_their_lines_and_counted() -> None:
    (finding,) = found(PUSHED, WorkflowFiles({"ci.yml": WORKFLOW}), unpinned_actions="all")
    assert finding.summary.endswith("acme/deploy/sub@v1.2 and 1 more")
    assert [(line.number, line.root) for line in finding.lines] == [(3, True), (5, True), (7, True), (14, True)]
    (three,) = found(PUSHED, WorkflowFiles({"ci.yml": WORKFLOW}))
    assert " more" not in three.summary


def test_a_pinned_workflow_is_well() -> None:
    (clear,) = claims(PUSHED, WorkflowFiles({"ci.yml": f"      - uses: acme/pinned@{COMMIT}\n"}))
    assert isinstance(clear, Clear)
    assert claims(PUSHED, WorkflowFiles({"gone.yml": None})) == [
        Clear(
            "security_vulnerability", "gone.yml", frozenset({"unpinned_action"}), "every action is pinned to a commit"
        )
    ]


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=300) | st.text(alphabet="uses:-/@|> \n\t'\"a1", max_size=300))
def test_a_workflow_of_any_text_is_survived(text: str) -> None:
    assert all(use.line >= 1 for use in unpinned(text))


def test_evidence_without_anything_in_it_says_nothing() -> None:
    assert claims(PUSHED) == []
    assert found(PUSHED, Dependencies(), AddedLines((), b""), ModelFiles(()), WorkflowFiles({})) == []
