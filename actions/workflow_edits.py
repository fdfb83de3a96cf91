"""Changes to workflow files at the places that the parser names, checked by parsing: nothing else may have changed.

A workflow is never written out anew: characters are replaced where they stand, so comments, order, quotes and line
ends stay. Data is nested dicts, lists, and scalars as `(tag, value)`, so that `yes` and `"yes"` are told apart.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from app.domain.errors import Malformed
from app.domain.finding import Finding
from app.domain.repair import FileEdit
from app.security.yaml import documents

Path = tuple[str | int, ...]
Data = Any

MAX_BYTES = 256 * 1024
FOLDER = ".github/workflows/"
_MAX_DEPTH = 60
_KEPT = frozenset({"on", "if", "needs", "continue-on-error", "secrets"})  # keys whose values are never changed


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its place, and what of it is a plain string."""

    path: Path
    node: MappingNode

    def get(self, key: str) -> str:
        found = child(self.node, key)
        return found.value if isinstance(found, ScalarNode) else ""

    @property
    def inputs(self) -> dict[str, str]:
        return scalars_of(child(self.node, "with"))

    @property
    def title(self) -> str:
        """As GitHub shows it, where no expression stands in it."""
        if self.get("name"):
            return self.get("name")
        return f"Run {self.get('uses') or self.get('run').strip().partition(chr(10))[0]}"


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    path: Path
    node: MappingNode
    steps: tuple[Step, ...]

    def get(self, key: str) -> str:
        found = child(self.node, key)
        return found.value if isinstance(found, ScalarNode) else ""


