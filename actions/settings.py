"""Which file a setting of a training job stands in, and what changes it: configuration, code or command line."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from posixpath import basename, dirname, normpath

from actions import python_settings, scalars, shell_settings
from actions.mentions import mentioned, told
from actions.scalars import ANY, NUMBERS, Addition, Kind, Scalar
from app.domain.errors import Malformed
from app.domain.incident import Incident
from app.domain.repair import FileEdit
from app.ports.plugins import Tools

MAX_FILES = 50
MAX_SCRIPTS = 30
MAX_FILE_BYTES = 256 * 1024
MAX_BYTES = 512 * 1024  # of configuration in all, the likeliest first: parsing takes its time
MAX_NAMED = 6

Tiers = Sequence[Sequence[str]]

# How sure it is that a file is the one that the failed job reads; the lower, the surer.
SCRIPT, NAMED, NAMED_BRIEFLY, NAMED_IN_CODE, ENTRY, IMPORTED, CONVENTIONAL, CONVENTIONAL_CODE, OTHER = range(9)

_ELSEWHERE = re.compile(
    r"(?:eval\w*|val(?:id\w*)?|tests?|testing|infer\w*|predict\w*|serv\w+)(?:[_-].*)?(?:\(\))?", re.IGNORECASE
)
_FAVOURED = re.compile(r"train|optim", re.IGNORECASE)
_CONVENTIONAL = re.compile(
    r"(?:^|/)(?:configs?|conf|params?|hparams|hyperparams)(?:/|\.|[-_][^/]*\.)|(?:^|/)train[^/]*\."
)
_CONVENTIONAL_CODE = re.compile(r"(?:^|/)(?:configs?|settings|params?|hparams|hyperparams|train[^/]*)\.py$")
_NOT_CONFIG = re.compile(
    r"(?:^|/)(?:\.[^/]+|node_modules|vendor|third_party)/"
    r"|(?:^|/)(?:package(?:-lock)?\.json|tsconfig[^/]*\.json|pyproject\.toml|Cargo\.toml|Pipfile|ruff\.toml|mkdocs\.ya?ml"
    r"|(?:docker-)?compose[^/]*\.ya?ml|\.[^/]+)$"
)
_NOT_CODE = re.compile(
    r"(?:^|/)(?:\.[^/]+|node_modules|vendor|third_party|site-packages|tests?|docs)/"
    r"|(?:^|/)(?:setup|conftest|noxfile|test_[^/]*|[^/]*_test)\.py$"
)
_MODULE = re.compile(r"(?<!\S)-m[ =]([A-Za-z_]\w{0,80}(?:\.\w{1,80}){0,10})")
_CONFIG_NAME = re.compile(r"config[-_]name[\"']?[ =]+[\"']?([\w./-]{1,120})")
_GROUP = re.compile(r"(?<![\w./=-])\+{0,2}([\w/]{1,80})=([\w./-]{1,120})")
_INTERPOLATED = re.compile(r"[\"']?\$\{(\.{0,10})([A-Za-z_][\w-]*(?:\.[\w-]+){0,20})\}[\"']?")
_VARIABLE = re.compile(r"[\"']?\$\{?(\w{1,80})\}?[\"']?")


class CannotSay(Exception):
    """The reason is the plan's refusal."""


@dataclass(frozen=True)
class File:
    """One file that may hold settings; it is parsed once, or not at all."""

    path: str
    text: str
    rank: int

    @property
    def is_code(self) -> bool:
        return self.path.endswith(".py")

    @property
    def is_script(self) -> bool:
        return shell_settings.is_script(self.path)

    def find(self, keys: Iterable[str], kinds: frozenset[Kind] = NUMBERS) -> list[Scalar]:
        """What stands under one of `keys`; nothing in a file that cannot be read."""
        wanted = frozenset(keys)
        if not any(part in self._lower for key in wanted for part in (key, key.replace("_", "-"))):
            return []
        found: dict[int, Scalar] = {}
        for scalar in self._under(wanted):
            if scalar.word in wanted and scalar.kind in kinds:
                found.setdefault(scalar.start, scalar)
        return [s for s in found.values() if not any(_ELSEWHERE.fullmatch(str(part)) for part in s.path[:-1])]

    @cached_property
    def calls(self) -> list[python_settings.Call]:
        try:
            return python_settings.calls(self.text) if self.is_code else []
        except Malformed:
            return []

    @cached_property
    def imports(self) -> list[str]:
        try:
            return python_settings.imports(self.text) if self.is_code else []
        except Malformed:
            return []

    def _under(self, keys: frozenset[str]) -> list[Scalar]:
        try:
            if self.is_script:
                return shell_settings.find(self.text, keys, ANY)
            if self.path.endswith((".toml", ".json")):
                if keys not in self._probed:
                    self._probed[keys] = scalars.find(self.path, self.text, keys, ANY)
                return self._probed[keys]
        except Malformed:
            return []
        return self._every

    @cached_property
    def _lower(self) -> str:
        return self.text.lower()

    @cached_property
    def _probed(self) -> dict[frozenset[str], list[Scalar]]:
        return {}

    @cached_property
    def _every(self) -> list[Scalar]:
        try:
            return python_settings.every(self.text) if self.is_code else scalars.in_yaml(self.text)
        except Malformed:
            return []


