import re
from pathlib import Path

import pytest
import re2

import actions
from detectors.diagnosis import diagnose
from detectors.playbooks import PLAYBOOKS, parse
from detectors.signatures import (
    RED_HERRINGS,
    SIGNATURES,
    KnowledgeInvalid,
    Signature,
    parse_red_herrings,
    parse_signature,
)
from tests.detectors.logs import failing_log

GOOD = """
kind = "disk_full"
detector = "pipeline_failure"
severity = "high"
confidence = 0.9
transient = false
title = "The disk is full"
patterns = ['(?i)no space left on (?P<device>\\w+)']
examples = ["No space left on device"]
not_this = ["space invaders"]
"""

EXAMPLES = [(signature, text) for signature in SIGNATURES for text in signature.examples]
COUNTER_EXAMPLES = [(signature, text) for signature in SIGNATURES for text in signature.not_this]


def matches(signature: Signature, line: str) -> bool:
    return any(re2.search(pattern, line) for pattern in signature.patterns)


@pytest.mark.parametrize(("signature", "line"), EXAMPLES, ids=lambda value: getattr(value, "name", None))
def test_an_example_becomes_the_signatures_kind_in_a_failing_log(signature, line):
    assert matches(signature, line)
    cause = diagnose(failing_log("epoch 1", line))[0]
    assert cause.kind == signature.kind
    assert [shown.text for shown in cause.lines if shown.root] == [line]


@pytest.mark.parametrize(("signature", "line"), COUNTER_EXAMPLES, ids=lambda value: getattr(value, "name", None))
def test_a_counter_example_is_not_taken_for_the_signatures_cause(signature, line):
    causes = diagnose(failing_log("epoch 1", line))
    assert signature not in [cause.signature for cause in causes]


PAGES = Path(__file__).parents[2] / "docs" / "plugins"
TOLD = {
    detector: re.findall(
        r"(?m)^\| `(\w+)` \| [^|]+ \| ``(.+?)`` \| `(\w+)`", (PAGES / f"{detector}.md").read_text("utf-8")
    )
    for detector in ("pipeline_failure", "resource_constraint")
}
SHOWN = [row for rows in TOLD.values() for row in rows]


@pytest.mark.parametrize("detector", TOLD)
def test_the_page_lists_every_cause(detector):
    listed = {kind for kind, _, _ in TOLD[detector]}
    assert listed == {s.kind for s in SIGNATURES if s.detector == detector} - {"unknown"}


def test_a_kind_is_claimed_by_one_detector():
    claimed = {(s.kind, s.detector) for s in SIGNATURES}
    assert len(claimed) == len({s.kind for s in SIGNATURES})


@pytest.mark.parametrize(("kind", "line", "action"), SHOWN, ids=lambda value: value[:30])
def test_the_page_shows_a_cause_as_it_is_diagnosed(kind, line, action):
    cause = diagnose(failing_log("epoch 1", line))[0]
    assert (cause.kind, cause.signature.ladder[0].action) == (kind, action)


