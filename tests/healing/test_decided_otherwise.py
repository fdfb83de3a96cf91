"""A person decides otherwise while a repair is half done."""

from dataclasses import replace

from app.domain.incident import State
from app.domain.repair import RepairState
from app.ports.queue import Work
from tests.healing.world import OUT_OF_MEMORY, World


class Killed(BaseException):
    """As by SIGKILL: nothing of the worker runs any more."""


def test_what_was_begun_when_the_worker_died_is_taken_back_when_a_person_says_no(world: World) -> None:
    world.project()

    def die(step: str) -> None:
        if step == "after apply":
            raise Killed

    kit = world.kit
    world.kit = replace(kit, passing=die)
    world.fail(OUT_OF_MEMORY)
    try:
        world.drain()
    except Killed:
        world.kit = kit
    assert [pull.state for pull in world.forge.pulls.values()] == ["open"]
    issue = world.forge.pull_by_hand("main", "Something else").number
    world.say("reject 1", issue)
    world.drain()
    world.expire(Work.REPAIR)
    world.drain()
    assert world.incident().state is State.DISMISSED
    ours = [pull for pull in world.forge.pulls.values() if pull.author == "heal[bot]"]
    assert [pull.state for pull in ours] == ["closed"]
    assert [each.state for each in world.repairs()] == [RepairState.UNDONE, RepairState.DONE]
