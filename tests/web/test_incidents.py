import csv
import io
import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.db.accounts import Accounts, Grant
from app.db.engine import db_now, reading, writing
from app.domain.access import Role
from app.domain.incident import State
from app.healing import steer
from app.web.dashboard import bulk
from tests.browser.incidents import add_incident, fill
from tests.browser.site import dashboard
from tests.web.people import add_repository, signed_in, visitor


def shown(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="open-(\d+)"', page)]


def of_mona(engine: Engine, role: Role = Role.OPERATOR, *more: int) -> TestClient:
    """Somebody with that role in repository 7, and a viewer's in `more`."""
    client = TestClient(dashboard(engine), raise_server_exceptions=False)
    visitor(client, engine, role, [7])
    Accounts(engine).grant(501, [Grant(7, 1, role), *(Grant(number, 1, Role.VIEWER) for number in more)])
    return client


# the search
def test_counts_follow_the_search(site: TestClient) -> None:
    def counts(path: str) -> dict[str, str]:
        page = site.get(path).text
        return dict(re.findall(r'id="tab-(\w+)"[^>]*>[^<]*<span class="count">([^<]+)</span>', page))

    assert counts("/") == {
        "needs_approval": "1",
        "repairing": "3",
        "healed": "2",
        "escalated": "1",
        "observed": "1",
        "all": "10",
    }
    assert counts("/?q=cuda")["all"] == "2"
    assert counts("/?q=cuda&state=healed")["escalated"] == "1"
    assert counts("/?q=status:observed")["all"] == "1"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("who:knows", "There is no who: here."),
        ("repo:", "repo: needs a value"),
        ("status:ill", "status:ill is no state"),
        ("since:soon", "since:soon is not understood"),
        ('"cuda', "A quotation mark is never closed"),
    ],
)
def test_what_is_not_understood_is_said_beside_the_field_and_nothing_is_found(
    site: TestClient, query: str, words: str
) -> None:
    page = site.get("/", params={"q": query}).text
    assert words in page
    assert 'aria-invalid="true"' in page
    assert 'aria-describedby="search-help search-problems"' in page
    assert shown(page) == []


def test_an_unknown_qualifier_never_widens_what_is_decided_on(site: TestClient) -> None:
    page = site.get("/incidents/bulk", params={"verb": "approve", "all": "1", "q": "who:knows"}).text
    assert "Nothing to decide on" in page


def test_pages_lead_both_ways_and_say_where_they_are(empty: Engine) -> None:
    with writing(empty) as connection:
        for number in range(1, 121):
            add_incident(connection, number, State.HEALED, f"incident {number}", heal_s=1)
    site = signed_in(empty)
    first = site.get("/").text
    assert "1 to 50 of 120" in first
    assert 'id="newer"' not in first
    second = site.get(link(first, "older")).text
    assert "51 to 100 of 120" in second
    third = site.get(link(second, "older")).text
    assert "101 to 120 of 120" in third
    assert shown(site.get(link(third, "newer")).text) == shown(second)
    assert shown(site.get(link(second, "newer")).text) == shown(first)


def link(page: str, name: str) -> str:
    found = re.search(rf'id="{name}" href="([^"]+)"', page)
    assert found is not None, name
    return found[1].replace("&amp;", "&")


# files
def test_a_list_is_a_file_with_the_same_filter(site: TestClient) -> None:
    answer = site.get("/?state=healed&q=cuda&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "incidents.csv" in answer.headers["content-disposition"]
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["id"], row["state"], row["heal_s"]) == ("3", "healed", "252.0")
    lines = [json.loads(line) for line in site.get("/?format=jsonl").text.splitlines()]
    assert [line["id"] for line in lines] == list(range(10, 0, -1))


