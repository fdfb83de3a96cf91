"""The table of the scenarios is that of the catalogue."""

import pytest

from tests.scenarios import table
from tests.scenarios.catalogue import Scenario, catalogue, demo

SCENARIOS = (*catalogue(), *demo())
AGAIN = "run `python -m tests.scenarios NAME --write`"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_scenario_stands_in_the_table_as_it_was_played(scenario: Scenario) -> None:
    told = table.results().get(scenario.name)
    assert told is not None, AGAIN
    assert told["ended"] == scenario.ends, AGAIN
    assert told["applied"][-1:] == [scenario.healed_by] or scenario.healed_by is None, AGAIN
    assert scenario.tries is None or told["applied"] == list(scenario.tries), AGAIN


def test_the_page_is_made_of_the_catalogue_and_the_results() -> None:
    assert table.PAGE.read_text("utf-8") == table.page(SCENARIOS, table.results()), AGAIN


def test_nothing_is_told_of_scenarios_that_do_not_exist() -> None:
    assert set(table.results()) - {scenario.name for scenario in SCENARIOS} == set()
