"""The configuration in force as people read it: each value, the file that it comes from, and its line there."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.healing.configuration import OWNER, REPOSITORY, UNREADABLE, Configured, explain, lines
from app.healing.gather import configured, heal_files
from app.healing.kit import Kit
from app.ports.forge import Forge


@dataclass(frozen=True, slots=True)
class Setting:
    """`origin` is "default", one of the names of app.healing.configuration, or several of them joined by " + ";
    `line` is where it stands in the repository's own file, `owners_line` in the owner's, 0 for nowhere."""

    key: str
    value: str
    origin: str
    line: int = 0
    owners_line: int = 0

    @property
    def set(self) -> bool:
        return self.origin != "default"


@dataclass(frozen=True, slots=True)
class Explained:
    """`own` and `owners` say whether there is such a file."""

    configured: Configured
    settings: tuple[Setting, ...]
    own: bool
    owners: bool


def explained(kit: Kit, forge: Forge) -> Explained:
    """Raises what the forge raises."""
    files = heal_files(forge)
    found = configured(kit, forge, files)
    own, owners = (lines(text) if text not in (None, UNREADABLE) else {} for text in (files.own, files.owners))
    settings = tuple(
        Setting(
            key,
            value,
            origin,
            line=_line(own, key) if REPOSITORY in origin.replace(OWNER, "") else 0,
            owners_line=_line(owners, key) if OWNER in origin else 0,
        )
        for key, value, origin in explain(found)
    )
    return Explained(found, settings, files.own is not None, files.owners is not None)


def _line(known: Mapping[str, int], key: str) -> int:
    """That of the key itself, or of the nearest one that it is in."""
    while key:
        if key in known:
            return known[key]
        key = key.rpartition(".")[0]
    return 0
