"""Installations: who may do what there, and the tokens of its machines."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.exceptions import HTTPException

from app.db.accounts import Accounts
from app.db.owners import Owners
from app.domain.access import SENDING, Role, Scope
from app.web import token_forms
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import Lists, Number, SeesInstallation, Sent, SetsInstallation, Told
from app.web.api.v1.tokens import Created, Token, token_of
from app.web.dashboard.frame import Desk
from app.web.members import appoint

TAG = "installations"


class Installation(Told):
    """`repositories`: how many of its repositories the caller sees."""

    id: int
    account: str
    repositories: int


class Member(Told):
    """`ceiling` is the most that GitHub lets them do in any repository, `role` what the admins here have said (null: as
    GitHub says), and `by` who said so."""

    account_id: int
    login: str
    ceiling: Role
    role: Role | None
    by: str
    seen_at: datetime


class Appoint(Sent):
    """A role that is less than GitHub's own, or `github` for that."""

    role: Literal["viewer", "operator", "admin", "github"]


class CreateHere(Sent):
    """Without `repository_id` it is good for all of the installation; what sends needs one."""

    name: Annotated[str, Field(min_length=1, max_length=token_forms.NAME_LENGTH)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=5)]
    lasts_days: Literal["7", "30", "90", "365", "never"] = "90"
    repository_id: Annotated[int, Field(ge=1, lt=10**18)] | None = None


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:
    accounts, owners = Accounts(desk.engine), Owners(desk.engine)

    @router.get("/installations")
    def list_installations(visit: Lists) -> list[Installation]:
        return [Installation.model_validate(home) for home in owners.homes(visit.sight)]

    @router.get("/installations/{installation}/members")
    def list_members(_: SeesInstallation, installation: Number) -> list[Member]:
        """Whoever has signed in and sees something there."""
        return [
            Member(
                account_id=each.account.id,
                login=each.account.login,
                ceiling=each.ceiling,
                role=each.most,
                by=each.by,
                seen_at=each.seen_at,
            )
            for each in accounts.members(installation)
        ]

    @router.put("/installations/{installation}/members/{account}", status_code=204)
    def appoint_member(visit: SetsInstallation, installation: Number, account: Number, sent: Appoint) -> None:
        appoint(accounts, visit, installation, str(account), sent.role)

    @router.get("/installations/{installation}/tokens")
    def list_installation_tokens(_: SetsInstallation, installation: Number) -> list[Token]:
        return [token_of(each) for each in machines.tokens.of_installation(installation)]

    @router.post("/installations/{installation}/tokens", status_code=201)
    def create_installation_token(visit: SetsInstallation, installation: Number, sent: CreateHere) -> Created:
        here = owners.repositories(visit.sight, installation)
        repository = next((each for each in here if each.id == sent.repository_id), None)
        scopes = frozenset(sent.scopes)
        if sent.repository_id is not None and repository is None:
            raise HTTPException(422, "That repository is not one of this installation.")
        if scopes & SENDING and repository is None:
            raise HTTPException(422, "What is sent belongs to a repository: name one.")
        if not sent.name.isprintable():
            raise HTTPException(422, "Give the token a name that can be read.")
        wish = token_forms.Wish(sent.name, scopes, sent.lasts_days, repository, installation)
        made, text = token_forms.make(visit, machines.tokens, wish)
        return Created(**token_of(made).model_dump(), token=text)

    @router.delete("/installations/{installation}/tokens/{token}", status_code=204)
    def revoke_installation_token(visit: SetsInstallation, installation: Number, token: Number) -> None:
        known = next((each for each in machines.tokens.of_installation(installation) if each.id == token), None)
        if known is None or not token_forms.revoke(visit, machines.tokens, known):
            raise HTTPException(404)
