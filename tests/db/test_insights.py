from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert

from app.db.accounts import Accounts, Grant
from app.db.engine import db_now, writing
from app.db.reads.insights import InsightReads
from app.db.tables import IncidentRow, RepairRow, SpendingRow, TimelineRow
from app.domain.access import EVERYTHING, Role, Sight
from app.domain.insight import Spread
from tests.db.test_reads import counting
from tests.web.people import add_repository

DAY_S = 24 * 3600.0
HOME, OTHER = 7, 8
MONA = Sight(account_id=501)


@pytest.fixture
def connection(engine: Engine) -> Any:
    add_repository(engine, HOME, "acme/vision")
    add_repository(engine, OTHER, "rival/secret", installation_id=2)
    Accounts(engine).remember(501, "mona", operator=False)
    Accounts(engine).grant(501, [Grant(HOME, 1, Role.VIEWER)])
    with engine.connect() as connection:
        yield connection


def incident(
    connection: Connection,
    number: int,
    *,
    ago_s: float,
    heal_s: float | None = None,
    kind: str = "gpu_oom",
    repository_id: int = HOME,
) -> None:
    connection.execute(
        insert(IncidentRow).values(
            id=number, repository_id=repository_id, installation_id=1, repository="", branch="main",
            fingerprint=f"{number}", kind=kind, severity="high", detector="pipeline_failure", summary="it broke",
            finding={}, head_sha="", run_id=1, attempt=1, workflow_path="", run_url="", rung=0,
            state="healed" if heal_s is not None else "open", opened_at=db_now(-ago_s), updated_at=db_now(-ago_s),
            healed_at=db_now(heal_s - ago_s) if heal_s is not None else None,
        )
    )  # fmt: skip


def repair(connection: Connection, number: int, state: str, *, ago_s: float = 60.0, **values: Any) -> None:
    told = {
        "id": number, "incident_id": 1, "repository_id": HOME, "effect_key": f"{number}", "action": "rerun_failed_jobs",
        "remedy": {}, "rung": 0, "verb": "apply", "state": state, "approved_by": "", "intent": {}, "proof": {},
        "intended_at": db_now(-ago_s), "proof_s": 1, "watch_s": 1, "mailbox": "1", "ended_at": db_now(-ago_s),
    }  # fmt: skip
    connection.execute(insert(RepairRow).values({**told, **values}))


def told(connection: Connection, incident_id: int, kind: str, *, ago_s: float = 60.0) -> None:
    row = insert(TimelineRow).values(incident_id=incident_id, at=db_now(-ago_s), kind=kind, data={})
    connection.execute(row)


def of(engine: Engine, sight: Sight = EVERYTHING, days: int = 30) -> Any:
    return InsightReads(engine).insights(sight, days)


def test_times_to_heal_are_told_by_nearest_rank(engine: Engine, connection: Connection) -> None:
    for number in range(1, 11):
        incident(connection, number, ago_s=3 * DAY_S, heal_s=60.0 * number - 20)
    incident(connection, 11, ago_s=DAY_S)
    incident(connection, 12, ago_s=40 * DAY_S, heal_s=5.0)
    connection.commit()
    found = of(engine)
    assert found.total.opened == 11
    assert found.total.healed.count == 10
    assert found.total.healed.median_s == pytest.approx(280, abs=1)
    assert found.total.healed.p90_s == pytest.approx(520, abs=1)
    assert sum(found.durations) == 10
    assert found.durations[1] == 4  # from one minute to less than five


def test_one_duration_is_its_own_median(engine: Engine, connection: Connection) -> None:
    incident(connection, 1, ago_s=DAY_S, heal_s=90.0)
    connection.commit()
    healed = of(engine).total.healed
    assert healed.median_s == healed.p90_s == pytest.approx(90, abs=1)


def test_proofs_count_what_was_tried_and_what_helped_in_the_end(engine: Engine, connection: Connection) -> None:
    incident(connection, 1, ago_s=DAY_S)
    repair(connection, 1, "proven")
    repair(connection, 2, "disproven")
    repair(connection, 3, "failed", action="pin_dependency")
    repair(connection, 4, "undone", proof={"proven": True})
    repair(connection, 5, "undone", proof={"proven": True, "lifted": True})
    for number, state in enumerate(("skipped", "rejected", "asked", "planned", "agreed"), 10):
        repair(connection, number, state)
    repair(connection, 20, "proven", verb="undo")
    repair(connection, 21, "proven", ago_s=40 * DAY_S)
    repair(connection, 22, "failed", action="open_issue")
    connection.commit()
    found = of(engine)
    assert (found.total.proven, found.total.tried) == (2, 5)
    actions = {name: (each.proven, each.tried) for name, each in found.actions}
    assert actions == {"rerun_failed_jobs": (2, 4), "pin_dependency": (0, 1)}
    assert dict(found.causes)["gpu_oom"].tried == 5


