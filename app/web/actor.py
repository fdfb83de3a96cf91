"""Who a visitor is to the things that people decide."""

from app.healing.steer import Actor
from app.web.guard import Visit


def actor(visit: Visit) -> Actor:
    """The bot's own operators, and tokens that its operators made for nobody, are trusted; of all others GitHub is
    asked what they may do."""
    via = "dashboard" if visit.identity is not None and visit.identity.by_cookie else "api"
    account = visit.account
    if account is None:
        token = visit.identity.token if visit.identity is not None else None
        return Actor(visit.who, via, trusted=token is not None and token.account_id is None, person=False)
    return Actor(account.login, via, account.id, trusted=account.operator)
