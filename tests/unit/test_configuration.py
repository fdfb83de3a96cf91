import json
import os
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.policy import Limits, Mode, Policy, named
from app.healing.configuration import OWNER, REPOSITORY, Configured, explain, json_schema, resolve
from app.i18n import LANGUAGES
from app.plugins import known_actions

DOCS = Path(__file__).parents[2] / "docs" / "reference"
DETECTORS = ("pipeline_failure", "dependency_conflict")
ACTIONS = ("rerun_failed_jobs", "lower_batch_size", "pin_dependency", "open_issue")

FULL = """\
version: 1
mode: auto
detectors:
  pipeline_failure: approve
  dependency_conflict: {mode: auto, min_confidence: 0.9}
actions:
  lower_batch_size: propose
  rerun_failed_jobs: off
limits:
  open_pulls: 1
  pulls_per_day: 2
  reruns_per_run: 0
  attempts_per_fingerprint: 4
  cooldown: 30m
protected:
  branches: ["release/*"]
  paths: ["data/**"]
min_confidence: 0.8
proof_deadline: 2h
watch: 3d
paused: false
"""


def read(repository: str | None, owner: str | None = None) -> Configured:
    return resolve(repository, owner, known_detectors=dict.fromkeys(DETECTORS), known_actions=dict.fromkeys(ACTIONS))


def test_without_files_the_policy_only_observes() -> None:
    configured = read(None)
    assert configured == Configured(Policy())
    assert configured.policy.mode is Mode.OBSERVE


def test_every_key_is_read() -> None:
    configured = read(FULL)
    policy = configured.policy
    assert configured.problems == ()
    assert policy.mode is Mode.AUTO
    assert policy.detectors == {"pipeline_failure": Mode.APPROVE, "dependency_conflict": Mode.AUTO}
    assert policy.confidence == {"dependency_conflict": 0.9}
    assert policy.actions == {"lower_batch_size": Mode.PROPOSE, "rerun_failed_jobs": Mode.OFF}
    assert policy.limits == Limits(1, 2, 0, 4, 1800)
    assert policy.protected_branches == ("release/*",)
    assert policy.protected_paths == (*Policy().protected_paths, "data/**")
    assert (policy.min_confidence, policy.proof_deadline_s, policy.watch_s) == (0.8, 7200, 3 * 86400)
    assert policy.paused is False


def test_the_repositorys_file_lies_over_the_owners_key_by_key() -> None:
    configured = read(
        "version: 1\nmode: auto\nlimits: {open_pulls: 9}\nactions: {lower_batch_size: auto}\n",
        "version: 1\nmode: approve\nmin_confidence: 0.9\nlimits: {open_pulls: 1, cooldown: 1h}\n"
        "actions: {lower_batch_size: off, open_issue: auto}\n",
    )
    policy = configured.policy
    assert (policy.mode, policy.min_confidence) == (Mode.AUTO, 0.9)
    assert (policy.limits.open_pulls, policy.limits.cooldown_s) == (9, 3600)
    assert policy.actions == {"lower_batch_size": Mode.AUTO, "open_issue": Mode.AUTO}
    origins = {key: origin for key, _, origin in explain(configured)}
    assert origins["mode"] == REPOSITORY
    assert origins["min_confidence"] == origins["limits.cooldown"] == origins["actions.open_issue"] == OWNER
    assert origins["watch"] == "default"


def test_what_the_owner_protects_or_pauses_the_repository_cannot_release() -> None:
    owner = "version: 1\npaused: true\nprotected: {branches: [main], paths: [secrets/**]}\n"
    configured = read("version: 1\npaused: false\nprotected: {branches: [dev], paths: [data/**]}\n", owner)
    assert configured.policy.paused
    assert configured.policy.protected_branches == ("main", "dev")
    assert configured.policy.protected_paths == (*Policy().protected_paths, "secrets/**", "data/**")
    rows = {key: (value, origin) for key, value, origin in explain(configured)}
    assert rows["paused"] == ("true", OWNER)
    assert rows["protected.branches"] == ("main, dev", f"{OWNER} + {REPOSITORY}")
    assert rows["protected.paths"][1] == f"default + {OWNER} + {REPOSITORY}"


def test_the_owners_language_is_written_until_the_repository_chooses_its_own() -> None:
    assert read("version: 1").policy.language == "en"
    assert read("version: 1", "{version: 1, language: ja}").policy.language == "ja"
    assert read("{version: 1, language: de}", "{version: 1, language: ja}").policy.language == "de"
    assert "language" in read("{version: 1, language: tlh}").problems[0].path


def test_of_the_numbers_of_approvals_the_higher_one_counts() -> None:
    one, two = "{version: 1, approvals: {lower_batch_size: 1}}", "{version: 1, approvals: {lower_batch_size: 2}}"
    assert read("version: 1").policy.approvals == {}
    for pair in ((one, two), (two, one), (two, two)):
        assert read(*pair).policy.approvals == {"lower_batch_size": 2}
    assert read("{version: 1, approvals: {lower_batch_size: 3}}").problems[0].path == "approvals.lower_batch_size"
    assert read("{version: 1, approvals: {lower_batch_sise: 2}}").problems[0].message.endswith("lower_batch_size'?")


