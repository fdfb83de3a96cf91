"""The plugins in force: what ships, and what is installed beside it."""

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

from app.domain.errors import Permanent


class Plugin(Protocol):
    @property
    def kind(self) -> str: ...


P = TypeVar("P", bound=Plugin)


class DuplicateKind(Permanent):
    """Two plugins claim one kind; which one would act is not ours to guess. Uninstall one of them."""


def collect(group: str, builtin: Iterable[P]) -> dict[str, P]:
    """Plugins by kind: `builtin` and the entry points of `group` (each an object, or a class without arguments).

    Raises DuplicateKind.
    """
    found: list[P] = list(builtin)
    for entry in entry_points(group=group):
        loaded = entry.load()
        found.append(loaded() if isinstance(loaded, type) else loaded)
    by_kind: dict[str, P] = {}
    for plugin in found:
        if plugin.kind in by_kind:
            first, second = type(by_kind[plugin.kind]).__module__, type(plugin).__module__
            raise DuplicateKind(f"{group}: {plugin.kind!r} comes from {first} and from {second}; uninstall one")
        by_kind[plugin.kind] = plugin
    return by_kind
