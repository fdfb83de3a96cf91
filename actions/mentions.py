"""Which files a failure speaks of."""

import re

from app.domain.incident import Incident
from app.ports.plugins import Tools


def told(incident: Incident, tools: Tools) -> str:
    """The lines of evidence, the facts, and the workflow without its comments."""
    workflow = tools.forge.file(incident.workflow_path, incident.head_sha)
    commands = re.sub(r"(?m)(?:^|\s)#.*$", "", workflow.text) if workflow else ""
    facts = (str(value) for value in incident.finding.facts.values())
    return "\n".join([*(line.text for line in incident.finding.lines), *facts, commands])


def mentioned(path: str, said: str) -> bool:
    """Whether `path` stands there as a whole, perhaps after `./`."""
    if path not in said:
        return False
    return re.search(rf"(?<![\w./-])(?:\./)?{re.escape(path)}(?![\w/-])", said) is not None
