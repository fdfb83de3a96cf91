"""The detectors that ship. Apart from the package itself, so that who wants one does not load the libraries of all."""

from app.ports.plugins import Detector
from detectors.data_drift import DataDrift
from detectors.dependency_conflict import DependencyConflict
from detectors.infrastructure_health import InfrastructureHealth
from detectors.model_degradation import ModelDegradation
from detectors.pipeline_failure import PipelineFailure
from detectors.resource_constraint import ResourceConstraint
from detectors.security_vulnerability import SecurityVulnerability

BUILTIN: tuple[Detector, ...] = (
    PipelineFailure(),
    DependencyConflict(),
    SecurityVulnerability(),
    ModelDegradation(),
    DataDrift(),
    ResourceConstraint(),
    InfrastructureHealth(),
)
