import pytest
from sqlalchemy import Engine

from app.db.accounts import Accounts
from app.db.views import Views

MONA, HUBOT = 501, 502


@pytest.fixture
def views(engine: Engine) -> Views:
    for number, login in ((MONA, "mona"), (HUBOT, "hubot")):
        Accounts(engine).remember(number, login, operator=False)
    return Views(engine)


def told(views: Views, account_id: int) -> list[tuple[str, str]]:
    return [(view.name, view.query) for view in views.of(account_id)]


def test_a_view_is_its_owners_alone(views: Views) -> None:
    assert views.keep(MONA, "GPU", "q=cuda")
    assert views.keep(HUBOT, "GPU", "q=gpu")
    assert told(views, MONA) == [("GPU", "q=cuda")]
    [theirs] = views.of(HUBOT)
    assert not views.rename(MONA, theirs.id, "mine")
    assert not views.forget(MONA, theirs.id)
    assert told(views, HUBOT) == [("GPU", "q=gpu")]


def test_a_view_that_is_kept_again_stands_for_the_new_search(views: Views) -> None:
    views.keep(MONA, "GPU", "q=cuda")
    views.keep(MONA, "GPU", "state=healed")
    assert told(views, MONA) == [("GPU", "state=healed")]


def test_views_are_renamed_but_never_onto_another(views: Views) -> None:
    views.keep(MONA, "b", "q=1")
    views.keep(MONA, "a", "q=2")
    first, second = views.of(MONA)
    assert views.rename(MONA, second.id, "c")
    assert not views.rename(MONA, second.id, first.name)
    assert told(views, MONA) == [("a", "q=2"), ("c", "q=1")]
    assert views.forget(MONA, first.id)
    assert told(views, MONA) == [("c", "q=1")]


def test_nobody_keeps_views_without_end(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.views.MOST_VIEWS", 2)
    assert [views.keep(MONA, name, "") for name in ("a", "b", "c", "a")] == [True, True, False, True]
    assert [name for name, _ in told(views, MONA)] == ["a", "b"]