def test_each_language_of_the_product_can_be_chosen() -> None:
    choices = json_schema()["properties"]["language"]["enum"]
    assert choices == list(LANGUAGES)


def test_off_is_a_word_as_yaml_1_2_says() -> None:
    assert read("version: 1\nmode: off\n").policy.mode is Mode.OFF


def test_explain_writes_values_as_the_file_would() -> None:
    rows = {key: value for key, value, _ in explain(read(FULL))}
    assert rows["limits.cooldown"] == "30m"
    assert rows["proof_deadline"] == "2h"
    assert rows["watch"] == "3d"
    assert rows["detectors.dependency_conflict.min_confidence"] == "0.9"
    assert rows["limits.reruns_per_run"] == "0"


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("version: 1\nmode: atuo\n", 2, 7, "did you mean 'auto'?"),
        ("version: 1\nmode: true\n", 2, 7, "true is not a mode"),
        ("version: 1\nlimts: {}\n", 2, 1, "unknown key 'limts'; did you mean 'limits'?"),
        ("version: 1\nlimits:\n  open_pull: 3\n", 3, 3, "did you mean 'open_pulls'?"),
        ("version: 1\ndetectors:\n  pipline_failure: auto\n", 3, 3, "did you mean 'pipeline_failure'?"),
        ("version: 1\ndetectors:\n  zzz: auto\n", 3, 3, "one of pipeline_failure, dependency_conflict"),
        ("version: 1\nactions:\n  lower_batch_sise: auto\n", 3, 3, "did you mean 'lower_batch_size'?"),
        ("version: 1\ndetectors:\n  pipeline_failure: {mode: auto, min_confidnce: 1}\n", 3, 34, "'min_confidence'?"),
        ("version: 1\ndetectors: [pipeline_failure]\n", 2, 12, "object"),
        ("mode: auto\n", 1, 1, "`version: 1` is missing"),
        ("version: 2\n", 1, 10, "version 2 is not known"),
        ("version: 1\nwatch: 30\n", 2, 8, "30 is not a duration"),
        ("version: 1\nwatch: 30 minutes\n", 2, 8, '"30 minutes" is not a duration'),
        ("version: 1\nwatch: 91d\n", 2, 8, "less than or equal"),
        ("version: 1\nproof_deadline: 1s\n", 2, 17, "greater than or equal"),
        ("version: 1\nlimits: {open_pulls: '3'}\n", 2, 22, "valid integer"),
        ("version: 1\nlimits: {open_pulls: -1}\n", 2, 22, "greater than or equal to 0"),
        ("version: 1\nmin_confidence: 70\n", 2, 17, "less than or equal to 1"),
        ("version: 1\nmin_confidence: .nan\n", 2, 17, "valid number"),
        ("version: 1\npaused: yes\n", 2, 9, "valid boolean"),
        ("version: 1\nmode:\n", 2, 1, "`mode` has no value"),
        ("version: 1\nprotected: {paths: [\"!.github/**\"]}\n", 2, 21, "nothing can be taken off"),
        ("version: 1\nmode: auto\nmode: off\n", 3, 1, "the key 'mode' stands twice"),
        ("version: 1\nx: &a 1\n", 2, 4, "anchors and aliases"),
        ("version: 1\nx: *a\n", 2, 4, "anchors and aliases"),
        ("version: !!int 1\n", 1, 10, "tags (!)"),
        ("version: 1\nx: !!python/object/apply:os.system [id]\n", 2, 4, "tags (!)"),
        ("%YAML 1.1\n---\nversion: 1\n", 2, 1, "directives"),
        ("version: 1\n---\nversion: 1\n", 2, 1, "more than one document"),
        ("version: 1\n? [a]\n: 1\n", 2, 3, "a key must be a word"),
        ("a: {b: c: d}\n", 1, 9, "not valid YAML"),
        ("a: b\n\tc: d\n", 2, 1, "not valid YAML"),
        ("- version: 1\n", 1, 1, "object"),
        ("auto\n", 1, 1, "object"),
        ("", 1, 1, "the file is empty"),
        ("# only a comment\n", 1, 1, "the file is empty"),
        ("[" * 21 + "]" * 21, 1, 21, "nested deeper than 20"),
        ("version: 1\x00\n", 1, 1, "not valid YAML"),
        ("#" * 65_537, 1, 1, "larger than 64 KB"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place_and_nothing_is_done(text: str, line: int, column: int, says: str) -> None:
    configured = read(text, FULL)
    problems = [problem for problem in configured.problems if says in problem.message]
    assert [(problem.line, problem.column, problem.origin, problem.level) for problem in problems] == [
        (line, column, REPOSITORY, "failure")
    ], configured.problems
    assert configured.policy.mode is Mode.OBSERVE
    assert "not valid" in configured.policy.origin["mode"]


def test_all_mistakes_are_told_at_once_in_the_files_order() -> None:
    problems = read("version: 1\nmode: x\nlimits: {a: 1, b: 2}\nactions: {no: auto}\n").problems
    assert [problem.line for problem in problems] == [2, 3, 3, 4]
    assert [problem.path for problem in problems] == ["mode", "limits.a", "limits.b", "actions.no"]


def test_a_broken_file_of_the_owner_silences_the_repository_too() -> None:
    configured = read(FULL, "version: 1\nprotect: {paths: [secrets/**]}\n")
    assert configured.policy.mode is Mode.OBSERVE
    assert [problem.origin for problem in configured.problems] == [OWNER]


def test_what_the_valid_file_protects_stays_protected_when_the_other_is_broken() -> None:
    assert "data/**" in read("nonsense: [", FULL).policy.protected_paths


def test_off_stays_off_when_a_file_is_broken() -> None:
    assert read("nonsense: [", "version: 1\nmode: off\n").policy.mode is Mode.OFF


def test_emptying_the_protected_paths_is_remarked_and_has_no_effect() -> None:
    configured = read("version: 1\nmode: auto\nprotected: {paths: []}\n")
    (problem,) = configured.problems
    assert (problem.level, problem.line) == ("notice", 3)
    assert "CODEOWNERS" in problem.message
    assert configured.policy.mode is Mode.AUTO
    assert configured.policy.protected_paths == Policy().protected_paths


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nx: " + "9" * 60_000,
        "version: 1\nmin_confidence: " + "9" * 400,
        "version: 1\nmin_confidence: 1e999",
        "version: 1\nmode: \"\\ud800\"\n",
        "'\\ud800': 1\n",
        "a: 1\n" * 10_000,
        "[" * 60_000,
        "{" * 60_000,
        "- " * 30_000,
        "\ud800",
        "\ufeffversion: 1\n<<: {mode: auto}\n",
        "version: 1\ndetectors: " + "{" * 15 + "}" * 15,
        "version: 1\nmode: 2001-01-01\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "version: 1\nactions: {" + ", ".join(f"k{n}: auto" for n in range(4_000)) + "}",
    ],
)  # fmt: skip
def test_a_bomb_is_a_problem_like_any_other(text: str) -> None:
    configured = read(text)
    assert configured.problems
    assert configured.policy.mode is Mode.OBSERVE