@dataclass(frozen=True, slots=True)
class Setting:
    file: File
    scalar: Scalar

    def __str__(self) -> str:
        return f"{self.scalar.name} in {self.file.path}"


@dataclass
class Changes:
    """What is to be changed, file by file."""

    changed: dict[File, dict[Scalar, str]] = field(default_factory=dict)
    added: dict[File, list[Addition]] = field(default_factory=dict)

    def change(self, setting: Setting, literal: str) -> None:
        self.changed.setdefault(setting.file, {})[setting.scalar] = literal

    def add(self, file: File, addition: Addition) -> None:
        self.added.setdefault(file, []).append(addition)

    def edits(self) -> tuple[FileEdit, ...]:
        """Raises CannotSay where anything else would change."""
        files = list(dict.fromkeys([*self.changed, *self.added]))
        try:
            return tuple(
                FileEdit(file.path, file.text, _rewrite(file, self.changed.get(file, {}), self.added.get(file, ())))
                for file in files
            )
        except Malformed as error:
            raise CannotSay(str(error)) from error


def _rewrite(file: File, changes: Mapping[Scalar, str], additions: Sequence[Addition]) -> str:
    if file.is_code:
        return python_settings.rewrite(file.path, file.text, changes, additions)
    if file.is_script:
        return shell_settings.rewrite(file.path, file.text, changes, additions)
    return scalars.rewrite(file.path, file.text, changes, additions)


