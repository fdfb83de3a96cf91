"""What the bot recognises. Detectors only think: no network, database, clock, chance or files."""

from app.ports.plugins import Detector
from detectors.dependency_conflict import DependencyConflict
from detectors.pipeline_failure import PipelineFailure

BUILTIN: tuple[Detector, ...] = (PipelineFailure(), DependencyConflict())
