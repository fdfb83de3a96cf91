"""Observations of models: taken into windows once, looked at, and not kept as rows."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from app.adapters import sources
from app.db.engine import reading
from app.db.tables import DeliveryRow
from app.domain.delivery import Delivery
from app.domain.errors import Malformed, Refused
from app.domain.event import Observable
from app.domain.evidence import Evidence, EvidenceBag, ModelWindow
from app.domain.finding import Clear, Finding, Remedy, Severity, fingerprint
from app.domain.model import Role
from app.healing.observe import window_at
from app.healing.work import perform
from app.ports.models import Window
from app.ports.queue import Work
from detectors.data_drift import DataDrift
from detectors.model_degradation import ModelDegradation
from tests.healing.world import AUTO, World, killed_at

HEAL = (
    AUTO + "models: {churn: {task: binary, columns: {prediction: said, score: sure, label: left, id: ask}, keep: 3}}\n"
)
ROWS = [{"age": n, "said": n % 2, "sure": 0.5 + n % 2 / 4, "ask": f"a{n}"} for n in range(40)]


class Watcher:
    """Remembers what it was shown, and finds what it is told to."""

    kind = "watcher"
    reacts_to = frozenset({"model.observed"})
    needs: frozenset[type[Evidence]] = frozenset({ModelWindow})
    Settings = None

    def __init__(self) -> None:
        self.seen: list[ModelWindow] = []
        self.rows_at_most = 10_000

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        window = evidence.get(ModelWindow)
        assert window is not None
        self.seen.append(window)
        if window.current.rows > self.rows_at_most:
            yield Finding(
                detector=self.kind,
                kind="crowded",
                subject=window.model,
                severity=Severity.LOW,
                confidence=0.9,
                summary="too many rows",
                fingerprint=fingerprint("crowded", window.model),
                ladder=(Remedy("open_issue"),),
            )


@pytest.fixture
def watcher(world: World) -> Watcher:
    world.project(HEAL)
    watcher = Watcher()
    world.kit.detectors["watcher"] = watcher  # type: ignore[index]
    object.__setattr__(world.kit, "parse", lambda delivery, repository: sources.interpret(delivery, repository))
    with world.store.begin() as ledger:
        ledger.remember_repository(world.forge.repository)
    return watcher


def send(world: World, body: Any, guid: str = "", model: str = "churn", **query: str) -> str:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **query}
    repository = world.forge.repository
    guid = guid or f"batch-{len(world.delivery_states())}"
    at = datetime(2026, 11, 21, 9, tzinfo=UTC)
    world.store.keep(
        [Delivery(guid, "observations", "observations", model, raw, 1, repository.id, "acme/trainer", headers, at)]
    )
    return guid


def windows(world: World, role: Role = Role.CURRENT, model: str = "churn") -> list[Window]:
    with world.store.begin() as ledger:
        found = ledger.models.model(world.forge.repository.id, model)
        return ledger.models.windows(found, role=role, most=10) if found else []


def bodies(world: World) -> list[bytes]:
    with reading(world.engine) as connection:
        return list(connection.scalars(select(DeliveryRow.body).where(DeliveryRow.source == "observations")))


def reasons(world: World) -> list[str]:
    with reading(world.engine) as connection:
        return list(connection.scalars(select(DeliveryRow.reason).order_by(DeliveryRow.id)))


def test_batches_of_a_day_become_one_window_and_no_row_is_kept(world: World, watcher: Watcher) -> None:
    send(world, {"role": "reference", "rows": ROWS})
    send(world, ROWS[:30])
    send(world, {"columns": {name: [row[name] for row in ROWS] for name in ROWS[0]}})
    world.drain()
    (window,) = windows(world)
    assert (window.observed.window, window.observed.rows, window.closed) == ("2026-11-21", 70, False)
    assert window.observed.profile is not None
    assert window.observed.profile["rows"] == 70
    assert set(window.observed.profile["columns"]) == {"age", "said", "sure"}
    assert window.observed.summary is not None
    assert window.observed.summary["rows"] == 70
    first, second = watcher.seen
    assert (first.current.rows, second.current.rows, second.closed) == (30, 70, False)
    assert second.reference is not None
    assert second.reference.rows == 40
    assert bodies(world) == [b"", b"", b""]


def test_a_batch_sent_twice_counts_once(world: World, watcher: Watcher) -> None:
    for _ in range(2):
        send(world, ROWS, guid="same")
    world.drain()
    send(world, ROWS, guid="same")
    world.drain()
    assert [window.observed.rows for window in windows(world)] == [40]


def die_at(world: World, step: str) -> None:
    """A worker ends without a word at this step, and another one goes on."""

    with killed_at(world, step):
        perform(world.kit, Work.DELIVERY)
    world.expire(Work.DELIVERY)
    world.drain()


def test_curves_without_a_window_are_looked_at_after_a_worker_died(world: World, watcher: Watcher) -> None:
    send(world, {"run": "r1", "curves": {"loss": [[1, 0.9]]}})
    die_at(world, "after take in")
    assert watcher.seen[-1].curves == {"loss": ((1.0, 0.9),)}


@pytest.mark.parametrize(
    "step", ["after interpret", "after summarise", "after take in", "after gather", "after diagnose"]
)
def test_a_worker_that_dies_at_any_step_counts_a_batch_once(world: World, watcher: Watcher, step: str) -> None:
    send(world, ROWS)
    die_at(world, step)
    assert [window.observed.rows for window in windows(world)] == [40]
    assert world.delivery_states() == ["done"]
    assert watcher.seen[-1].current.rows == 40


def test_what_a_detector_finds_in_a_window_becomes_an_incident(world: World, watcher: Watcher) -> None:
    watcher.rows_at_most = 30
    send(world, ROWS)
    world.drain()
    assert world.incident().finding.kind == "crowded"


def test_a_window_that_begins_closes_the_one_before_it_which_is_looked_at_once_more(
    world: World, watcher: Watcher
) -> None:
    send(world, ROWS, window="one")
    send(world, ROWS[:10], window="two")
    world.drain()
    assert [(seen.current.window, seen.closed) for seen in watcher.seen] == [
        ("one", False),
        ("one", True),
        ("two", False),
    ]
    assert [observed.window for observed in watcher.seen[-1].earlier] == ["one"]


def test_rows_for_a_window_that_is_over_leave_the_newer_one_open(world: World, watcher: Watcher) -> None:
    send(world, ROWS, window="one")
    send(world, ROWS[:10], window="two")
    send(world, ROWS[:5], window="one")
    world.drain()
    assert [(w.observed.window, w.observed.rows, w.closed) for w in windows(world)] == [
        ("two", 10, False),
        ("one", 45, True),
    ]
    assert watcher.seen[-1].current.window == "one"
    assert watcher.seen[-1].closed
    assert watcher.seen[-1].earlier == ()


def test_a_window_is_closed_when_the_sender_says_so(world: World, watcher: Watcher) -> None:
    send(world, {"rows": ROWS, "close": True})
    world.drain()
    assert watcher.seen[-1].closed


def test_only_the_newest_windows_are_kept(world: World, watcher: Watcher) -> None:
    for name in ("a", "b", "c", "d", "e"):
        send(world, ROWS[:5], window=name)
    world.drain()
    assert [window.observed.window for window in windows(world)] == ["e", "d", "c"]


def test_labels_that_come_later_are_joined_to_the_window_that_waits_for_them(world: World, watcher: Watcher) -> None:
    send(world, ROWS[:20], window="one")
    send(world, ROWS[20:], window="two")
    world.drain()
    watcher.seen.clear()
    send(world, [{"ask": row["ask"], "left": row["said"]} for row in ROWS[10:25]])
    world.drain()
    labelled = {w.observed.window: (w.observed.summary or {})["labelled"] for w in windows(world)}
    assert labelled == {"two": 5, "one": 10}
    assert [(seen.current.window, seen.closed) for seen in watcher.seen] == [("one", True), ("two", False)]
    assert [window.observed.rows for window in windows(world)] == [20, 20]


def test_labels_that_nothing_waits_for_are_told(world: World, watcher: Watcher) -> None:
    send(world, [{"ask": "never seen", "left": 1}])
    world.drain()
    assert world.delivery_states() == ["done"]
    assert "no window waits" in reasons(world)[0]


def test_curves_of_a_run_go_on_and_those_of_another_take_their_place(world: World, watcher: Watcher) -> None:
    send(world, {"run": "r1", "curves": {"loss": [[1, 0.9], [2, 0.8]]}})
    send(world, {"run": "r1", "curves": {"loss": [[2, 0.7], [3, "NaN"]]}})
    world.drain()
    assert [point[0] for point in watcher.seen[-1].curves["loss"]] == [1, 2, 3]
    assert watcher.seen[-1].curves["loss"][1] == (2, 0.7)
    assert watcher.seen[-1].curves["loss"][2][1] != watcher.seen[-1].curves["loss"][2][1]
    send(world, {"run": "r2", "curves": {"loss": [[1, 0.5]]}})
    world.drain()
    assert watcher.seen[-1].curves == {"loss": ((1.0, 0.5),)}


@pytest.mark.parametrize("spell", ["seconds", "text"])
def test_rows_with_a_time_are_kept_by_season_too(world: World, watcher: Watcher, spell: str) -> None:
    monday = datetime(2026, 11, 16, 9, tzinfo=UTC)
    at: Any = monday.timestamp() if spell == "seconds" else "2026-11-16T09:00:00Z"
    send(world, {"role": "reference", "rows": [{"age": n, "time": at if n else None} for n in range(40)]})
    world.drain()
    (window,) = windows(world, Role.REFERENCE)
    assert window.observed.profile is not None
    assert set(window.observed.profile["columns"]) == {"age"}
    ((_, season),) = window.observed.profile["seasons"].items()
    assert season["rows"] == 39


def test_a_reference_of_another_name_takes_the_place_of_the_former(world: World, watcher: Watcher) -> None:
    send(world, {"role": "reference", "rows": ROWS})
    send(world, {"role": "reference", "rows": ROWS[:15], "window": "v2"})
    world.drain()
    assert [(w.observed.window, w.observed.rows) for w in windows(world, Role.REFERENCE)] == [("v2", 15)]


def test_a_batch_that_lacks_a_column_does_not_wipe_the_profile_of_its_window(world: World, watcher: Watcher) -> None:
    send(world, ROWS)
    send(world, [{"said": 1, "sure": 0.9} for _ in range(7)])
    world.drain()
    (window,) = windows(world)
    assert window.observed.profile is not None
    assert (window.observed.rows, window.observed.profile["rows"]) == (47, 40)
    assert set(window.observed.profile["columns"]) == {"age", "said", "sure"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b'{"rows": [1, 2]}', "rows must be objects"),
        (b'{"columns": {"a": [1], "b": [1, 2]}}', "not of one length"),
        (b'{"rows": [{"a": {"b": 1}}]}', "nothing can be made"),
        (b'{"rows": [], "windw": "x"}', "'windw' is not known"),
        (b'{"rows": [{"said": 1}], "task": "regression", "window": "mixed"}', "task differs"),
    ],
)
def test_what_cannot_be_taken_in_is_told_and_its_body_dropped(
    world: World, watcher: Watcher, body: bytes, says: str
) -> None:
    send(world, [{"said": 1}], window="mixed")
    world.drain()
    send(world, body)
    world.drain()
    assert world.delivery_states() == ["done", "ignored"]
    assert says in reasons(world)[1]
    assert bodies(world)[1] == b""


def test_an_alias_that_moves_in_the_registry_is_a_reason_to_look_again(world: World, watcher: Watcher) -> None:
    send(world, ROWS)
    world.drain()
    watcher.seen.clear()
    for number, (entity, action, name) in enumerate(
        [("model_version_alias", "created", "churn"), ("model_version_alias", "created", "unknown"),
         ("model_version", "created", "churn")]
    ):  # fmt: skip
        body = json.dumps({"entity": entity, "action": action, "data": {"name": name, "alias": "champion"}}).encode()
        repository = world.forge.repository
        world.store.keep([Delivery(f"m{number}", "mlflow", entity, action, body, 1, repository.id, "acme/trainer")])
    world.drain()
    assert [seen.current.window for seen in watcher.seen] == ["2026-11-21"]
    assert world.delivery_states() == ["done", "done", "done", "ignored"]
    assert "no observations of the model unknown are kept" in reasons(world)[2]
    assert "nothing follows from model_version.created yet" in reasons(world)[3]


def test_models_of_two_repositories_with_one_name_are_two(world: World, watcher: Watcher) -> None:
    send(world, ROWS)
    world.drain()
    other = replace(world.forge.repository, id=99, full_name="acme/other")
    with world.store.begin() as ledger:
        ledger.remember_repository(other)
        assert ledger.models.model(other.id, "churn") is None


@pytest.mark.parametrize(
    ("length_s", "name"),
    [
        (24 * 3600, "2026-11-21"),
        (7 * 24 * 3600, "2026-11-19"),
        (3600, "2026-11-21T09:00Z"),
        (6 * 3600, "2026-11-21T06:00Z"),
    ],
)
def test_a_window_that_nobody_names_is_named_for_its_start(length_s: int, name: str) -> None:
    assert window_at(datetime(2026, 11, 21, 9, 59, tzinfo=UTC), length_s) == name


def test_the_detectors_of_drift_and_degradation_read_what_was_kept(world: World, watcher: Watcher) -> None:
    del world.kit.detectors["watcher"]  # type: ignore[attr-defined]
    world.kit.detectors["data_drift"] = DataDrift()  # type: ignore[index]
    world.kit.detectors["model_degradation"] = ModelDegradation()  # type: ignore[index]
    dice = random.Random(7)

    def rows(shift: float, right: float) -> list[dict[str, Any]]:
        found = []
        for _ in range(3000):
            said = dice.random() < 0.5
            told = said if dice.random() < right else not said
            found.append({"age": dice.gauss(40 + shift, 10), "said": int(said), "sure": 0.9 if said else 0.1,
                          "left": int(told)})  # fmt: skip
        return found

    send(world, {"role": "reference", "rows": rows(0, 0.9)})
    send(world, {"rows": rows(0, 0.9), "window": "quiet", "close": True})
    world.drain()
    assert world.forge.issues == {}
    for name in ("one", "two"):
        send(world, {"rows": rows(8, 0.7), "window": name, "close": True})
    world.drain()
    with world.store.begin() as ledger:
        found = {i.finding.kind for i in ledger.incidents_at(world.forge.repository.id, branch="main")}
    assert found == {"data_drift", "model_degraded"}
    assert world.delivery_states() == ["done"] * 4


def finished(world: World, branch: str = "main", name: str = "heal-observations", **changes: Any) -> None:
    """A run that uploaded a reference and a batch of `churn` ends well."""
    files = {
        "churn.reference.json": json.dumps(ROWS).encode(),
        "deep/churn.json": json.dumps(ROWS[:7]).encode(),
        "notes.txt": b"not ours",
        "a$b.json": b"[]",
    }
    if branch not in world.forge.branches:
        world.forge.branches[branch] = world.forge.branches["main"]
    run = world.forge.add_run(head_sha=world.forge.branches[branch], head_branch=branch, conclusion="success")
    world.forge.upload(run.id, name, files)
    event = replace(world.forge.finished(run.id), **changes)
    object.__setattr__(
        world.kit,
        "parse",
        lambda delivery, repository: sources.interpret(delivery, repository) if repository else event,
    )
    for guid in ("run-1", "run-2"):  # told twice
        world.store.keep([Delivery(guid, "github", "workflow_run", "completed", b"{}", 1, 1, "acme/trainer")])
        world.drain()


def test_what_a_run_on_the_default_branch_uploaded_is_taken_in_once(world: World, watcher: Watcher) -> None:
    finished(world)
    assert [window.observed.rows for window in windows(world)] == [7]
    assert [window.observed.rows for window in windows(world, Role.REFERENCE)] == [40]
    assert set(bodies(world)) == {b""}
    assert len(bodies(world)) == 2


@pytest.mark.parametrize(
    "why", [{"branch": "experiment"}, {"from_fork": True}, {"name": "coverage"}], ids=["branch", "fork", "name"]
)
def test_other_uploads_say_nothing_of_the_model(world: World, watcher: Watcher, why: dict[str, Any]) -> None:
    finished(world, **why)
    assert windows(world) == []
    assert bodies(world) == []


def test_uploads_that_cannot_be_read_hold_nothing_up(world: World, watcher: Watcher) -> None:
    for error in (Refused("expired"), Malformed("no archive")):
        world.forge.fail_next("artifact_files", error)
    finished(world)
    assert bodies(world) == []
    assert world.delivery_states() == ["done", "done"]
