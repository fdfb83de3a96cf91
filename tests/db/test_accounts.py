"""People, their sessions and rights, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, update

from app.db.accounts import Accounts, Grant
from app.db.audit import FIRST, Act, link
from app.db.digest import digest
from app.db.engine import db_now, reading, writing
from app.db.owners import Owners
from app.db.sight import seen_repository
from app.db.store import SqlStore
from app.db.tables import AuditRow, InstallationRow, MemberRow, RepositoryRow, SessionRow, SignInRow, TokenRow
from app.db.tokens import Tokens
from app.domain.access import EVERYTHING, Role, Scope, Sight
from tests.conftest import Bell
from tests.web.people import add_repository

MONA, EVE = 501, 502
ACT = Act("ada", "dashboard", "set_role")


@pytest.fixture
def accounts(engine: Engine) -> Accounts:
    for number, name, installation in ((70, "acme/a", 1), (71, "acme/b", 1), (90, "globex/c", 9)):
        add_repository(engine, number, name, installation_id=installation)
    found = Accounts(engine)
    found.remember(MONA, "mona", operator=False)
    return found


def remove(engine: Engine, number: int) -> None:
    with writing(engine) as connection:
        connection.execute(update(RepositoryRow).where(RepositoryRow.id == number).values(removed_at=db_now()))


def sees(engine: Engine, sight: Sight) -> set[int]:
    with reading(engine) as connection:
        return set(connection.scalars(select(RepositoryRow.id).where(seen_repository(sight, RepositoryRow.id))))


# people


def test_somebody_is_known_by_number_whatever_they_are_called(accounts: Accounts) -> None:
    accounts.choose(MONA, locale="de", time_zone="Europe/Berlin")
    again = accounts.remember(MONA, "mona-lisa", operator=True)
    assert (again.login, again.operator, again.locale, again.time_zone) == ("mona-lisa", True, "de", "Europe/Berlin")
    other = accounts.remember(EVE, "mona", operator=False)
    assert (other.id, other.operator, other.locale) == (EVE, False, "")
    assert accounts.account(999) is None


# one-time texts


def test_of_many_that_come_at_once_one_is_let_in(accounts: Accounts) -> None:
    text = accounts.begin("link", seconds=60.0, onwards="/x")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: accounts.redeem("link", text), range(16)))
    assert [each.onwards for each in found if each is not None] == ["/x"]


def test_a_text_is_good_for_what_it_was_made_for_and_only_in_time(accounts: Accounts, engine: Engine) -> None:
    text = accounts.begin("oauth", seconds=60.0)
    assert accounts.redeem("link", text) is None
    with reading(engine) as connection:
        assert connection.scalars(select(SignInRow.digest)).all() == [digest(text)]
    assert accounts.redeem("oauth", accounts.begin("oauth", seconds=-1.0)) is None
    assert accounts.redeem("oauth", text) is not None


# sessions


def test_a_session_is_found_by_its_cookie_alone_which_is_kept_as_a_hash(accounts: Accounts, engine: Engine) -> None:
    cookie = accounts.open(MONA, seconds=60.0, user_token=b"sealed")
    session = accounts.session(cookie, idle_s=60.0)
    assert session is not None
    assert (session.account.login, session.user_token) == ("mona", b"sealed")
    assert session.stale_s < 30.0
    with reading(engine) as connection:
        kept = connection.scalars(select(SessionRow.digest)).one()
    assert kept == digest(cookie)
    assert accounts.session(kept, idle_s=60.0) is None


def test_ending_all_sessions_ends_those_of_one_person(accounts: Accounts, engine: Engine) -> None:
    accounts.remember(EVE, "eve", operator=False)
    mine = [accounts.open(MONA, seconds=60.0, user_token=b"sealed") for _ in range(3)]
    hers = accounts.open(EVE, seconds=60.0)
    assert len(accounts.sessions(MONA, idle_s=60.0)) == 3
    accounts.end_all(MONA)
    assert [accounts.session(cookie, idle_s=60.0) for cookie in mine] == [None] * 3
    assert accounts.session(hers, idle_s=60.0) is not None
    assert accounts.sessions(MONA, idle_s=60.0) == []
    with reading(engine) as connection:
        tokens = connection.scalars(select(SessionRow.user_token).where(SessionRow.account_id == MONA))
        assert set(tokens) == {b""}


# rights


def test_new_grants_take_the_place_of_the_old(accounts: Accounts) -> None:
    accounts.grant(MONA, [Grant(70, 1, Role.ADMIN), Grant(71, 1, Role.VIEWER)])
    accounts.grant(MONA, [Grant(71, 1, Role.OPERATOR)])
    assert (accounts.role_in(MONA, 70), accounts.role_in(MONA, 71)) == (None, Role.OPERATOR)
    accounts.grant(MONA, [])
    assert accounts.role_in(MONA, 71) is None


@pytest.mark.parametrize(
    ("grants", "at"),
    [
        ([], None),
        ([Grant(70, 1, Role.ADMIN)], Role.VIEWER),
        ([Grant(70, 1, Role.ADMIN), Grant(71, 1, Role.OPERATOR)], Role.OPERATOR),
        ([Grant(70, 1, Role.ADMIN), Grant(71, 1, Role.ADMIN)], Role.ADMIN),
        ([Grant(70, 1, Role.ADMIN), Grant(71, 1, Role.ADMIN), Grant(90, 9, Role.VIEWER)], Role.ADMIN),
        ([Grant(90, 9, Role.ADMIN)], None),
    ],
)
def test_at_an_installation_somebody_may_the_least_of_what_they_may_in_it(
    accounts: Accounts, grants: list[Grant], at: Role | None
) -> None:
    accounts.grant(MONA, grants)
    assert accounts.role_at(MONA, 1) is at


def test_what_the_app_was_removed_from_is_granted_to_nobody(accounts: Accounts, engine: Engine) -> None:
    accounts.grant(MONA, [Grant(70, 1, Role.ADMIN), Grant(71, 1, Role.ADMIN)])
    remove(engine, 71)
    assert (accounts.role_in(MONA, 71), accounts.role_at(MONA, 1)) == (None, Role.ADMIN)
    assert sees(engine, Sight(account_id=MONA)) == {70}
    assert sees(engine, Sight(installation_id=1)) == {70}
    remove(engine, 70)
    assert (accounts.role_in(MONA, 70), accounts.role_at(MONA, 1)) == (None, None)


def test_a_grant_of_one_installation_counts_for_nothing_in_another(accounts: Accounts, engine: Engine) -> None:
    accounts.grant(MONA, [Grant(90, 1, Role.ADMIN)])
    assert accounts.role_in(MONA, 90) is None
    assert (accounts.role_at(MONA, 9), accounts.role_at(MONA, 1)) == (None, None)
    assert sees(engine, Sight(account_id=MONA)) == set()


def test_a_role_that_was_set_is_a_ceiling_and_nothing_else(accounts: Accounts, engine: Engine) -> None:
    accounts.grant(MONA, [Grant(70, 1, Role.OPERATOR), Grant(71, 1, Role.VIEWER), Grant(90, 9, Role.ADMIN)])
    accounts.appoint(1, MONA, Role.ADMIN, ACT)
    assert accounts.role_in(MONA, 70) is Role.OPERATOR
    accounts.appoint(1, MONA, Role.VIEWER, ACT)
    assert (accounts.role_in(MONA, 70), accounts.role_in(MONA, 90)) == (Role.VIEWER, Role.ADMIN)
    (member,) = accounts.members(1)
    assert (member.ceiling, member.repositories, member.most, member.by) == (Role.OPERATOR, 2, Role.VIEWER, "ada")
    accounts.appoint(1, MONA, None, ACT)
    assert accounts.role_in(MONA, 70) is Role.OPERATOR
    with reading(engine) as connection:
        assert connection.scalars(select(MemberRow.role)).all() == []
        rows = connection.execute(select(*AuditRow.__table__.c).order_by(AuditRow.id)).all()
    former = FIRST
    for row in rows:
        told = {name: value for name, value in row._mapping.items() if name not in ("id", "chain")}
        assert row.chain == link(former, told)
        former = row.chain
    assert len(rows) == 3


def test_members_are_those_who_see_something_that_is_there(accounts: Accounts, engine: Engine) -> None:
    accounts.remember(EVE, "eve", operator=False)
    accounts.grant(EVE, [Grant(90, 9, Role.ADMIN)])
    accounts.grant(MONA, [Grant(71, 1, Role.VIEWER)])
    assert [each.account.login for each in accounts.members(1)] == ["mona"]
    remove(engine, 71)
    assert accounts.members(1) == []


# installations


def test_a_reader_is_told_of_the_installations_of_which_they_see_something(accounts: Accounts, engine: Engine) -> None:
    owners = Owners(engine)
    accounts.grant(MONA, [Grant(70, 1, Role.VIEWER)])
    assert [(home.account, home.repositories) for home in owners.homes(Sight(account_id=MONA))] == [("acme", 1)]
    assert [home.account for home in owners.homes(EVERYTHING)] == ["acme", "globex"]
    assert [each.full_name for each in owners.repositories(Sight(account_id=MONA), 1)] == ["acme/a"]
    assert owners.repositories(Sight(account_id=MONA), 9) == []
    assert owners.homes(Sight()) == []


def test_an_installation_that_is_gone_is_not_asked_for(accounts: Accounts, engine: Engine) -> None:
    assert Owners(engine).installations() == {1, 9}
    with writing(engine) as connection:
        connection.execute(update(InstallationRow).where(InstallationRow.id == 9).values(removed_at=db_now()))
    assert Owners(engine).installations() == {1}


# tokens


def test_a_token_is_good_for_a_repository_an_installation_or_all_that_its_maker_may(
    accounts: Accounts, engine: Engine
) -> None:
    store = SqlStore(engine, Bell())
    tokens = Tokens(engine, store.secret)
    with store.begin() as ledger:
        here = ledger.repository(70)
    assert here is not None
    made = {
        "repository": tokens.create(here, [Scope.SIGNALS], installation_id=1, account_id=MONA)[1],
        "installation": tokens.create(None, [Scope.READ], installation_id=1, account_id=MONA)[1],
        "maker": tokens.create(None, [Scope.ADMIN], account_id=MONA, expires_in_s=60.0)[1],
    }
    found = {name: tokens.bearer(text) for name, text in made.items()}
    told = {
        name: (each.repository.id if each.repository else None, each.installation_id, each.account_id)
        for name, each in found.items()
        if each is not None
    }
    assert told == {"repository": (70, None, MONA), "installation": (None, 1, MONA), "maker": (None, None, MONA)}
    assert {each.id for each in tokens.of_installation(1)} == {1, 2}
    assert {each.id for each in tokens.of_account(MONA)} == {3}
    with store.begin() as ledger:
        ledger.forget_installation(1)
    assert [tokens.bearer(text) is None for text in made.values()] == [True, True, False]
    with reading(engine) as connection:
        assert not set(made.values()) & set(connection.scalars(select(TokenRow.digest)))


def test_what_is_revoked_is_told_to_the_audit_log_once(accounts: Accounts, engine: Engine) -> None:
    tokens = Tokens(engine, SqlStore(engine, Bell()).secret)
    token, text = tokens.create(None, [Scope.READ], account_id=MONA, act=Act("mona", "dashboard", "create_token"))
    act = Act("mona", "dashboard", "revoke_token")
    assert tokens.revoke(token.id, act)
    assert not tokens.revoke(token.id, act)
    assert tokens.bearer(text) is None
    with reading(engine) as connection:
        rows = connection.execute(select(AuditRow.verb, AuditRow.number, AuditRow.at).order_by(AuditRow.id)).all()
    assert [(row.verb, row.number) for row in rows] == [("create_token", "1"), ("revoke_token", "1")]
    assert rows[1].at - rows[0].at < timedelta(minutes=5)
