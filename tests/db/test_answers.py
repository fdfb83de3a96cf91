"""Answers that are kept for writes with an Idempotency-Key, on both databases."""

import pytest
from sqlalchemy import Engine, update

from app.db.answers import UNDER_WAY_S, Answers, Kept
from app.db.engine import db_now, writing
from app.db.tables import AnswerRow


@pytest.fixture
def answers(engine: Engine) -> Answers:
    return Answers(engine)


def begun_long_ago(engine: Engine, key: str) -> None:
    with writing(engine) as connection:
        connection.execute(update(AnswerRow).where(AnswerRow.key == key).values(at=db_now(-UNDER_WAY_S - 1)))


def test_a_write_is_under_way_until_it_is_answered(answers: Answers) -> None:
    assert answers.begin("token 1", "k", "hash") is None
    assert answers.begin("token 1", "k", "hash") == Kept("hash", 0, b"")
    answers.keep("token 1", "k", 200, b"{}")
    assert answers.begin("token 1", "k", "hash") == Kept("hash", 200, b"{}")


def test_a_key_belongs_to_whoever_sent_it(answers: Answers) -> None:
    answers.begin("token 1", "k", "hash")
    answers.keep("token 1", "k", 200, b"secret")
    assert answers.begin("token 2", "k", "hash") is None


def test_what_somebody_died_over_may_be_sent_again(engine: Engine, answers: Answers) -> None:
    answers.begin("token 1", "died", "hash")
    answers.begin("token 1", "answered", "hash")
    answers.keep("token 1", "answered", 200, b"{}")
    for key in ("died", "answered"):
        begun_long_ago(engine, key)
    assert answers.begin("token 1", "died", "hash") is None
    assert answers.begin("token 1", "answered", "hash") == Kept("hash", 200, b"{}")
