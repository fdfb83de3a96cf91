"""Events without a run behind them: alerts, samples, models, the schedule."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import BaseModel, ConfigDict

from app.domain.event import AlertsReported, Observable, Pushed
from app.domain.evidence import Alerts, Evidence, EvidenceBag
from app.domain.finding import Clear, Finding, Remedy, Severity, fingerprint
from app.domain.incident import State
from app.domain.signal import Alert
from app.domain.tenant import Sender
from app.healing.configuration import resolve
from app.healing.process import recover
from app.healing.sweep import sweep
from app.healing.work import perform
from app.ports.queue import Work
from tests.healing.world import AUTO, World


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    louder_than: float = 3.0


class Noise:
    """Speaks of firing alerts, and says of the others that all is well."""

    kind = "noise"
    reacts_to = frozenset({"alerts", "schedule.tick"})
    needs: frozenset[type[Evidence]] = frozenset({Alerts})
    Settings = Settings

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        alerts = evidence.get(Alerts)
        loud = Settings.model_validate(evidence.settings(self.kind)).louder_than
        for alert in alerts.alerts if alerts else ():
            if alert.firing and float(alert.labels["loudness"]) > loud:
                yield Finding(
                    detector=self.kind,
                    kind="noisy",
                    subject=alert.name,
                    severity=Severity.LOW,
                    confidence=0.9,
                    summary=f"{alert.name} is noisy",
                    fingerprint=fingerprint("noisy", alert.name),
                    ladder=(Remedy("open_issue"),),
                )
            elif not alert.firing:
                yield Clear(self.kind, alert.name, why="it is silent again")


@pytest.fixture
def noisy(world: World) -> World:
    world.project(AUTO)
    world.kit.detectors["noise"] = Noise()  # type: ignore[index]
    return world


def alerts(world: World, *, firing: bool, loudness: float = 5.0) -> AlertsReported:
    return AlertsReported(
        repository=world.forge.repository,
        sender=Sender("alertmanager"),
        alerts=(Alert("fan", firing, {"loudness": str(loudness)}),),
    )


def test_an_alert_opens_one_incident_and_asks_a_person(noisy: World) -> None:
    noisy.arrive(alerts(noisy, firing=True))
    noisy.arrive(alerts(noisy, firing=True))
    noisy.drain()
    incident = noisy.incident()
    assert (incident.finding.kind, incident.run_id, incident.head_sha) == ("noisy", 0, "")
    assert incident.issue_number is not None


def test_what_is_well_again_has_recovered(noisy: World) -> None:
    noisy.arrive(alerts(noisy, firing=True))
    noisy.drain()
    noisy.arrive(alerts(noisy, firing=False))
    noisy.drain()
    incident = noisy.incident()
    assert incident.state is State.RECOVERED
    assert noisy.record(incident.id).timeline[-1].data["why"] == "it is silent again"


def test_what_is_over_before_its_repair_has_begun_needs_none(noisy: World) -> None:
    noisy.arrive(alerts(noisy, firing=True))
    perform(noisy.kit, Work.DELIVERY)
    assert noisy.incident().state is State.REPAIRING
    noisy.arrive(alerts(noisy, firing=False))
    noisy.drain()
    assert noisy.incident().state is State.RECOVERED
    assert noisy.forge.issues == {}


def test_settings_in_heal_yml_reach_the_detector(noisy: World) -> None:
    noisy.project(AUTO + "detectors: {noise: {settings: {louder_than: 6}}}\n")
    noisy.arrive(alerts(noisy, firing=True))
    noisy.drain()
    assert noisy.delivery_states() == ["done"]
    assert noisy.forge.issues == {}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("{louder_then: 6}", "did you mean 'louder_than'"),
        ("{louder_than: much}", "valid number"),
    ],
)
def test_a_wrong_setting_is_told_at_its_place(settings: str, says: str) -> None:
    text = f"version: 1\ndetectors:\n  noise: {{settings: {settings}}}\n"
    (problem,) = resolve(text, None, known_detectors={"noise": Settings}, known_actions={}).problems
    assert says in problem.message
    assert (problem.line, problem.level) == (3, "failure")


def test_settings_of_a_detector_that_has_none_are_told() -> None:
    text = "version: 1\ndetectors: {quiet: {settings: {a: 1}}}\n"
    (problem,) = resolve(text, None, known_detectors={"quiet": None}, known_actions={}).problems
    assert "quiet has no settings" in problem.message


def test_a_push_without_the_configuration_is_not_checked(noisy: World) -> None:
    pushed = Pushed(
        repository=noisy.forge.repository,
        sender=Sender("maria"),
        branch="main",
        before="",
        head_sha="a" * 40,
        paths=frozenset({"train.py"}),
    )
    noisy.arrive(pushed)
    noisy.drain()
    assert noisy.forge.checks == []


def test_the_schedule_reminds_every_repository_once_in_a_period(noisy: World) -> None:
    noisy.arrive(alerts(noisy, firing=False))
    noisy.drain()  # the repository is known now
    kept: list[str] = []
    keep = noisy.store.keep
    noisy.store.keep = lambda deliveries: kept.extend(d.guid for d in deliveries) or keep(deliveries)  # type: ignore[method-assign,func-returns-value]
    for _ in range(3):
        sweep(noisy.kit, 0)
    (guid,) = set(kept)
    assert guid.startswith(f"tick-{noisy.forge.repository.id}-")
    assert len(kept) == 1


def test_what_another_reports_is_not_ended_by_a_look_that_leaves_it_to_them(noisy: World) -> None:
    noisy.arrive(alerts(noisy, firing=True))
    noisy.drain()
    event = alerts(noisy, firing=False)
    incident = noisy.incident()
    with noisy.store.begin() as ledger:
        told = replace(incident.finding, facts={"alert": 7})
        ledger.save_incident(replace(incident, finding=told))
    for unless, state in (("alert", incident.state), ("", State.RECOVERED)):
        with noisy.store.begin() as ledger:
            recover(ledger, event, Clear("noise", "fan", unless=unless))
        assert noisy.incident().state is state