@pytest.mark.parametrize(
    "before",
    [
        *("#12 0.345 ", "[rank3]: ", "##[error]", "app_1  | ", "21:49:28  ", "[2026-11-21T09:00:00.000Z] ", "stderr: "),
        *("10.19 ", "(RayWorker pid=12, ip=10.0.0.1) "),
    ],
)
@pytest.mark.parametrize("line", ["--- FAIL: TestCloud (1.67s)", "Found 2 errors in 1 file (checked 3 source files)"])
def test_what_builders_ranks_and_servers_put_before_a_line_changes_nothing(before, line):
    assert diagnose(failing_log(before + line))[0].kind == diagnose(failing_log(line))[0].kind != "unknown"


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        (
            "RuntimeError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 2 has a total capacity of 23.65 GiB",
            {
                "tried_to_allocate": {"value": 1.5, "unit": "GiB"},
                "tried_to_allocate_bytes": 3 * 2**29,
                "total_capacity": {"value": 23.65, "unit": "GiB"},
                "gpu_index": 2,
            },
        ),
        (
            "##[error]This request was failed because it uses a deprecated version of `actions/cache: v1`.",
            {"action": "actions/cache", "version": "v1"},
        ),
        (
            "docker: Error response from daemon: pull access denied for torch, repository does not exist",
            {"kind": "pull_denied", "image": "torch"},
        ),
        ("OSError: [Errno 122] Disk quota exceeded", {"errno": "EDQUOT"}),
        ("npm error code ENEEDAUTH", {"service": "npm"}),
        ("urllib.error.HTTPError: HTTP Error 503: Service Unavailable", {"http_status": 503}),
        ("Segmentation fault (core dumped)", {"signal": "SIGSEGV"}),
        (
            "src/a.ts(10,5): error TS2322: Type 'string' is wrong",
            {"ts_codes": ["TS2322"], "path": "src/a.ts", "line": 10},
        ),
        ("ERROR: Failed building wheel for horovod", {"package": "horovod"}),
        ("x.c:1:10: fatal error: Python.h: No such file or directory", {"missing_header": "Python.h"}),
        ("=========== 3 failed, 9 passed in 1.44s ===========", {"failed_count": 3}),
        (
            "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2024-07-05T02:42:53 DUE TO TIME LIMIT ***",
            {"kind": "time_limit"},
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement a==3 (from versions: 1.0, 2.0)",
            {"requirement": "a==3", "versions_available": "1.0, 2.0"},
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_line_tells_its_facts(line, facts):
    told = diagnose(failing_log(line))[0].facts
    assert {name: told.get(name) for name in facts} == facts


def test_a_known_message_wins_over_a_hint():
    hint = "Error: authentication failed"
    assert diagnose(failing_log(hint))[0].kind == "missing_secret_or_auth"
    assert diagnose(failing_log(hint, "RuntimeError: CUDA out of memory."))[0].kind == "cuda_oom"


@pytest.mark.parametrize("herring", RED_HERRINGS, ids=lambda herring: herring.example[:30])
def test_a_red_herring_leaves_the_cause_unknown(herring):
    assert re2.search(herring.pattern, herring.example)
    assert diagnose(failing_log("epoch 1", herring.example))[0].kind == "unknown"


def test_transient_causes_are_those_that_are_run_again():
    """A flaky test is run again, too, but it is one test: not the same incident as another that flakes."""
    for signature in SIGNATURES:
        again = signature.ladder[0].action == "rerun_failed_jobs"
        assert again == (signature.transient or signature.kind == "flaky_test"), signature.name
        assert not (signature.transient and signature.kind == "flaky_test")


def test_every_ladder_ends_with_people():
    assert {ladder[-1].action for ladder in PLAYBOOKS.values()} == {"open_issue"}


def test_every_rung_is_an_action_with_parameters_that_it_takes():
    known = {action.kind: action for action in actions.BUILTIN}
    for kind, ladder in PLAYBOOKS.items():
        for rung in ladder:
            while rung is not None:
                assert rung.action in known, (kind, rung.action)
                known[rung.action].Params.model_validate(dict(rung.params))
                rung = rung.then


@pytest.mark.parametrize(
    "text",
    [
        "[x]\nladder = []\n",
        "[x]\nsteps = [{ action = 'open_issue' }]\n",
        "[x]\nladder = [{ do = 'open_issue' }]\n",
        "[x]\nladder = [{ action = 'open_issue', when = 1 }]\n",
    ],
)
def test_a_playbook_that_is_none_is_told(text):
    with pytest.raises(ValueError, match="x: "):
        parse(text)


def test_signatures_of_one_kind_agree_on_their_detector():
    for kind in {signature.kind for signature in SIGNATURES}:
        same = [signature for signature in SIGNATURES if signature.kind == kind]
        assert len({signature.detector for signature in same}) == 1, kind


def test_a_good_signature_is_read():
    signature = parse_signature("disk", GOOD)
    assert (signature.name, signature.kind, signature.ladder[0].action) == ("disk", "disk_full", "free_disk")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('title = "', 'titel = "', "disk: unknown field 'titel'"),
        ("confidence = 0.9\n", "", "the field 'confidence' is missing"),
        ("confidence = 0.9", 'confidence = "high"', "confidence must be a float"),
        ("confidence = 0.9", "confidence = 1.5", "between 0 and 1"),
        ('detector = "pipeline_failure"', 'detector = "guess"', "detector must be one of"),
        ('severity = "high"', 'severity = "huge"', "severity must be one of"),
        ("(?i)no", "(?i)(no", "is not a pattern"),
        ("(?i)no", "(?<=x)no", "is not a pattern"),
        ('title = "The disk is full"', 'title = "x"\nsummary = "{what}"', "summary names 'what'"),
        ('title = "The disk is full"', 'title = "x"\nsummary = "{device.__class__}"', "summary names"),
        ('["space invaders"]', "[]", "at least one entry"),
        ('["space invaders"]', "[3]", "not_this must be a list of texts"),
        ('kind = "disk_full"', "kind = ", "disk: "),
        ("title =", "tells = ['x']\ntitle =", "a row of tells has when"),
        ("title =", "tells = [{ when = '(', errno = 'E' }]\ntitle =", "is not a pattern"),
        ("title =", "tells = [{ when = 'x', errno = [1] }]\ntitle =", "of one value only"),
    ],
)
def test_a_wrong_signature_is_refused_with_its_name(old, new, complaint):
    assert old in GOOD
    with pytest.raises(KnowledgeInvalid) as refusal:
        parse_signature("disk", GOOD.replace(old, new))
    assert complaint in str(refusal.value)
    assert str(refusal.value).startswith("disk: ")


def test_a_red_herring_with_an_unknown_field_is_refused():
    with pytest.raises(KnowledgeInvalid, match="red_herrings"):
        parse_red_herrings("[[line]]\npattern = 'a'\nexample = 'a'\nexcept = 'b'\n")
