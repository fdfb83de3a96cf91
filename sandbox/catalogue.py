"""The repositories of the demonstration: what breaks in each of them, and which repair heals it."""

from dataclasses import dataclass
from pathlib import Path

from sandbox.index import Package

REPOSITORIES = Path(__file__).parent / "repositories"


@dataclass(frozen=True)
class Scenario:
    """One demo repository; `healed_by` is the kind of the action that heals it, None if a person has to."""

    name: str
    title: str
    healed_by: str | None
    packages: tuple[Package, ...] = ()

    @property
    def directory(self) -> Path:
        return REPOSITORIES / self.name


SCENARIOS = (
    Scenario(
        name="flaky-download",
        title="a test loses its connection to a dataset mirror that is still warming up",
        healed_by="rerun_failed_jobs",
    ),
    Scenario(
        name="oversized-batch",
        title="the training batch does not fit the runner's memory",
        healed_by="lower_batch_size",
    ),
    Scenario(
        name="unresolvable-pins",
        title="two pins ask for different versions of a third package",
        healed_by="pin_dependency",
        packages=(
            Package("arrowlite", "2.9.4", summary="Columnar tables"),
            Package("arrowlite", "3.0.1", summary="Columnar tables"),
            Package("arrowlite", "3.2.0", summary="Columnar tables"),
            Package("featurestore", "2.1.0", ("arrowlite>=3,<4",), summary="Point-in-time feature joins"),
            Package("tabular", "1.4.1", ("arrowlite>=2,<3",), summary="Data frames"),
            Package("tabular", "1.4.2", ("arrowlite>=2,<3",), summary="Data frames"),
            Package("tabular", "1.5.0", ("arrowlite>=2.9,<4",), summary="Data frames"),
            Package("metricbook", "0.9.3", summary="Offline metrics"),
            Package("plotlet", "1.2.5", summary="Small charts"),
            Package("plotlet", "2.0.0", ("arrowlite>=3",), summary="Small charts"),
        ),
    ),
    Scenario(
        name="diverging-training",
        title="the learning rate makes training diverge to NaN",
        healed_by="tune_divergence",
    ),
    Scenario(
        name="genuine-bug",
        title="a metric in the repository's own code is wrong",
        healed_by=None,
    ),
)

PACKAGES = tuple(package for scenario in SCENARIOS for package in scenario.packages)
