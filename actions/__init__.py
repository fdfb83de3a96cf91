"""The repairs that ship with the product."""

from actions.lower_batch_size import LowerBatchSize
from actions.open_issue import OpenIssue
from actions.pin_dependency import PinDependency
from actions.rerun_failed_jobs import RerunFailedJobs
from actions.retrain_model import RetrainModel
from actions.tune_divergence import TuneDivergence
from app.ports.plugins import Action

BUILTIN: tuple[Action, ...] = (
    RerunFailedJobs(),
    LowerBatchSize(),
    TuneDivergence(),
    PinDependency(),
    RetrainModel(),
    OpenIssue(),
)
