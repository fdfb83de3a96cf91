import pytest
import re2

from detectors.diagnosis import diagnose
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
ladder = [{ action = "open_issue" }]
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


@pytest.mark.parametrize("herring", RED_HERRINGS, ids=lambda herring: herring.example[:30])
def test_a_red_herring_leaves_the_cause_unknown(herring):
    assert re2.search(herring.pattern, herring.example)
    assert diagnose(failing_log("epoch 1", herring.example))[0].kind == "unknown"


def test_transient_causes_are_those_that_are_run_again():
    for signature in SIGNATURES:
        assert signature.transient == (signature.ladder[0].action == "rerun_failed_jobs"), signature.name


def test_every_ladder_ends_with_people():
    assert {signature.ladder[-1].action for signature in SIGNATURES} == {"open_issue"}


def test_signatures_of_one_kind_agree_on_detector_and_ladder():
    for kind in {signature.kind for signature in SIGNATURES}:
        same = [signature for signature in SIGNATURES if signature.kind == kind]
        assert len({(signature.detector, repr(signature.ladder)) for signature in same}) == 1, kind


def test_a_good_signature_is_read():
    signature = parse_signature("disk", GOOD)
    assert (signature.name, signature.kind, signature.ladder[0].action) == ("disk", "disk_full", "open_issue")


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
        ('action = "open_issue"', 'action = "rm"', "a rung of the ladder"),
        ('title = "The disk is full"', 'title = "x"\nsummary = "{what}"', "summary names 'what'"),
        ('title = "The disk is full"', 'title = "x"\nsummary = "{device.__class__}"', "summary names"),
        ('["space invaders"]', "[]", "at least one entry"),
        ('["space invaders"]', "[3]", "not_this must be a list of texts"),
        ('kind = "disk_full"', "kind = ", "disk: "),
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
