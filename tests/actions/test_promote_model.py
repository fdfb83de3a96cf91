"""Promotion and roll back, in a registry in memory. Every write of registry and shelf is a place to be killed at."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from actions.champions import PREVIOUS, REHEARSAL
from actions.promote_model import PromoteModel
from actions.roll_back_model import RollBackModel
from app.domain.errors import LeaseLost, Refused, Unreachable
from app.domain.finding import Remedy
from app.domain.model import GateRules, ModelRules
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import Policy
from app.domain.repair import Plan, Repair, RepairState
from app.ports.plugins import Action, Looks, Tools
from tests.actions.stage import NOW, MemoryShelf, stage
from tests.actions.trials import classes
from tests.twins.registry import MemoryRegistry

PROMOTE, BACK = PromoteModel(), RollBackModel()
NAME = "churn-model"
FILE = "heal/evaluation.jsonl"
RULES = ModelRules(registry=NAME, evaluation=FILE, canary_s=3600)


def rows(columns: Mapping[str, Any]) -> bytes:
    told = {name: np.asarray(values).tolist() for name, values in columns.items()}
    size = len(next(iter(told.values())))
    return b"\n".join(
        json.dumps({"id": f"r{place}", **{name: values[place] for name, values in told.items()}}).encode()
        for place in range(size)
    )


BEFORE, AFTER = (rows(side) for side in classes(np.random.default_rng(1), 4_000, gain=0.04))


class Shelf(MemoryShelf):
    """Counts its writes among the registry's."""

    def __init__(self, registry: MemoryRegistry) -> None:
        super().__init__()
        self.registry = registry

    def put(self, name: str, data: Mapping[str, Any]) -> None:
        super().put(name, data)
        self.registry.writes.append(("shelf", name))


class Stops:
    """Raises LeaseLost once so many writes have happened, wherever they go."""

    def __init__(self, inner: Any, registry: MemoryRegistry, writes: int) -> None:
        self.inner, self.registry, self.until = inner, registry, writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if len(self.registry.writes) >= self.until:
                raise LeaseLost("stopped here")
            before = len(self.registry.writes)
            answer = found(*args, **kwargs)
            if before < self.until <= len(self.registry.writes):
                raise LeaseLost("stopped here")
            return answer

        return call


class Clock:
    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


@dataclass
class World:
    registry: MemoryRegistry
    tools: Tools
    clock: Clock

    def plan(self, action: Action, **params: Any) -> Plan:
        before = list(self.registry.writes)
        plan = action.plan(self.tools.incident, action.Params.model_validate({"model": "churn", **params}), self.tools)
        assert self.registry.writes == before, "a dry run has no effect"
        return plan

    def repair(self, action: Action, plan: Plan, key: str = "key-1", **params: Any) -> Repair:
        remedy = Remedy(action.kind, {"model": "churn", **params})
        return Repair(1, remedy, 0, key, NOW, plan=plan, begun_at=NOW)

    def apply(self, action: Action, repair: Repair, tools: Tools | None = None) -> Outcome:
        """As the loop does it: what was begun is finished by the plan that it was begun with."""
        assert repair.plan is not None
        assert not repair.plan.refusal, repair.plan.refusal
        params = action.Params.model_validate(dict(repair.remedy.params))
        return action.apply(repair, params, repair.plan, tools or self.tools)

    def done(self, action: Action = PROMOTE, key: str = "key-1") -> Repair:
        repair = self.repair(action, self.plan(action), key)
        return replace(
            repair, outcome=self.apply(action, repair), applied_at=self.clock.now(), state=RepairState.APPLIED
        )

    def look(self, action: Looks, repair: Repair, **tools: Any) -> Any:
        params = PROMOTE.Params.model_validate({"model": "churn"})
        return action.look(repair, params, replace(self.tools, **tools))

    def aliases(self) -> dict[str, int]:
        return self.registry.aliases(NAME)


TRAINED = Repair(
    1, Remedy("retrain_model", {"model": "churn"}), 0, "train-1", NOW, state=RepairState.PROVEN, proof={"version": 4}
)


