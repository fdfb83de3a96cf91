import pytest

from detectors.diagnosis import diagnose
from detectors.signatures import BUILTIN, parse_signature
from tests.detectors.logs import failing_log

OURS = parse_signature(
    "pool",
    r"""
kind = "pool_empty"
detector = "pipeline_failure"
severity = "medium"
confidence = 0.9
transient = false
title = "The pool is empty"
summary = "The pool {name} is empty: {asked} asked, {room_bytes} there"
patterns = ['pool (?P<name>\w+) is empty(?: after (?P<minutes>\d+) min)?']
facts = [
  'asked for (?P<asked__value>[\d.]+) (?P<asked__unit>\w+)',
  'room: (?P<room_bytes>[\d.]+ \w+)',
  'broke (?P<failed_tests>\S+)',
  'shape (?P<shapes__checkpoint>\d+) is not (?P<shapes__model>\d+)',
]
tells = [{ when = 'swimming', tool = "bath" }]
examples = ["pool main is empty"]
not_this = ["pool full"]
""",
)


def cause_of(*lines: str):
    return diagnose(failing_log(*lines), BUILTIN.extended([OURS]))[0]


def test_sizes_are_told_with_their_unit_and_in_bytes():
    cause = cause_of("asked for 1.5 GiB", "room: 3 MiB", "pool main is empty after 7 min")
    assert cause.facts["asked"] == {"value": 1.5, "unit": "GiB"}
    assert list(cause.facts["asked"]) == ["value", "unit"]
    assert (cause.facts["asked_bytes"], cause.facts["room_bytes"]) == (3 * 2**29, 3 * 2**20)
    assert cause.facts["minutes"] == 7
    assert cause.summary == "The pool main is empty: 1.5 GiB asked, 3 MiB there"


def test_the_nearest_line_tells_and_lists_take_all():
    facts = cause_of("broke a::x", "room: 9 MiB", "room: 3 MiB", "broke a::y", "pool main is empty").facts
    assert facts["room_bytes"] == 3 * 2**20
    assert set(facts["failed_tests"]) == {"a::x", "a::y"}


def test_parts_of_a_fact_stand_together():
    assert cause_of("shape 3 is not 2", "pool main is empty").facts["shapes"] == {"checkpoint": "3", "model": "2"}


@pytest.mark.parametrize(("lines", "tool"), [(("swimming",), "bath"), ((), None)])
def test_a_line_may_stand_for_a_fact_that_it_does_not_spell(lines, tool):
    assert cause_of(*lines, "pool main is empty").facts.get("tool") == tool
