from detectors.diagnosis import diagnose
from detectors.signatures import BUILTIN, parse_signature
from tests.detectors.logs import failing_log

OURS = parse_signature(
    "licence_server",
    """
kind = "licence_missing"
detector = "pipeline_failure"
severity = "medium"
confidence = 0.9
transient = false
title = "The licence server gave no seat"
summary = "The licence server gave no seat for {product}"
patterns = ['no seat left for (?P<product>\\w+)']
examples = ["no seat left for solver"]
not_this = ["two seats left"]
""",
)


def test_a_team_adds_what_it_knows():
    log = failing_log("no seat left for solver")
    assert diagnose(log)[0].kind == "unknown"
    cause = diagnose(log, BUILTIN.extended([OURS]))[0]
    assert (cause.kind, cause.summary) == ("licence_missing", "The licence server gave no seat for solver")


def test_what_is_known_already_stays_known():
    more = BUILTIN.extended([OURS])
    assert diagnose(failing_log("MemoryError"), more)[0].kind == "host_oom"
    assert len(more.signatures) == len(BUILTIN.signatures) + 1


def test_a_team_replaces_a_signature_by_its_name():
    twice = BUILTIN.extended([OURS]).extended([OURS])
    assert [signature.name for signature in twice.signatures].count("licence_server") == 1