def test_pull_requests_count_when_people_ended_them(engine: Engine, connection: Connection) -> None:
    incident(connection, 1, ago_s=DAY_S)
    incident(connection, 2, ago_s=DAY_S, kind="lint")
    for kind in ("merged", "merged", "closed", "undone"):
        told(connection, 1, kind)
    told(connection, 2, "closed")
    told(connection, 2, "closed", ago_s=40 * DAY_S)
    connection.commit()
    found = of(engine)
    assert (found.total.merged, found.total.closed) == (2, 2)
    assert dict(found.causes)["lint"].refusals.rate == 1.0


def test_what_passed_by_itself_is_measured_from_its_opening(engine: Engine, connection: Connection) -> None:
    for number in range(1, 6):
        incident(connection, number, ago_s=DAY_S)
        told(connection, number, "recovered", ago_s=DAY_S - 100.0 * number)
    connection.commit()
    recovered = of(engine).recovered
    assert recovered.count == 5
    assert recovered.median_s == pytest.approx(300, abs=1)


def test_gpu_minutes_are_those_that_were_settled(engine: Engine, connection: Connection) -> None:
    incident(connection, 1, ago_s=DAY_S)
    for number, settled in ((1, True), (2, False), (3, True)):
        repair(connection, number, "proven", action="retrain_model")
        row = insert(SpendingRow).values(
            repair_id=number, unit="gpu_minutes", repository_id=HOME, amount=12.5, settled=settled, at=db_now(-60.0)
        )
        connection.execute(row)
    connection.commit()
    found = of(engine)
    assert found.total.gpu_minutes == 25.0
    assert dict(found.actions)["retrain_model"].gpu_minutes == 25.0
    assert dict(found.repositories)["acme/vision"].gpu_minutes == 25.0


def test_a_week_is_told_by_days_and_more_by_weeks(engine: Engine, connection: Connection) -> None:
    incident(connection, 1, ago_s=0.5 * DAY_S)
    incident(connection, 2, ago_s=6.5 * DAY_S, heal_s=60.0)
    incident(connection, 3, ago_s=29 * DAY_S)
    connection.commit()
    week = of(engine, days=7).steps
    assert [each.opened for _, each in week] == [1, 0, 0, 0, 0, 0, 1]
    assert week[0][1].healed.count == 1
    month = of(engine, days=30).steps
    assert [each.opened for _, each in month] == [1, 0, 0, 0, 2]
    assert month[0][0] - month[1][0] == -timedelta(days=2)


def test_nobody_sees_numbers_of_repositories_that_are_not_theirs(engine: Engine, connection: Connection) -> None:
    incident(connection, 1, ago_s=DAY_S, heal_s=60.0)
    incident(connection, 2, ago_s=DAY_S, heal_s=7000.0, repository_id=OTHER, kind="their_cause")
    repair(connection, 1, "proven")
    repair(connection, 2, "failed", repository_id=OTHER, incident_id=2, action="their_action")
    told(connection, 2, "closed")
    told(connection, 2, "recovered")
    spent = {"repair_id": 2, "unit": "gpu_minutes", "repository_id": OTHER, "amount": 9.0, "settled": True}
    connection.execute(insert(SpendingRow).values(**spent, at=db_now(-60.0)))
    connection.commit()
    found = of(engine, MONA)
    assert found.total.opened == found.total.healed.count == found.total.tried == 1
    assert (found.total.closed, found.total.gpu_minutes, found.recovered) == (0, 0.0, Spread())
    assert [name for name, _ in found.repositories] == ["acme/vision"]
    assert "their" not in str(found)
    assert of(engine, Sight()).total.opened == 0


def test_the_number_of_questions_does_not_grow_with_the_answers(engine: Engine, connection: Connection) -> None:
    connection.commit()
    with counting(engine) as few:
        of(engine)
    with writing(engine) as more:
        for number in range(30):
            incident(more, number + 1, ago_s=DAY_S * (number + 0.5), heal_s=1.0, kind=f"kind-{number}")
            repair(more, number + 1, "proven", incident_id=number + 1, action=f"action-{number}")
    with counting(engine) as many:
        of(engine)
    assert len(many) - len(few) <= 1  # the names of repositories, once there are any
    assert len(many) < 25
