"""The scenarios: small repositories that really fail, and how each of them ends. See README.md for the format."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import sandbox.catalogue
from sandbox.index import Package

ROOT = Path(__file__).parent
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
End = Literal["healed", "escalated", "observed", "dismissed", "recovered", "awaiting_approval"]
Level = Literal["read", "write", "admin"]
Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Cause = Annotated[str, Field(pattern=r"^(team:)?[a-z][a-z0-9_.-]*$")]
Line = Annotated[str, Field(min_length=3, max_length=160, pattern=r"^[^\n|]+$")]


class Broken(ValueError):
    """A scenario.toml that does not fit; the message names the file."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PackageEntry(_Strict):
    """One version of one invented package that the sandbox's index offers. `modules`: path in the wheel → source."""

    name: str
    version: str
    requires: list[str] = []
    requires_python: str = ">=3.11"
    modules: dict[str, str] | None = None

    def package(self) -> Package:
        return Package(
            self.name, self.version, tuple(self.requires), self.requires_python, self.name, modules=self.modules
        )


class Step(_Strict):
    """One thing that a person (or another bot) does, or that is waited for; `login` is who, `branch` and `base` are
    where."""

    wait: End | None = None  # until the incident is in this state
    noted: Word | None = None  # until the incident's timeline has an entry of this kind
    settle: bool = False  # until nothing is under way any more
    push: str | None = None  # the folder beside repository/ whose files are pushed to `branch`
    remove: list[str] = []  # paths that the same push removes
    pull: Line | None = None  # the title of a pull request from `branch` to `base`
    comment: str | None = None  # on the issue or pull request `on`
    close: bool = False  # the issue or pull request `on`
    merge: bool = False  # the pull request `on`
    rerun: bool = False  # the last run of `branch`, all of its jobs
    on: Literal["pull", "issue"] = "pull"  # the bot's last one
    login: str = "maria"
    branch: str = "main"
    base: str = "main"

    @model_validator(mode="after")
    def _one_thing(self) -> "Step":
        told = [
            name
            for name in ("wait", "noted", "settle", "push", "pull", "comment", "close", "merge", "rerun")
            if getattr(self, name) not in (None, False)
        ]
        if len(told) != 1:
            raise ValueError(f"a step does one thing, not {', '.join(told) or 'none'}")
        if self.remove and self.push is None:
            raise ValueError("remove goes with push")
        return self


class Told(_Strict):
    """scenario.toml, as it is written."""

    title: Line
    cause: Cause
    ends: End
    healed_by: Word | None = None
    tries: list[Word] | None = None
    left_alone: bool = False
    why: Line | None = None
    also: list[Cause] = []
    permissions: dict[Word, Level] = {}
    packages: list[PackageEntry] = []
    after: dict[str, str | list[str]] = {}
    without: dict[str, str | list[str]] = {}
    steps: list[Step] = []
    undo: bool = True

    @model_validator(mode="after")
    def _fits(self) -> "Told":
        if self.left_alone and self.ends == "healed":
            raise ValueError("what is healed was not left alone: check ends and left_alone")
        if not self.left_alone and self.ends == "observed":
            raise ValueError("what is observed is left alone: check ends and left_alone")
        if (self.healed_by is None) == (self.ends == "healed"):
            raise ValueError("healed_by goes with ends = 'healed', and only with it")
        if self.tries and self.healed_by and self.tries[-1] != self.healed_by:
            raise ValueError("the last of tries is what healed_by names")
        if (self.after or self.without) and self.ends != "healed":
            raise ValueError("[after] and [without] are of a fix branch that was proven: ends must be 'healed'")
        if self.why and self.ends == "healed":
            raise ValueError("why tells why something is not healed")
        return self


