import csv
import io
import json
import re
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.domain.access import Role
from tests.db.test_insights import DAY_S, HOME, OTHER, incident, repair, told
from tests.web.people import add_repository, signed_in, visitor


@pytest.fixture
def site(engine: Engine) -> TestClient:
    add_repository(engine, HOME, "acme/vision")
    add_repository(engine, OTHER, "rival/secret", installation_id=2)
    return signed_in(engine)


@pytest.fixture
def connection(engine: Engine) -> Any:
    with engine.connect() as connection:
        yield connection


def tile(page: str, name: str) -> str:
    """What stands in a tile, without tags."""
    found = re.search(rf'<div id="tile-{name}">(.*?)</div>', page, re.DOTALL)
    assert found is not None
    return " ".join(re.sub("<[^>]+>", " ", found[1]).replace("\xa0", " ").split())


def test_an_empty_range_says_when_there_will_be_numbers(site: TestClient) -> None:
    page = site.get("/insights?days=7").text
    assert "Nothing to measure yet" in page
    assert 'href="/insights?days=90"' in page


@pytest.mark.parametrize(("query", "days"), [("", "30"), ("?days=7", "7"), ("?days=90", "90"), ("?days=x", "30")])
def test_the_range_stands_in_the_address(site: TestClient, query: str, days: str) -> None:
    assert (
        f'<a id="days-{days}" href="/insights?days={days}" aria-current="page">' in site.get(f"/insights{query}").text
    )


def test_rates_come_with_their_counts_and_intervals(site: TestClient, connection: Any) -> None:
    incident(connection, 1, ago_s=DAY_S, heal_s=250.0)
    for number in range(1, 11):
        repair(connection, number, "proven" if number > 2 else "failed")
    for kind in ("merged", "merged", "merged", "closed"):
        told(connection, 1, kind)
    connection.commit()
    page = site.get("/insights").text
    assert "4 min" in tile(page, "heal")
    assert tile(page, "proven") == "Repairs that were proven 80% 8 of 10; 95% interval from 49% to 94%"
    assert tile(page, "closed").startswith("Pull requests closed unmerged 25% 1 of 4;")


def test_what_cannot_be_known_is_said_to_be_unknown(site: TestClient, connection: Any) -> None:
    incident(connection, 1, ago_s=DAY_S, heal_s=60.0)
    connection.commit()
    page = site.get("/insights").text
    assert tile(page, "saved").startswith("Minutes saved (an estimate) not known")
    assert tile(page, "gpu").startswith("GPU minutes saved (an estimate) not known")
    assert "not known" in tile(page, "proven")
    assert "not known" in tile(page, "closed")
    assert "fewer than 5 failures passed again" in page


def test_minutes_saved_stand_beside_their_formula_with_its_inputs(site: TestClient, connection: Any) -> None:
    for number in range(1, 5):
        incident(connection, number, ago_s=DAY_S, heal_s=120.0)
    for number in range(5, 10):
        incident(connection, number, ago_s=DAY_S)
        told(connection, number, "recovered", ago_s=DAY_S - 720.0)
    connection.commit()
    page = site.get("/insights").text
    assert tile(page, "saved").startswith("Minutes saved (an estimate) 40")
    assert re.search(r"4 × \(12.min.*− 2.min", page)


def test_every_picture_has_a_table_with_its_values(site: TestClient, connection: Any) -> None:
    incident(connection, 1, ago_s=DAY_S, heal_s=120.0)
    repair(connection, 1, "proven")
    connection.commit()
    page = site.get("/insights").text
    figures = re.findall(r'<figure class="plot" id="([^"]+)">.*?</figure>', page, re.DOTALL)
    assert figures == ["plot-opened", "plot-heal", "plot-proofs", "plot-durations"]
    assert page.count('<details class="values">') == len(figures)


@pytest.mark.parametrize(
    ("by", "first"),
    [("repository", "acme/vision"), ("cause", "gpu_oom"), ("action", "rerun_failed_jobs"), ("nonsense", "acme/vision")],
)
def test_each_table_is_exported_whole(site: TestClient, connection: Any, by: str, first: str) -> None:
    incident(connection, 1, ago_s=DAY_S, heal_s=120.0)
    repair(connection, 1, "proven")
    connection.commit()
    answer = site.get(f"/insights?days=7&by={by}&format=csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert rows[0]["group"] == first
    assert rows[0]["proven"] == "1"
    assert rows[0]["minutes_saved_estimate"] == ""


def test_steps_are_exported_with_their_beginnings(site: TestClient, connection: Any) -> None:
    incident(connection, 1, ago_s=0.5 * DAY_S)
    connection.commit()
    lines = site.get("/insights?days=7&by=step&format=jsonl").text.splitlines()
    told = [json.loads(line) for line in lines]
    assert [each["opened"] for each in told] == [0, 0, 0, 0, 0, 0, 1]
    assert told[0]["group"] < told[6]["group"]


def test_a_long_table_is_cut_on_the_page_alone(site: TestClient, connection: Any) -> None:
    for number in range(1, 26):
        incident(connection, number, ago_s=DAY_S, kind=f"cause-{number}")
    connection.commit()
    page = site.get("/insights").text
    assert len(re.findall(r'<tr id="cause-\d+">', page)) == 20
    assert "5 more are in the file." in page
    assert len(site.get("/insights?by=cause&format=jsonl").text.splitlines()) == 25


def test_nobody_is_shown_the_numbers_of_others(engine: Engine, site: TestClient, connection: Any) -> None:
    incident(connection, 1, ago_s=DAY_S, repository_id=OTHER, kind="their_cause")
    repair(connection, 1, "proven", repository_id=OTHER, action="their_action")
    connection.commit()
    visitor(site, engine, role=Role.ADMIN, repositories=[HOME])
    for address in ("/insights", "/insights?by=cause&format=csv", "/insights?by=repository&format=jsonl"):
        answer = site.get(address)
        assert answer.status_code == 200
        assert "their_" not in answer.text
        assert "rival" not in answer.text
