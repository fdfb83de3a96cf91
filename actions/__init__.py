"""The repairs that ship with the product."""

from actions.add_dependency import AddDependency
from actions.benchmark_model import BenchmarkModel
from actions.bump_dependency import BumpDependency
from actions.clear_cache import ClearCache
from actions.free_disk import FreeDisk
from actions.lower_batch_size import LowerBatchSize
from actions.migrate_api import MigrateApi
from actions.move_runner import MoveRunner
from actions.notify import Notify
from actions.open_issue import OpenIssue
from actions.pin_dependency import PinDependency
from actions.promote_model import PromoteModel
from actions.quarantine_test import QuarantineTest
from actions.raise_timeout import RaiseTimeout
from actions.rerun_failed_jobs import RerunFailedJobs
from actions.resume_run import ResumeRun
from actions.retrain_model import RetrainModel
from actions.roll_back_model import RollBackModel
from actions.rotate_secret import RotateSecret
from actions.tune_divergence import TuneDivergence
from actions.update_workflow import UpdateWorkflow
from app.ports.plugins import Action

BUILTIN: tuple[Action, ...] = (
    RerunFailedJobs(),
    LowerBatchSize(),
    TuneDivergence(),
    PinDependency(),
    BumpDependency(),
    AddDependency(),
    RetrainModel(),
    ResumeRun(),
    BenchmarkModel(),
    PromoteModel(),
    RollBackModel(),
    UpdateWorkflow(),
    RaiseTimeout(),
    FreeDisk(),
    ClearCache(),
    MoveRunner(),
    MigrateApi(),
    QuarantineTest(),
    RotateSecret(),
    Notify(),
    OpenIssue(),
)
