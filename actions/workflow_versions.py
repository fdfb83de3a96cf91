"""What GitHub no longer runs, in a workflow: versions of actions, commands that scripts print, images of runners."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from actions.workflow_edits import Job, Path, Step, Workflow, child, dotted, shell_of
from actions.workflow_offer import CannotSay

Entry = Mapping[str, Any]

_SHA = re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r"v?(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?")
_USES = re.compile(r"(?P<name>[\w.-]+/[\w.-]+(?:/[\w./-]+)?)@(?P<ref>[\w./-]+)")
_POSIX = frozenset({"bash", "sh"})
_SPOKEN_OF = re.compile(r"(?<![\w.-])([\w.-]{1,100}/[\w./-]{1,100})(?:@|: ?)(v?\d[\w.]{0,20}|[0-9a-f]{40})")
_IMAGE = re.compile(r"(?i)\b(ubuntu|windows|macos)[ -]?(\d\d(?:\.\d\d)?|20\d\d)\b")
_ENCODED = re.compile(r"%0A|%0D|%25", re.IGNORECASE)
_BARE = re.compile(r"(?:\$\{\{[^}]*\}\}|\$\{\w+\}|\$\w|[\w./:@%+=,-])*")
_COMMAND = r"""(?P<head>[ \t]*)echo[ \t]+(?P<q>["']?)::{name}{argument}::(?P<value>.*?)(?P=q)[ \t]*"""


@cache
def table(kind: str) -> tuple[Entry, ...]:
    """The entries `action`, `command`, `image` or `permission` of `workflow_updates.toml`."""
    text = files("actions").joinpath("workflow_updates.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)[kind])


@dataclass(frozen=True, slots=True)
class Use:
    """A step that uses an action of the table."""

    step: Step
    job: Job
    name: str
    ref: str
    entry: Entry

    @property
    def dead(self) -> bool:
        """Whether GitHub no longer runs this version. A branch or another word is taken to be alive."""
        found = _TAG.fullmatch(self.ref)
        if found is None:
            return False
        major, *rest = (int(part) if part else None for part in found.groups())
        least = self.entry.get("exact", {}).get(str(major))
        older = least is not None and rest[0] is not None and _before([major, *rest], least)
        return major in self.entry["dead"] or older


def update_actions(workflow: Workflow, jobs: Sequence[Job], spoken: str) -> list[str]:
    """Put the living versions in place of the dead ones that the evidence speaks of; of all that the failed jobs use
    where it names none. Returns what was done. Raises CannotSay, Malformed."""
    uses = list(_uses(workflow))
    named = {name.rstrip("/.").lower() for name, _ in _SPOKEN_OF.findall(spoken)} | set(spoken.lower().split())
    meant = [use for use in uses if _is_named(use, named)]
    meant = meant or [use for use in uses if use.job in jobs and (use.dead or _SHA.fullmatch(use.ref))]
    pinned = [use for use in meant if _SHA.fullmatch(use.ref)]
    if pinned:
        where = ", ".join(sorted({f"{use.name} in {use.job.id}" for use in pinned}))
        raise CannotSay(
            f"{where} is pinned by a commit SHA, and which commit a version is cannot be looked up here: pin it to a "
            f"commit of {pinned[0].entry['to']}"
        )
    names = {use.entry["name"] for use in meant if use.dead}
    names |= {partner for use in meant if use.dead for partner in use.entry.get("partners", ())}
    dead = [use for use in uses if use.entry["name"] in names and (use.dead or _SHA.fullmatch(use.ref))]
    done = []
    for use in dead:
        _may_move(use, uses)
        workflow.put((*use.step.path, "uses"), f"{use.name}@{_like(use.ref, use.entry['to'])}")
        done.append(f"{use.name} from {use.ref} to {use.entry['to']}")
    return list(dict.fromkeys(done))


def entries_of(done: Sequence[str]) -> list[Entry]:
    return [entry for entry in table("action") if any(line.split(" ")[0].startswith(entry["name"]) for line in done)]


def update_commands(workflow: Workflow, names: frozenset[str]) -> list[str]:
    """Write to the runner's files what scripts print as disabled commands. Raises CannotSay, Malformed."""
    done = []
    for job in workflow.jobs:
        for step in job.steps:
            script = step.get("run")
            lines = [line for line in script.split("\n") if any(f"::{name}" in line for name in names)]
            for line in dict.fromkeys(lines):
                if line.lstrip().startswith("#"):
                    continue
                shell = shell_of(workflow, job, step)
                if shell.split(" ")[0] not in _POSIX:
                    raise CannotSay(f"{dotted(step.path)} prints a disabled command in {shell or 'an unknown shell'}")
                new = rewritten(line, names)
                if new is None:
                    raise CannotSay(f"{dotted(step.path)} prints a disabled command in a way that is not rewritten")
                workflow.swap((*step.path, "run"), line.strip(), new.strip())
                name = next(name for name in sorted(names) if f"::{name}" in line)
                done.append(f"{name} in step {int(step.path[-1]) + 1} of {job.id}")
    return list(dict.fromkeys(done))


def rewritten(line: str, names: frozenset[str]) -> str | None:
    """One line of a shell script with the runner's file in place of the command; None where that is not plain."""
    for command in table("command"):
        if command["name"] not in names or f"::{command['name']}" not in line:
            continue
        argument = "" if command["name"] == "add-path" else r"[ ]name=(?P<key>[A-Za-z_][\w-]*)"
        pattern = _COMMAND.replace("{name}", re.escape(command["name"])).replace("{argument}", argument)
        found = re.fullmatch(pattern, line) if len(line) <= 2_000 else None
        if found is None or _ENCODED.search(found["value"]):
            return None
        quote, value = found["q"], found["value"]
        if (quote and quote in value) or (not quote and not _BARE.fullmatch(value)):
            return None
        said = f"{found['key']}={value}" if argument else value
        return f'{found["head"]}echo {quote}{said}{quote} >> "${command["file"]}"'
    return None


def update_images(workflow: Workflow, spoken: str) -> list[str]:
    """Another image for runners whose image is gone, where the evidence speaks of it. Raises CannotSay, Malformed."""
    told = {f"{system.lower()}-{version}" for system, version in _IMAGE.findall(spoken)}
    known = {entry["name"]: entry["to"] for entry in table("image")}
    done = []
    for name in sorted(told):
        places = list(_labels(workflow, name))
        if not places:
            continue
        if name not in known:
            raise CannotSay(f"no image takes the place of {name} on the same kind of machine: a person must choose")
        for path, beside in places:
            if known[name] in beside:
                raise CannotSay(f"{dotted(path[:-1])} has {known[name]} already: {name} can only be left out")
            workflow.put(path, known[name])
        done.append(f"{name} to {known[name]}")
    return done


def _uses(workflow: Workflow) -> Iterator[Use]:
    for job in workflow.jobs:
        for step in job.steps:
            found = _USES.fullmatch(step.get("uses"))
            entry = entry_of(found["name"]) if found else None
            if found and entry:
                yield Use(step, job, found["name"], found["ref"], entry)


def entry_of(name: str) -> Entry | None:
    """By the whole name, or the name of the repository where it alone is in the table."""
    exact = {entry["name"]: entry for entry in table("action")}
    owner = "/".join(name.split("/")[:2])
    return exact.get(name) or (exact.get(owner) if owner == "github/codeql-action" else None)


def _is_named(use: Use, named: set[str]) -> bool:
    return use.name.lower() in named or use.entry["name"].lower() in named


def _may_move(use: Use, uses: Sequence[Use]) -> None:
    """Raises CannotSay where the newer version would do something else."""
    entry, where = use.entry, f"{use.name} in {use.job.id}"
    if _SHA.fullmatch(use.ref):
        raise CannotSay(f"{where} is pinned by a commit SHA and has to move, too: pin it to a commit of {entry['to']}")
    major = _TAG.fullmatch(use.ref)
    if major and (reason := entry.get("refuse", {}).get(major[1])):
        raise CannotSay(f"{where} cannot just move to {entry['to']}: {reason}")
    inputs = use.step.inputs
    if entry.get("needs") and not any(inputs.get(name) for name in entry["needs"]):
        raise CannotSay(f"{where} names no {' or '.join(entry['needs'])}, which {entry['to']} needs")
    if gone := [name for name in entry.get("forbids", ()) if name in inputs]:
        raise CannotSay(f"{where} has the input {gone[0]}, which {entry['to']} does not know")
    if entry.get("unique_names"):
        _one_name_each(use, [other for other in uses if other.entry is entry])
        hidden = [p for p in inputs.get("path", "").split() if re.search(r"(?:^|/)\.[^./]", p)]
        if hidden and inputs.get("include-hidden-files") != "true":
            raise CannotSay(f"{where} uploads {hidden[0]}, and {entry['to']} leaves hidden files out")


def _one_name_each(use: Use, all_uploads: Sequence[Use]) -> None:
    name = use.step.inputs.get("name", "artifact")
    strategy = child(use.job.node, "strategy")
    if child(strategy, "matrix") is not None and not re.search(
        r"\$\{\{[^}]{0,300}\b(?:matrix\.|strategy\.job-index)", name
    ):
        raise CannotSay(
            f"{use.job.id} runs as a matrix and each of its jobs uploads {name!r}: since v4 a name can be used once in "
            "a run, so the names must differ, and whoever downloads them must know"
        )
    same = [other for other in all_uploads if other.step.inputs.get("name", "artifact") == name]
    if len(same) > 1:
        jobs = ", ".join(sorted({other.job.id for other in same}))
        raise CannotSay(f"{len(same)} steps upload {name!r} ({jobs}): since v4 a name can be used once in a run")


def _labels(workflow: Workflow, name: str) -> Iterator[tuple[Path, set[str]]]:
    """Where a label of a runner stands, with the labels beside it in a matrix."""
    for job in workflow.jobs:
        runner = child(job.node, "runs-on")
        if isinstance(runner, ScalarNode) and runner.value == name:
            yield (*job.path, "runs-on"), set()
        for path, words in _lists(job, runner):
            beside = set(words) if path[-2:] != (job.id, "runs-on") else set()
            yield from (((*path, number), beside) for number, word in enumerate(words) if word == name)


def _lists(job: Job, runner: object) -> Iterator[tuple[Path, list[str]]]:
    if isinstance(runner, SequenceNode):
        yield (*job.path, "runs-on"), [str(item.value) for item in runner.value]
    found = re.fullmatch(r"\$\{\{\s*matrix\.([\w-]+)\s*\}\}", job.get("runs-on"))
    matrix = child(child(job.node, "strategy"), "matrix")
    values = child(matrix, found[1]) if found and isinstance(matrix, MappingNode) else None
    if found and isinstance(values, SequenceNode):
        yield (*job.path, "strategy", "matrix", found[1]), [str(item.value) for item in values.value]


def _before(version: Sequence[int | None], least: str) -> bool:
    return [part or 0 for part in version] < [int(part) for part in least.split(".")]


def _like(ref: str, to: str) -> str:
    return to if ref.startswith("v") else to.removeprefix("v")
