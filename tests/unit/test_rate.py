from app.resilience.rate import Buckets


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_so_many_at_once_and_then_one_for_each_that_has_come_back() -> None:
    clock = Clock()
    buckets = Buckets(60, now=clock)
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == 1.0
    clock.at += 0.5
    assert buckets.take("a") == 0.5
    clock.at += 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == 1.0


def test_each_name_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(1, now=Clock())
    assert (buckets.take("a"), buckets.take("b")) == (0.0, 0.0)
    assert buckets.take("a") > 0


def test_a_bucket_never_holds_more_than_a_minutes_worth() -> None:
    clock = Clock()
    buckets = Buckets(2, now=clock)
    clock.at += 3600
    assert [bool(buckets.take("a")) for _ in range(3)] == [False, False, True]


def test_of_very_many_names_the_oldest_is_forgotten() -> None:
    buckets = Buckets(1, now=Clock())
    for number in range(10_001):
        buckets.take(number)
    assert len(buckets._left) == 10_000
    assert buckets.take(0) == 0.0