@settings(deadline=None)
@given(
    st.text() | st.lists(st.sampled_from([*"{}[]:,-&*!|>%@`'\"#?\n\t 1", "version: 1\n", "mode: auto\n"])).map("".join)
)
def test_any_text_is_valid_or_observes(text: str) -> None:
    configured = read(text)
    failures = [problem for problem in configured.problems if problem.level == "failure"]
    assert configured.policy.mode is Mode.OBSERVE or not failures
    assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in configured.problems)


def test_the_published_schema_is_current() -> None:
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    kept = DOCS / "heal.schema.json"
    if os.environ.get("HEAL_UPDATE_GOLDEN"):
        kept.write_text(text)
    assert kept.read_text() == text


VALID = [
    {"version": 1},
    {"version": 1, "detectors": {"x": {"min_confidence": 1}}},
    {"version": 1, "mode": "off", "detectors": {"x": "auto", "y": {"mode": "off", "min_confidence": 1}}},
    {"version": 1, "limits": {"cooldown": "30m", "open_pulls": 0}, "watch": "7d", "paused": True},
]
INVALID = [
    {},
    {"version": 2},
    {"version": 1, "mode": None},
    {"version": 1, "mode": "bold"},
    {"version": 1, "limits": {"cooldown": 30}},
    {"version": 1, "limits": {"open_pulls": -1}},
    {"version": 1, "watch": "7 days"},
    {"version": 1, "unknown": 1},
    {"version": 1, "protected": {"paths": [""]}},
]


@pytest.mark.parametrize("document", VALID + INVALID)
def test_the_schema_agrees_with_the_reader(document: dict[str, object]) -> None:
    agreed = jsonschema.Draft202012Validator(json_schema()).is_valid(document)
    problems = resolve(json.dumps(document), None, known_detectors={"x": None, "y": None}, known_actions={}).problems
    assert agreed is (document in VALID)
    assert agreed is not bool(problems)


def test_the_reference_page_names_every_key_and_its_example_is_valid() -> None:
    page = (DOCS / "heal-yml.md").read_text()
    for section in (json_schema(), *json_schema()["$defs"].values()):
        for key in section.get("properties", {}):
            assert f"`{key}" in page or f".{key}`" in page, key
    examples = page.split("```yaml\n")[1:]
    assert examples
    for example in examples:
        text = example.partition("```")[0]
        known = named({kind: action.Params for kind, action in known_actions().items()})
        assert resolve(text, None, known_detectors=dict.fromkeys(DETECTORS), known_actions=known).problems == ()