def world(rules: ModelRules = RULES, *, previous: bool = True, repairs: tuple[Repair, ...] = (TRAINED,)) -> World:
    """Version 3 serves, 2 did before, and 4 was trained for this incident."""
    registry = MemoryRegistry()
    for number in (1, 2, 3, 4):
        registry.add(
            NAME,
            code_sha=f"{number}" * 40,
            data_version=f"2026-{number:02}",
            files={FILE: AFTER if number == 4 else BEFORE},
            alias="champion" if number == 3 else PREVIOUS if number == 2 and previous else "",
        )
    clock = Clock()
    at = stage(policy=Policy(models={"churn": rules}), facts={"model": "churn"})
    tools = replace(at.tools, registry=registry, shelf=Shelf(registry), clock=clock, repairs=repairs)
    return World(registry, tools, clock)


def test_the_plan_says_what_will_point_where_and_why() -> None:
    plan = world().plan(PROMOTE)
    assert plan.title == "Promote version 4 of churn"
    assert plan.calls == ("champion: 3 → 4", "previous: 2 → 3")
    assert "accuracy 0.8" in plan.why
    assert "interval" in plan.why
    assert plan.report["kind"] == "gate"
    assert plan.report["open"] is True
    assert plan.report["move"] == {"registry": NAME, "alias": "champion", "from": 3, "to": 4, "previous": 2}
    assert plan.patience_s >= RULES.canary_s


def test_two_dry_runs_say_the_same() -> None:
    at = world()
    assert at.plan(PROMOTE) == at.plan(PROMOTE)


def test_a_promotion_moves_both_aliases_and_leaves_no_rehearsal() -> None:
    at = world()
    repair = at.done()
    assert repair.outcome is not None
    assert repair.outcome.conclusion is Conclusion.SUCCESS
    assert at.aliases() == {"champion": 4, "previous": 3}
    version = at.registry.version(NAME, 4)
    assert version is not None
    assert version.tags["heal.promoted_by"] == "key-1"
    assert repair.outcome.data["url"] == version.url
    points = [write[2:] for write in at.registry.writes if write[0] == "point"]
    assert points == [(REHEARSAL, 3), (REHEARSAL, None), (PREVIOUS, 3), ("champion", 4)]


@pytest.mark.parametrize(("action", "previous"), [(PROMOTE, True), (PROMOTE, False), (BACK, True)])
def test_whoever_is_killed_anywhere_finishes_what_was_begun(action: Action, previous: bool) -> None:
    def begin() -> tuple[World, Repair]:
        at = world(previous=previous)
        return at, at.repair(action, at.plan(action))

    calm, repair = begin()
    wanted = calm.apply(action, repair)
    assert calm.apply(action, repair) == wanted
    writes = len(calm.registry.writes)
    for count in range(1, writes + 1):
        torn, repair = begin()
        stops = {name: Stops(getattr(torn.tools, name), torn.registry, count) for name in ("registry", "shelf")}
        with pytest.raises(LeaseLost):
            torn.apply(action, repair, replace(torn.tools, **stops))
        torn.clock.at += timedelta(minutes=5)
        again = torn.apply(action, repair)
        assert again.conclusion is Conclusion.SUCCESS, count
        assert {**again.data, "at": ""} == {**wanted.data, "at": ""}, count
        assert torn.aliases() == calm.aliases(), count
        assert torn.apply(action, repair) == again


@pytest.mark.parametrize("action", [PROMOTE, BACK])
def test_an_undo_brings_every_alias_back_wherever_it_is_killed(action: Action) -> None:
    calm = world()
    before = calm.aliases()
    repair = calm.done(action)
    start = len(calm.registry.writes)
    assert action.undo(repair, calm.tools).conclusion is Conclusion.SUCCESS
    assert calm.aliases() == before
    writes = len(calm.registry.writes)
    assert action.undo(repair, calm.tools).conclusion is Conclusion.SUCCESS
    assert len(calm.registry.writes) == writes
    for count in range(start + 1, writes + 1):
        torn = world()
        repair = torn.done(action)
        stops = {name: Stops(getattr(torn.tools, name), torn.registry, count) for name in ("registry", "shelf")}
        with pytest.raises(LeaseLost):
            action.undo(repair, replace(torn.tools, **stops))
        assert action.undo(repair, torn.tools).conclusion is Conclusion.SUCCESS
        assert torn.aliases() == before


def test_an_undo_after_a_first_promotion_with_a_previous_removes_it_again() -> None:
    at = world(previous=False)
    repair = at.done()
    assert at.aliases() == {"champion": 4, "previous": 3}
    PROMOTE.undo(repair, at.tools)
    assert at.aliases() == {"champion": 3}


