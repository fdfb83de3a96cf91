"""Looks for the smallest change of versions with which requirements fit together, by asking the resolver."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

from packaging.utils import canonicalize_name

from actions.manifests import Line, Unit, with_specifier
from app.domain.errors import Refused
from app.ports.resolver import Resolution, Resolver

MAX_RESOLVES = 40
NEARER_TRIES = 6  # how often a version between the old pin and the resolver's choice is looked for


@dataclass
class Search:
    """Asks the resolver about one unit, a bounded number of times."""

    resolver: Resolver
    unit: Unit
    python: str | None
    left: int = field(default=MAX_RESOLVES)

    def resolve(self, relaxed: Mapping[Line, str], more: Sequence[str] = ()) -> Resolution:
        """With other version specifiers for some lines, and more requirements."""
        wanted = [_relax(line, relaxed) for line in self.unit.lines]
        return self.ask([*wanted, *more], [_relax(line, relaxed) for line in self.unit.limits])

    def ask(self, requirements: Sequence[str], limits: Sequence[str] = ()) -> Resolution:
        if self.left == 0:
            return Resolution(False, explanation="too many combinations to try")
        self.left -= 1
        if not limits:
            return self.resolver.resolve(requirements, python=self.python)
        return self.resolver.resolve(requirements, python=self.python, constraints=limits)

    def smallest(self, named: Sequence[Line], others: Sequence[Line]) -> dict[Line, str] | None:
        """New versions of one pin, or of two that are named; None if no such change fits."""
        for lines in (named, others):
            for upwards in (True, False):
                for line in lines:
                    if pins := self._move({line: upwards}):
                        return pins
        for pair in combinations(named, 2):
            for ways in product((True, False), repeat=2):
                if pins := self._move(dict(zip(pair, ways, strict=True))):
                    return pins
        return None

    def nearest(self, windows: Mapping[Line, str], floors: Mapping[Line, str]) -> dict[Line, str] | None:
        """Versions within these windows that fit, as low as a few tries find for the lines that have a floor."""
        relaxed = dict(windows)
        found = chosen(self.resolve(relaxed), relaxed)
        if found is None:
            return None
        for line in windows:
            for _ in range(NEARER_TRIES if line in floors else 0):
                nearer = chosen(self.resolve({**relaxed, line: f"{floors[line]},<{found[line]}"}), relaxed)
                if nearer is None:
                    break
                found = nearer
            relaxed[line] = f"=={found[line]}"
        return found

    def _move(self, ways: Mapping[Line, bool]) -> dict[Line, str] | None:
        """The nearest versions in these directions (True is up) that fit, one line's search at a time."""
        windows = {line: f">{line.pin}" if upwards else f"<{line.pin}" for line, upwards in ways.items()}
        return self.nearest(windows, {line: f">{line.pin}" for line, upwards in ways.items() if upwards})


def _relax(line: Line, relaxed: Mapping[Line, str]) -> str:
    return with_specifier(line, relaxed[line]) if line in relaxed else line.requirement


def chosen(resolution: Resolution, relaxed: Mapping[Line, str]) -> dict[Line, str] | None:
    versions = versions_of(resolution)
    if not resolution.resolved or not all(line.name in versions for line in relaxed):
        return None
    return {line: versions[line.name] for line in relaxed}


def versions_of(resolution: Resolution) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in resolution.pins}


def resolves(resolver: Resolver, unit: Unit, python: str | None) -> Resolution:
    """The whole unit as it stands."""
    return Search(resolver, unit, python).resolve({})


def unfit(resolver: Resolver, units: Sequence[Unit], python: str | None) -> Resolution | None:
    """The first unit that does not resolve, None if all do. What the resolver will not touch counts as unfit."""
    for unit in units:
        try:
            answer = resolves(resolver, unit, python)
        except Refused as error:
            return Resolution(False, explanation=str(error))
        if not answer.resolved:
            return answer
    return None
