"""`POST /webhooks/github`. A plain ASGI endpoint: this is the one path where every microsecond is paid by each event of
every repository."""

from collections.abc import Sequence

import orjson
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.adapters.github.webhook import peek, verify
from app.domain.delivery import Delivery
from app.domain.errors import Malformed, Unreachable
from app.healing.receive import Intake
from app.web.answer import RETRY_AFTER_S, Answer, not_kept, read, say

PATH = "/webhooks/github"
MAX_BODY = 25 * 1024 * 1024  # GitHub's own limit
READ_S = 10.0  # GitHub gives up after that

_NAMES = ("x-github-event", "x-github-delivery")


class Webhook:
    """The ASGI application behind the route."""

    def __init__(self, intake: Intake, secrets: Sequence[bytes], max_body: int, read_s: float) -> None:
        if not secrets or not all(secrets):
            raise ValueError(
                "no webhook secret is configured, so nobody could be trusted: set HEAL_GITHUB__WEBHOOK_SECRETS "
                "to the secret of the GitHub App"
            )
        self._intake = intake
        self._secrets = tuple(secrets)
        self._max_body = max_body
        self._read_s = read_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            delivery = await self._accept(scope, receive)
            kept = await self._intake.keep(delivery)
            await say(send, 202, orjson.dumps({"delivery": kept.guid, "fresh": kept.fresh}))
        except Answer as answer:
            await say(send, answer.status, answer.body, *answer.extra)
        except Unreachable as error:
            again = f"Send it again after {RETRY_AFTER_S} seconds; GitHub's can be redelivered for three days."
            told = not_kept(str(error), again)
            await say(send, told.status, told.body, *told.extra)

    async def _accept(self, scope: Scope, receive: Receive) -> Delivery:
        """The delivery, if it is really from GitHub. Nothing of the body is parsed before its signature was checked."""
        if scope["method"] != "POST":
            raise Answer(
                405, "not_post", "This address takes deliveries only.", "Send them with POST.", (b"allow", b"POST")
            )
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise Answer(
                415,
                "not_json",
                "The delivery is not sent as application/json.",
                "Choose the content type application/json in the webhook's settings on GitHub.",
            )
        named = {name: headers.get(name.encode(), b"").decode("latin-1") for name in _NAMES}
        for name, value in named.items():
            if not value:
                raise Answer(
                    400,
                    "missing_header",
                    f"The header {name} is missing.",
                    "Send what GitHub sends: X-GitHub-Event, X-GitHub-Delivery and X-Hub-Signature-256.",
                )
        signature = headers.get(b"x-hub-signature-256", b"").decode("latin-1")
        if not signature:
            raise Answer(
                401,
                "not_signed",
                "The delivery is not signed.",
                "Set a secret in the webhook's settings on GitHub, and the same one in HEAL_GITHUB__WEBHOOK_SECRETS.",
            )
        body = await read(
            headers.get(b"content-length", b""),
            receive,
            most=self._max_body,
            within_s=self._read_s,
            too_large="GitHub delivers nothing larger either: look the event up through its API.",
        )
        if not verify(body, signature, self._secrets):
            raise Answer(
                401,
                "wrong_signature",
                "The signature fits none of the configured secrets.",
                "Compare the webhook's secret on GitHub with HEAL_GITHUB__WEBHOOK_SECRETS.",
            )
        try:
            return peek(named, body)
        except Malformed as error:
            raise Answer(400, "malformed", str(error), "Send what GitHub documents for this event.") from error


def webhook_route(
    intake: Intake, secrets: Sequence[bytes], *, max_body: int = MAX_BODY, read_s: float = READ_S
) -> Route:
    """The route. Put it first. Raises ValueError without a secret: such a server must not start."""
    return Route(PATH, Webhook(intake, secrets, max_body, read_s), methods=["POST"], name="webhook")