def test_what_was_stopped_on_its_way_can_be_taken_back() -> None:
    at = world()
    repair = at.repair(PROMOTE, at.plan(PROMOTE))
    at.registry.fail_next("tag", Unreachable("away"))
    with pytest.raises(Unreachable):
        at.apply(PROMOTE, repair)
    assert at.aliases()["champion"] == 4
    assert PROMOTE.undo(repair, at.tools).conclusion is Conclusion.SUCCESS
    assert at.aliases() == {"champion": 3, "previous": 2}


def test_what_never_began_is_not_taken_back() -> None:
    at = world()
    assert PROMOTE.undo(at.repair(PROMOTE, at.plan(PROMOTE)), at.tools).conclusion is Conclusion.NEUTRAL


def test_a_champion_that_a_person_has_set_since_is_left() -> None:
    at = world()
    repair = at.done()
    at.registry.point_by_hand(NAME, "champion", 1)
    found = PROMOTE.undo(repair, at.tools)
    assert found.conclusion is Conclusion.NEUTRAL
    assert "points at version 1" in found.title
    assert at.aliases() == {"champion": 1, "previous": 3}


def test_an_undo_to_a_version_that_is_gone_asks_for_a_person() -> None:
    at = world()
    repair = at.done()
    at.registry.forget(NAME, 3)
    found = PROMOTE.undo(repair, at.tools)
    assert found.conclusion is Conclusion.NEUTRAL
    assert "a person must choose" in found.title


def test_a_champion_that_changed_since_the_plan_is_not_overwritten() -> None:
    at = world()
    repair = at.repair(PROMOTE, at.plan(PROMOTE))
    at.registry.point_by_hand(NAME, "champion", 1)
    found = at.apply(PROMOTE, repair)
    assert found.conclusion is Conclusion.STALE
    assert "points at version 1" in found.title
    assert at.aliases() == {"champion": 1, "previous": 2}
    assert at.registry.writes == []


def test_a_version_that_somebody_else_promoted_meanwhile_is_not_ours() -> None:
    at = world()
    repair = at.repair(PROMOTE, at.plan(PROMOTE))
    at.registry.point_by_hand(NAME, "champion", 4)
    found = at.apply(PROMOTE, repair)
    assert found.conclusion is Conclusion.NEUTRAL
    assert "somebody else" in found.title
    assert at.registry.writes == []


def test_a_rehearsal_that_fails_moves_nothing() -> None:
    at = world()
    repair = at.repair(PROMOTE, at.plan(PROMOTE))
    at.registry._files["run-churn-model-3"] = {}
    found = at.apply(PROMOTE, repair)
    assert found.conclusion is Conclusion.NEUTRAL
    assert "the files of version 3 are gone" in found.title
    assert at.aliases() == {"champion": 3, "previous": 2}
    assert at.registry.writes == []


def test_an_alias_that_does_not_hold_stops_the_promotion() -> None:
    at = world()
    repair = at.repair(PROMOTE, at.plan(PROMOTE))

    class Forgetful:
        def __getattr__(self, name: str) -> Any:
            return getattr(at.registry, name)

        def point(self, model: str, alias: str, number: int | None) -> None:
            if alias != REHEARSAL:
                raise AssertionError("nothing may move")

    found = at.apply(PROMOTE, repair, replace(at.tools, registry=Forgetful()))
    assert found.conclusion is Conclusion.NEUTRAL
    assert "an alias that was set to version 3 reads as None" in found.title


def test_a_rehearsal_s_alias_is_removed_when_the_registry_fails_in_between() -> None:
    at = world()
    repair = at.repair(PROMOTE, at.plan(PROMOTE))
    at.registry.fail_next("point", Unreachable("away"), after_write=True)
    with pytest.raises(Unreachable):
        at.apply(PROMOTE, repair)
    assert at.apply(PROMOTE, repair).conclusion is Conclusion.SUCCESS
    assert REHEARSAL not in at.aliases()


def test_a_lost_lease_writes_nothing() -> None:
    at = world()
    repair = at.repair(PROMOTE, at.plan(PROMOTE))

    def lost() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        at.apply(PROMOTE, repair, replace(at.tools, guard=lost))
    assert at.registry.writes == []


