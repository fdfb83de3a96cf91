"""What GitHub could not hand over is asked for again."""

from datetime import timedelta

from structlog.testing import capture_logs

from app.domain.delivery import Delivery
from app.domain.errors import NotInstalled, Unreachable
from app.healing.sweep import catch_up, sweep
from tests.healing.world import World

MINUTE = timedelta(minutes=1)


def keep(world: World, guid: str) -> None:
    world.store.keep([Delivery(guid, "github", "push", "", b"{}", 1, 1, "acme/trainer")])


def test_a_delivery_that_failed_is_redelivered_once(world: World) -> None:
    world.app.sent("lost", "workflow_run", "completed", ok=False, ago=MINUTE)
    assert catch_up(world.kit) == 1
    assert world.app.redelivered == [1]


def test_what_is_kept_is_not_asked_for(world: World) -> None:
    keep(world, "kept")
    world.app.sent("kept", "push", ok=True, ago=MINUTE)
    world.app.sent("kept", "push", ok=False, ago=2 * MINUTE)
    assert catch_up(world.kit) == 0
    assert world.app.redelivered == []


def test_a_delivery_on_its_way_is_left_time(world: World) -> None:
    world.app.sent("young", "push", ok=False, ago=timedelta(seconds=1))
    assert catch_up(world.kit) == 0


def test_an_acknowledged_delivery_that_is_missing_is_an_error_and_is_fetched(world: World) -> None:
    world.app.sent("gone", "push", ok=True, ago=MINUTE)
    with capture_logs() as logged:
        assert catch_up(world.kit) == 1
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["acknowledged_but_not_kept"]


def test_a_guid_that_was_tried_twice_is_asked_for_once(world: World) -> None:
    world.app.sent("twice", "push", ok=False, ago=3 * MINUTE)
    world.app.sent("twice", "push", ok=False, ago=2 * MINUTE)
    assert catch_up(world.kit) == 1
    assert world.app.redelivered == [2]


def test_more_than_a_minutes_worth_is_asked_for_over_several_sweeps(world: World) -> None:
    for number in range(70):
        world.app.sent(f"lost-{number}", "push", ok=False, ago=MINUTE)
    assert catch_up(world.kit) == 60
    for guid in (f"lost-{number}" for number in range(60)):
        keep(world, guid)
    assert catch_up(world.kit) == 10


def test_a_sweep_without_github_comes_back_to_the_same_place(world: World) -> None:
    world.app.sent("lost", "push", ok=False, ago=MINUTE)
    world.app.error = Unreachable("no route")
    assert sweep(world.kit, 0.0)
    world.app.error = None
    assert sweep(world.kit, 0.0)
    assert world.app.redelivered == [1]


def test_only_one_of_many_sweeps_in_each_period(world: World) -> None:
    assert [sweep(world.kit, 60.0) for _ in range(3)] == [True, False, False]


def test_a_redelivery_that_github_refuses_stops_neither_the_others_nor_the_sweep(world: World) -> None:
    world.app.sent("too-old", "push", ok=False, ago=3 * MINUTE)
    world.app.sent("lost", "push", ok=False, ago=2 * MINUTE)
    world.app.refused.add(1)
    assert sweep(world.kit, 0.0)
    assert world.app.redelivered == [2]


def test_a_key_that_github_refuses_does_not_end_the_sweep(world: World) -> None:
    world.app.error = NotInstalled("A JSON web token could not be decoded")
    assert sweep(world.kit, 0.0)
