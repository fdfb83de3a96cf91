from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.incident import State
from app.domain.search import MOST_TERMS, Problem, Qualifier, Search, Term, Trouble, parse, spell, status

_FREE = [each for each in Qualifier if each not in (Qualifier.SINCE, Qualifier.STATUS)]
_VALUES = st.text(min_size=1, max_size=12)
_TERMS = st.one_of(
    st.builds(Term, st.none(), st.tuples(_VALUES), st.booleans()),
    st.builds(Term, st.sampled_from(_FREE), st.lists(_VALUES, min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(
        Term, st.just(Qualifier.STATUS), st.tuples(st.sampled_from([str(each) for each in State])), st.booleans()
    ),
)


def test_words_and_qualifiers_are_told_apart() -> None:
    assert parse('cuda "out of memory" repo:acme/vision -kind:lint,test_failure').terms == (
        Term(None, ("cuda",)),
        Term(None, ("out of memory",)),
        Term(Qualifier.REPO, ("acme/vision",)),
        Term(Qualifier.KIND, ("lint", "test_failure"), negated=True),
    )


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("REPO:a/b", Term(Qualifier.REPO, ("a/b",))),
        ('actor:"x,y",@z', Term(Qualifier.ACTOR, ("x,y", "@z"))),
        ("repo:a,,b,", Term(Qualifier.REPO, ("a", "b"))),
        ("-cuda", Term(None, ("cuda",), negated=True)),
        ('-"a b"', Term(None, ("a b",), negated=True)),
        ('"repo:a"', Term(None, ("repo:a",))),
        ('"a \\" b"', Term(None, ('a " b',))),
        ("-", Term(None, ("-",))),
        ("a.b:c", Term(None, ("a.b:c",))),
        ("status:needs-approval", Term(Qualifier.STATUS, ("needs-approval",))),
    ],
)
def test_a_term_is_read_as_it_is_meant(text: str, term: Term) -> None:
    assert parse(text) == Search((term,))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("who:knows", Problem(Trouble.UNKNOWN, "who:")),
        ("repo:", Problem(Trouble.EMPTY, "repo:")),
        ("repo: x", Problem(Trouble.EMPTY, "repo:")),
        ("status:ill", Problem(Trouble.STATUS, "status:ill")),
        ("since:soon", Problem(Trouble.SINCE, "since:soon")),
        ("since:2026-02-30", Problem(Trouble.SINCE, "since:2026-02-30")),
        ("since:0001-01-01", Problem(Trouble.SINCE, "since:0001-01-01")),
        ("since:99999999999d", Problem(Trouble.SINCE, "since:99999999999d")),
        ("-since:7d", Problem(Trouble.SINCE, "-since:7d")),
        ("since:1d,2d", Problem(Trouble.SINCE, "since:1d,2d")),
        ("since:1d since:2d", Problem(Trouble.SINCE, "since:2d")),
        ('repo:"a', Problem(Trouble.QUOTE, 'repo:"a')),
        ('x "a', Problem(Trouble.QUOTE, '"a')),
        ("kind:" + ",".join("abcdefghijklmnopqrstuvwxyz"), None),
        (" ".join("x" * (MOST_TERMS + 1)), None),
    ],
)
def test_what_cannot_be_understood_is_said(text: str, problem: Problem | None) -> None:
    problems = parse(text).problems
    assert problems == (problem,) if problem else [each.trouble for each in problems] == [Trouble.MANY]


def test_since_is_a_span_or_a_day_in_the_readers_zone() -> None:
    assert parse("since:7d").since == timedelta(days=7)
    assert parse("since:90m").since == timedelta(minutes=90)
    assert parse("since:2026-11-01").since == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse("since:2026-11-01", ZoneInfo("Asia/Tokyo")).since == datetime(2026, 10, 31, 15, tzinfo=UTC)
    assert parse("cuda").since is None


def test_a_status_is_known_by_several_names() -> None:
    assert status("Needs-Approval") is status("waiting") is status("awaiting_approval") is State.AWAITING_APPROVAL
    assert status("healed") is State.HEALED
    assert status("") is None


def test_every_qualifier_and_every_state_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "search.md").read_text()
    assert [name for name in Qualifier if f"| `{name}:` |" not in page] == []
    assert [state for state in State if f"`{state}`" not in page] == []


@given(st.lists(_TERMS, max_size=5))
def test_what_is_spelled_is_parsed_to_the_same(terms: list[Term]) -> None:
    search = Search(tuple(terms))
    assert parse(spell(search)) == search


@given(st.text(max_size=80))
def test_any_text_is_a_search_or_says_why_not(text: str) -> None:
    search = parse(text)
    again = parse(spell(search))
    assert again.terms == search.terms
    assert again.problems == () or len(search.terms) > MOST_TERMS
    assert search.terms or search.problems or not text.replace('""', "").replace("-", "").strip()


@given(st.text(alphabet=' "\\:,-arepostu7d*', max_size=40))
def test_any_punctuation_is_a_search_or_says_why_not(text: str) -> None:
    search = parse(text)
    assert parse(spell(search)).terms == search.terms