def test_a_promotion_holds_when_the_canary_is_over() -> None:
    at = world()
    repair = at.done()
    at.clock.at = NOW + timedelta(seconds=3599)
    waiting = at.look(PROMOTE, repair)
    assert waiting.proven is None
    assert waiting.progress == "version 4 is watched until 2026-11-21 10:00 UTC"
    at.clock.at = NOW + timedelta(seconds=3600)
    assert at.look(PROMOTE, repair).proven is True


def test_a_cause_that_is_found_again_ends_the_canary() -> None:
    at = world()
    found = at.look(PROMOTE, at.done(), again_at=NOW + timedelta(minutes=7))
    assert found.proven is False
    assert found.reason == "the canary does not hold: the cause was found again at 2026-11-21 09:07 UTC"


@pytest.mark.parametrize("to", [1, None])
def test_an_alias_that_somebody_moved_disproves_and_says_to_what(to: int | None) -> None:
    at = world()
    repair = at.done()
    at.clock.at = NOW + timedelta(days=1)
    if to is None:
        del at.registry._aliases[NAME, "champion"]
    else:
        at.registry.point_by_hand(NAME, "champion", to)
    found = at.look(PROMOTE, repair)
    assert found.proven is False
    told = "is gone" if to is None else "from version 4 to 1 by somebody else"
    assert told in found.reason


def test_a_promotion_that_does_not_hold_is_taken_back_and_a_roll_back_is_not() -> None:
    at = world()
    promoted = at.done().outcome
    assert promoted is not None
    assert promoted.data["stands"] is True
    at = world()
    back = at.done(BACK).outcome
    assert back is not None
    assert "stands" not in back.data


def refusal(at: World, **params: Any) -> str:
    plan = at.plan(PROMOTE, **params)
    assert bool(plan.refusal) != bool(plan.calls)
    return plan.refusal


def test_a_closed_gate_names_what_closes_it() -> None:
    at = world()
    at.registry.put_file("run-churn-model-4", FILE, BEFORE)
    plan = at.plan(PROMOTE)
    assert plan.refusal.startswith("the gate is closed. metric: accuracy")
    assert plan.report["open"] is False
    assert plan.report["kind"] == "gate"
    assert plan.calls == ()


def test_a_promotion_is_followed_by_a_rest() -> None:
    at = world()
    PROMOTE.undo(at.done(), at.tools)
    assert "cooldown: The last promotion was at 2026-11-21 09:00 UTC" in refusal(at)
    at.clock.at = NOW + timedelta(seconds=RULES.gate.cooldown_s)
    assert not refusal(at)


def test_the_rest_is_known_from_the_registry_too() -> None:
    at = world()
    at.registry.tag(NAME, 3, "heal.promoted_at", (NOW - timedelta(hours=1)).isoformat())
    assert "cooldown: " in refusal(at)


def test_a_first_promotion_is_a_person_s() -> None:
    at = world()
    del at.registry._aliases[NAME, "champion"]
    assert "a person makes the first promotion" in refusal(at)


def test_a_model_that_heal_yml_does_not_describe_is_refused() -> None:
    at = world()
    assert "heal.yml describes no model 'other' (it describes: churn)" in refusal(at, model="other")
    assert "models.churn.registry" in refusal(world(replace(RULES, registry="")))
    assert "set `models.churn.champion`" in refusal(world(replace(RULES, champion="previous")))


def test_the_version_is_the_one_asked_for_or_that_was_trained_for_this() -> None:
    assert "version 3 is the champion already" in refusal(world(), version=3)
    assert "has no version 9" in refusal(world(), version=9)
    at = world(repairs=())
    assert "was trained for this incident" in refusal(at)
    assert at.plan(PROMOTE, version=4).title == "Promote version 4 of churn"


def test_another_model_s_training_and_one_that_failed_are_not_promoted() -> None:
    other = replace(TRAINED, remedy=Remedy("retrain_model", {"model": "fraud"}))
    failed = replace(TRAINED, state=RepairState.FAILED)
    assert "was trained for this incident" in refusal(world(repairs=(other, failed)))


def test_a_version_that_carries_the_training_s_mark_is_found_by_it() -> None:
    at = world(repairs=(replace(TRAINED, proof={}),))
    at.registry.tag(NAME, 4, "heal.id", "train-1")
    at.registry._versions[NAME][4] = replace(at.registry._versions[NAME][4], created_at=NOW)
    at.registry.writes.clear()
    assert at.plan(PROMOTE).title == "Promote version 4 of churn"


