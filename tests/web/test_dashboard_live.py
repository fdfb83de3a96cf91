import asyncio

from app.domain.errors import Unreachable
from app.web.dashboard.live import Changes


class Timeline:
    """A stand-in for the database's newest entry that counts how often it is asked."""

    def __init__(self) -> None:
        self.latest = 1
        self.asked = 0
        self.away = False

    def __call__(self) -> int:
        self.asked += 1
        if self.away:
            raise Unreachable("the database does not answer")
        return self.latest


async def _asked_again(timeline: Timeline, times: int = 2) -> None:
    until = timeline.asked + times
    while timeline.asked < until:
        await asyncio.sleep(0.001)


async def _first_event(changes: Changes) -> bytes:
    stream = changes.stream()
    async for said in stream:
        if said.startswith(b"event:"):
            await stream.aclose()
            return said
    return b""


def test_every_listener_hears_of_a_change_and_they_share_one_query() -> None:
    async def scene() -> None:
        timeline = Timeline()
        changes = Changes(timeline, poll_s=0.01)
        listeners = [asyncio.create_task(_first_event(changes)) for _ in range(20)]
        await _asked_again(timeline)
        asked, timeline.latest = timeline.asked, 2
        assert {await listener for listener in listeners} == {b"event: change\ndata: 1\n\n"}
        assert timeline.asked - asked < 20

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_nobody_is_asked_while_nobody_listens() -> None:
    async def scene() -> None:
        timeline = Timeline()
        changes = Changes(timeline, poll_s=0.001)
        listener = asyncio.create_task(_first_event(changes))
        await _asked_again(timeline)
        timeline.latest = 2
        await listener
        if watching := [task for task in asyncio.all_tasks() if "_watch" in repr(task.get_coro())]:
            await asyncio.wait(watching)
        asked = timeline.asked
        await asyncio.sleep(0.02)
        assert timeline.asked == asked

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_stream_ends_by_itself() -> None:
    async def scene() -> list[bytes]:
        return [said async for said in Changes(Timeline(), poll_s=0.01, stream_s=0.05).stream()]

    said = asyncio.run(asyncio.wait_for(scene(), 30))
    assert said[0] == b"retry: 1000\n\n"
    assert not any(line.startswith(b"event:") for line in said)


def test_closing_from_another_thread_ends_every_stream_and_no_new_one_lasts() -> None:
    async def scene() -> list[bytes]:
        timeline = Timeline()
        changes = Changes(timeline, poll_s=0.001, stream_s=3600)
        listeners = [asyncio.create_task(_first_event(changes)) for _ in range(5)]
        await _asked_again(timeline)
        await asyncio.to_thread(changes.close)
        return [await listener for listener in listeners] + [await _first_event(changes)]

    assert asyncio.run(asyncio.wait_for(scene(), 30)) == [b""] * 6


def test_a_change_is_told_after_the_database_was_away() -> None:
    async def scene() -> bytes:
        timeline = Timeline()
        changes = Changes(timeline, poll_s=0.001)
        listener = asyncio.create_task(_first_event(changes))
        await _asked_again(timeline)
        timeline.away = True
        await _asked_again(timeline)
        timeline.away, timeline.latest = False, 2
        return await listener

    assert asyncio.run(asyncio.wait_for(scene(), 30)).startswith(b"event: change")
