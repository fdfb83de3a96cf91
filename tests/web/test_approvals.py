import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select
from starlette.testclient import TestClient

from app.db.accounts import Accounts, Grant
from app.db.codec import plan_to_json
from app.db.engine import make_engine, writing
from app.db.tables import ApprovalRow, Base, RepairRow
from app.domain.access import Role
from app.domain.incident import State
from app.domain.repair import FileEdit, Plan
from tests.browser.incidents import NOW, add_incident, add_repair, note
from tests.browser.site import dashboard
from tests.web.people import add_repository, signed_in, visitor

TOKEN = "ghp_" + "x" * 36
PLAN = Plan(
    "Pin <numpy> to 2.2",
    why="numba 0.58 does not work with it.",
    edits=(FileEdit("requirements.txt", "numpy>=2\n", f"numpy==2.2\n# {TOKEN}\n"),),
    risk="Others may need the newer one.",
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path}/heal.db")
    Base.metadata.create_all(engine)
    for number, name in ((7, "acme/vision"), (8, "acme/churn"), (9, "acme/secret")):
        add_repository(engine, number, name)
    with writing(engine) as connection:
        for number, repository in ((1, 7), (2, 8), (3, 9), (4, 7)):
            add_incident(connection, number, State.AWAITING_APPROVAL, f"cause {number}", repository_id=repository)
            add_repair(connection, number, "pin_dependency", state="asked", plan=plan_to_json(PLAN))
        add_incident(connection, 5, State.HEALED, "cause 5", heal_s=1)
        note(connection, 1, "asked", {"expires_at": (NOW + timedelta(days=3)).isoformat()}, at=NOW - timedelta(days=4))
        note(connection, 4, "asked", {}, at=NOW)
    yield engine
    engine.dispose()


@pytest.fixture
def mona(engine: Engine) -> TestClient:
    """An operator in repository 7, a viewer in 8, and nobody in 9."""
    client = TestClient(dashboard(engine), raise_server_exceptions=False)
    visitor(client, engine, Role.OPERATOR, [7])
    Accounts(engine).grant(501, [Grant(7, 1, Role.OPERATOR), Grant(8, 1, Role.VIEWER)])
    return client


def shown(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="open-(\d+)"', page)]


def question(page: str, number: int) -> str:
    [found] = re.findall(rf'<li class="box question" id="incident-{number}".*?\n    </li>', page, re.DOTALL)
    return str(found)


def test_what_waits_is_shown_oldest_first_with_its_plan(engine: Engine) -> None:
    page = signed_in(engine).get("/approvals").text
    assert shown(page) == [1, 2, 3, 4]
    assert "4 repairs wait for a decision" in page
    first = question(page, 1)
    for words in ("97% sure", "Pin &lt;numpy&gt; to 2.2", "numba 0.58 does not work", "Others may need the newer one."):
        assert words in first
    assert "1 file changes" in first
    assert "numpy&gt;=2" in first
    assert TOKEN not in page


def test_a_question_says_when_it_expires(engine: Engine) -> None:
    page = signed_in(engine).get("/approvals").text
    said = re.findall(r"Expires <relative-time datetime=\"([^\"]+)\"", page)
    assert said[0] == (NOW + timedelta(days=3)).isoformat()
    assert said[3] == (NOW + timedelta(days=7)).isoformat()


def test_only_who_may_decide_is_offered_the_decision(mona: TestClient) -> None:
    page = mona.get("/approvals").text
    assert shown(page) == [1, 2, 4]
    assert 'id="approve-1"' in page
    assert 'id="approve-2"' not in page
    assert 'id="reject-2"' not in page
    assert "Whoever may write to acme/vision on GitHub may decide." in question(page, 2)
    assert "acme/secret" not in page


def test_a_decision_names_what_was_looked_at(engine: Engine) -> None:
    page = question(signed_in(engine).get("/approvals").text, 4)
    forms = re.findall(r'action="/incidents/4/decisions".*?name="expected" value="(\d+)"', page, re.DOTALL)
    assert len(forms) == 2
    with engine.connect() as connection:
        newest: Any = connection.exec_driver_sql("SELECT max(id) FROM timeline WHERE incident_id = 4").scalar()
    assert [int(form) for form in forms] == [newest, newest]


def test_who_has_said_yes_is_not_asked_again(engine: Engine, mona: TestClient) -> None:
    with writing(engine) as connection:
        asked = connection.scalar(select(RepairRow.id).where(RepairRow.incident_id == 1))
        connection.execute(insert(ApprovalRow).values(repair_id=asked, by="mona", at=NOW))
    page = mona.get("/approvals").text
    assert "mona said yes. It takes another person." in question(page, 1)
    assert 'id="approve-1"' not in page
    assert 'id="approve-4"' in page


def test_many_questions_come_in_pages(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.reads.approvals.ApprovalReads.questions.__defaults__", (None, 3))
    site = signed_in(engine)
    first = site.get("/approvals").text
    assert shown(first) == [1, 2, 3]
    assert 'href="/approvals?after=3"' in first
    second = site.get("/approvals?after=3").text
    assert shown(second) == [4]
    assert 'id="younger"' not in second


def test_where_nothing_waits_it_says_what_would(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/empty.db")
    Base.metadata.create_all(engine)
    page = signed_in(engine).get("/approvals?after=x").text
    assert "Nothing waits for you" in page
    assert "mode: approve" in page
    engine.dispose()


def test_the_page_needs_no_script(mona: TestClient) -> None:
    page = mona.get("/approvals").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    assert page.count('<form method="post" action="/incidents/') == 4
