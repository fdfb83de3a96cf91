"""Every scenario of tests/scenarios, broken and played to its end against one bot."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from tests.e2e.conftest import Staged
from tests.e2e.stage import Stage
from tests.scenarios.catalogue import Scenario, catalogue, demo, packages
from tests.scenarios.play import Played, judge, play_all

SCENARIOS = catalogue()
HEALED = [s for s in SCENARIOS if s.ends == "healed"]
ALONE = [s for s in SCENARIOS if s.left_alone]
AT_ONCE = 4

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def bot(staged: Staged) -> Iterator[Stage]:
    with staged("embedded", {"HEAL_DATABASE__LEASE_S": "30"}, packages(SCENARIOS)) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def played(bot: Stage) -> Mapping[str, Played]:
    """All of them, some at a time; each by its name."""
    return {each.scenario.name: each for each in play_all(bot, SCENARIOS, at_once=AT_ONCE)}


def kept(played: Mapping[str, Played], scenario: Scenario, *promises: str) -> None:
    each = played[scenario.name]
    wrong = [problem for promise in promises for problem in each.problems.get(promise, [])]
    assert not wrong, "\n".join([*wrong, each.story])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_scenario_comes_to_the_end_that_was_told(played: Mapping[str, Played], scenario: Scenario) -> None:
    kept(played, scenario, "end")


@pytest.mark.parametrize("scenario", HEALED, ids=lambda s: s.name)
def test_what_is_healed_is_proven_by_the_jobs_that_failed(played: Mapping[str, Played], scenario: Scenario) -> None:
    kept(played, scenario, "proof", "fix")


@pytest.mark.parametrize("scenario", ALONE, ids=lambda s: s.name)
def test_what_is_left_alone_is_untouched(played: Mapping[str, Played], scenario: Scenario) -> None:
    kept(played, scenario, "untouched")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_no_effect_of_a_scenario_happens_twice(played: Mapping[str, Played], scenario: Scenario) -> None:
    kept(played, scenario, "twice")


@pytest.mark.parametrize("scenario", HEALED, ids=lambda s: s.name)
def test_after_the_undo_the_tree_is_byte_for_byte_what_it_was(played: Mapping[str, Played], scenario: Scenario) -> None:
    kept(played, scenario, "undo")
    each = played[scenario.name]
    if scenario.undo and each.seen.pulls:
        assert each.undone_s is not None, "it was not tried"


def test_there_are_at_least_thirty_of_which_eight_are_left_alone() -> None:
    every = (*SCENARIOS, *demo())
    assert len(every) >= 30
    assert sum(scenario.left_alone for scenario in every) >= 8
    assert sum(scenario.ends == "healed" for scenario in every) >= 10


def test_a_scenario_that_ends_otherwise_is_noticed(played: Mapping[str, Played]) -> None:
    """Each promise is broken once, by telling the scenario wrong."""
    healed = next(each for each in played.values() if each.right and each.seen.fix)
    scenario, seen = healed.scenario, healed.seen
    assert judge(scenario, seen) == {}
    assert "end" in judge(replace(scenario, healed_by="another_action", tries=None), seen)
    assert "end" in judge(replace(scenario, cause="another_cause"), replace(seen, incident=None))
    assert "fix" in judge(replace(scenario, after={"README.md": ("never written",)}), seen)
    assert "fix" in judge(replace(scenario, without=dict.fromkeys(seen.fix or {}, ("",))), seen)
    assert "proof" in judge(scenario, replace(seen, green=()))
    assert "proof" in judge(scenario, replace(seen, main={**seen.main, "new.txt": b""}))
    wrongly = judge(replace(scenario, ends="escalated", healed_by=None, tries=None, left_alone=True), seen)
    assert {"end", "untouched"} <= set(wrongly)
