"""What libraries removed, and what to write instead: data, one TOML file a library beside this module.

A mistake in a file refuses to start with the file's name. Nothing of a library is imported to read it.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Any


class MigrationsInvalid(ValueError):
    """A table of migrations is wrong; the message names the file and the entry."""


@dataclass(frozen=True, slots=True)
class Value:
    """A keyword argument as it is written, and what takes its place ("": nothing)."""

    written: str
    becomes: str


@dataclass(frozen=True, slots=True)
class Library:
    """`packages` are its import names; `types` tell which calls make an object of a type, and which methods keep it."""

    name: str
    packages: tuple[str, ...]
    distribution: str = ""
    makers: Mapping[str, str] = field(default_factory=dict)
    keeps: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Migration:
    """One removed or renamed API.

    `names`: full old name → full new name, or an expression with `{module}`. `modules`: whole modules that moved
    (with `public`, only these names of them).
    `gone`: the module of `names` no longer exists, so each use of it must be known. `calls` or `method` on `receivers`
    with a `keyword` that has a `new` name or `values`; without a keyword the method itself is `new`, or a `function`
    that takes the receiver first. `special` names a rewrite of its own. `imports`: importing
    the old module does not load the new one below it. `elsewhere`: the traceback does not point at
    what must change. `needs`: a distribution that the repository must ask for. `runs`: the examples can be executed.
    """

    id: str
    library: Library
    removed_in: str
    source: str
    before: str
    after: str
    tells: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    gone: str = ""
    calls: tuple[str, ...] = ()
    method: str = ""
    receivers: tuple[str, ...] = ()
    keyword: str = ""
    new: str = ""
    function: str = ""
    values: tuple[Value, ...] = ()
    public: tuple[str, ...] = ()
    special: str = ""
    imports: bool = False
    elsewhere: bool = False
    needs: str = ""
    runs: bool = True
    not_this: tuple[str, ...] = ()
    note: str = ""

    @property
    def words(self) -> frozenset[str]:
        """Without one of these words a file has no site."""
        olds = {old.rpartition(".")[2] for old in (*self.names, *self.modules)}
        if self.special == "root_validator":
            return frozenset({self.special})
        return frozenset({*olds, *filter(None, (self.keyword or self.method, self.gone.rpartition(".")[2]))})

    def change(self, said: str = "") -> str:
        """Old and new, for people: of several names the one that `said` speaks of."""
        renamed = {**self.names, **self.modules}
        if renamed:
            named = (old for old in renamed if _holds(said, old.rpartition(".")[2]))
            old = next(named, next(iter(renamed)))
            new = renamed[old].replace("{module}", old.rpartition(".")[0]).removeprefix("builtins.")
            return f"{old} → {new}"
        place = f".{self.method}" if self.method else self.calls[0]
        if self.special == "root_validator":
            return f"{place} → {place}(skip_on_failure=True)"
        if self.special == "config":
            return f"{place}.Config.{self.keyword} → {self.new}"
        if self.special == "fillna":
            return f"{place}({self.keyword}=) → .ffill() or .bfill()"
        if self.keyword:
            new = f"{self.new}=" if self.new else (self.values[0].becomes or "nothing")
            return f"{place}({self.keyword}=) → {new}"
        return f"{place}() → {'pandas.concat' if self.special == 'append' else self.function or self.new}()"

    def told_by(self, text: str) -> bool:
        """Whether a line of a log speaks of this migration."""
        return any(_holds(text, tell) for tell in self.tells)


def _holds(text: str, tell: str) -> bool:
    """As a whole: no longer name ends or begins where `tell` does."""
    at = text.find(tell)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(tell) : at + len(tell) + 1]
        if not (_is_word(tell[0]) and (_is_word(before) or before == ".")) and not (
            _is_word(tell[-1]) and _is_word(after)
        ):
            return True
        at = text.find(tell, at + 1)
    return False


def _is_word(character: str) -> bool:
    return character == "_" or character.isalnum()


_FILE = {"library", "packages", "distribution", "source", "says", "types", "migration"}
_ENTRY: Mapping[str, type] = {
    "id": str,
    "removed_in": str,
    "source": str,
    "before": str,
    "after": str,
    "shows": list,
    "names": dict,
    "modules": dict,
    "gone": str,
    "calls": list,
    "method": str,
    "receivers": list,
    "keyword": str,
    "new": str,
    "function": str,
    "values": list,
    "public": list,
    "special": str,
    "imports": bool,
    "elsewhere": bool,
    "needs": str,
    "runs": bool,
    "not_this": list,
    "note": str,
}


def parse(name: str, text: str) -> tuple[Migration, ...]:
    """Raises MigrationsInvalid."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise MigrationsInvalid(f"{name}: {reason}") from reason
    if unknown := data.keys() - _FILE:
        raise MigrationsInvalid(f"{name}: unknown field {sorted(unknown)[0]!r}")
    types = data.get("types", {})
    library = Library(
        data["library"],
        tuple(data["packages"]),
        data.get("distribution", ""),
        {maker: kind for kind, row in types.items() for maker in (kind, *row.get("makers", ()))},
        {kind: frozenset(row.get("keeps", ())) for kind, row in types.items()},
    )
    return tuple(_entry(name, library, data, row) for row in data["migration"])