def test_a_file_holds_all_that_may_be_seen_and_nothing_else(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.reads.incidents._AT_ONCE", 3)
    add_repository(empty, 7, "acme/vision")
    with writing(empty) as connection:
        for number in range(1, 11):
            add_incident(connection, number, State.HEALED, "x", repository_id=7 if number % 2 else 8)
    rows = of_mona(empty).get("/?format=jsonl").text.splitlines()
    assert [json.loads(row)["id"] for row in rows] == [9, 7, 5, 3, 1]


def test_no_file_is_made_of_a_search_that_is_not_understood(site: TestClient) -> None:
    answer = site.get("/?q=who:knows&format=csv")
    assert answer.headers["content-type"].startswith("text/html")
    assert "There is no who: here." in answer.text


def test_a_page_says_when_not_everything_was_looked_at(site: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.reads.incidents.LOOKED_AT", 4)
    page = site.get("/?q=segmentation").text
    assert shown(page) == []
    assert "Older ones have not been looked at yet." in page
    while 'id="older"' in page:
        page = site.get(link(page, "older")).text
    assert shown(page) == [1]
    assert "Older ones have not been looked at yet." not in page


# saved views
def test_a_search_is_saved_renamed_and_deleted(site: TestClient) -> None:
    saved = site.post("/views", data={"name": "My <GPUs>", "query": "q=cuda&state=healed&before=3&x=1"})
    assert "Saved as My &lt;GPUs&gt;." in saved.text
    assert shown(saved.text) == [3]
    assert '<a id="view-1" href="/?state=healed&amp;q=cuda">My &lt;GPUs&gt;</a>' in saved.text
    assert "Renamed to GPUs." in site.post("/views/1/rename", data={"name": "GPUs"}).text
    assert "It was not renamed" in site.post("/views/1/rename", data={"name": " "}).text
    assert "It was not renamed" in site.post("/views/x/rename", data={"name": "y"}).text
    assert "GPUs" in site.get("/views").text
    gone = site.post("/views/1/delete").text
    assert "The view was deleted." in gone
    assert "No saved views" in gone
    assert "There is no such view any more." in site.post("/views/1/delete").text


def test_nobody_touches_the_views_of_others(empty: Engine) -> None:
    fill(empty)
    signed_in(empty).post("/views", data={"name": "mine", "query": "q=cuda"})
    other = of_mona(empty)
    assert "mine" not in other.get("/views").text
    other.post("/views/1/rename", data={"name": "stolen"})
    other.post("/views/1/delete")
    assert "mine" in signed_in(empty).get("/views").text


# several at once
@dataclass
class Hand:
    """Decides as told, in place of the real decision."""

    answers: dict[int, steer.Steered] = field(default_factory=dict)
    asked: list[tuple[int, str, str, str, Any]] = field(default_factory=list)

    def __call__(self, kit: object, number: int, verb: str, who: steer.Actor, **words: Any) -> steer.Steered:
        self.asked.append((number, verb, who.name, words["reason"], words["expected"]))
        return self.answers.get(number, steer.Steered(steer.Answer.DONE, "Done."))


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    made = Hand()
    monkeypatch.setattr(bulk, "steer", made)
    return made


@pytest.fixture
def mixed(empty: Engine) -> TestClient:
    """Mona is an operator in repository 7, a viewer in 8, and nobody in 9."""
    for number, name in ((7, "acme/vision"), (8, "acme/churn"), (9, "acme/secret")):
        add_repository(empty, number, name)
    with writing(empty) as connection:
        for number, repository in ((1, 7), (2, 8), (3, 9), (4, 7)):
            add_incident(connection, number, State.AWAITING_APPROVAL, f"cause {number}", repository_id=repository)
    return of_mona(empty, Role.OPERATOR, 8)


def ids(page: str) -> list[str]:
    return re.findall(r'name="id" value="([^"]+)"', page)


def test_several_are_decided_on_after_a_page_that_says_how_many(mixed: TestClient, hand: Hand) -> None:
    sure = mixed.get("/incidents/bulk", params={"verb": "approve", "id": ["1", "2", "3", "4"]}).text
    assert "Approve 2 incidents" in sure
    assert "1 incident on which you may not decide" in sure
    assert "cause 3" not in sure
    told = ids(sure)
    assert [number.partition("@")[0] for number in told] == ["4", "1"]
    assert all(int(number.partition("@")[2]) > 0 for number in told)
    hand.answers[1] = steer.Steered(steer.Answer.TOO_LATE, "…", "hubot", at=None, verb="approve")
    assert hand.asked == []
    mixed.post("/incidents/bulk", data={"verb": "reject", "reason": "not now", "id": told})
    assert [(number, verb, who, why) for number, verb, who, why, _ in hand.asked] == [
        (4, "reject", "mona", "not now"),
        (1, "reject", "mona", "not now"),
    ]
    assert [f"{number}@{expected}" for number, *_, expected in hand.asked] == told


def test_what_became_of_each_is_said(mixed: TestClient, empty: Engine, hand: Hand) -> None:
    with reading(empty) as connection:
        now = connection.scalar(select(db_now()))
    hand.answers[1] = steer.Steered(steer.Answer.TOO_LATE, "…", "hubot", at=now, verb="approve")
    page = mixed.post("/incidents/bulk", data={"verb": "approve", "id": ["1", "2", "3", "4", "x", "-5"]}).text
    assert "1 of 3 incidents were decided on as you asked." in page
    assert "Not any more: approved by hubot" in page
    assert "This needs write access to the repository." in page
    assert "cause 3" not in page
    assert [number for number, *_ in hand.asked] == [4, 1]


def test_everything_that_a_filter_finds_may_be_chosen_but_not_without_end(
    empty: Engine, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST", 3)
    add_repository(empty, 7, "acme/vision")
    with writing(empty) as connection:
        for number in range(1, 7):
            state = State.AWAITING_APPROVAL if number % 3 else State.HEALED
            add_incident(connection, number, state, f"cause {number}")
    site = of_mona(empty)
    page = site.get("/incidents/bulk", params={"verb": "retry", "all": "1", "state": "needs_approval"}).text
    assert "Try 3 incidents again" in page
    assert "these are the newest 3" in page
    assert [number.partition("@")[0] for number in ids(page)] == ["5", "4", "2"]
    page = site.get("/incidents/bulk", params={"verb": "retry", "all": "1", "state": "healed"}).text
    assert "these are the newest" not in page


def test_a_viewer_decides_nothing(empty: Engine, hand: Hand) -> None:
    add_repository(empty, 7, "acme/vision")
    with writing(empty) as connection:
        add_incident(connection, 1, State.AWAITING_APPROVAL, "cause")
    site = of_mona(empty, Role.VIEWER)
    assert ids(site.get("/incidents/bulk?verb=approve&id=1").text) == []
    assert "This needs write access" in site.post("/incidents/bulk", data={"verb": "approve", "id": "1"}).text
    assert hand.asked == []


@pytest.mark.parametrize(
    "form", [{}, {"verb": "explode", "id": "1"}, {"verb": "approve"}, {"verb": "approve", "id": "x"}]
)
def test_nothing_that_was_not_meant_is_done(mixed: TestClient, hand: Hand, form: dict[str, str]) -> None:
    assert "Nothing was done" in mixed.post("/incidents/bulk", data=form).text
    assert hand.asked == []


def test_what_could_not_be_reached_in_time_is_offered_again(
    mixed: TestClient, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "LONGEST_S", 0.0)
    page = mixed.post("/incidents/bulk", data={"verb": "approve", "reason": "why", "id": ["4@9", "1@7"]}).text
    assert "2 incidents have not been reached yet" in page
    assert ids(page) == ["4@9", "1@7"]
    assert hand.asked == []


def test_while_the_forge_cannot_be_asked_nothing_is_decided(empty: Engine) -> None:
    fill(empty)
    add_repository(empty, 7, "acme/vision")
    site = signed_in(empty)
    page = site.post("/incidents/bulk", data={"verb": "approve", "id": ["2"]}).text
    assert "0 of 1 incident was decided on" in page
    assert "so nothing was done" in page
    assert shown(site.get("/?state=needs_approval").text) == [2]
