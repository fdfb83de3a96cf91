"""The intake over HTTP. The endpoint is plain ASGI, and is driven here as a server does it."""

import asyncio
import hmac
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from app.db.store import SqlStore
from app.db.tables import DeliveryRow
from app.domain.delivery import Delivery, Kept
from app.domain.errors import Unreachable
from app.healing.receive import Intake
from app.web.webhook import webhook_route

SECRET = b"It's a Secret to Everybody"
BODY = json.dumps(
    {"action": "completed", "installation": {"id": 3}, "repository": {"id": 7, "full_name": "o/r"}}
).encode()


class MemoryKeeper:
    """Keeps deliveries in a list; `away` makes it unreachable, and `gate` holds each transaction up while unset."""

    def __init__(self) -> None:
        self.batches: list[list[Delivery]] = []
        self.away = False
        self.gate = threading.Event()
        self.gate.set()

    def keep(self, deliveries: Sequence[Delivery]) -> list[Kept]:
        assert self.gate.wait(30)
        if self.away:
            raise Unreachable("the database does not answer")
        start = sum(map(len, self.batches))
        self.batches.append(list(deliveries))
        return [Kept(start + place, delivery.guid, fresh=True) for place, delivery in enumerate(deliveries, 1)]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


def signed(body: bytes = BODY, secret: bytes = SECRET, **changes: str | None) -> dict[str, str]:
    """The headers of a good delivery; underscores stand for hyphens, None removes one."""
    headers: dict[str, str | None] = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-github-event": "workflow_run",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": "sha256=" + hmac.new(secret, body, "sha256").hexdigest(),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in headers.items() if value is not None}


async def post(
    route: Any, body: bytes = BODY, headers: dict[str, str] | None = None, *, method: str = "POST", piece: int = 1 << 20
) -> Answer:
    """Send a request in pieces; a body that is not asked for is not read."""
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)] or [b""]
    given = signed(body) if headers is None else headers
    sent: list[Any] = []
    taken = 0

    async def receive() -> Any:
        nonlocal taken
        if taken == len(pieces):
            return {"type": "http.disconnect"}
        taken += 1
        return {"type": "http.request", "body": pieces[taken - 1], "more_body": taken < len(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    await route.app({"type": "http", "method": method, "path": route.path, "headers": raw}, receive, send)
    head, content = sent
    names = {name.decode(): value.decode() for name, value in head["headers"]}
    return Answer(head["status"], names, json.loads(content["body"]))


@asynccontextmanager
async def serving(keeper: Any, **options: Any) -> AsyncIterator[Any]:
    intake = Intake(keeper, **{key: options.pop(key) for key in ("capacity", "batch", "writers") if key in options})
    intake.start()
    yield webhook_route(intake, options.pop("secrets", [SECRET]), **options)
    await asyncio.to_thread(intake.close)


async def turns() -> None:
    """Let every task run until it waits for something outside of the event loop."""
    for _ in range(10):
        await asyncio.sleep(0)


def once(keeper: Any = None, *args: Any, options: dict[str, Any] | None = None, **words: Any) -> Answer:
    async def ask() -> Answer:
        async with serving(keeper or MemoryKeeper(), **(options or {})) as route:
            return await post(route, *args, **words)

    return asyncio.run(ask())


def test_a_signed_delivery_is_kept_and_accepted() -> None:
    keeper = MemoryKeeper()
    answer = once(keeper)
    assert (answer.status, answer.body) == (202, {"delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958", "fresh": True})
    ((kept,),) = keeper.batches
    assert (kept.body, kept.event, kept.action, kept.installation_id, kept.repository_id) == (
        BODY, "workflow_run", "completed", 3, 7,
    )  # fmt: skip


def test_an_event_nobody_knows_is_kept_as_well() -> None:
    assert once(None, b"{}", signed(b"{}", x_github_event="a_new_event")).status == 202


def test_a_redelivery_is_accepted_and_kept_once(store: SqlStore, engine: Engine) -> None:
    async def twice() -> list[Answer]:
        async with serving(store) as route:
            return [await post(route), await post(route)]

    answers = asyncio.run(twice())
    assert [(answer.status, answer.body["fresh"]) for answer in answers] == [(202, True), (202, False)]
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(DeliveryRow)).scalar_one() == 1


def test_the_former_secret_is_good_while_it_is_rotated() -> None:
    assert once(None, BODY, signed(secret=b"old"), options={"secrets": [SECRET, b"old"]}).status == 202


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (signed(x_hub_signature_256=None), 401, "not_signed"),
        (signed(x_hub_signature_256="sha256=00"), 401, "wrong_signature"),
        (signed(secret=b"another"), 401, "wrong_signature"),
        (signed(x_hub_signature_256="sha256=\u00e9"), 401, "wrong_signature"),
        (signed(x_github_event=None), 400, "missing_header"),
        (signed(x_github_delivery=None), 400, "missing_header"),
        (signed(x_github_delivery="a" * 9999), 400, "malformed"),
        (signed(content_type="application/x-www-form-urlencoded"), 415, "not_json"),
        (signed(content_type=None), 415, "not_json"),
    ],
)
def test_what_github_would_not_send_is_refused_and_not_kept(headers: dict[str, str], status: int, code: str) -> None:
    keeper = MemoryKeeper()
    answer = once(keeper, BODY, headers)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert answer.body["detail"]
    assert answer.body["hint"]
    assert keeper.batches == []