def test_the_finding_names_the_model_where_the_remedy_does_not() -> None:
    assert world().plan(PROMOTE, model="").title == "Promote version 4 of churn"
    assert world().plan(BACK, model="").title == "Roll churn back to version 2"


def test_a_version_that_is_not_ready_is_refused() -> None:
    at = world()
    at.registry._versions[NAME][4] = replace(at.registry._versions[NAME][4], ready=False)
    assert "is not ready" in refusal(at)


def test_an_evaluation_that_cannot_be_read_closes_the_gate_with_the_reason() -> None:
    at = world()
    at.registry.put_file("run-churn-model-3", FILE, b'{"label": 1}')
    assert f"the evaluation of version 3 ({FILE}) cannot be read: it has no column id" in refusal(at)
    at.registry._files["run-churn-model-4"] = {}
    assert f"the evaluation of version 4 ({FILE}) is not there" in refusal(at)


def test_an_unknown_metric_is_refused_with_those_that_are_known() -> None:
    assert "unknown metric 'bleu'; the gate knows accuracy" in refusal(world(replace(RULES, gate=GateRules("bleu"))))


def test_a_registry_that_says_no_is_an_expected_refusal() -> None:
    at = world()
    at.registry.fail_next("aliased", Refused("this registry is not for you"))
    assert refusal(at) == "this registry is not for you"


def test_a_registry_that_is_away_is_asked_again_later() -> None:
    at = world()
    at.registry.fail_next("file", Unreachable("away"))
    with pytest.raises(Unreachable):
        at.plan(PROMOTE)


# --- roll back


def test_a_roll_back_needs_no_gate_and_no_rest() -> None:
    at = world()
    at.done()
    plan = at.plan(BACK)
    assert plan.title == "Roll churn back to version 3"
    assert plan.calls == ("champion: 4 → 3",)
    repair = at.repair(BACK, plan, "key-2")
    assert at.apply(BACK, repair).conclusion is Conclusion.SUCCESS
    assert at.aliases() == {"champion": 3, "previous": 3}


def test_a_second_roll_back_does_not_bring_the_bad_version_back() -> None:
    at = world()
    at.done()
    at.apply(BACK, at.repair(BACK, at.plan(BACK), "key-2"))
    assert "version 3 serves already" in at.plan(BACK).refusal
    assert at.aliases()["champion"] == 3


def test_without_a_previous_there_is_nothing_to_go_back_to() -> None:
    assert "none is known to have served before" in world(previous=False).plan(BACK).refusal


def test_a_roll_back_to_a_version_without_an_evaluation_is_possible() -> None:
    at = world()
    at.registry._files["run-churn-model-2"] = {}
    at.done(BACK)
    assert at.aliases()["champion"] == 2


def test_a_roll_back_to_a_version_that_is_gone_moves_nothing() -> None:
    at = world()
    repair = at.repair(BACK, at.plan(BACK))
    at.registry.forget(NAME, 2)
    found = at.apply(BACK, repair)
    assert found.conclusion is Conclusion.NEUTRAL
    assert "version 2 is not in the registry any more" in found.title
    assert at.aliases() == {"champion": 3}


def test_an_alias_that_a_later_repair_moved_is_told_as_such() -> None:
    at = world()
    repair = at.done()
    at.apply(BACK, at.repair(BACK, at.plan(BACK), "key-2"))
    found = at.look(PROMOTE, repair)
    assert found.proven is False
    assert found.reason == "champion was moved from version 4 to 3 by a later repair"


def test_a_roll_back_without_a_champion_is_refused() -> None:
    at = world()
    del at.registry._aliases[NAME, "champion"]
    assert "has no version with the alias champion" in at.plan(BACK).refusal


def test_a_roll_back_is_watched_too() -> None:
    at = world()
    repair = at.done(BACK)
    assert at.look(BACK, repair).proven is None
    at.clock.at = NOW + timedelta(hours=2)
    assert at.look(BACK, repair).proven is True
    assert at.look(BACK, repair, again_at=NOW + timedelta(minutes=1)).proven is False


@pytest.mark.parametrize("action", [PROMOTE, BACK])
def test_unknown_parameters_are_refused(action: Action) -> None:
    with pytest.raises(ValidationError):
        action.Params.model_validate({"model": "churn", "force": True})
