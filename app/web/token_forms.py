"""The form with which people make tokens: what it may ask for, and what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.db.tokens import Tokens
from app.domain.access import SENDING, Scope, Token
from app.domain.tenant import Repository
from app.web.acts import act_of
from app.web.guard import Visit

DAY_S = 24 * 3600.0
LASTS: Mapping[str, float | None] = {
    "7": 7 * DAY_S,
    "30": 30 * DAY_S,
    "90": 90 * DAY_S,
    "365": 365 * DAY_S,
    "never": None,
}
USUAL = "90"
ACTING = (Scope.READ, Scope.OPERATE, Scope.ADMIN)
NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for. Without a repository it is for all of `installation_id`, without either for all that
    they may. `trouble` says what is wrong with it, in their language."""

    name: str
    scopes: frozenset[Scope]
    lasts: str
    repository: Repository | None = None
    installation_id: int | None = None
    trouble: str = ""


def wished(visit: Visit, repositories: Sequence[Repository] = (), installation_id: int | None = None) -> Wish:
    """What the form says; `repositories` are those that may be chosen."""
    known = frozenset(Scope)
    scopes = frozenset(Scope(scope) for scope in visit.form.getlist("scope") if scope in known)
    chosen = visit.field("repository", 30)
    repository = next((each for each in repositories if str(each.id) == chosen), None)
    lasts = visit.field("lasts", 10)
    wish = Wish(visit.field("name", NAME_LENGTH), scopes, lasts, repository, installation_id)
    trouble = ""
    if not wish.name or not wish.name.isprintable():
        trouble = visit.t("Give the token a name, so that others know what it is for.")
    elif not scopes:
        trouble = visit.t("Choose what the token may do.")
    elif lasts not in LASTS:
        trouble = visit.t("Choose how long the token lasts.")
    elif chosen and repository is None:
        trouble = visit.t("That repository is not one of this installation.")
    elif scopes & SENDING and repository is None:
        trouble = visit.t("What is sent belongs to a repository: choose one, or leave out observations and signals.")
    return replace(wish, trouble=trouble)


def make(visit: Visit, tokens: Tokens, wish: Wish) -> tuple[Token, str]:
    """The token and its text, which nobody can be told again."""
    act = act_of(
        visit,
        "create_token",
        "token",
        name=wish.name,
        scopes=sorted(wish.scopes),
        days=wish.lasts,
        **({"repository": wish.repository.full_name} if wish.repository else {}),
    )
    if wish.repository is not None:
        act = replace(act, repository_id=wish.repository.id)
    return tokens.create(
        wish.repository,
        wish.scopes,
        name=wish.name,
        expires_in_s=LASTS[wish.lasts],
        installation_id=wish.installation_id,
        account_id=visit.account.id if visit.account else None,
        act=act,
    )


def revoke(visit: Visit, tokens: Tokens, token: Token) -> bool:
    """False: it is revoked already."""
    act = act_of(visit, "revoke_token", "token", token.id, name=token.name)
    if token.repository is not None:
        act = replace(act, repository_id=token.repository.id, installation_id=token.repository.installation_id)
    return tokens.revoke(token.id, act)
