"""The configuration in force, and where each value stands."""

from app.domain.policy import CONFIG_PATH
from app.healing.configuration import OWNER, REPOSITORY
from app.healing.explained import Setting, explained
from tests.healing.world import World

OWN = """version: 1
mode: auto
detectors:
  data_drift: observe
limits:
  cooldown: 2h
protected:
  paths: [data/**]
"""


def settings(world: World) -> dict[str, Setting]:
    return {setting.key: setting for setting in explained(world.kit, world.forge).settings}


def test_each_value_names_the_line_that_it_stands_in(world: World) -> None:
    world.project(OWN)
    told = settings(world)
    assert (told["mode"].origin, told["mode"].line) == (REPOSITORY, 2)
    assert (told["detectors.data_drift"].value, told["detectors.data_drift"].line) == ("observe", 4)
    assert (told["limits.cooldown"].value, told["limits.cooldown"].line) == ("2h", 6)
    assert (told["watch"].origin, told["watch"].line, told["watch"].set) == ("default", 0, False)


def test_a_value_of_the_owner_names_the_line_of_the_owner_s_file(world: World) -> None:
    world.project(OWN)
    world.forge.owner_files[CONFIG_PATH] = "version: 1\nmode: observe\nwatch: 1d\nprotected:\n  paths: [secrets/**]\n"
    told = settings(world)
    assert (told["watch"].origin, told["watch"].line, told["watch"].owners_line) == (OWNER, 0, 3)
    assert (told["mode"].line, told["mode"].owners_line) == (2, 0)
    both = told["protected.paths"]
    assert (both.line, both.owners_line) == (8, 5)


def test_a_file_that_cannot_be_read_has_no_lines_and_is_told(world: World) -> None:
    world.project("mode: [")
    found = explained(world.kit, world.forge)
    assert found.own
    assert not found.owners
    assert [problem.level for problem in found.configured.problems] == ["failure"]
    assert all(setting.line == 0 for setting in found.settings)


def test_without_any_file_every_value_is_the_default(world: World) -> None:
    world.project(None)
    found = explained(world.kit, world.forge)
    assert (found.own, found.owners) == (False, False)
    assert {setting.origin for setting in found.settings} == {"default"}