class Settings:
    """The files of a repository at the failing commit that may hold the settings of the job that failed."""

    def __init__(self, incident: Incident, tools: Tools) -> None:
        self._incident, self._tools = incident, tools
        self._paths = [p for p in tools.forge.paths(incident.head_sha) if not p.startswith("/")]
        self._said = told(incident, tools)
        workflow = tools.forge.file(incident.workflow_path, incident.head_sha)
        self._commands = re.sub(r"(?m)(?:^|\s)#.*$", "", workflow.text) if workflow else ""

    @cached_property
    def files(self) -> list[File]:
        """The likeliest first, at most 50 of configuration and 30 of code."""
        scripts = list(self._read((SCRIPT, p) for p in self._paths if self._runs(p)))
        said = "\n".join([self._said, *(script.text for script in scripts)])
        code = self._code(said)
        written = "\n".join(file.text for file in code if file.rank <= IMPORTED)
        config = self._config(said, written)
        return sorted([*scripts, *code, *config], key=lambda f: (f.rank, f.path.count("/"), f.path))

    def the_one(self, tiers: Tiers, what: str, kinds: frozenset[Kind] = NUMBERS, upto: int = OTHER) -> Setting:
        """The setting of the best-ranked file that has one.

        Raises CannotSay for none, for several of equal rank, and for one that the workflow's command line sets.
        """
        self.refuse_overridden(tiers)
        for rank in range(upto + 1):
            fitting = [s for file in self.files if file.rank == rank for s in self._of_best_tier(file, tiers, kinds)]
            fitting = list({(s.file.path, s.scalar.start): s for s in fitting}.values())
            if len(fitting) > 1:
                favoured = [s for s in fitting if _FAVOURED.search(".".join(map(str, s.scalar.path[:-1])))]
                fitting = favoured or fitting
            if len(fitting) > 1:
                raise CannotSay(f"cannot tell which one is meant: {', '.join(map(str, fitting[:MAX_NAMED]))}")
            if fitting:
                return fitting[0]
        raise CannotSay(self._none(tiers, what))

    def one_or_none(self, tiers: Tiers, kinds: frozenset[Kind] = NUMBERS, upto: int = OTHER) -> Setting | None:
        """As `the_one`, but None for none."""
        self.refuse_overridden(tiers)
        if any(self._of_best_tier(file, tiers, kinds) for file in self.files if file.rank <= upto):
            return self.the_one(tiers, "", kinds, upto)
        return None

    def in_file(self, file: File, tiers: Tiers, kinds: frozenset[Kind] = NUMBERS) -> list[Setting]:
        return self._of_best_tier(file, tiers, kinds)

    def exists(self, path: str) -> bool:
        return path in self._paths or any(p.startswith(f"{path}/") for p in self._paths)

    def refuse_overridden(self, tiers: Tiers) -> None:
        """Raises CannotSay where the workflow sets one of these itself, or a script in a way that is no number."""
        keys = frozenset(key for tier in tiers for key in tier)
        for given in shell_settings.given(self._commands, keys):
            raise CannotSay(
                f"{given} stands on a command line in {self._incident.workflow_path}, which is a person's to change"
            )
        for script in (file for file in self.files if file.is_script):
            numbers = script.find(keys)
            fixed, variables = {scalar.start for scalar in numbers}, {scalar.key for scalar in numbers}
            for scalar in script.find(keys, ANY):
                variable = _VARIABLE.fullmatch(scalar.literal)
                if scalar.start not in fixed and not (variable and variable[1] in variables):
                    raise CannotSay(f"{scalar.name} is {scalar.literal} in {script.path}, which is no plain number")

    def _none(self, tiers: Tiers, what: str) -> str:
        """Names what is there and cannot be changed, if anything is."""
        for file in self.files:
            for tier in tiers:
                for scalar in file.find(tier, ANY):
                    if scalar.kind is Kind.OTHER or scalar.kind is Kind.TEXT:
                        return f"{scalar.name} in {file.path} is {scalar.literal[:80]}, which is no plain number"
        return f"no configuration file has {what}"

    def _of_best_tier(self, file: File, tiers: Tiers, kinds: frozenset[Kind]) -> list[Setting]:
        found = file.find((key for tier in tiers for key in tier), kinds | {Kind.OTHER})
        for tier in tiers:
            settings = [s for scalar in found if scalar.word in tier for s in self._source_of(file, scalar, kinds)]
            declared = [s for s in settings if not s.scalar.handed_on]
            if settings:
                return declared or settings
        return []

    def _source_of(self, file: File, scalar: Scalar, kinds: frozenset[Kind]) -> Iterator[Setting]:
        """The setting itself, or the only one that its interpolation can mean."""
        if scalar.kind in kinds:
            yield Setting(file, scalar)
            return
        match = _INTERPOLATED.fullmatch(scalar.literal)
        if match is None or file.is_code or file.is_script:
            return
        wanted = tuple(match[2].split("."))
        if match[1]:
            wanted = (*scalar.path[: -len(match[1])], *wanted)
        yield from self._at(file, wanted, kinds)

    def _at(self, file: File, wanted: tuple[object, ...], kinds: frozenset[Kind]) -> list[Setting]:
        names = [str(part) for part in wanted]
        word = scalars.word(names[-1])
        here = [Setting(file, s) for s in file.find([word], kinds) if [*map(str, s.path)] == names]
        if here:
            return here
        there = []
        for other in self.files:
            if other is file or other.is_code or other.is_script:
                continue
            groups = other.path.split("/")[:-1]
            there += [
                Setting(other, s)
                for s in other.find([word], kinds)
                if any([*groups[depth:], *map(str, s.path)] == names for depth in range(len(groups) + 1))
            ]
        return there if len(there) == 1 else []

    def _runs(self, path: str) -> bool:
        if not shell_settings.is_script(path):
            return False
        if basename(path) in ("Makefile", "makefile"):
            return re.search(r"(?<![\w-])make(?![\w-])", self._commands) is not None
        return mentioned(path, self._commands)

    def _code(self, said: str) -> list[File]:
        """What the job starts, what that imports of the repository, and what is named like training."""
        python = [p for p in self._paths if p.endswith(".py") and not _NOT_CODE.search(p)]
        modules = {module.replace(".", "/") for module in _MODULE.findall(said)}
        by_name = [p for p in python if mentioned(basename(p), said)]
        entries = [
            p
            for p in python
            if mentioned(p, said)
            or (p in by_name and [basename(q) for q in by_name].count(basename(p)) == 1)
            or any(p.endswith((f"{m}.py", f"{m}/__main__.py")) and p[: p.rfind(m)] in ("", "src/") for m in modules)
        ]
        ranked = {path: NAMED if _is_argument(path, said) else ENTRY for path in entries}
        files = list(self._read((rank, path) for path, rank in [*ranked.items()][:MAX_SCRIPTS]))
        for file in list(files):
            near = [p for p in _imported(file, python) if p not in ranked]
            ranked |= dict.fromkeys(near, IMPORTED)
            files += self._read((IMPORTED, path) for path in near[: MAX_SCRIPTS - len(files)])
        other = [p for p in python if p not in ranked and _CONVENTIONAL_CODE.search(p)]
        files += self._read((CONVENTIONAL_CODE, path) for path in other[: max(0, MAX_SCRIPTS - len(files))])
        return files

    def _config(self, said: str, written: str) -> list[File]:
        """Files that look like configuration, without those that a `defaults` list does not choose."""
        paths = [p for p in self._paths if p.endswith(scalars.SUFFIXES) and not _NOT_CONFIG.search(p)]
        ranked = sorted((_rank(path, said, written), path.count("/"), path) for path in paths)
        files = list(self._read((rank, path) for rank, _, path in ranked[:MAX_FILES]))
        chosen, left_out = _composed(files, said, written)
        return [
            File(f.path, f.text, min(f.rank, NAMED_IN_CODE) if f.path in chosen else f.rank)
            for f in files
            if f.path not in left_out
        ]

    def _read(self, ranked: Iterable[tuple[int, str]]) -> Iterator[File]:
        left = MAX_BYTES
        for rank, path in ranked:
            file = self._tools.forge.file(path, self._incident.head_sha)
            size = len(file.text.encode()) if file is not None else 0
            if file is not None and size <= min(left, MAX_FILE_BYTES):
                left -= size
                yield File(path, file.text, rank)


