"""Reads a workflow file into values that the runner can execute, and refuses clearly what the sandbox does not have.

Supported: `on`, `env`, `defaults.run`, `permissions`, `jobs` with `needs`, `if`, `runs-on`, `env`, `timeout-minutes`,
`permissions`, and steps that `run` or use an action. Refused with the line: matrices, containers, services, reusable
workflows, and expressions beyond `${{ context.key }}`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
CONTEXT_PATH = re.compile(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)+")
CONDITION = re.compile(r"(?:\$\{\{\s*)?(success|failure|always|cancelled)\(\s*\)(?:\s*\}\})?")
DEFAULT_TIMEOUT_MINUTES = 360.0
DEFAULT_PERMISSIONS = {"contents": "read", "packages": "read"}  # GitHub's restricted default
LEVELS = ("none", "read", "write")

WORKFLOW_KEYS = {"name", "run-name", "on", "env", "defaults", "permissions", "concurrency", "jobs"}
JOB_KEYS = {"name", "needs", "if", "runs-on", "env", "defaults", "permissions", "concurrency", "steps"}
JOB_KEYS |= {"timeout-minutes"}
STEP_KEYS = {"id", "name", "if", "run", "uses", "with", "env", "shell", "working-directory", "continue-on-error"}
STEP_KEYS |= {"timeout-minutes"}


class WorkflowInvalid(Exception):
    """The workflow file cannot be run here; `line` (from 1) is where."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.message = message
        self.line = line


@dataclass(frozen=True)
class Trigger:
    """The filters under one event of `on`; empty means every branch and every activity type."""

    branches: tuple[str, ...] = ()
    branches_ignore: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    run: str | None = None
    uses: str | None = None
    id: str = ""
    name: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    shell: str = ""
    working_directory: str = ""
    condition: str = "success"
    continue_on_error: bool = False
    timeout_minutes: float | None = None


@dataclass(frozen=True)
class Job:
    """One job; `env` already holds the workflow's env underneath its own."""

    id: str
    name: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    condition: str = "success"
    timeout_minutes: float = DEFAULT_TIMEOUT_MINUTES
    permissions: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_PERMISSIONS))


@dataclass(frozen=True)
class Workflow:
    name: str | None
    on: Mapping[str, Trigger]
    jobs: tuple[Job, ...]

    def starts_on(self, event: str, branch: str, action: str = "") -> bool:
        """Whether `event` (for a pull request: with its base branch and activity type) starts this workflow."""
        trigger = self.on.get(event)
        if trigger is None:
            return False
        types = trigger.types
        if event == "pull_request" and not types:
            types = ("opened", "synchronize", "reopened")
        if action and types and action not in types:
            return False
        if trigger.branches:
            return _matches(branch, trigger.branches)
        return not _matches(branch, trigger.branches_ignore)


def parse_workflow(text: str) -> Workflow:
    """The workflow in `text`, its jobs in an order that satisfies `needs`. Raises WorkflowInvalid."""
    document = _mapping(_load(text), "a workflow", 1)
    _refuse_unknown(document, WORKFLOW_KEYS, "workflow")
    for required in ("on", "jobs"):
        if required not in document:
            raise WorkflowInvalid(f"Required property is missing: {required}", 1)
    jobs_line = _line(document, "jobs")
    jobs = _mapping(document["jobs"], "`jobs`", jobs_line)
    if not jobs:
        raise WorkflowInvalid("the workflow must contain at least one job", jobs_line)
    env = _strings(document, "env")
    parsed = {job_id: _job(job_id, jobs, env, document) for job_id in jobs}
    for job in parsed.values():
        for needed in job.needs:
            if needed not in parsed:
                message = f"Job '{job.id}' depends on unknown job '{needed}'."
                raise WorkflowInvalid(message, _line(jobs[job.id], "needs"))
    name = document.get("name")
    return Workflow(None if name is None else str(name), _triggers(document), _ordered(parsed, jobs_line))


