"""The repairs that ship with the product."""

from actions.clear_cache import ClearCache
from actions.free_disk import FreeDisk
from actions.lower_batch_size import LowerBatchSize
from actions.move_runner import MoveRunner
from actions.open_issue import OpenIssue
from actions.pin_dependency import PinDependency
from actions.raise_timeout import RaiseTimeout
from actions.rerun_failed_jobs import RerunFailedJobs
from actions.retrain_model import RetrainModel
from actions.tune_divergence import TuneDivergence
from actions.update_workflow import UpdateWorkflow
from app.ports.plugins import Action

BUILTIN: tuple[Action, ...] = (
    RerunFailedJobs(),
    LowerBatchSize(),
    TuneDivergence(),
    PinDependency(),
    RetrainModel(),
    UpdateWorkflow(),
    RaiseTimeout(),
    FreeDisk(),
    ClearCache(),
    MoveRunner(),
    OpenIssue(),
)
