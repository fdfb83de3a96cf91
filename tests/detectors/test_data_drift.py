"""The detector of drifted data: recorded windows on which it speaks, and one on which it is silent."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.domain.event import ModelObserved
from app.domain.evidence import EvidenceBag, ModelWindow, Observed
from app.domain.finding import Clear, Finding, Severity
from app.domain.tenant import Repository, Sender
from detectors.data_drift import DataDrift
from detectors.drift.profile import Profile, profile

REPOSITORY = Repository(id=1, full_name="acme/models", installation_id=2)
EVENT = ModelObserved(repository=REPOSITORY, sender=Sender(login=""), model="churn-2", window="2026-11-21")
PLANS = np.array(["free", "team", "firm"], object)


def table(seed: int, rows: int = 1_000, shift: float = 0.0) -> dict[str, Any]:
    r = np.random.default_rng(seed)
    return {
        "age": r.normal(40 + 10 * shift, 10, rows),
        "spend": r.lognormal(size=rows),
        "plan": pa.array(PLANS[r.integers(0, 3, rows)]),
    }


REFERENCE = profile(table(0, 5_000))


def observed(kept: Profile | None, name: str = "w") -> Observed:
    as_stored = json.loads(json.dumps(kept.to_json())) if kept else None
    return Observed(name, kept.rows if kept else 0, profile=as_stored)


def window(seed: int, shift: float = 0.0) -> Profile:
    return profile(table(seed, shift=shift), like=REFERENCE)


def look(
    current: Profile | None,
    *earlier: Profile,
    reference: Profile | None = REFERENCE,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> list[Finding | Clear]:
    evidence = ModelWindow(
        model="churn-2",
        current=observed(current),
        reference=observed(reference) if reference else None,
        earlier=tuple(observed(each) for each in earlier),
        **more,
    )
    bag = EvidenceBag(evidence, settings={"data_drift": settings or {}})
    return list(DataDrift().detect(EVENT, bag))


def test_a_healthy_window_is_clear() -> None:
    found = look(window(1), window(2), window(3))
    assert all(isinstance(each, Clear) for each in found)
    assert {kind for each in found if isinstance(each, Clear) for kind in each.kinds} == {
        "data_drift",
        "schema_changed",
    }


def test_data_that_have_clearly_drifted_are_claimed_at_once() -> None:
    (finding,) = [each for each in look(window(1, shift=0.5)) if isinstance(each, Finding)]
    assert (finding.detector, finding.kind, finding.subject) == ("data_drift", "data_drift", "churn-2")
    assert finding.severity in (Severity.MEDIUM, Severity.HIGH)
    assert "age: mean" in finding.summary
    (feature,) = finding.facts["features"]
    assert (feature["column"], feature["change"]) == ("age", "location")
    assert 0.4 < feature["effect"] < 0.6
    assert feature["p"] < 1e-6


def test_drift_alone_never_retrains() -> None:
    (finding,) = [each for each in look(window(1, shift=1.0)) if isinstance(each, Finding)]
    assert [remedy.action for remedy in finding.ladder] == ["open_issue"]
    assert "for its metrics to say" in finding.summary


def test_a_slight_drift_is_claimed_when_it_lasts() -> None:
    slight = [window(seed, shift=0.18) for seed in (11, 12, 13)]
    alone = look(slight[0])
    assert [each.kinds for each in alone if isinstance(each, Clear)] == [{"schema_changed"}]
    assert len(alone) == 1
    (finding,) = [each for each in look(slight[0], slight[1], window(2)) if isinstance(each, Finding)]
    assert "in 2 of the last 3 windows" in finding.summary


def test_drift_that_has_passed_is_cleared_after_quiet_windows() -> None:
    moved = window(1, shift=0.5)
    just_over = look(window(2), moved, moved)
    assert not any(isinstance(each, Clear) and "data_drift" in each.kinds for each in just_over)
    assert any(isinstance(each, Clear) and "data_drift" in each.kinds for each in look(window(2), window(3), moved))


def test_an_open_window_is_neither_accused_of_little_nor_cleared() -> None:
    slight = [window(seed, shift=0.18) for seed in (11, 12, 13)]
    found = look(slight[0], *slight[1:], closed=False)
    assert [each for each in found if isinstance(each, Finding)] == []
    assert not any("data_drift" in each.kinds for each in found if isinstance(each, Clear))


def test_a_changed_schema_is_a_finding_of_its_own() -> None:
    other = table(1)
    del other["spend"]
    other["extra"] = other["age"]
    (finding,) = [each for each in look(profile(other, like=REFERENCE)) if isinstance(each, Finding)]
    assert finding.kind == "schema_changed"
    assert finding.severity is Severity.HIGH
    assert "spend: the column is gone" in finding.summary
    assert "extra: the column is new" in finding.summary


def test_a_new_column_alone_is_of_low_severity() -> None:
    other = table(1)
    other["extra"] = other["age"]
    (finding,) = [each for each in look(profile(other, like=REFERENCE)) if isinstance(each, Finding)]
    assert finding.severity is Severity.LOW


def test_importance_ranks_the_features_and_weighs_the_severity() -> None:
    r = np.random.default_rng(5)
    moved = profile(table(1, shift=0.6) | {"spend": r.lognormal(0.4, 1, 1_000)}, like=REFERENCE)

    def first(**importance: float) -> Finding:
        return next(each for each in look(moved, importance=importance) if isinstance(each, Finding))

    assert first().facts["features"][0]["column"] == "age"
    assert first(spend=5.0).facts["features"][0]["column"] == "spend"
    assert first(age=0.1, spend=0.1).severity is Severity.LOW


def test_the_same_drift_has_one_fingerprint_and_another_model_another() -> None:
    one, other = (next(each for each in look(window(seed, shift=0.5)) if isinstance(each, Finding)) for seed in (1, 2))
    assert one.fingerprint == other.fingerprint
    third = ModelWindow(model="churn-3", current=observed(window(1, shift=0.5)), reference=observed(REFERENCE))
    (found,) = [each for each in DataDrift().detect(EVENT, EvidenceBag(third)) if isinstance(each, Finding)]
    assert found.fingerprint != one.fingerprint


def test_without_a_reference_or_a_profile_nothing_is_said() -> None:
    assert look(window(1), reference=None) == []
    assert look(None) == []
    assert list(DataDrift().detect(EVENT, EvidenceBag())) == []


def test_a_window_counted_for_another_reference_says_nothing() -> None:
    assert look(profile(table(1))) == []
    found = look(window(1), profile(table(2)))
    assert any(isinstance(each, Clear) and "data_drift" in each.kinds for each in found)


@pytest.mark.parametrize(
    ("settings", "speaks"),
    [({"least_effect": 1.0}, False), ({"least_rows": 2_000}, False), ({"windows_needed": 1}, True)],
)
def test_settings_are_followed(settings: Mapping[str, Any], speaks: bool) -> None:
    moved = window(1, shift=0.5) if not speaks else window(11, shift=0.18)
    assert any(isinstance(each, Finding) for each in look(moved, settings=settings)) is speaks