def _load(text: str) -> Any:
    # The round-trip loader builds no objects from tags, and it is the one that keeps line numbers.
    try:
        return YAML(typ="rt", pure=True).load(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise WorkflowInvalid(str(error.problem or error.context), mark.line + 1 if mark else 1) from error
    except YAMLError as error:
        raise WorkflowInvalid(str(error), 1) from error


def _line(mapping: Any, key: str) -> int:
    return int(mapping.lc.key(key)[0]) + 1


def _mapping(value: Any, what: str, line: int) -> Any:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WorkflowInvalid(f"{what} must be a mapping", line)
    return value


def _refuse_unknown(mapping: Any, known: Iterable[str], what: str) -> None:
    for key in mapping:
        if key not in known:
            message = f"the sandbox does not support '{key}' in a {what}"
            if key == "strategy":
                message = "the sandbox does not support matrices ('strategy'): write the jobs out"
            raise WorkflowInvalid(message, _line(mapping, key))


def _scalar(mapping: Any, key: str, default: str = "") -> str:
    value = mapping.get(key)
    if value is None:
        return default
    if not isinstance(value, str | int | float):
        raise WorkflowInvalid(f"'{key}' must be a single value", _line(mapping, key))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    for expression in EXPRESSION.findall(text):
        if not CONTEXT_PATH.fullmatch(expression.strip()):
            message = f"the sandbox does not support the expression ${{{{{expression}}}}}"
            raise WorkflowInvalid(message, _line(mapping, key))
    return text


def _strings(mapping: Any, key: str) -> dict[str, str]:
    if mapping.get(key) is None:
        return {}
    values = _mapping(mapping[key], f"'{key}'", _line(mapping, key))
    return {name: _scalar(values, name) for name in values}


def _list(mapping: Any, key: str) -> tuple[str, ...]:
    value = mapping.get(key)
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(str(item) for item in value)
    raise WorkflowInvalid(f"'{key}' must be a word or a list of words", _line(mapping, key))


def _number(mapping: Any, key: str) -> float | None:
    value = mapping.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise WorkflowInvalid(f"'{key}' must be a number above 0", _line(mapping, key))
    return float(value)


def _flag(mapping: Any, key: str) -> bool:
    value = mapping.get(key, False)
    if not isinstance(value, bool):
        raise WorkflowInvalid(f"'{key}' must be true or false", _line(mapping, key))
    return value


def _condition(mapping: Any) -> str:
    value = mapping.get("if")
    if value is None:
        return "success"
    match = CONDITION.fullmatch(str(value).strip())
    if match is None:
        message = "the sandbox knows only success(), failure(), always() and cancelled() in 'if'"
        raise WorkflowInvalid(message, _line(mapping, "if"))
    return match[1]


def _triggers(document: Any) -> dict[str, Trigger]:
    on = document["on"]
    if not isinstance(on, dict):
        return {event: Trigger() for event in _list(document, "on")}
    triggers = {}
    for event, filters in on.items():
        if not isinstance(filters, dict):
            triggers[str(event)] = Trigger()
            continue
        _refuse_unknown(filters, {"branches", "branches-ignore", "types", "inputs"}, f"'{event}' trigger")
        triggers[str(event)] = Trigger(
            branches=_list(filters, "branches"),
            branches_ignore=_list(filters, "branches-ignore"),
            types=_list(filters, "types"),
        )
    return triggers


def _run_defaults(*owners: Any) -> dict[str, str]:
    defaults: dict[str, str] = {}
    for owner in owners:
        if owner.get("defaults") is not None:
            defaults |= _strings(_mapping(owner["defaults"], "'defaults'", _line(owner, "defaults")), "run")
    return defaults


def _job(job_id: str, jobs: Any, workflow_env: Mapping[str, str], document: Any) -> Job:
    job = _mapping(jobs[job_id], f"job '{job_id}'", _line(jobs, job_id))
    _refuse_unknown(job, JOB_KEYS, "job")
    for required in ("runs-on", "steps"):
        if required not in job:
            raise WorkflowInvalid(f"Required property is missing: {required}", _line(jobs, job_id))
    if not isinstance(job["steps"], list) or not job["steps"]:
        raise WorkflowInvalid("'steps' must be a list with at least one step", _line(job, "steps"))
    defaults = _run_defaults(document, job)
    return Job(
        id=job_id,
        name=_scalar(job, "name", job_id),
        steps=tuple(_step(step, defaults, _line(job, "steps")) for step in job["steps"]),
        needs=_list(job, "needs"),
        labels=_list(job, "runs-on"),
        env={**workflow_env, **_strings(job, "env")},
        condition=_condition(job),
        timeout_minutes=_number(job, "timeout-minutes") or DEFAULT_TIMEOUT_MINUTES,
        permissions=_permissions(job if "permissions" in job else document),
    )


def _permissions(owner: Any) -> dict[str, str]:
    """What is granted to the token of a job; whatever a block does not name is not granted."""
    if "permissions" not in owner:
        return dict(DEFAULT_PERMISSIONS)
    line = _line(owner, "permissions")
    if owner["permissions"] in ("read-all", "write-all"):
        raise WorkflowInvalid("the sandbox does not support read-all and write-all: write the permissions out", line)
    granted = _strings(owner, "permissions")
    for name, level in granted.items():
        if level not in LEVELS:
            raise WorkflowInvalid(f"Unexpected value '{level}' for the permission '{name}'", line)
    return granted


def _step(value: Any, defaults: Mapping[str, str], list_line: int) -> Step:
    step = _mapping(value, "a step", list_line)
    line = int(step.lc.line) + 1
    _refuse_unknown(step, STEP_KEYS, "step")
    if ("run" in step) == ("uses" in step):
        raise WorkflowInvalid("a step has either 'run' or 'uses'", line)
    return Step(
        run=_scalar(step, "run") if "run" in step else None,
        uses=_scalar(step, "uses") if "uses" in step else None,
        id=_scalar(step, "id"),
        name=_scalar(step, "name"),
        inputs=_strings(step, "with"),
        env=_strings(step, "env"),
        shell=_scalar(step, "shell", defaults.get("shell", "")),
        working_directory=_scalar(step, "working-directory", defaults.get("working-directory", "")),
        condition=_condition(step),
        continue_on_error=_flag(step, "continue-on-error"),
        timeout_minutes=_number(step, "timeout-minutes"),
    )


def _ordered(jobs: Mapping[str, Job], line: int) -> tuple[Job, ...]:
    ordered: dict[str, Job] = {}
    while len(ordered) < len(jobs):
        ready = [job for job in jobs.values() if job.id not in ordered and all(need in ordered for need in job.needs)]
        if not ready:
            raise WorkflowInvalid("the jobs need each other in a circle", line)
        ordered |= {job.id: job for job in ready}
    return tuple(ordered.values())


def _matches(branch: str, patterns: Iterable[str]) -> bool:
    """GitHub's filter patterns: `*` stays within a path segment, `**` does not, a later `!pattern` takes back."""
    matched = False
    for pattern in patterns:
        wanted = not pattern.startswith("!")
        expression = "[^/]*".join(
            re.escape(part).replace(r"\?", "?") for part in re.split(r"(?<!\*)\*(?!\*)", pattern.removeprefix("!"))
        ).replace(r"\*\*", ".*")
        if re.fullmatch(expression, branch):
            matched = wanted
    return matched
