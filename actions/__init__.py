"""The repairs that ship with the product."""

from actions.edit_config import EditConfig
from actions.open_issue import OpenIssue
from actions.pin_dependency import PinDependency
from actions.rerun_failed_jobs import RerunFailedJobs
from app.ports.plugins import Action

BUILTIN: tuple[Action, ...] = (RerunFailedJobs(), EditConfig(), PinDependency(), OpenIssue())
