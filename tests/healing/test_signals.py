"""Alerts, samples and Prometheus, from their deliveries to what a detector is shown."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select

from app.adapters import sources
from app.db.engine import reading
from app.db.tables import DeliveryRow
from app.domain.delivery import Delivery
from app.domain.errors import Unreachable
from app.domain.event import Observable
from app.domain.evidence import Alerts, Evidence, EvidenceBag, Samples
from app.domain.finding import Clear, Finding
from app.domain.model import Query
from app.domain.signal import Series
from app.domain.tenant import Repository
from tests.healing.world import AUTO, World

ASKS = AUTO + "signals: {prometheus: {disk_used_ratio: {query: 1 - free / size, limit: 1}, queue: sum(waiting)}}\n"


class Listener:
    kind = "listener"
    reacts_to = frozenset({"alerts", "samples", "schedule.tick"})
    needs: frozenset[type[Evidence]] = frozenset({Alerts, Samples})
    Settings = None

    def __init__(self) -> None:
        self.heard: list[tuple[Observable, Alerts | None, Samples | None]] = []

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        self.heard.append((event, evidence.get(Alerts), evidence.get(Samples)))
        yield from ()


class Monitoring:
    """Answers each query with one point; `away` makes it unreachable."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Query]] = []
        self.lets_ask = True
        self.away = False

    def lets(self, repository: Repository) -> bool:
        return self.lets_ask

    def ask(self, queries: Mapping[str, Query], *, until: datetime) -> list[Series]:
        if self.away:
            raise Unreachable("Prometheus does not answer")
        self.asked.append(queries)
        return [Series(name, ((1.0, 0.5),), limit=query.limit) for name, query in queries.items()]


@pytest.fixture
def listener(world: World) -> Listener:
    world.project(ASKS)
    listener = Listener()
    world.kit.detectors["listener"] = listener  # type: ignore[index]
    object.__setattr__(world.kit, "parse", lambda delivery, repository: sources.interpret(delivery, repository))
    with world.store.begin() as ledger:
        ledger.remember_repository(world.forge.repository)
    return listener


def send(world: World, source: str, body: Any, guid: str = "", event: str = "") -> None:
    repository = world.forge.repository
    guid = guid or f"signal-{len(world.delivery_states())}"
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    world.store.keep([Delivery(guid, source, event or source, "", raw, 1, repository.id, "acme/trainer")])
    world.drain()


def samples(*points: tuple[float, float], **labels: str) -> dict[str, Any]:
    return {"series": [{"name": "disk_used_ratio", "labels": labels, "points": points, "limit": 1}]}


def test_samples_come_with_what_was_kept_of_the_same_series(world: World, listener: Listener) -> None:
    send(world, "samples", samples((1, 0.1), (2, 0.2), device="sda"))
    send(world, "samples", samples((9, 0.9), device="sdb"))
    send(world, "samples", samples((3, 0.3), device="sda"))
    (_, _, found) = listener.heard[-1]
    assert found is not None
    assert found.series == (Series("disk_used_ratio", ((1, 0.1), (2, 0.2), (3, 0.3)), {"device": "sda"}, 1.0),)


def test_samples_as_a_cloudevent_are_the_same(world: World, listener: Listener) -> None:
    send(world, "samples", samples((1, 0.1)))
    send(world, "cloudevents", samples((2, 0.2)), event="dev.heal.samples.v1")
    (_, _, found) = listener.heard[-1]
    assert found is not None
    assert [len(series.points) for series in found.series] == [2]


def test_alerts_of_alertmanager_and_of_a_cloudevent_are_heard(world: World, listener: Listener) -> None:
    alert = {
        "status": "firing",
        "labels": {"alertname": "DiskFull", "instance": "gpu-1"},
        "startsAt": "2026-11-21T09:00:00.123456789Z",
        "fingerprint": "c6ea",
    }
    send(world, "alertmanager", {"version": "4", "alerts": [alert, {**alert, "status": "resolved", "startsAt": "?"}]})
    send(world, "cloudevents", alert, event="dev.heal.alert.v1")
    first, second = (heard[1] for heard in listener.heard)
    assert first is not None
    assert second is not None
    assert [(a.name, a.firing, a.labels["instance"], a.fingerprint) for a in first.alerts] == [
        ("DiskFull", True, "gpu-1", "c6ea"),
        ("DiskFull", False, "gpu-1", "c6ea"),
    ]
    assert first.alerts[0].started_at is not None
    assert first.alerts[0].started_at.isoformat() == "2026-11-21T09:00:00.123456+00:00"
    assert first.alerts[1].started_at is None
    assert second.alerts == first.alerts[:1]


def test_a_type_of_event_that_nobody_knows_is_ignored_with_the_reason(world: World, listener: Listener) -> None:
    send(world, "cloudevents", {}, event="com.example.thing")
    with reading(world.engine) as connection:
        row = connection.execute(select(DeliveryRow)).one()
    assert row.state == "ignored"
    assert "com.example.thing is none of dev.heal.alert.v1" in row.reason


def tick(world: World) -> None:
    send(world, "schedule", {}, event="tick")


def test_at_a_look_by_schedule_prometheus_is_asked_what_heal_yml_says(world: World, listener: Listener) -> None:
    monitoring = Monitoring()
    object.__setattr__(world.kit, "signals", monitoring)
    tick(world)
    assert monitoring.asked == [{"disk_used_ratio": Query("1 - free / size", 1.0), "queue": Query("sum(waiting)")}]
    (_, _, found) = listener.heard[-1]
    assert found is not None
    assert [(series.name, series.limit) for series in found.series] == [("disk_used_ratio", 1.0), ("queue", None)]


@pytest.mark.parametrize("why", ["none", "not let", "away"])
def test_without_prometheus_the_detectors_look_all_the_same(world: World, listener: Listener, why: str) -> None:
    monitoring = Monitoring()
    monitoring.lets_ask, monitoring.away = why != "not let", why == "away"
    object.__setattr__(world.kit, "signals", None if why == "none" else monitoring)
    tick(world)
    assert monitoring.asked == []
    assert listener.heard[-1][2] is None
    assert world.delivery_states() == ["done"]
