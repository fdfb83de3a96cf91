"""What heal.yml says of a team's own failures."""

import json
from typing import Any

import pytest

from app.domain.evidence import EvidenceBag, JobLogs
from app.domain.finding import Severity
from app.domain.policy import Mode
from app.domain.signature import KINDS, TeamSignature
from app.healing.configuration import Configured, explain, resolve
from detectors.pipeline_failure import PipelineFailure
from detectors.signatures import BUILTIN
from detectors.team import extended
from tests.detectors.logs import failing_log, run_failed

GOOD: dict[str, Any] = {
    "name": "feature-store",
    "title": "The feature store did not answer",
    "summary": "The feature store {host} did not answer",
    "patterns": [r"FeatureStoreError: (?P<host>\S+) unavailable"],
    "examples": ["acme.FeatureStoreError: fs-3.acme.example unavailable after 3 tries"],
    "not_this": ["FeatureStoreError is raised when the store is unavailable"],
    "severity": "high",
    "transient": True,
    "ladder": ["rerun_failed_jobs", "open_issue"],
}


def configured(*rows: dict[str, Any], owner: tuple[dict[str, Any], ...] = ()) -> Configured:
    # one value a line, as JSON is YAML, too
    texts = [json.dumps({"version": 1, "signatures": list(given)}, indent=1) for given in (rows, owner)]
    return resolve(texts[0], texts[1] if owner else None, known_detectors={}, known_actions={})


def test_a_signature_of_the_team_is_read() -> None:
    (one,) = configured(GOOD).policy.signatures
    assert one == TeamSignature(
        name="feature-store",
        kind="team:feature-store",
        title="The feature store did not answer",
        summary="The feature store {host} did not answer",
        patterns=(r"FeatureStoreError: (?P<host>\S+) unavailable",),
        examples=("acme.FeatureStoreError: fs-3.acme.example unavailable after 3 tries",),
        not_this=("FeatureStoreError is raised when the store is unavailable",),
        severity=Severity.HIGH,
        transient=True,
        ladder=("rerun_failed_jobs", "open_issue"),
    )


def test_the_kinds_that_may_be_named_are_those_the_bot_knows() -> None:
    assert {signature.kind for signature in BUILTIN.signatures} - {"unknown"} == KINDS


@pytest.mark.parametrize(
    ("change", "at", "complaint"),
    [
        ({"kind": "cuda_omm"}, "kind", "the bot knows no kind 'cuda_omm'"),
        ({"kind": "team:"}, "kind", "match"),
        ({"name": "Feature Store"}, "name", "match"),
        ({"titel": "x"}, "titel", "did you mean 'title'"),
        ({"patterns": ["(open"]}, "patterns.0", "no pattern of RE2: missing )"),
        ({"patterns": ["FeatureStoreError", r"(?<!a)b"]}, "patterns.1", "no pattern of RE2"),
        ({"patterns": [r"FeatureStoreError: (?P<host>\S+) unavailable(\w{1,99}){1,9}"]}, "patterns.0", "complicated"),
        ({"facts": ["(?P<a>"]}, "facts.0", "no pattern of RE2"),
        ({"examples": ["all good"]}, "examples.0", "no pattern matches the example 'all good'"),
        ({"not_this": ["x", "FeatureStoreError: y unavailable"]}, "not_this.1", "which is not this"),
        ({"summary": "{port} is shut"}, "summary", "no pattern captures 'port'"),
        ({"summary": "{host!r}"}, "summary", "no pattern captures 'host'"),
        ({"summary": "{host"}, "summary", "the braces do not fit"),
        ({"not_this": []}, "not_this", "at least 1 item"),
        ({"patterns": ["a"] * 6}, "patterns", "at most 5 items"),
        ({"ladder": ["lower_batch_size"]}, "ladder.0", "rerun_failed_jobs"),
        ({"patterns": ["x" * 501]}, "patterns.0", "at most 500 characters"),
    ],
)
def test_a_mistake_is_told_where_it_stands(change, at, complaint) -> None:
    found = configured({**GOOD, **change})
    told = {problem.path: problem for problem in found.problems}
    assert f"signatures.0.{at}" in told
    problem = told[f"signatures.0.{at}"]
    assert complaint in problem.message
    assert problem.line > 3
    assert found.policy.signatures == ()
    assert found.policy.mode is Mode.OBSERVE


def test_two_of_one_name_and_too_many_are_refused() -> None:
    (problem,) = configured(GOOD, GOOD).problems
    assert (problem.path, problem.message) == ("signatures.1.name", "two signatures are called 'feature-store'")
    many = configured(*({**GOOD, "name": f"s{i}"} for i in range(31)))
    assert ["at most 30" in problem.message for problem in many.problems] == [True]


def test_what_is_no_list_of_mappings_is_refused() -> None:
    for rows in ("x", ["x"], {"name": 1}, [{"name": 1, "patterns": "x", "examples": [1], "kind": 2}]):
        text = json.dumps({"version": 1, "signatures": rows})
        assert resolve(text, None, known_detectors={}, known_actions={}).problems


def test_the_repositorys_takes_the_place_of_the_owners_of_the_same_name() -> None:
    owners = ({**GOOD, "title": "Theirs"}, {**GOOD, "name": "other"})
    found = configured(GOOD, owner=owners)
    assert [(one.name, one.title) for one in found.policy.signatures] == [
        ("feature-store", GOOD["title"]),
        ("other", GOOD["title"]),
    ]
    rows = {key: (value, origin) for key, value, origin in explain(found)}
    assert rows["signatures.feature-store"] == (f"team:feature-store: {GOOD['title']}", ".github/heal.yml")
    assert rows["signatures.other"][1] == "the owner's .github/heal.yml"


def test_a_failure_of_the_teams_own_is_found() -> None:
    taught = configured(GOOD).policy.signatures
    log = failing_log("retrying", "acme.FeatureStoreError: fs-7.acme.example unavailable")
    (finding,) = PipelineFailure().detect(run_failed(), EvidenceBag(JobLogs((log,)), signatures=taught))
    assert (finding.kind, finding.summary) == (
        "team:feature-store",
        "The feature store fs-7.acme.example did not answer",
    )
    assert finding.severity is Severity.HIGH
    assert [rung.action for rung in finding.ladder] == ["rerun_failed_jobs", "open_issue"]
    (untaught,) = PipelineFailure().detect(run_failed(), EvidenceBag(JobLogs((log,))))
    assert untaught.kind != finding.kind


def test_the_bots_own_knowledge_stays_beside_the_teams() -> None:
    assert extended(()) is BUILTIN
    taught = extended(configured(GOOD).policy.signatures)
    assert taught is extended(configured(GOOD).policy.signatures)
    assert len(taught.signatures) == len(BUILTIN.signatures) + 1
    (finding,) = PipelineFailure().detect(
        run_failed(),
        EvidenceBag(
            JobLogs((failing_log("ModuleNotFoundError: No module named 'einops'"),)),
            signatures=configured(GOOD).policy.signatures,
        ),
    )
    assert finding.kind == "module_not_found"
