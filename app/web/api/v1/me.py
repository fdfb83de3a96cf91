"""Who is asking."""

from fastapi import APIRouter

from app.domain.access import Role
from app.web.api.v1.machines import Machines
from app.web.api.v1.needs import Lists, Told
from app.web.dashboard.frame import Desk

TAG = "me"


class Me(Told):
    """`role` is the most that the caller may do anywhere; what they may do to a thing depends on the thing."""

    name: str
    account_id: int | None
    token_id: int | None
    role: Role
    sees_everything: bool


def add(router: APIRouter, desk: Desk, machines: Machines) -> None:  # noqa: ARG001
    @router.get("/me")
    def who_am_i(visit: Lists) -> Me:
        who = visit.identity
        assert who is not None
        return Me(
            name=who.name,
            account_id=who.account.id if who.account else None,
            token_id=who.token.id if who.token else None,
            role=who.most,
            sees_everything=who.sight.everything,
        )
