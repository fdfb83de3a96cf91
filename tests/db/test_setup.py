"""The setup's one-time texts, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from app.db.setup import Setups


@pytest.fixture
def setups(engine: Engine) -> Setups:
    return Setups(engine)


def test_of_many_who_come_back_at_once_one_is_let_in(setups: Setups) -> None:
    token = setups.begin()
    for _ in range(5):
        state = setups.leave(token, "{}")
        with ThreadPoolExecutor(8) as browsers:
            back = list(browsers.map(lambda state: setups.come_back(token, state), [state] * 8))
        assert sorted(back, key=str) == [None] * 7 + ["{}"]


def test_the_way_back_is_for_whoever_left(setups: Setups) -> None:
    token = setups.begin()
    state = setups.leave(token, "luggage")
    assert setups.come_back("another", state) is None
    assert setups.come_back(token, "another") is None
    assert setups.come_back(token, state) == "luggage"
    setups.lose(state)
    assert setups.come_back(token, state) == "luggage"


def test_a_new_token_ends_the_one_before(setups: Setups) -> None:
    former, token = setups.begin(), setups.begin()
    assert (setups.knows(former), setups.knows(token), setups.knows("")) == (False, True, False)
