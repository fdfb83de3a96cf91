"""What waits for its turn, and what nobody waits for."""

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from app.db.engine import reading
from app.db.tables import RepairRow
from app.domain.errors import Permanent
from app.domain.incident import State
from app.domain.repair import RepairState, Verb
from tests.healing.test_guards import OTHER_LINE
from tests.healing.world import AUTO, OUT_OF_MEMORY, TRAIN_YAML, World


class Broken:
    """An action that cannot plan any more."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._action, name)

    def plan(self, *_: Any) -> Any:
        raise Permanent("it cannot be planned")


def test_what_waits_for_anothers_proof_is_planned_anew_seldom(world: World) -> None:
    world.kit = replace(world.kit, look_every_s=600.0)
    world.project()
    world.fail(OUT_OF_MEMORY, name="train")
    world.drain()
    world.forge.push("feature", {"configs/train.yaml": TRAIN_YAML, "train.py": "print()\n", ".github/heal.yml": AUTO})
    world.fail(OTHER_LINE, branch="feature", name="tune")
    world.drain()
    first, second = world.repairs()[0], world.repairs(2)[0]
    assert (first.state, second.state, second.begun_at) == (RepairState.APPLIED, RepairState.PLANNED, None)
    with world.store.begin() as ledger:
        now = ledger.now()
    with reading(world.engine) as connection:
        due_at = connection.scalar(select(RepairRow.due_at).where(RepairRow.id == second.id))
    assert due_at is not None
    assert (due_at - now).total_seconds() > 2_000  # five looks at the first one's proof


def test_what_was_only_to_be_compared_and_cannot_be_planned_harms_nobody(world: World) -> None:
    kind = "lower_batch_size"
    world.kit = replace(world.kit, actions={**world.kit.actions, kind: Broken(world.kit.actions[kind])})
    world.project("version: 1\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    (shadow,) = world.repairs()
    assert (shadow.verb, shadow.state) == (Verb.SHADOW, RepairState.SKIPPED)
    assert world.incident().state is State.OBSERVED
    with world.store.begin() as ledger:
        assert ledger.history(1, 1, 0).tracks == {}
