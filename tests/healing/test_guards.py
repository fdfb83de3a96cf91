"""What keeps repairs from getting in the way, and what the bot learns of them, through the whole loop."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, update

from app.db.engine import writing
from app.db.tables import RepairRow, TimelineRow
from app.domain.budget import Unit
from app.domain.event import Ticked
from app.domain.finding import Remedy
from app.domain.incident import Incident, State
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import History
from app.domain.repair import Look, Plan, Proof, Repair, RepairState, Verb
from app.domain.tenant import Sender
from app.ports.plugins import Tools
from app.ports.queue import Work
from tests.healing.world import AUTO, OUT_OF_MEMORY, TRAIN_YAML, World

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FIXED = TRAIN_YAML.replace("4096", "2048").replace("steps: 1", "steps: 2")
OTHER_LINE = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Trained:
    """A repair that looks for itself, as often as `answers` says."""

    kind = "train_anew"
    Params: type[BaseModel] = Nothing
    proves = Proof.OWN

    def __init__(self, *answers: bool | None, kind: str = "train_anew") -> None:
        self.kind = kind
        self.answers = list(answers)
        self.did: list[str] = []

    def plan(self, incident: Incident, params: Any, tools: Tools) -> Plan:
        return Plan("Train anew", calls=("start a training",), costs={"gpu_minutes": 60.0}, patience_s=99)

    def apply(self, repair: Repair, params: Any, plan: Plan, tools: Tools) -> Outcome:
        self.did.append("apply")
        return Outcome(Conclusion.SUCCESS, "started", data={"stands": True})

    def look(self, repair: Repair, params: Any, tools: Tools) -> Look:
        answer = self.answers.pop(0)
        data: Mapping[str, Any] = {"version": 4, "spent": {"gpu_minutes": 12.0}} if answer is not None else {}
        return Look(answer, "it was looked at", "https://runs.example/1", f"{len(self.answers)} to go", data)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        self.did.append("undo")
        return Outcome(Conclusion.SUCCESS, "taken back")


def with_actions(world: World, *more: Any) -> World:
    known = {**world.kit.actions, **{action.kind: action for action in more}}
    world.kit = replace(world.kit, actions=known, look_every_s=3600.0)
    return world


def playbook(*rungs: str, more: str = "") -> str:
    return f"{AUTO}{more}playbooks:\n  host_oom: [{', '.join(rungs)}]\n"


def history(world: World) -> History:
    with world.store.begin() as ledger:
        return ledger.history(1, 1, 0)


def incidents(world: World) -> list[Incident]:
    with world.store.begin() as ledger:
        return ledger.incidents_at(1)


def states(world: World) -> list[tuple[str, RepairState]]:
    return [(each.remedy.action, each.state) for each in world.repairs()]


def test_the_teams_playbook_goes_before_the_usual_ladder(world: World) -> None:
    world.project(playbook("open_issue"))
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert states(world) == [("open_issue", RepairState.DONE)]
    assert not world.forge.pulls


def test_what_follows_a_proven_rung_is_done_next_and_only_then_is_it_healed(world: World) -> None:
    first, second = Trained(None, True), Trained(None, True, kind="promote_anew")
    with_actions(world, first, second)
    world.project(playbook("{action: train_anew, then: promote_anew}", "open_issue"))
    world.fail(OUT_OF_MEMORY)
    for _ in range(4):
        world.drain()
        world.wait_for(Work.REPAIR)
    world.drain()
    assert states(world) == [("train_anew", RepairState.PROVEN), ("promote_anew", RepairState.PROVEN)]
    assert world.incident().state is State.HEALED
    assert world.repairs()[0].proof["version"] == 4
    assert [entry.data["text"] for entry in world.record().timeline if entry.kind == "progress"] == [
        "1 to go",
        "1 to go",
    ]


def test_what_follows_waits_for_a_person_where_heal_yml_says_so(world: World) -> None:
    with_actions(world, Trained(True), Trained(True, kind="promote_anew"))
    more = "actions: {promote_anew: approve}\n"
    world.project(playbook("{action: train_anew, then: promote_anew}", "open_issue", more=more))
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.wait_for(Work.REPAIR)
    world.drain()
    assert world.incident().state is State.AWAITING_APPROVAL
    assert states(world) == [("train_anew", RepairState.PROVEN), ("promote_anew", RepairState.ASKED)]


def test_what_does_not_hold_is_taken_back_before_the_next_rung(world: World) -> None:
    action = Trained(False)
    with_actions(world, action)
    world.project(playbook("train_anew", "open_issue"))
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.wait_for(Work.REPAIR)
    world.drain()
    assert action.did == ["apply", "undo"]
    assert world.incident().state is State.ESCALATED
    assert world.incident().issue_number is not None


def test_what_a_repair_used_stands_in_the_ledger_of_budgets(world: World) -> None:
    with_actions(world, Trained(None, True))
    world.project(playbook("train_anew"))
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert history(world).spent[Unit.GPU_MINUTES].amount == 60.0
    for _ in range(2):
        world.wait_for(Work.REPAIR)
        world.drain()
    assert history(world).spent[Unit.GPU_MINUTES].amount == 12.0


def test_a_repair_that_would_overdraw_a_budget_is_left(world: World) -> None:
    action = Trained(True)
    with_actions(world, action)
    world.project(playbook("train_anew", more="limits: {gpu_minutes_per_day: 59}\n"))
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert action.did == []
    assert world.incident().state is State.OBSERVED
    assert "59 gpu minutes" in world.record().repairs[0].outcome.title


def test_the_calls_to_github_of_a_repair_are_counted(world: World) -> None:
    world.project()
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    spent = history(world).spent
    assert spent[Unit.PULLS].amount == 1
    assert spent[Unit.CONTENT_CALLS].amount == 2  # the commit and the pull request
    assert spent[Unit.API_POINTS].amount > 10


def test_two_repairs_do_not_change_one_file_at_a_time(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY, name="train")
    world.drain()
    assert len(world.forge.pulls) == 1  # applied, and not proven yet
    world.forge.push("feature", {"configs/train.yaml": TRAIN_YAML, "train.py": "print()\n", ".github/heal.yml": AUTO})
    world.fail(OTHER_LINE, branch="feature", name="tune")
    world.drain()
    assert len(world.forge.pulls) == 1
    second = incidents(world)[1]
    assert second.state is State.REPAIRING


def test_one_cause_on_two_branches_is_repaired_once(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.forge.push("feature", {"configs/train.yaml": TRAIN_YAML, "train.py": "print()\n"})
    world.fail(OUT_OF_MEMORY, branch="feature")
    world.drain()
    first, second = incidents(world)
    assert (first.state, second.state) == (State.VERIFYING, State.OBSERVED)
    assert len(world.forge.pulls) == 1


def test_after_two_pull_requests_that_people_closed_the_bot_is_silent_until_asked(world: World) -> None:
    world.project()
    for number, branch in enumerate(("main", "second", "third"), start=1):
        if branch != "main":
            files = {"configs/train.yaml": TRAIN_YAML, "train.py": "print()\n"}
            world.forge.push(branch, files)
        world.fail(OUT_OF_MEMORY, branch=branch, name=f"train {branch}")
        world.drain()
        if number < 3:
            world.close_pull(number, merged=False)
            world.drain()
    assert len(world.forge.pulls) == 2
    assert world.incident(3).state is State.OBSERVED
    decided = [entry for entry in world.record(3).timeline if entry.kind == "decided"][-1]
    assert decided.data["reason"].startswith("Muted: 2 fix pull requests")
    number = world.forge.pull_by_hand("third", "Train more").number
    world.say("retry 3", number)
    world.drain()
    assert len([pull for pull in world.forge.pulls.values() if pull.author == "heal[bot]"]) == 3


@pytest.mark.parametrize(("text", "agreed"), [(FIXED, True), (TRAIN_YAML.replace("4096", "64"), False)])
def test_what_would_have_been_done_is_compared_with_what_people_did(world: World, text: str, agreed: bool) -> None:
    world.project("version: 1\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert states(world) == [("lower_batch_size", RepairState.SHADOWED)]
    assert not world.forge.pulls
    world.forge.push("main", {"configs/train.yaml": text})
    run = world.forge.add_run(
        head_sha=world.forge.branches["main"],
        head_branch="main",
        conclusion="success",
        jobs=[world.forge.job("train", "success")],
    )
    world.arrive(world.forge.finished(run.id))
    world.drain()
    assert world.incident().state is State.RECOVERED
    assert states(world) == [("lower_batch_size", RepairState.AGREED if agreed else RepairState.DIFFERED)]
    (track,) = history(world).tracks.values()
    assert (track.agreed, track.differed) == (int(agreed), int(not agreed))


def test_a_rung_that_has_failed_here_is_climbed_later(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    known = world.incident()
    (first,) = world.repairs()
    with world.store.begin() as ledger:
        for number in range(3):
            made = ledger.add_repair(replace(first, id=0, effect_key=f"old{number}"))
            ledger.save_repair(replace(made, state=RepairState.DISPROVEN), due_at=None)
    world.forge.push("other", {"configs/train.yaml": TRAIN_YAML, "train.py": "print()\n"})
    world.fail(OUT_OF_MEMORY, branch="other", name="another")
    world.drain()
    other = next(incident for incident in incidents(world) if incident.id != known.id)
    assert other.finding.ladder[0] == Remedy("lower_batch_size", {"factor": 4})


def test_a_bolder_mode_is_suggested_once_it_has_been_earned(world: World) -> None:
    world.project("version: 1\nmode: approve\nautonomy: {suggest_at: 0.5}\nlimits: {breaker_after: 0}\n")
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    (first,) = world.repairs()
    with world.store.begin() as ledger:
        for number in range(5):
            made = ledger.add_repair(replace(first, id=0, effect_key=f"old{number}"))
            ledger.save_repair(replace(made, state=RepairState.PROVEN, proof={"proven": True}), due_at=None)
    world.press("approve:1")
    world.drain()
    assert world.incident().state is State.HEALED
    (suggested,) = [entry for entry in world.record().timeline if entry.kind == "suggested"]
    assert suggested.data["action"] == "lower_batch_size"


def test_what_a_limit_has_stopped_is_decided_again_when_it_has_let_go(world: World) -> None:
    world.project(f"{AUTO}limits: {{attempts_per_fingerprint: 1}}\n")
    world.on_fix_branch("failure")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.OBSERVED
    tick(world)
    assert world.incident().state is State.OBSERVED
    a_day_passes(world)
    tick(world)
    tried = [each for each in world.repairs() if each.verb is Verb.APPLY and each.begun_at]
    assert [dict(each.remedy.params) for each in tried] == [{"factor": 2}, {"factor": 4}]
    assert "reconsidered" in world.kinds()


def test_what_a_person_or_a_mode_has_stopped_is_not_decided_again_by_itself(world: World) -> None:
    world.project("version: 1\nmode: observe\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    a_day_passes(world)
    tick(world)
    assert "reconsidered" not in world.kinds()


def tick(world: World) -> None:
    world.arrive(Ticked(repository=world.forge.repository, sender=Sender("heal"), at=NOON))
    world.drain()


def a_day_passes(world: World) -> None:
    """All that the limits count was a day earlier, and so was their end."""
    day = timedelta(days=1, minutes=1)
    with writing(world.engine) as connection:
        for row in connection.execute(select(RepairRow.id, RepairRow.intended_at)).all():
            connection.execute(
                update(RepairRow).where(RepairRow.id == row.id).values(intended_at=row.intended_at - day)
            )
        for entry in connection.execute(select(TimelineRow.id, TimelineRow.data).where(TimelineRow.kind == "decided")):
            trace = [
                {**check, "resets_at": (datetime.fromisoformat(check["resets_at"]) - day).isoformat()}
                if check["resets_at"]
                else check
                for check in entry.data["trace"]
            ]
            changed = update(TimelineRow).where(TimelineRow.id == entry.id)
            connection.execute(changed.values(data={**entry.data, "trace": trace}))
