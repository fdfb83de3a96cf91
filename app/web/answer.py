"""What endpoints that take deliveries say, and how they read a body: bounded in size and time."""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import Receive, Send

RETRY_AFTER_S = 30

Header = tuple[bytes, bytes]


PROBLEM = "application/problem+json"


def problem(status: int, detail: str, code: str = "", hint: str = "") -> bytes:
    """A problem of RFC 9457. `code` is a constant word for programs, `hint` says to people what to do."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return orjson.dumps({**told, **({"code": code} if code else {}), **({"hint": hint} if hint else {})})


class Answer(Exception):
    """Stop here and say this."""

    def __init__(self, status: int, code: str, message: str, hint: str, *extra: Header) -> None:
        super().__init__(message)
        self.status = status
        self.extra = extra
        self.body = problem(status, message, code, hint)


def not_kept(why: str, hint: str) -> Answer:
    return Answer(503, "not_kept", why, hint, (b"retry-after", b"%d" % RETRY_AFTER_S))


async def say(send: Send, status: int, body: bytes, *extra: Header) -> None:
    kind = PROBLEM if status >= 400 else "application/json"
    head = ((b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *extra)
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def read(announced: bytes, receive: Receive, *, most: int, within_s: float, too_large: str) -> bytes:
    """The body. Raises Answer; `too_large` is the hint of that one."""
    length = int(announced) if announced.isdigit() else -1
    over = Answer(413, "too_large", f"The body is larger than {most} bytes.", too_large)
    if length > most:
        raise over
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_s):
            while True:
                message: Any = await receive()
                if message["type"] == "http.disconnect":
                    raise Answer(400, "incomplete", "The sender hung up.", "Send the delivery again.")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    raise over
                chunks.append(chunk)
                # all that was announced is there: no need to be told that it ends
                if size == length or not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError:
        raise Answer(408, "too_slow", "The body did not arrive in time.", "Send the delivery again.") from None
