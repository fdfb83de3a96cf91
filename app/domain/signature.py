"""What a team has taught the bot about its own failures."""

from dataclasses import dataclass

from app.domain.finding import Severity

TEAM = "team:"
"""A kind that begins so is the team's own; any other is one of the bot's."""

KINDS = frozenset(
    (
        *("action_version_deprecated", "build_wheel_failure", "checkpoint_corrupt", "checkpoint_shape_mismatch"),
        *("cuda_driver_mismatch", "cuda_oom", "data_missing_or_schema"),
        *("dataloader_worker_killed", "dependency_resolution_conflict", "disk_full", "docker_build_failure"),
        *("flaky_test", "git_lfs_or_checkout_failure", "gpu_arch_mismatch", "gpu_not_found"),
        *("host_oom", "hub_artifact_missing", "import_error_version", "job_timeout_cancelled"),
        *("lint_or_format_failure", "missing_secret_or_auth", "module_not_found", "nan_loss"),
        *("nccl_timeout", "network_transient", "package_version_missing", "permissions"),
        *("python_version_unsupported", "rate_limited", "runner_lost", "secret_leaked"),
        *("security_audit_failure", "segfault", "syntax_error", "test_assertion_failure"),
        *("type_check_failure", "workflow_yaml_invalid"),
    )
)
"""The kinds of causes that the bot's own signatures have."""


@dataclass(frozen=True, slots=True)
class TeamSignature:
    """How a cause shows in one line of a log, as heal.yml has it.

    `patterns` and `facts` are RE2 and checked; `summary` is told where all its facts are known, `title` otherwise;
    `ladder` holds kinds of actions without parameters.
    """

    name: str
    kind: str
    title: str
    patterns: tuple[str, ...]
    summary: str = ""
    facts: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    not_this: tuple[str, ...] = ()
    severity: Severity = Severity.MEDIUM
    transient: bool = False
    ladder: tuple[str, ...] = ()