def _entry(name: str, library: Library, data: Mapping[str, Any], row: Mapping[str, Any]) -> Migration:
    where = f"{name}: {row.get('id', '?')}"
    for key, value in row.items():
        if key not in _ENTRY or not isinstance(value, _ENTRY[key]):
            raise MigrationsInvalid(f"{where}: {key} is not a field, or of another type")
    for key in ("id", "removed_in", "before", "after"):
        if not row.get(key):
            raise MigrationsInvalid(f"{where}: {key} is missing")
    if sum(bool(row.get(key)) for key in ("names", "modules", "calls", "method")) != 1:
        raise MigrationsInvalid(f"{where}: one of names, modules, calls and method says what changes")
    if not row.get("source", data.get("source")):
        raise MigrationsInvalid(f"{where}: source is missing")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    shows = fields.pop("shows", ())
    fields["values"] = tuple(Value(value["is"], value["becomes"]) for value in row.get("values", ()))
    fields.setdefault("source", data.get("source", ""))
    tells = dict.fromkeys([*shows, *_tells(row, tuple(data.get("says", ())))])
    return Migration(library=library, tells=tuple(tells), **fields)


def _tells(row: Mapping[str, Any], says: Sequence[str]) -> Iterator[str]:
    """What the interpreter prints of each kind of removal."""
    for old in row.get("names", {}):
        module, _, name = old.rpartition(".")
        if not row.get("gone"):
            yield f"module '{module}' has no attribute '{name}'"
            yield f"cannot import name '{name}' from '{module}'"
            yield from (line.replace("{name}", name) for line in says)
    for old in row.get("modules", {}):
        module, _, name = old.rpartition(".")
        yield f"No module named '{old}'"
        if module:
            yield f"cannot import name '{name}' from '{module}'"
            yield f"module '{module}' has no attribute '{name}'"
    if gone := row.get("gone", ""):
        yield f"No module named '{gone}'"
        module, _, name = gone.rpartition(".")
        if module:
            yield f"cannot import name '{name}' from '{module}'"
    if keyword := row.get("keyword", ""):
        if row.get("special") in ("config", "root_validator") or row.get("elsewhere"):
            return
        ending = f"() got an unexpected keyword argument '{keyword}'"
        for call in row.get("calls", ()):
            name = call.rpartition(".")[2]
            yield from (f"{name}.__init__{ending}", f"__init__{ending}") if name[:1].isupper() else (f"{name}{ending}",)
        for receiver in row.get("receivers", ()):
            yield from (f"{owner}{row['method']}{ending}" for owner in ("", "NDFrame.", f"{_short(receiver)}."))
    elif method := row.get("method", ""):
        for receiver in row.get("receivers", ()):
            yield f"'{_short(receiver)}' object has no attribute '{method}'"
            yield f"'{receiver}' object has no attribute '{method}'"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


@lru_cache(maxsize=1)
def migrations() -> tuple[Migration, ...]:
    """All that are known, in the order of the files' names."""
    found = [item for item in files(__package__).iterdir() if item.name.endswith(".toml")]
    known = tuple(
        migration
        for item in sorted(found, key=lambda item: item.name)
        for migration in parse(item.name.removesuffix(".toml"), item.read_text("utf-8"))
    )
    if len({migration.id for migration in known}) != len(known):
        ids = sorted(migration.id for migration in known)
        raise MigrationsInvalid(f"two migrations have the id {next(a for a, b in pairwise(ids) if a == b)}")
    return known


def spoken_of(text: str) -> tuple[Migration, ...]:
    """Those that a line of a log speaks of."""
    return tuple(migration for migration in migrations() if migration.told_by(text))
