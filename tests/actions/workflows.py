"""What the tests of workflow repairs share: a failed run of one workflow file, and a quick judge of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft7Validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from app.domain.finding import EvidenceLine
from app.domain.policy import Policy
from app.ports.workflows import Fault
from tests.actions.stage import WORKFLOW, Stage, stage


class Judge:
    """The published schema, in this process. `more` are faults that it finds in what holds that text."""

    def __init__(self, more: Mapping[str, Fault] | None = None) -> None:
        self.more = dict(more or {})

    def faults(self, path: str, text: str) -> list[Fault]:
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            return [Fault("yaml", "the file is not YAML")]
        try:
            found = [Fault("schema", error.message[:200]) for error in _schema().iter_errors(value)]
        except (TypeError, RecursionError):  # a key that is no word, a file that contains itself
            return [Fault("yaml", "the judge of the schema breaks on this file")]
        return [*found, *(fault for word, fault in self.more.items() if word in text)]


@cache
def _schema() -> Draft7Validator:
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/github-workflows.json").read_text()
    return Draft7Validator(json.loads(text))


def failed(
    text: str,
    kind: str,
    *,
    lines: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
    step: str = "",
    job: str = "train",
    granted: bool = True,
    judge: Judge | None = None,
    policy: Policy | None = None,
    files: Mapping[str, str] | None = None,
) -> Stage:
    """The workflow at WORKFLOW says `text`, and its job failed for `kind`."""
    at = stage({WORKFLOW: text, **(files or {})}, lines=lines, facts=facts, policy=policy)
    told = tuple(EvidenceLine(line.number, line.text, step, root=True) for line in at.incident.finding.lines)
    finding = replace(at.incident.finding, kind=kind, lines=told, job=job)
    at.incident = replace(at.incident, finding=finding)
    at.tools = replace(at.tools, incident=at.incident, workflow_check=judge or Judge())
    if granted:
        at.forge.granted.add("workflows")
    return at
