"""Who is told what, and when."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.errors import Refused, Unreachable
from app.domain.finding import Severity
from app.domain.incident import State
from app.domain.policy import Route
from app.healing.news import due_at
from app.ports.notifier import Notice
from app.ports.queue import Work
from tests.healing.world import ASSERTION, AUTO, World

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Channels:
    """A notifier that remembers; of each channel the `troubles` are raised first, one after the other."""

    troubles: dict[str, list[Exception]] = field(default_factory=dict)
    sent: list[tuple[str, Notice]] = field(default_factory=list)

    def channels(self) -> frozenset[str]:
        return frozenset({"team", "ops"})

    def send(self, channel: str, notice: Notice) -> None:
        if self.troubles.get(channel):
            raise self.troubles[channel].pop(0)
        self.sent.append((channel, notice))


def told(world: World, notify: str, **troubles: list[Exception]) -> Channels:
    channels = Channels(troubles)
    world.kit = replace(world.kit, notifier=channels)
    world.project(f"{AUTO}notify:\n{notify}")
    world.fail(ASSERTION)
    world.drain()
    return channels


def test_a_person_who_must_look_is_told_where_heal_yml_says(world: World) -> None:
    channels = told(world, "  - channel: team\n  - {channel: ops, on: [healed]}\n")
    ((channel, notice),) = channels.sent
    assert channel == "team"
    assert notice.title.startswith("acme/trainer: ")
    assert "needs a person" in notice.title
    assert notice.url == "https://heal.example/incidents/1"


def test_what_is_not_severe_enough_is_not_told(world: World) -> None:
    assert told(world, "  - {channel: team, least: critical}\n").sent == []


def test_after_trouble_only_the_channel_that_was_not_told_is_told(world: World) -> None:
    channels = told(world, "  - channel: ops\n  - channel: team\n", team=[Unreachable("away")])
    assert [name for name, _ in channels.sent] == ["ops"]
    world.wait_for(Work.EFFECT)
    world.drain()
    assert [name for name, _ in channels.sent] == ["ops", "team"]


def test_a_channel_that_is_away_keeps_nobody_else_from_being_told(world: World) -> None:
    channels = told(world, "  - channel: team\n  - channel: ops\n", team=[Unreachable("away"), Unreachable("away")])
    assert [name for name, _ in channels.sent] == ["ops"]
    for _ in range(2):
        world.wait_for(Work.EFFECT)
        world.drain()
    assert [name for name, _ in channels.sent] == ["ops", "team"]


def test_a_channel_that_will_not_take_it_is_told_of_in_the_incident(world: World) -> None:
    channels = told(world, "  - channel: nobody\n", nobody=[Refused("there is no channel nobody")])
    assert channels.sent == []
    (entry,) = [entry for entry in world.record().timeline if entry.kind == "not_told"]
    assert entry.data == {"channel": "nobody", "reason": "there is no channel nobody"}
    assert world.incident().state is State.ESCALATED


@pytest.mark.parametrize(
    ("hour", "quiet", "expected"),
    [(12, (22, 7), 12), (23, (22, 7), 31), (3, (22, 7), 7), (7, (22, 7), 7), (12, (9, 17), 17), (8, (9, 17), 8)],
)
def test_in_quiet_hours_it_waits_for_their_end(hour: int, quiet: tuple[int, int], expected: int) -> None:
    at = NOON.replace(hour=hour)
    route = Route("team", quiet=quiet)
    assert due_at(route, Severity.HIGH, at, at) == NOON.replace(hour=0) + expected * HOUR
    assert due_at(route, Severity.CRITICAL, at, at) == at


def test_a_digest_is_due_at_the_end_of_its_period() -> None:
    route = Route("team", digest_s=1800)
    assert due_at(route, Severity.LOW, NOON + timedelta(minutes=7), NOON) == NOON + timedelta(minutes=30)
    assert due_at(route, Severity.LOW, NOON, NOON) == NOON


def test_a_digest_tells_several_incidents_in_one_message(world: World) -> None:
    channels = Channels()
    world.kit = replace(world.kit, notifier=channels)
    world.project(f"{AUTO}notify: [{{channel: team, digest: 60}}]\n")
    world.fail(ASSERTION)
    world.fail("SyntaxError: invalid syntax", name="lint")
    world.drain()
    assert channels.sent == []
    with world.store.begin() as ledger:
        now = ledger.now()
    for number in (1, 2):
        world.move_news_back(number, now - timedelta(hours=2))
    world.wait_for(Work.EFFECT)
    world.drain()
    ((channel, notice),) = channels.sent
    assert channel == "team"
    assert "2 incidents" in notice.title
    assert len(notice.body.splitlines()) == 2
