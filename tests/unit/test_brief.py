"""What is kept for a short while."""

import threading

import pytest

from app.resilience.brief import Brief


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_fetched_is_kept_until_its_time_is_over() -> None:
    clock, fetched = Clock(), iter(range(9))
    brief: Brief[int] = Brief(60.0, 2, now=clock)
    assert [brief.get("a", lambda: next(fetched)) for _ in range(3)] == [0, 0, 0]
    clock.now = 59.0
    assert brief.get("a", lambda: next(fetched)) == 0
    clock.now = 60.0
    assert brief.get("a", lambda: next(fetched)) == 1


def test_of_too_many_the_longest_unused_is_let_go() -> None:
    brief: Brief[str] = Brief(60.0, 2, now=Clock())
    fetched: list[str] = []

    def get(name: str) -> None:
        def fetch() -> str:
            fetched.append(name)
            return name

        brief.get(name, fetch)

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name)
    assert fetched == ["a", "b", "c", "b"]


def test_a_fetch_that_fails_is_tried_again() -> None:
    brief: Brief[int] = Brief(60.0, 2, now=Clock())
    with pytest.raises(ZeroDivisionError):
        brief.get("a", lambda: 1 // 0)
    assert brief.get("a", lambda: 7) == 7


def test_those_who_ask_at_the_same_time_have_it_fetched_once() -> None:
    brief: Brief[int] = Brief(60.0, 2, now=Clock())
    begun, go_on = threading.Event(), threading.Event()
    fetched: list[int] = []

    def slow() -> int:
        begun.set()
        go_on.wait(10)
        fetched.append(1)
        return len(fetched)

    first = threading.Thread(target=brief.get, args=("a", slow))
    first.start()
    begun.wait(10)
    second = threading.Thread(target=brief.get, args=("a", slow))
    second.start()
    assert brief.get("b", lambda: 5) == 5  # nobody else waits
    go_on.set()
    first.join(10)
    second.join(10)
    assert fetched == [1]
