"""How far a run's advice is followed."""

import random
from typing import Any

import pytest

from actions.advice import advised
from app.domain.errors import Refused
from app.domain.run import Failure

SETTINGS = {"batch": "16", "accumulate": "2", "learning_rate": "0.001", "data": "pack"}


def failure(kind: str = "host_oom", advice: dict[str, str] | None = None, **facts: Any) -> Failure:
    return Failure(kind, advice=advice or {}, resumable=True, facts=facts)


def test_only_what_differs_is_changed() -> None:
    told = {"batch": "4", "accumulate": "8", "learning_rate": "0.001"}
    assert advised(SETTINGS, failure(advice=told)) == {"batch": "4", "accumulate": "8"}


@pytest.mark.parametrize(
    "advice",
    [
        {"batch": "4"},
        {"batch": "4", "accumulate": "9"},
        {"batch": "32"},
        {"accumulate": "1"},
        {"batch": "4", "accumulate": "8", "data": "/etc"},
        {"register_as": "other"},
        {"batch": "0", "accumulate": "0"},
        {"batch": "-4", "accumulate": "-8"},
        {"batch": "3.2e1", "accumulate": "1"},
        {"batch": "٤", "accumulate": "8"},
        {"batch": "10000000", "accumulate": "1"},
        {"learning_rate": "0.1"},
        {"learning_rate": "nan"},
        {"learning_rate": "inf"},
        {"learning_rate": "0"},
        {"precision": "fp4"},
        {"workers": "many"},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_what_changes_the_step_or_is_not_ours_to_follow_is_refused(advice: dict[str, str]) -> None:
    with pytest.raises(Refused):
        advised(SETTINGS, failure(advice=advice))


@pytest.mark.parametrize(
    "advice", [{"workers": "0"}, {"threads": "1"}, {"precision": "bf16"}, {"clip": "0.5"}], ids=str
)
def test_what_only_says_how_it_computes_is_followed(advice: dict[str, str]) -> None:
    assert advised(SETTINGS, failure(advice=advice)) == advice


def test_what_was_left_to_the_run_is_known_from_what_it_says() -> None:
    told = {"batch": "4", "accumulate": "4"}
    assert advised({}, failure(advice=told, batch=16, accumulate=1)) == told
    assert advised({"batch": "auto"}, failure(advice=told, batch=16)) == told
    with pytest.raises(Refused, match="does not say which batch"):
        advised({}, failure(advice=told))
    with pytest.raises(Refused, match=r"above the 0\.01"):
        advised({}, failure("nan_loss", {"learning_rate": "0.1"}, learning_rate=0.01))


def test_a_run_that_was_killed_for_its_memory_before_it_could_say_more_gets_half_the_batch() -> None:
    assert advised({"batch": "16"}, failure()) == {"batch": "8", "accumulate": "2"}
    for settings in ({}, {"batch": "7"}, {"batch": "1"}):
        with pytest.raises(Refused, match="nothing that would keep it"):
            advised(settings, failure())


@pytest.mark.parametrize(("kind", "again"), [("preempted", True), ("disk_full", True), ("nan_loss", False)])
def test_the_same_again_is_tried_only_where_it_may_go_well(kind: str, again: bool) -> None:
    if again:
        assert advised(SETTINGS, failure(kind)) == {}
        return
    with pytest.raises(Refused):
        advised(SETTINGS, failure(kind))


def test_whatever_is_advised_the_examples_of_a_step_stay_as_many() -> None:
    dice = random.Random(6)
    followed = 0
    for _ in range(3_000):
        advice = {
            name: str(dice.choice([1, 2, 4, 8, 16, 32])) for name in ("batch", "accumulate") if dice.random() < 0.8
        }
        try:
            changes = advised(SETTINGS, failure(advice=advice))
        except Refused:
            continue
        followed += bool(advice)
        now = {**SETTINGS, **changes}
        assert int(now["batch"]) * int(now["accumulate"]) == 32
    assert followed > 100
