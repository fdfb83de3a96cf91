"""What the audit log is told of a write."""

from typing import Any

from app.db.audit import Act
from app.healing.steer import Actor
from app.web.guard import Visit


def actor_of(visit: Visit) -> Actor:
    """Who decides: a person, or a token of theirs; one that belongs to nobody is the operator's own."""
    who = visit.identity
    assert who is not None
    account = who.account
    return Actor(
        name=account.login if account is not None else who.name,
        via="dashboard" if who.by_cookie else "api",
        id=account.id if account is not None else None,
        trusted=account is None or account.operator,
        person=account is not None,
    )


def act_of(visit: Visit, verb: str, what: str = "", number: object = "", **data: Any) -> Act:
    """Somebody's act at the thing of this address. `data` holds no secret."""
    return Act(
        actor=visit.who,
        via="dashboard" if visit.identity is not None and visit.identity.by_cookie else "api",
        verb=verb,
        what=what,
        number=str(number),
        actor_id=visit.account.id if visit.account else None,
        installation_id=visit.owner.installation_id if visit.owner else None,
        repository_id=visit.owner.repository_id if visit.owner else None,
        data=data,
    )
