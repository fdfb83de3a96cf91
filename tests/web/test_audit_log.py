import csv
import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, update
from starlette.testclient import TestClient

from app.db.audit import Act, Audit
from app.db.engine import db_now, writing
from app.db.tables import AuditRow, MemberRow
from app.domain.access import Role
from tests.browser.site import dashboard
from tests.web.people import add_repository, signed_in, visitor

HOME, SECOND, OTHER, MONA = 7, 9, 8, 501


@pytest.fixture
def site(engine: Engine) -> TestClient:
    add_repository(engine, HOME, "acme/vision")
    add_repository(engine, OTHER, "rival/secret", installation_id=2)
    return TestClient(dashboard(engine), raise_server_exceptions=False)


def act(engine: Engine, verb: str, actor: str = "maria", **values: Any) -> None:
    told = {"installation_id": 1, "repository_id": HOME, "what": "incident", "number": "1", "actor_id": 77}
    Audit(engine).add(Act(actor, "dashboard", verb, **{**told, **values}))


def verbs(site: TestClient, query: str = "") -> list[str]:
    page = site.get(f"/audit{query}")
    assert page.status_code == 200
    return re.findall(r'<span class="tag">([^<]+)</span>', page.text)


def test_an_admin_sees_what_was_done_in_their_repositories_and_nobody_elses(engine: Engine, site: TestClient) -> None:
    act(engine, "here")
    act(engine, "theirs", installation_id=2, repository_id=OTHER)
    act(engine, "installation", repository_id=None)
    act(engine, "their_installation", installation_id=2, repository_id=None)
    act(engine, "bot", installation_id=None, repository_id=None)
    visitor(site, engine, role=Role.ADMIN, repositories=[HOME])
    assert verbs(site) == ["installation", "here"]
    assert verbs(signed_in(engine)) == ["bot", "their_installation", "installation", "theirs", "here"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_everybody_else_sees_their_own_acts_alone(engine: Engine, site: TestClient, role: Role) -> None:
    act(engine, "here")
    act(engine, "mine", "mona", actor_id=MONA)
    act(engine, "mine_as_a_person", "mona", actor_id=MONA, installation_id=None, repository_id=None)
    act(engine, "another_mona", "mona", actor_id=502, installation_id=2, repository_id=OTHER)
    visitor(site, engine, role=role, repositories=[HOME])
    assert verbs(site) == ["mine_as_a_person", "mine"]


def test_what_was_done_to_an_installation_is_for_who_administers_all_of_it(engine: Engine, site: TestClient) -> None:
    add_repository(engine, SECOND, "acme/second")
    act(engine, "installation", repository_id=None)
    act(engine, "here")
    visitor(site, engine, role=Role.ADMIN, repositories=[HOME])
    assert verbs(site) == ["here"]
    visitor(site, engine, role=Role.ADMIN, repositories=[HOME, SECOND])
    assert verbs(site) == ["here", "installation"]


def test_an_admin_whom_the_installation_made_less_is_none_here(engine: Engine, site: TestClient) -> None:
    act(engine, "here")
    visitor(site, engine, role=Role.ADMIN, repositories=[HOME])
    with writing(engine) as connection:
        connection.execute(
            insert(MemberRow).values(installation_id=1, account_id=MONA, role="operator", by="x", at=db_now())
        )
    assert verbs(site) == []


def test_the_address_narrows_the_log(engine: Engine, site: TestClient) -> None:
    act(engine, "approve", "mona")
    act(engine, "pause", what="repository", number="7")
    act(engine, "approve", "maria")
    with writing(engine) as connection:
        old = update(AuditRow).where(AuditRow.id == 1)
        connection.execute(old.values(at=db_now(-timedelta(days=9).total_seconds())))
    site = signed_in(engine)
    assert verbs(site, "?who=mona") == ["approve"]
    assert verbs(site, "?verb=pause") == ["pause"]
    assert verbs(site, "?what=repository") == ["pause"]
    assert verbs(site, "?since=7d") == ["approve", "pause"]
    assert verbs(site, "?since=2020-01-01&who=mona") == ["approve"]
    assert verbs(site, "?since=2999-01-01") == []
    for nonsense in ("?since=yesterday", "?since=0d", "?since=9999-99-99", "?before=x"):
        assert len(verbs(site, nonsense)) == 3


def test_things_lead_to_their_pages_and_data_is_text(engine: Engine, site: TestClient) -> None:
    act(engine, "approve", number="12", data={"reason": "<script>alert(1)</script>", "list": [1]})
    act(engine, "pause", what="repository", number="7")
    act(engine, "odd", what="incident", number="../x")
    page = signed_in(engine).get("/audit").text
    assert 'href="/incidents/12"' in page
    assert 'href="/repositories/7"' in page
    assert 'href="/incidents/../x"' not in page
    assert "<script>alert" not in page


def test_a_long_log_is_paged_and_exported_whole(engine: Engine, site: TestClient) -> None:
    for number in range(55):
        act(engine, f"verb-{number}", data={"at": number})
    site = signed_in(engine)
    assert verbs(site)[0] == "verb-54"
    older = re.search(r'id="older" href="([^"]+)"', site.get("/audit?who=maria").text)
    assert older is not None
    assert "who=maria" in older[1]
    assert verbs(site, older[1].replace("&amp;", "&").removeprefix("/audit")) == [f"verb-{n}" for n in (4, 3, 2, 1, 0)]
    rows = [json.loads(line) for line in site.get("/audit?format=jsonl").text.splitlines()]
    assert len(rows) == 55
    assert rows[0]["data"] == {"at": 54}
    table = list(csv.DictReader(io.StringIO(site.get("/audit?format=csv&verb=verb-3").text)))
    assert [json.loads(row["data"]) for row in table] == [{"at": 3}]


def test_an_export_holds_no_more_than_the_page(engine: Engine, site: TestClient) -> None:
    act(engine, "theirs", installation_id=2, repository_id=OTHER)
    visitor(site, engine, role=Role.ADMIN, repositories=[HOME])
    assert site.get("/audit?format=jsonl").text == ""


def test_those_who_run_the_bot_verify_the_chain(engine: Engine, site: TestClient) -> None:
    assert "The log is empty." in signed_in(engine).get("/audit/verify").text
    for number in range(3):
        act(engine, f"verb-{number}")
    site = signed_in(engine)
    assert 'href="/audit/verify"' in site.get("/audit").text
    assert "all 3 entries are as they were written" in site.get("/audit/verify").text
    with writing(engine) as connection:
        connection.execute(update(AuditRow).where(AuditRow.id == 2).values(verb="tampered"))
    assert "The chain is broken at entry 2" in site.get("/audit/verify").text


def test_nobody_else_verifies_it(engine: Engine, site: TestClient) -> None:
    visitor(site, engine, role=Role.ADMIN, repositories=[HOME])
    assert site.get("/audit/verify").status_code == 404
    assert "/audit/verify" not in site.get("/audit").text
