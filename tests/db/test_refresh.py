"""Refresh tokens and kept answers, on both databases."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine, update

from app.db.answers import Answers, Kept
from app.db.dialect import insert
from app.db.engine import db_now, writing
from app.db.refresh import RefreshTokens
from app.db.tables import RefreshRow, TokenRow


def made(engine: Engine) -> int:
    with writing(engine) as connection:
        row = insert(connection, TokenRow).values(
            digest="d" * 64, kind="bearer", scopes=["read"], name="ci", created_at=db_now()
        )
        return connection.execute(row.returning(TokenRow.id)).scalar_one()


def test_each_is_good_once_and_gives_the_next(engine: Engine) -> None:
    refresh = RefreshTokens(engine)
    first = refresh.begin(made(engine))
    second = refresh.rotate(first.refresh)
    assert second is not None
    assert (second.family, second.stolen) == (first.family, False)
    third = refresh.rotate(second.refresh)
    assert third is not None
    assert len({first.refresh, second.refresh, third.refresh}) == 3


def test_one_that_comes_again_ends_its_family_and_no_other(engine: Engine) -> None:
    refresh = RefreshTokens(engine)
    token = made(engine)
    first, other = refresh.begin(token), refresh.begin(token)
    second = refresh.rotate(first.refresh)
    assert second is not None
    again = refresh.rotate(first.refresh)
    assert again is not None
    assert again.stolen
    assert refresh.rotate(second.refresh) is None
    assert not refresh.lives(first.family)
    assert refresh.lives(other.family)


def test_of_two_at_once_one_wins_and_the_family_ends(engine: Engine) -> None:
    refresh = RefreshTokens(engine)
    first = refresh.begin(made(engine))
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(refresh.rotate, [first.refresh] * 2))
    assert sorted(each.stolen for each in both if each is not None) == [False, True]
    assert not refresh.lives(first.family)


def test_a_family_ends_with_its_time_however_often_it_was_refreshed(engine: Engine) -> None:
    refresh = RefreshTokens(engine)
    second = refresh.rotate(refresh.begin(made(engine)).refresh)
    assert second is not None
    with writing(engine) as connection:
        connection.execute(update(RefreshRow).values(expires_at=db_now(-1.0)))
    assert refresh.rotate(second.refresh) is None
    assert not refresh.lives(second.family)


def test_an_unknown_one_is_nobodys(engine: Engine) -> None:
    assert RefreshTokens(engine).rotate("healr_x") is None


def test_an_answer_is_kept_for_the_same_principal_and_key_alone(engine: Engine) -> None:
    answers = Answers(engine)
    assert answers.begin("token 1", "k", "r") is None
    assert answers.begin("token 1", "k", "r") == Kept("r", 0, b"")
    answers.keep("token 1", "k", 202, b"{}")
    assert answers.begin("token 1", "k", "other") == Kept("r", 202, b"{}")
    assert answers.begin("token 2", "k", "r") is None
    answers.forget("token 1", "k")
    assert answers.begin("token 1", "k", "r") is None