@dataclass(frozen=True)
class Scenario:
    """One repository and its right end. `tries` are the actions applied, in order; None: not told.

    `after` and `without` map paths to texts that the fix branch has there, and has not. `demo`: one of those that ship
    with the sandbox.
    """

    name: str
    title: str
    cause: str
    ends: str
    healed_by: str | None
    directory: Path
    left_alone: bool = False
    tries: tuple[str, ...] | None = None
    why: str = ""
    also: frozenset[str] = frozenset()
    permissions: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[Package, ...] = ()
    after: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    undo: bool = True
    demo: bool = False

    @property
    def owner(self) -> str:
        """Permissions belong to an installation: those who need others live with another owner."""
        return "-".join(["acme", *(f"{name}-{level}" for name, level in sorted(self.permissions.items()))]).replace(
            "_", "-"
        )

    @property
    def repository(self) -> str:
        return f"{self.owner}/{self.name}"


# The cause of each repository of the demonstration; the rest of what is known of them stands in sandbox/catalogue.py.
DEMO = {
    "flaky-download": "network_transient",
    "oversized-batch": "host_oom",
    "unresolvable-pins": "dependency_resolution_conflict",
    "diverging-training": "nan_loss",
    "genuine-bug": "test_assertion_failure",
}


def read(directory: Path) -> Scenario:
    """The scenario in this folder. Raises Broken."""
    file = directory / "scenario.toml"
    if NAME.fullmatch(directory.name) is None:
        raise Broken(f"{directory}: a scenario's name is lower-case words joined by '-'")
    try:
        told = Told.model_validate(tomllib.loads(file.read_text("utf-8")))
    except FileNotFoundError:
        raise Broken(f"{file} is missing") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Broken(f"{file}: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors())
        raise Broken(f"{file}: {wrong}") from error
    if not list((directory / "repository" / ".github" / "workflows").glob("*.y*ml")):
        raise Broken(f"{directory}/repository has no workflow")
    for step in told.steps:
        if step.push is not None and not (directory / step.push).is_dir():
            raise Broken(f"{file}: there is no folder {step.push} beside repository/")
    return Scenario(
        name=directory.name,
        title=told.title,
        cause=told.cause,
        ends=told.ends,
        healed_by=told.healed_by,
        directory=directory / "repository",
        left_alone=told.left_alone,
        tries=None if told.tries is None else tuple(told.tries),
        why=told.why or "",
        also=frozenset(told.also),
        permissions=told.permissions,
        packages=tuple(entry.package() for entry in told.packages),
        after=_texts(told.after),
        without=_texts(told.without),
        steps=tuple(told.steps),
        undo=told.undo,
    )


def _texts(told: Mapping[str, str | list[str]]) -> dict[str, tuple[str, ...]]:
    return {path: (texts,) if isinstance(texts, str) else tuple(texts) for path, texts in told.items()}


def names(root: Path = ROOT) -> list[str]:
    """The folders that are scenarios, or mean to be."""
    return sorted(folder.name for folder in root.iterdir() if (folder / "scenario.toml").exists())


def catalogue(root: Path = ROOT) -> tuple[Scenario, ...]:
    """Those under tests/, by name. Raises Broken."""
    return tuple(read(root / name) for name in names(root))


def demo() -> tuple[Scenario, ...]:
    """Those that ship with the sandbox; they are played by tests/e2e/test_scenarios.py."""
    return tuple(
        Scenario(
            name=s.name,
            title=s.title,
            cause=DEMO[s.name],
            ends="healed" if s.healed_by else "escalated",
            healed_by=s.healed_by,
            directory=s.directory,
            left_alone=s.healed_by is None,
            packages=s.packages,
            why="" if s.healed_by else "a person has to decide what the code should do",
            demo=True,
        )
        for s in sandbox.catalogue.SCENARIOS
    )


def packages(scenarios: tuple[Scenario, ...]) -> tuple[Package, ...]:
    """What one index offers to all of them. Raises Broken where two mean different things by one name and version."""
    found: dict[tuple[str, str], tuple[Package, str]] = {}
    for scenario in scenarios:
        for package in scenario.packages:
            kept, where = found.setdefault((package.distribution, package.version), (package, scenario.name))
            if kept != package:
                message = f"{scenario.name} and {where} offer different packages as {package.name} {package.version}"
                raise Broken(f"{message}: give one of them another name")
    return tuple(package for package, _ in found.values())