def count(literal: str) -> int | None:
    """A whole number as written, or a product of them; None for anything else."""
    parts = [part.strip() for part in literal.split("*")]
    return prod(scalars.whole(part) for part in parts) if all(scalars.is_whole(part) for part in parts) else None


def _rank(path: str, said: str, written: str) -> int:
    if mentioned(path, said):
        return NAMED
    if mentioned(basename(path), said):
        return NAMED_BRIEFLY
    if mentioned(path, written) or mentioned(basename(path), written):
        return NAMED_IN_CODE
    return CONVENTIONAL if _CONVENTIONAL.search(path) else OTHER


def _is_argument(path: str, said: str) -> bool:
    """`python train.py settings.py`: a program that is given to another one sets what that one reads."""
    lines = (line for line in said.splitlines() if path in line and len(line) < 2000)
    return any(re.search(rf"\.py[ \t][^|;&]*(?<![\w./-])(?:\./)?{re.escape(path)}(?![\w/-])", line) for line in lines)


def _imported(file: File, python: Sequence[str]) -> list[str]:
    """The files of the repository that `file` imports, as seen from its folder, the root and `src`."""
    known, here, found = set(python), dirname(file.path), []
    for name in file.imports:
        dots = len(name) - len(name.lstrip("."))
        tail = name[dots:].replace(".", "/")
        roots = [normpath(f"{here or '.'}/{'../' * (dots - 1)}")] if dots else [here, "", "src"]
        for root in roots:
            start = "" if root in ("", ".") else f"{root}/"
            found += [p for p in (f"{start}{tail}.py", f"{start}{tail}/__init__.py") if p in known]
    return list(dict.fromkeys(found))


def _composed(files: Sequence[File], said: str, written: str) -> tuple[set[str], set[str]]:
    """What `defaults` lists (Hydra's) choose, and the other options of the same groups, which they leave out."""
    by_path = {file.path: file for file in files}
    lists = {f.path: scalars.defaults(f.text) for f in files if f.path.endswith((".yaml", ".yml"))}
    roots = {path: found for path, found in lists.items() if found is not None}
    names = {name.removesuffix(".yaml") for name in _CONFIG_NAME.findall(f"{said}\n{written}")}
    named = {path for path in roots if basename(path).rpartition(".")[0] in names}
    given = dict(_GROUP.findall(said))
    chosen, left_out = set(named), set()
    for path in named or set(roots):
        folder = dirname(path)
        for group, option in (roots[path] or {}).items():
            home = "/".join(part for part in (folder, group) if part)
            option = given.get(group, option)
            hits = {p for p in by_path if p in (f"{home}/{option}.yaml", f"{home}/{option}.yml", f"{home}/{option}")}
            if group and hits:
                chosen |= hits
                left_out |= {p for p in by_path if dirname(p) == home and p not in hits}
            elif hits:
                chosen |= hits
    if named:
        left_out |= {path for path in roots if path not in named and dirname(path) in {dirname(p) for p in named}}
    return chosen, left_out - chosen
