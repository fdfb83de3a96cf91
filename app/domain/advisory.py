"""What is known to be dangerous, and where a repository has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.evidence import Evidence


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One version of a package that a lockfile pins.

    `ecosystem` is OSV's name (`PyPI`, `npm`), `name` is written as that ecosystem compares names. `needs` are the names
    of the packages it asks for; None where the lockfile does not say. `exact` is False where the name was carried over
    from another ecosystem (conda) and may mean something else there.
    """

    ecosystem: str
    name: str
    version: str
    path: str
    line: int = 0
    needs: frozenset[str] | None = None
    exact: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.ecosystem, self.name, self.version)


@dataclass(frozen=True, slots=True)
class Advisory:
    """One vulnerability under all its names. `score` is CVSS's base score, `severity` the database's own word.

    `fixed` are the versions that end it, as far as they are newer than the one that is locked; `exploited` is EPSS's
    probability of an attack within 30 days.
    """

    id: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    score: float | None = None
    severity: str = ""
    fixed: tuple[str, ...] = ()
    url: str = ""
    exploited: float | None = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.id, *self.aliases))


@dataclass(frozen=True, slots=True)
class Affected:
    """A locked package and the advisories that concern its version, each vulnerability once."""

    package: LockedPackage
    advisories: tuple[Advisory, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """The answer about some packages. `as_of` is the age of its oldest part; `complete` is False where some of the
    packages were never looked up."""

    affected: tuple[Affected, ...] = ()
    as_of: datetime | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Bump:
    """An open pull request by Dependabot."""

    number: int
    url: str
    branch: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Imports:
    """Top-level module → the Python files that import it. `complete` is False where not all files were read."""

    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Dependencies(Evidence):
    """The lockfiles that a push or the schedule is about, beside what is known of their packages.

    `lockfiles` are those that were read whole or are gone; `packages` what they pin. `inherited` are the packages that
    the default branch has in the same file: nothing that a push to another branch brings. `imports` None: not looked.
    """

    lockfiles: tuple[str, ...] = ()
    packages: tuple[LockedPackage, ...] = ()
    known: Known = Known()
    inherited: frozenset[tuple[str, str, str, str]] = frozenset()
    imports: Imports | None = None
    bumps: tuple[Bump, ...] = ()


@dataclass(frozen=True, slots=True)
class AddedLine:
    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class AddedLines(Evidence):
    """The lines that a push added. `salt` is the installation's own, for telling secrets apart without keeping them."""

    lines: tuple[AddedLine, ...]
    salt: bytes


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a pickle would import when loaded: `module.name`, found without loading it. `hidden` counts the imports
    whose names are only put together while loading. `problem` says why it could not be looked at whole."""

    path: str
    imports: tuple[str, ...] = ()
    hidden: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ModelFiles(Evidence):
    """The model files that a push touched and that may hold pickles; `gone` are those it removed."""

    files: tuple[ModelFile, ...]
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowFiles(Evidence):
    """The workflow files that a push touched: path → text, None where it is gone."""

    files: Mapping[str, str | None]
