"""Where the nearest version may lie: windows around a missing one, or above a fixed one, the narrow ones first."""

from dataclasses import dataclass

from packaging.version import Version

EXACT = "=="


@dataclass(frozen=True, slots=True)
class Window:
    """A specifier; `floor` is its lower bound where the lowest version within is the nearest."""

    specifier: str
    floor: str = ""


def around(operator: str, version: str) -> list[Window]:
    """Of the same minor version first, then of the same major, then any; upwards first.

    What is at least a version that does not exist can only become less.
    """
    minor, major = _next(version, 2), _next(version, 1)
    above = f">{version}"
    up = [Window(f"{above},<{minor}", above), Window(f"{above},<{major}", above), Window(above, above)]
    release = Version(version).release
    low_minor = f">={'.'.join(map(str, (*release, 0)[:2]))}"
    down = [Window(f"<{version},{low_minor}"), Window(f"<{version},>={release[0]}"), Window(f"<{version}")]
    if operator == ">=":
        return down
    return [window for pair in zip(up, down, strict=True) for window in pair]


def above(floor: str) -> list[Window]:
    """From that version on: it itself, then of the same minor version, of the same major, any."""
    least = f">={floor}"
    up = [Window(f"{least},<{_next(floor, kept)}", least) for kept in (2, 1)]
    return [Window(f"{EXACT}{floor}"), *up, Window(least, least)]


def _next(version: str, kept: int) -> str:
    """The first version beyond those that share the first `kept` numbers."""
    release = [*Version(version).release, 0][:kept]
    release[-1] += 1
    return ".".join(map(str, release))


def is_other_major(before: str, after: str) -> bool:
    return Version(before).release[0] != Version(after).release[0]


def fixed_for(current: str, fixed: list[str]) -> str:
    """Of the versions in which something was fixed: the nearest above, of the same major version if there is one."""
    later = sorted((each for each in fixed if Version(each) > Version(current)), key=Version)
    same = [each for each in later if not is_other_major(current, each)]
    return next(iter([*same, *later]), "")
