"""API tokens: one's own, and those that one makes."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.exceptions import HTTPException

from app.domain.access import SENDING, Scope
from app.domain.access import Token as Known
from app.web import token_forms
from app.web.acts import act_of
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import Lists, Number, Sent, Told, ToldOnce
from app.web.dashboard.frame import Desk
from app.web.guard import Visit

TAG = "tokens"
LONGEST_DAYS = 366


class Token(Told):
    """`repository` null: for all of the installation; that null, too: for all that whoever made it may."""

    id: int
    name: str
    scopes: list[Scope]
    repository: str | None
    installation_id: int | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class Create(Sent):
    """It may never do more than whoever makes it."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=5)]
    expires_in_days: Annotated[int, Field(ge=1, le=LONGEST_DAYS)] = 90


class Created(Token, ToldOnce):
    """`token` is told this once."""

    token: str


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    def person(visit: Visit) -> int:
        """Tokens are made by people, and by what they have given the scope `admin`."""
        who = visit.identity
        assert who is not None
        if who.account is None or (who.token is not None and not who.token.may(Scope.ADMIN)):
            raise HTTPException(403, "Tokens belong to people: sign in, or use a token of yours with the scope admin.")
        if who.sight.installation_id is not None or who.sight.repository_id is not None:
            raise HTTPException(403, "A token of one repository or installation is no good for others.")
        return who.account.id

    @router.get("/tokens")
    def list_tokens(visit: Lists) -> list[Token]:
        return [token_of(each) for each in machines.tokens.of_account(person(visit))]

    @router.post("/tokens", status_code=201)
    def create_token(visit: Lists, sent: Create) -> Created:
        owner = person(visit)
        scopes = set(sent.scopes)
        if scopes & SENDING:
            raise HTTPException(422, "What sends observations or signals is made for a repository, under Settings.")
        made, text = machines.tokens.create(
            None,
            scopes,
            name=sent.name,
            expires_in_s=sent.expires_in_days * 86_400.0,
            account_id=owner,
            act=act_of(visit, "create_token", "token", name=sent.name, scopes=sorted(scopes)),
        )
        return Created(**token_of(made).model_dump(), token=text)

    @router.delete("/tokens/{token}", status_code=204)
    def revoke_token(visit: Lists, token: Number) -> None:
        mine = next((each for each in machines.tokens.of_account(person(visit)) if each.id == token), None)
        if mine is None or not token_forms.revoke(visit, machines.tokens, mine):
            raise HTTPException(404)


def token_of(token: Known) -> Token:
    return Token(
        id=token.id,
        name=token.name,
        scopes=sorted(token.scopes),
        repository=token.repository.full_name if token.repository else None,
        installation_id=token.installation_id,
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