@dataclass(slots=True)
class Workflow:
    """A workflow file that is being changed. `finish` gives the edit."""

    path: str
    text: str
    root: MappingNode
    data: Data
    jobs: tuple[Job, ...]
    _changes: list[tuple[int, int, str]] = field(default_factory=list)

    def job_of(self, finding: Finding) -> Job | None:
        """The one job that GitHub shows by the finding's name."""
        found = [job for job in self.jobs if _shown_as(job, finding.job)]
        return found[0] if len(found) == 1 else None

    def step_of(self, finding: Finding, job: Job) -> Step | None:
        """The one step in which the telling lines stand."""
        told = {line.step for line in finding.lines if line.root and line.step}
        told = told or {line.step for line in finding.lines if line.step}
        found = [step for step in job.steps if step.title in told]
        return found[0] if len(found) == 1 else None

    def put(self, path: Path, value: str) -> None:
        """Another value for a scalar, in the quotes that it had."""
        node = self._scalar(path)
        unfit = {"'": "\n", '"': '\n\\"', None: "\n"}.get(node.style)
        if unfit is None or any(character in value for character in unfit):
            raise Malformed(f"{dotted(path)} in {self.path} is written in a way that is not edited")
        quote = node.style or ""
        literal = quote + (value.replace("'", "''") if quote == "'" else value) + quote
        self._replace(node.start_mark.index, node.end_mark.index, literal)
        new = _plain(literal)
        if not isinstance(new, tuple) or new[1] != value:
            raise Malformed(f"{value!r} needs quotes at {dotted(path)} in {self.path}")
        _set(self.data, path, new)

    def swap(self, path: Path, old: str, new: str) -> None:
        """`old` becomes `new` wherever it stands in a scalar, as it is written there."""
        node = self._scalar(path)
        start, end = node.start_mark.index, node.end_mark.index
        raw = self.text[start:end]
        if not old or raw.count(old) != node.value.count(old) or not raw.count(old):
            raise Malformed(f"{dotted(path)} in {self.path} is written in a way that is not edited")
        at = raw.find(old)
        while at >= 0:
            self._replace(start + at, start + at + len(old), new)
            at = raw.find(old, at + len(old))
        tag, value = _get(self.data, path)
        _set(self.data, path, (tag, value.replace(old, new)))

    def add_key(self, path: Path, block: str, before: str) -> None:
        """`block` (lines of YAML, not indented) as further keys of the mapping at `path`, above its key `before`."""
        mapping = self._mapping(path)
        key = next((key for key, _ in mapping.value if key.value == before), None)
        if key is None or mapping.flow_style:
            raise Malformed(f"{dotted(path)} in {self.path} is written in a way that is not edited")
        at = self._line_of(key)
        # a comment right above belongs to the key
        while (above := self.text.rfind("\n", 0, max(0, at - 1)) + 1) < at and re.match(
            r"[ \t]*#", self.text[above:at]
        ):
            at = above
        self._replace(at, at, self._indented(block, key.start_mark.column, at))
        _get(self.data, path).update(data_of(block))

    def add_entries(self, path: Path, entries: Mapping[str, str]) -> None:
        """Further entries of plain words at the end of a mapping, in its own style."""
        mapping = self._mapping(path)
        if mapping.flow_style:
            at = mapping.value[-1][1].end_mark.index if mapping.value else mapping.end_mark.index - 1
            words = ", ".join(f"{name}: {value}" for name, value in entries.items())
            self._replace(at, at, f"{', ' if mapping.value else ''}{words}")
        else:
            key, last = mapping.value[-1]
            if not isinstance(last, ScalarNode) or last.style in ("|", ">"):
                raise Malformed(f"{dotted(path)} in {self.path} is written in a way that is not edited")
            at = self.text.find("\n", last.end_mark.index) + 1
            end = self._eol(key.start_mark.index)
            lines = [f"{' ' * key.start_mark.column}{name}: {value}" for name, value in entries.items()]
            text = "".join(line + end for line in lines) if at else "".join(end + line for line in lines)
            self._replace(at or len(self.text), at or len(self.text), text)
        _get(self.data, path).update({name: _plain(value) for name, value in entries.items()})

    def add_step(self, job: Job, index: int, block: str) -> None:
        """`block` (one item of a list, not indented) as a step in front of the one at `index`."""
        steps = child(job.node, "steps")
        step = job.steps[index]
        line = self._start_of_line(step.node.start_mark.index)
        dash = re.match(r"([ ]*)-[ ]+", self.text[line : step.node.start_mark.index])
        if not isinstance(steps, SequenceNode) or steps.flow_style or dash is None:
            raise Malformed(f"the steps of {job.id} in {self.path} are written in a way that is not edited")
        self._replace(line, line, self._indented(block, len(dash[1]), line))
        _get(self.data, (*job.path, "steps")).insert(index, data_of(block.rstrip("\n") + "\n")[0])

    def finish(self) -> FileEdit:
        """Raises Malformed where something else would change, too."""
        new = self.text
        for start, end, text in sorted(self._changes, reverse=True):
            new = new[:start] + text + new[end:]
        after = data_of(new)
        if after != self.data:
            raise Malformed(f"{self.path} cannot be changed there alone")
        if kept(data_of(self.text)) != kept(after):
            raise Malformed(f"{self.path}: triggers, conditions and secrets are not changed")
        return FileEdit(self.path, self.text, new)

    def _replace(self, start: int, end: int, text: str) -> None:
        self._changes.append((start, end, text))

    def _scalar(self, path: Path) -> ScalarNode:
        node = self._at(path)
        if not isinstance(node, ScalarNode):
            raise Malformed(f"{dotted(path)} in {self.path} is no single value")
        return node

    def _mapping(self, path: Path) -> MappingNode:
        node = self._at(path)
        if not isinstance(node, MappingNode):
            raise Malformed(f"{dotted(path)} in {self.path} is no mapping")
        return node

    def _at(self, path: Path) -> Node | None:
        node: Node | None = self.root
        for part in path:
            if isinstance(part, int):
                node = node.value[part] if isinstance(node, SequenceNode) else None
            else:
                node = child(node, part)
        return node

    def _start_of_line(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _line_of(self, key: Node) -> int:
        """Where the line begins that has nothing but spaces in front of `key`."""
        start = self._start_of_line(key.start_mark.index)
        if self.text[start : key.start_mark.index].strip(" \ufeff"):
            raise Malformed(f"{key.value} in {self.path} does not stand on a line of its own")
        return start

    def _eol(self, index: int) -> str:
        end = self.text.find("\n", index)
        return "\r\n" if end > 0 and self.text[end - 1] == "\r" else "\n"

    def _indented(self, block: str, width: int, at: int) -> str:
        lines = block.rstrip("\n").split("\n")
        eol = self._eol(at)
        return "".join(f"{' ' * width}{line}".rstrip() + eol for line in lines)


def load(path: str, text: str) -> Workflow:
    """Raises Malformed for what is no workflow, has anchors or duplicate keys, or is too large."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise Malformed(f"{path} is larger than {MAX_BYTES} bytes")
    root = _compose(text)
    if not isinstance(root, MappingNode):
        raise Malformed(f"{path} is no workflow")
    found = child(root, "jobs")
    jobs = []
    for key, node in found.value if isinstance(found, MappingNode) else ():
        if isinstance(node, MappingNode):
            at: Path = ("jobs", key.value)
            jobs.append(Job(key.value, at, node, tuple(_steps(at, node))))
    return Workflow(path, text, root, _data(root), tuple(jobs))


def data_of(text: str) -> Data:
    return _data(_compose(text))


def kept(data: Data, inside: bool = False) -> list[Any]:
    """All that no repair may change: triggers, conditions, secrets and what may fail without consequence."""
    if isinstance(data, dict):
        return [
            found
            for key, value in data.items()
            for found in ([(key, value)] if key in _KEPT and not inside else kept(value, key == "with"))
        ]
    if isinstance(data, list):
        return [found for item in data for found in kept(item)]
    return re.findall(r"\$\{\{[^}]{0,200}\bsecrets\b[^}]{0,200}\}\}", data[1]) if isinstance(data, tuple) else []


def child(node: Node | None, key: str) -> Node | None:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def scalars_of(node: Node | None) -> dict[str, str]:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return {key.value: value.value for key, value in pairs if isinstance(value, ScalarNode)}


def dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def shell_of(workflow: Workflow, job: Job, step: Step) -> str:
    """The shell of a step as far as the file tells; on Windows runners it is PowerShell unless told otherwise."""
    for owner in (job.node, workflow.root):
        told = scalars_of(child(child(owner, "defaults"), "run")).get("shell", "")
        if step.get("shell") or told:
            return step.get("shell") or told
    runner = child(job.node, "runs-on")
    words = [n.value for n in runner.value if isinstance(n, ScalarNode)] if isinstance(runner, SequenceNode) else []
    named = " ".join(words) or job.get("runs-on")
    if "windows" in named.lower():
        return "pwsh"
    return "" if "${{" in named else "bash"


def _steps(at: Path, job: MappingNode) -> Iterator[Step]:
    steps = child(job, "steps")
    for number, node in enumerate(steps.value if isinstance(steps, SequenceNode) else ()):
        if not isinstance(node, MappingNode):
            raise Malformed(f"{dotted(at)} has a step that is no mapping")
        yield Step((*at, "steps", number), node)


def _shown_as(job: Job, name: str) -> bool:
    written = job.get("name")
    if not written:
        return name == job.id or name.startswith(f"{job.id} (")
    if "${{" not in written:
        return name == written or name.startswith(f"{written} (")
    parts = re.split(r"\$\{\{(?:[^}$]|\$(?!\{\{))*\}\}", written)
    if len(parts) > 4 or not any(part.strip() for part in parts):
        return False
    return re.fullmatch(".{0,80}".join(re.escape(part) for part in parts), name[:300]) is not None


def _compose(text: str) -> Node:
    try:
        found = documents(text, _MAX_DEPTH)
    except ValueError as error:
        raise Malformed(str(error)) from error
    if len(found) != 1:
        raise Malformed("not one YAML document")
    return found[0]


def _plain(literal: str) -> Data:
    return _data(_compose(literal))


def _data(node: Node, depth: int = 0) -> Data:
    if node.anchor is not None:
        raise Malformed("anchors are not followed")
    if depth > _MAX_DEPTH:
        raise Malformed("nested too deeply")
    if isinstance(node, MappingNode):
        if not all(isinstance(key, ScalarNode) for key, _ in node.value):
            raise Malformed("a key is no word")
        found = {key.value: _data(value, depth + 1) for key, value in node.value}
        if len(found) != len(node.value):
            raise Malformed("a key stands twice")
        return found
    if isinstance(node, SequenceNode):
        return [_data(item, depth + 1) for item in node.value]
    return str(node.tag), str(node.value)


def _get(data: Data, path: Path) -> Data:
    for part in path:
        data = data[part]
    return data


def _set(data: Data, path: Path, value: Data) -> None:
    _get(data, path[:-1])[path[-1]] = copy.copy(value)
