"""Access tokens for machines: exchanged for an API token, and refreshed."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.exceptions import HTTPException

from app.db.audit import Act, Audit
from app.security.access_tokens import LASTS_S, Access
from app.web.api.v1.machines import Machines, role_of
from app.web.api.v1.needs import Anybody, Sent, Told
from app.web.dashboard.frame import Desk

TAG = "auth"
_OVER = "The token is unknown, expired, revoked, or may not read: make one with `heal tokens create --scope read`."


class Exchange(Sent):
    """An API token, for an access token and the first refresh token."""

    grant_type: Literal["api_token"]
    token: Annotated[str, Field(max_length=200)]


class Refresh(Sent):
    """A refresh token, for an access token and the next refresh token. Each is good once."""

    grant_type: Literal["refresh_token"]
    refresh_token: Annotated[str, Field(max_length=200)]


class Tokens(Told):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 -- the kind, not a token
    expires_in: int
    refresh_token: str


class Revoke(Sent):
    refresh_token: Annotated[str, Field(max_length=200)]


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:
    audit = Audit(desk.engine)

    @router.post("/auth/token")
    def exchange_token(_: Anybody, sent: Annotated[Exchange | Refresh, Field(discriminator="grant_type")]) -> Tokens:
        if isinstance(sent, Exchange):
            token = machines.tokens.bearer(sent.token)
            if token is None or role_of(token) is None:
                raise HTTPException(401, _OVER)
            begun = machines.refresh.begin(token.id)
        else:
            rotated = machines.refresh.rotate(sent.refresh_token)
            if rotated is not None and rotated.stolen:
                audit.add(Act("heal", "api", "refresh_reused", "token", str(rotated.token_id)))
                raise HTTPException(
                    401, "This refresh token had been used before: all that followed from it has ended. Sign in anew."
                )
            if rotated is None or machines.tokens.in_force(rotated.token_id) is None:
                raise HTTPException(401, "The refresh token is unknown, expired or revoked.")
            begun = rotated
        issued = machines.access.issue(Access(begun.token_id, begun.family))
        return Tokens(access_token=issued, expires_in=LASTS_S, refresh_token=begun.refresh)

    @router.post("/auth/revoke", status_code=204)
    def revoke_refresh_token(_: Anybody, sent: Revoke) -> None:
        """Whatever was sent, nothing is told of it."""
        rotated = machines.refresh.rotate(sent.refresh_token)
        if rotated is not None:
            machines.refresh.end(rotated.family)
