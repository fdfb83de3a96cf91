"""What every endpoint of the API has in common: who may send, how much, how often, and that it is kept once."""

import asyncio
import hashlib
import math
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import anyio.to_thread
import orjson
import zstandard
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from app.db.tokens import PREFIX, Tokens
from app.domain.access import Scope, Token
from app.domain.delivery import Delivery, Kept
from app.domain.errors import Malformed, Unreachable
from app.healing.receive import Intake
from app.resilience.rate import Buckets
from app.settings import Api
from app.web.answer import RETRY_AFTER_S, Answer, not_kept, read, say

LARGE = 1024 * 1024
LARGE_AT_ONCE = 8
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Header names are lower case; of a name that stands twice the last one counts."""

    method: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    receive: Receive

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


Handler = Callable[[Call], Awaitable[tuple[int, Any]]]


class Endpoint:
    """The ASGI application behind a route. `handle` gives status and body, or raises Answer."""

    def __init__(self, method: str, handle: Handler) -> None:
        self._method = method
        self._handle = handle

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            status, body = await self._handle(self._call(scope, receive))
            await say(send, status, orjson.dumps(body))
        except Answer as answer:
            await say(send, answer.status, answer.body, *answer.extra)
        except Unreachable as error:
            told = not_kept(str(error), f"Send it again after {RETRY_AFTER_S} seconds.")
            await say(send, told.status, told.body, *told.extra)
        except Malformed as error:
            told = Answer(400, "malformed", str(error), "See docs/reference/api.md for what may be sent.")
            await say(send, told.status, told.body)

    def _call(self, scope: AsgiScope, receive: Receive) -> Call:
        method = scope["method"]
        if method != self._method:
            raise Answer(
                405,
                "wrong_method",
                f"This address does not answer to {method[:20]}.",
                f"Use {self._method}.",
                (b"allow", self._method.encode()),
            )
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=50))
        except ValueError:
            raise Answer(400, "malformed", "The query has more than 50 members.", "Leave some out.") from None
        return Call(method, scope.get("path_params", {}), query, headers, receive)


class Door:
    """Checks who calls before anything is read, reads within bounds, keeps once."""

    def __init__(self, intake: Intake, tokens: Tokens, settings: Api) -> None:
        self.tokens = tokens
        self._intake = intake
        self._settings = settings
        self._buckets = Buckets(settings.requests_per_minute)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def admit(self, call: Call, *scopes: Scope) -> Token:
        """The token of the caller, which may do one of these. Raises Answer: 401, 403, 429."""
        kind, _, text = call.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not text:
            raise _unknown("not_authorized", "There is no token.")
        found = None
        if text.startswith(PREFIX) and len(text) < 100:
            found = await anyio.to_thread.run_sync(self.tokens.bearer, text)
        if found is None:
            raise _unknown("wrong_token", "The token is unknown, expired or revoked, or the App has been removed.")
        if scopes and not any(found.may(scope) for scope in scopes):
            raise Answer(
                403,
                "wrong_scope",
                f"The token may not send {scopes[0]}.",
                f"Make one with `heal tokens create --scope {scopes[0]}`.",
            )
        if found.repository is None:
            raise Answer(
                403,
                "wrong_scope",
                "The token is good for more than one repository: what is sent would belong to none.",
                "Send it with a token of the repository: `heal tokens create OWNER/NAME`.",
            )
        self.count(found)
        return found

    def count(self, token: Token) -> None:
        """One more request of this token. Raises Answer."""
        wait_s = math.ceil(self._buckets.take(token.id))
        if wait_s:
            raise Answer(
                429,
                "too_many",
                f"More than {self._settings.requests_per_minute} requests a minute.",
                f"Send it again after {wait_s} seconds, and more rows at a time.",
                (b"retry-after", b"%d" % wait_s),
            )

    async def body(self, call: Call, most: int | None = None) -> bytes:
        """The body, unpacked: at most so many bytes. Raises Answer."""
        most = self._settings.max_body if most is None else min(most, self._settings.max_body)
        encoding = call.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "zstd"):
            raise Answer(
                415, "wrong_encoding", "The Content-Encoding is not known.", "Send it as it is, or as gzip or zstd."
            )
        announced = call.headers.get("content-length", "").encode("latin-1", "replace")
        large = encoding != "identity" or not announced.isdigit() or int(announced[:20]) > LARGE
        if large and self._large.locked():
            raise not_kept("Too many large bodies are being read.", f"Send it again after {RETRY_AFTER_S} seconds.")
        if not large:
            return await self._read(call, announced, encoding, most)
        async with self._large:
            return await self._read(call, announced, encoding, most)

    async def _read(self, call: Call, announced: bytes, encoding: str, most: int) -> bytes:
        hint = "Send it in several batches."
        raw = await read(announced, call.receive, most=most, within_s=self._settings.read_s, too_large=hint)
        if encoding == "identity":
            return raw
        unpacked = await anyio.to_thread.run_sync(_unpacked, raw, encoding, most + 1)
        if len(unpacked) > most:
            raise Answer(413, "too_large", f"The body is larger than {most} bytes when it is unpacked.", hint)
        return unpacked

    async def keep(self, *deliveries: Delivery) -> list[Kept]:
        """Returns after the commit. Raises Unreachable."""
        return await asyncio.gather(*(self._intake.keep(delivery) for delivery in deliveries))


def delivery(
    token: Token,
    source: str,
    event: str,
    body: bytes,
    *,
    named: Sequence[str],
    action: str = "",
    headers: Mapping[str, str] | None = None,
) -> Delivery:
    """A delivery for the token's repository. `named` is what makes it the same one when it is sent again."""
    repository = token.repository
    assert repository is not None  # others are not admitted
    told = hashlib.sha256(b"\0".join(part.encode("utf-8", "replace") for part in (source, *named))).hexdigest()
    return Delivery(
        guid=f"{repository.id}-{told[:32]}",
        source=source,
        event=event,
        action=action,
        body=body,
        installation_id=repository.installation_id,
        repository_id=repository.id,
        repository=repository.full_name,
        headers=headers or {},
    )


def key_of(call: Call, body: bytes) -> str:
    """The sender's own name of the request, else a hash of what was sent. Raises Answer."""
    key = call.headers.get("idempotency-key", "")
    if key and not _KEY.fullmatch(key):
        raise Answer(400, "malformed", "The Idempotency-Key is too long or not plain.", "At most 255 ASCII characters.")
    return f"key {key}" if key else f"body {hashlib.sha256(body).hexdigest()}"


def content_type_of(call: Call, *known: str) -> str:
    if call.content_type not in known:
        raise Answer(
            415, "wrong_type", f"The Content-Type is not one of {', '.join(known)}.", "Name what the body really is."
        )
    return call.content_type


def _unknown(code: str, message: str) -> Answer:
    hint = "Send `Authorization: Bearer heal_…` with a token that `heal tokens create` made."
    return Answer(401, code, message, hint, (b"www-authenticate", b"Bearer"))


def _unpacked(raw: bytes, encoding: str, most: int) -> bytes:
    """At most so many bytes. Raises Answer for what is no such stream."""
    try:
        if encoding == "gzip":
            return zlib.decompressobj(31).decompress(raw, most)
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw) as reader:
            return reader.read(most)
    except (zlib.error, zstandard.ZstdError):
        raise Answer(400, "malformed", f"The body is not {encoding}.", "Name how it is really packed.") from None
