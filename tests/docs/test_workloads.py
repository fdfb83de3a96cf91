"""The page about the workloads says what they take."""

from tests.docs.workloads import PAGE, written


def test_every_verb_and_setting_of_the_workloads_stands_in_the_reference():
    text = PAGE.read_text(encoding="utf-8")
    assert written(text) == text, "run python -m tests.docs.workloads --write"
