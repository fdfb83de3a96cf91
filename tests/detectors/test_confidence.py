import pytest

from detectors.confidence import CALIBRATION, Calibration
from detectors.diagnosis import diagnose
from detectors.signatures import SIGNATURES
from tests.detectors.logs import failing_log

EXAMPLE = Calibration({"bias": 0.0, "far": -1.0}, {"cuda_oom": 0.5}, 0.9, 0.05, 0.99)


def test_confidence_falls_with_what_speaks_against_the_cause():
    assert EXAMPLE.confidence({"far": 0.0}) == 0.5
    assert EXAMPLE.confidence({"far": 1.0}) == pytest.approx(0.2689, abs=1e-4)


def test_confidence_is_never_certainty():
    assert EXAMPLE.confidence({"far": 1000.0}) == 0.05
    assert EXAMPLE.confidence({"far": -1000.0}) == 0.99


def test_each_kind_has_its_own_threshold():
    assert EXAMPLE.is_actionable("cuda_oom", 0.5, {})
    assert not EXAMPLE.is_actionable("cuda_oom", 0.49, {})
    assert not EXAMPLE.is_actionable("licence_missing", 0.89, {})
    assert EXAMPLE.is_actionable("licence_missing", 0.9, {})


def test_no_contested_cause_is_acted_on():
    assert not EXAMPLE.is_actionable("cuda_oom", 0.99, {"contested": 1.0})


def test_the_measured_figures_know_each_feature_and_each_repaired_kind():
    features = diagnose(failing_log("MemoryError"))[0].features
    assert set(CALIBRATION.weights) == {"bias", *features}
    repaired = {signature.kind for signature in SIGNATURES if signature.ladder[0].action != "open_issue"}
    assert set(CALIBRATION.thresholds) == repaired


def test_a_cause_near_the_exit_is_surer_than_one_far_above():
    near = diagnose(failing_log("MemoryError"))[0]
    far = diagnose(failing_log("MemoryError", *["epoch"] * 2000))[0]
    assert near.kind == far.kind == "host_oom"
    assert near.confidence > far.confidence + 0.01