@pytest.mark.parametrize("body", [b"", b"{", b"payload=%7B%7D", b"[]", b"\xff"])
def test_a_signed_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    answer = once(None, body)
    assert (answer.status, answer.body["code"]) == (400, "malformed")


def test_another_method_is_refused() -> None:
    answer = once(None, b"", {}, method="GET")
    assert (answer.status, answer.headers["allow"], answer.body["code"]) == (405, "POST", "not_post")


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read() -> None:
    answer = once(None, BODY, signed(content_length="27000000"), options={"max_body": 26_000_000})
    assert (answer.status, answer.body["code"]) == (413, "too_large")


def test_a_body_that_grows_too_large_is_refused() -> None:
    body = b'{"a": "' + b"x" * 2000 + b'"}'
    headers = signed(body, content_length=None)
    assert once(None, body, headers, options={"max_body": 1000}, piece=100).status == 413
    assert once(None, body, headers, options={"max_body": len(body)}, piece=100).status == 202


def test_a_sender_who_hangs_up_or_dawdles_is_not_waited_for() -> None:
    async def hang_up_and_dawdle() -> list[int]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def gone() -> Any:
            return {"type": "http.disconnect"}

        async def never() -> Any:
            await asyncio.Event().wait()

        headers = [(name.encode(), value.encode()) for name, value in signed().items()]
        async with serving(MemoryKeeper(), read_s=0.01) as route:
            for receive in (gone, never):
                await route.app({"type": "http", "method": "POST", "headers": headers}, receive, send)
        return [message["status"] for message in sent if "status" in message]

    assert asyncio.run(hang_up_and_dawdle()) == [400, 408]


def test_while_the_database_is_away_the_sender_is_told_to_come_again() -> None:
    async def away_and_back() -> list[Answer]:
        keeper = MemoryKeeper()
        keeper.away = True
        async with serving(keeper) as route:
            first = await asyncio.gather(post(route), post(route))
            keeper.away = False
            return [*first, await post(route)]

    answers = asyncio.run(away_and_back())
    assert [answer.status for answer in answers] == [503, 503, 202]
    assert answers[0].headers["retry-after"] == "30"
    assert answers[0].body["code"] == "not_kept"


def test_what_waits_is_bounded() -> None:
    async def flood() -> list[int]:
        keeper = MemoryKeeper()
        keeper.gate.clear()
        async with serving(keeper, capacity=5, batch=2, writers=1) as route:
            waiting = [asyncio.create_task(post(route)) for _ in range(5)]
            await turns()
            over = await post(route)
            keeper.gate.set()
            return [
                over.status,
                *(answer.status for answer in await asyncio.gather(*waiting)),
                (await post(route)).status,
            ]

    assert asyncio.run(flood()) == [503, 202, 202, 202, 202, 202, 202]


def test_what_arrives_while_a_transaction_is_written_goes_into_the_next_one_together() -> None:
    async def burst() -> list[int]:
        keeper = MemoryKeeper()
        keeper.gate.clear()
        async with serving(keeper, batch=10, writers=1) as route:
            asked = []
            for number in range(21):
                asked.append(asyncio.create_task(post(route, BODY, signed(x_github_delivery=f"guid-{number}"))))
                if number == 0:
                    await turns()
            await turns()
            keeper.gate.set()
            answers = await asyncio.gather(*asked)
            assert [answer.body["delivery"] for answer in answers] == [f"guid-{number}" for number in range(21)]
        return [len(batch) for batch in keeper.batches]

    assert asyncio.run(burst()) == [1, 10, 10]


def test_a_sender_who_hangs_up_while_waiting_does_not_harm_the_others() -> None:
    async def one_leaves() -> int:
        keeper = MemoryKeeper()
        keeper.gate.clear()
        async with serving(keeper) as route:
            leaves = asyncio.create_task(post(route))
            stays = asyncio.create_task(post(route, BODY, signed(x_github_delivery="stays")))
            await turns()
            leaves.cancel()
            keeper.gate.set()
            return (await stays).status

    assert asyncio.run(one_leaves()) == 202


def test_closing_writes_what_waits_and_accepts_nothing_more() -> None:
    async def stop() -> tuple[list[int], int]:
        keeper = MemoryKeeper()
        keeper.gate.clear()
        intake = Intake(keeper, batch=1)
        intake.start()
        route = webhook_route(intake, [SECRET])
        waiting = [asyncio.create_task(post(route)) for _ in range(4)]
        await turns()
        closing = asyncio.create_task(asyncio.to_thread(intake.close))
        keeper.gate.set()
        await closing
        return [answer.status for answer in await asyncio.gather(*waiting)], (await post(route)).status

    assert asyncio.run(stop()) == ([202] * 4, 503)


@pytest.mark.parametrize("secrets", [[], [b""], [SECRET, b""]])
def test_a_server_without_a_secret_refuses_to_start(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="HEAL_GITHUB__WEBHOOK_SECRETS"):
        webhook_route(Intake(MemoryKeeper()), secrets)
