"""YAML of others, which the parser does not always refuse in its own words."""

import pytest

from actions import scalars
from actions.honest.workflow import Document, Unreadable
from actions.workflow_edits import load
from app.domain.errors import Malformed
from app.healing.configuration import resolve
from app.healing.gather_fleet import timeouts
from app.security.yaml import documents

ODD = ["%YAML 1.3\n---\non: push\n", "!\n\r%YAML 1.3\n", "a: *b", "\x00", "[" * 199]


@pytest.mark.parametrize("text", ODD)
def test_what_cannot_be_read_is_said_to_be_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"YAML|deep"):
        documents(text, 50)
    with pytest.raises(Malformed):
        scalars.find("a.yaml", text, frozenset({"a"}))
    with pytest.raises(Malformed):
        load(".github/workflows/ci.yml", text)
    with pytest.raises(Unreadable):
        Document(text)
    assert timeouts(text) == {}
    failures = resolve(text, None, known_detectors={}, known_actions={}).problems
    assert [problem.level for problem in failures] == ["failure"]


def test_documents_come_with_their_places() -> None:
    first, second = documents("a: 1\n---\n- b\n", 50)
    assert (first.start_mark.line, second.start_mark.line) == (0, 2)
