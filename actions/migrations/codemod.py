"""Rewrites one Python file for one migration, where it is proven that the removed API is meant. Nothing is executed.

1. The text must be Python that is not nested deeper than people write it.
2. A site is proven by the imports of the file (`np.float_`, where `np` can only be numpy), by types that follow from
   the file (`df = pd.DataFrame()`), or by the line that the traceback names. What merely looks alike is left.
3. The sites change; every other character stays.
"""

import ast
import builtins
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst.helpers import get_full_name_for_node
from libcst.metadata import (
    Assignment,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    QualifiedNameSource,
    Scope,
    ScopeProvider,
)

from actions.migrations import Migration
from app.domain.errors import Malformed

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 80
MAX_NODES = 200_000
MAX_MENTIONS = 2_000
MAX_LOOKS = 20_000

_GUARDS = frozenset({"ImportError", "ModuleNotFoundError", "AttributeError", "TypeError"})
_ASKS = re.compile(r"\bhasattr\b|version_info|__version__|\b[Vv]ersion\(|parse_version|\bTYPE_CHECKING\b|_AVAILABLE\b")
_ANY = "any"
"""The type of a name that is being looked at: whatever the others are."""


@dataclass(frozen=True, slots=True)
class Left:
    """A place that looks like a site, and why it stays as it is."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The new text (the old one, if there are no `sites`), the lines of the sites, and what was left."""

    text: str
    sites: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    left: tuple[Left, ...] = ()
    stars: tuple[str, ...] = ()

    def covers(self, line: int) -> bool:
        """Whether a site is in the statement at this line."""
        return any(first <= line <= last for first, last in self.spans)


def rewrite(text: str, migration: Migration, *, line: int | None = None, exported: bool = False) -> Rewritten:
    """`line` is the one that the traceback names. `exported`: other files may import the old name from this one.

    Raises Malformed for what cannot be read safely.
    """
    if not any(word in text for word in migration.words):
        return Rewritten(text)
    _check(text)
    bom = "\ufeff" if text.startswith("\ufeff") else ""
    try:
        module = cst.parse_module(text.removeprefix("\ufeff"))
        if bom + module.code != text:
            raise Malformed("cannot be written back as it is")
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        plan = _Plan(wrapper, migration, line, exported)
        plan.make()
        if not plan.changes:
            return Rewritten(text, left=tuple(plan.left), stars=plan.stars)
        after = bom + wrapper.module.visit(_Apply(plan)).code
        ast.parse(after.removeprefix(bom))
    except cst.ParserSyntaxError as error:
        raise Malformed(f"is no Python that can be read (line {error.raw_line})") from error
    except RecursionError as error:
        raise Malformed("is nested too deep") from error
    except (SyntaxError, ValueError, MemoryError) as error:
        raise Malformed("cannot be rewritten soundly") from error
    return Rewritten(after, tuple(sorted(plan.sites)), tuple(plan.spans), tuple(plan.left), plan.stars)


def _check(text: str) -> None:
    """The parser of concrete syntax is native code with a stack of its own: it sees only what the interpreter's own
    parser, which counts its steps, has read."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise Malformed("is larger than 1 MB")
    try:
        level = [ast.parse(text.removeprefix("\ufeff"))]
    except (SyntaxError, ValueError) as error:
        raise Malformed("is no Python that can be read") from error
    except (RecursionError, MemoryError) as error:
        raise Malformed("is nested too deep") from error
    nodes: list[ast.AST] = list(level)
    seen = depth = 0
    while nodes:
        depth += 1
        seen += len(nodes)
        if depth > MAX_DEPTH:
            raise Malformed("is nested too deep")
        if seen > MAX_NODES:
            raise Malformed("is too large")
        nodes = [child for node in nodes for child in ast.iter_child_nodes(node)]


class _Unsure(Exception):
    """A site that cannot be changed; the message says why."""


_Change = Callable[[Any], cst.CSTNode]


class _Plan:
    """Which nodes change into what."""

    def __init__(self, wrapper: MetadataWrapper, migration: Migration, line: int | None, exported: bool) -> None:
        self.module = wrapper.module
        self.migration = migration
        self.line = line
        self.exported = exported
        self.parents = wrapper.resolve(ParentNodeProvider)
        self.places = wrapper.resolve(PositionProvider)
        self.scopes = wrapper.resolve(ScopeProvider)
        self.changes: dict[cst.CSTNode, _Change] = {}
        self.after: dict[cst.SimpleStatementLine, list[str]] = {}
        self.sites: set[int] = set()
        self.spans: list[tuple[int, int]] = []
        self.left: list[Left] = []
        self.nodes = list(_walk(self.module))
        self.looks = 0
        self.names_bound: frozenset[str] | None = None
        self.codes: dict[cst.CSTNode, str] = {}
        self.strings = [node.value for node in self.nodes if isinstance(node, cst.SimpleString)]
        stars = (node for node in self.nodes if isinstance(node, cst.ImportFrom) and _is_star(node))
        self.stars = tuple(dict.fromkeys(f"{'.' * len(star.relative)}{_module_of(star)}" for star in stars))

    def make(self) -> None:
        migration = self.migration
        words = migration.words
        if sum(isinstance(node, cst.Name) and node.value in words for node in self.nodes) > MAX_MENTIONS:
            raise Malformed(f"speaks of it more than {MAX_MENTIONS} times")
        renamed = {**migration.names, **migration.modules}
        if migration.special == "config":
            self._configs()
        elif migration.special == "root_validator":
            self._root_validators()
        elif renamed:
            if migration.special != "validator" or self._validators():
                self._names(renamed)
        elif migration.keyword:
            self._keywords()
        else:
            self._methods()
        if self.stars and self.changes and not (self.line and self._covered(self.line)):
            names = ", ".join(self.stars[:3])
            self._leave_all(f"from {names} import * may give these names another meaning")

    # what all kinds share

    def _covered(self, line: int) -> bool:
        return any(first <= line <= last for first, last in self.spans)

    def _leave_all(self, reason: str) -> None:
        self.left += [Left(line, reason) for line in sorted(self.sites)]
        self.changes.clear()
        self.after.clear()
        self.sites.clear()
        self.spans.clear()

    def _leave(self, node: cst.CSTNode, reason: str) -> None:
        left = Left(self.places[node].start.line, reason)
        if left not in self.left:
            self.left.append(left)

    def _site(self, node: cst.CSTNode, change: _Change) -> None:
        self.changes[node] = change
        self.sites.add(self.places[node].start.line)
        self.spans.append(self._span(node))

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        """The lines of the statement around it; of a compound statement only those of the node."""
        place = self.places[node]
        for parent in self._ancestors(node):
            if isinstance(parent, cst.SimpleStatementLine):
                place = self.places[parent]
            if isinstance(parent, (cst.SimpleStatementLine, cst.BaseCompoundStatement, cst.Decorator)):
                break
        return place.start.line, place.end.line

    def _ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def _pointed(self, node: cst.CSTNode) -> bool:
        """The traceback names its statement."""
        if self.line is None:
            return False
        first, last = self._span(node)
        return first <= self.line <= last

    def _guarded(self, node: cst.CSTNode) -> bool:
        """The code asks for itself whether the API is there."""
        if self._pointed(node):
            return False
        is_import = isinstance(node, (cst.Import, cst.ImportFrom))
        below: cst.CSTNode = node
        for parent in self._ancestors(node):
            if isinstance(parent, cst.Try) and below is not parent.finalbody:
                caught = [handler.type for handler in parent.handlers]
                names = {word for kind in caught for word in (re.findall(r"\w+", self._code(kind)) if kind else [""])}
                if names & _GUARDS or (is_import and names & {"", "Exception"}):
                    return True
            asks = isinstance(parent, (cst.If, cst.IfExp)) and below is not parent.test
            if asks and _ASKS.search(self._code(parent.test)):  # type: ignore[attr-defined]
                return True
            below = parent
        return False

    def _code(self, node: cst.CSTNode) -> str:
        if node not in self.codes:
            self.codes[node] = self.module.code_for_node(node)
        return self.codes[node]

    def _scope(self, node: cst.CSTNode) -> Scope | None:
        for each in (node, *self._ancestors(node)):
            scope = self.scopes.get(each)
            if isinstance(scope, Scope):
                return scope
        return None

    def _full_names(self, node: cst.CSTNode) -> tuple[set[str], bool]:
        """What the expression may name by import, and whether it can be nothing else."""
        scope = self._scope(node)
        if scope is None or not _is_path(node):
            return set(), False
        found = scope.get_qualified_names_for(node)
        imported = {name.name for name in found if name.source is QualifiedNameSource.IMPORT}
        return imported, len(imported) == len(found) == 1

    def _means(self, node: cst.CSTNode, names: set[str]) -> str:
        """Which of these full names the expression has; empty for none. Raises _Unsure where it may have another."""
        found, sure = self._full_names(node)
        match = next(iter(sorted(found & names)), "")
        if match and not sure and not self._pointed(node):
            raise _Unsure("the name may mean something else there")
        return match

    def _root(self, node: cst.CSTNode) -> str:
        full = get_full_name_for_node(node)
        return full.partition(".")[0] if full else ""

    def _import_of(self, node: cst.CSTNode) -> cst.SimpleStatementLine | None:
        """The statement that imports what the expression begins with."""
        scope, root = self._scope(node), self._root(node)
        if scope is None or not root:
            return None
        for assignment in sorted(scope[root], key=lambda each: isinstance(each, ImportAssignment), reverse=True):
            if isinstance(assignment, ImportAssignment):
                statement = self.parents.get(assignment.node)
                if isinstance(statement, cst.SimpleStatementLine):
                    return statement
        return None

    def _bound(self, node: cst.CSTNode, name: str) -> list[object]:
        scope = self._scope(node)
        return [each for each in scope[name] if not _is_builtin(each)] if scope is not None else []

    def _anywhere(self, name: str) -> bool:
        """Some scope of the file binds this name."""
        if self.names_bound is None:
            scopes = {scope for scope in self.scopes.values() if isinstance(scope, Scope)}
            bound = (each for scope in scopes for each in scope.assignments if not _is_builtin(each))
            self.names_bound = frozenset(each.name for each in bound)
        return name in self.names_bound

    def _module_as(self, node: cst.CSTNode, module: str) -> str:
        """How this place can name a module. Adds an import beside the one it uses, where there is none."""
        scope = self._scope(node)
        while scope is not None:
            for assignment in scope.assignments:
                if isinstance(assignment, ImportAssignment) and isinstance(assignment.node, cst.Import):
                    for alias in assignment.node.names:
                        bound = alias.evaluated_alias or alias.evaluated_name
                        if alias.evaluated_name == module and self._is_import(node, bound.partition(".")[0]):
                            return bound
            scope = scope.parent if scope.parent is not scope else None
        if self._anywhere(module.partition(".")[0]) and not self._imports_only(node, module.partition(".")[0]):
            raise _Unsure(f"{module.partition('.')[0]} has another meaning in this file")
        home = self._import_of(node) or self._first_import()
        if home is None:
            raise _Unsure(f"there is no import beside which {module} could be imported")
        self._add_after(home, f"import {module}")
        return module

    def _is_import(self, node: cst.CSTNode, name: str) -> bool:
        bound = self._bound(node, name)
        return bool(bound) and all(isinstance(each, ImportAssignment) for each in bound)

    def _imports_only(self, node: cst.CSTNode, root: str) -> bool:
        """All that binds this name imports the package of this name."""
        bound = self._bound(node, root)
        return bool(bound) and all(
            isinstance(each, ImportAssignment)
            and isinstance(each.node, cst.Import)
            and any(
                alias.asname is None and alias.evaluated_name.partition(".")[0] == root for alias in each.node.names
            )
            for each in bound
        )

    def _first_import(self) -> cst.SimpleStatementLine | None:
        for statement in self.module.body:
            if isinstance(statement, cst.SimpleStatementLine):
                for small in statement.body:
                    if isinstance(small, cst.Import) or (
                        isinstance(small, cst.ImportFrom) and _module_of(small) != "__future__"
                    ):
                        return statement
        return None

    def _add_after(self, statement: cst.SimpleStatementLine, code: str) -> None:
        lines = self.after.setdefault(statement, [])
        if code not in lines:
            lines.append(code)

    # names and modules

    def _names(self, renamed: dict[str, str]) -> None:
        kept: dict[str, str] = {}
        statements = [node for node in self.nodes if isinstance(node, (cst.Import, cst.ImportFrom))]
        for statement in statements:
            if isinstance(statement, cst.ImportFrom):
                try:
                    self._import_from(statement, renamed, kept)
                except _Unsure as reason:
                    self._leave(statement, str(reason))
        olds = {old.rpartition(".")[2] for old in renamed}
        for node in self.nodes:
            if isinstance(node, cst.Attribute) and node.attr.value in olds and not self._in_import(node):
                try:
                    self._attribute(node, renamed)
                except _Unsure as reason:
                    self._leave(node, str(reason))
            elif isinstance(node, cst.Name) and node.value in kept and self._is_read(node):
                found, _ = self._full_names(node)
                if any(old in renamed and old.rpartition(".")[2] == node.value for old in found):
                    self._site(node, _renaming(kept[node.value]))
        for statement in statements:
            if isinstance(statement, cst.Import):
                try:
                    self._import(statement)
                except _Unsure as reason:
                    self._leave_all(str(reason))
                    self._leave(statement, str(reason))
                    return

    def _in_import(self, node: cst.CSTNode) -> bool:
        return any(isinstance(parent, (cst.Import, cst.ImportFrom)) for parent in self._ancestors(node))

    def _is_read(self, node: cst.Name) -> bool:
        parent = self.parents[node]
        named = (
            (isinstance(parent, cst.Attribute) and parent.attr is node)
            or (isinstance(parent, cst.Arg) and parent.keyword is node)
            or (isinstance(parent, (cst.Param, cst.FunctionDef, cst.ClassDef)) and parent.name is node)
            or isinstance(parent, (cst.ImportAlias, cst.AsName, cst.AssignTarget, cst.NameItem))
        )
        return not named and not self._in_import(node)

    def _attribute(self, node: cst.Attribute, renamed: dict[str, str]) -> None:
        old = self._means(node, set(renamed))
        if not old or self._guarded(node):
            return
        parent = self.parents[node]
        if isinstance(parent, (cst.AssignTarget, cst.Del)) or (
            isinstance(parent, (cst.AugAssign, cst.AnnAssign, cst.NamedExpr)) and parent.target is node
        ):
            raise _Unsure("it is assigned to")
        module = old.rpartition(".")[0]
        new = renamed[old]
        if "{module}" in new:
            expression = cst.parse_expression(new.replace("{module}", self._code(node.value)))
            if not isinstance(parent, (cst.Arg, cst.Assign, cst.Return, cst.Element, cst.DictElement, cst.Index)):
                expression = _parenthesized(expression)
            self._site(node, lambda _: expression)
            return
        new_module, _, new_name = new.rpartition(".")
        if new_module == "builtins":
            if self._anywhere(new_name):
                raise _Unsure(f"{new_name} has another meaning in this file")
            self._site(node, lambda updated: _like(cst.Name(new_name), updated))
        elif new_module == module:
            self._site(node, lambda updated: updated.with_changes(attr=updated.attr.with_changes(value=new_name)))
        elif new_module.startswith(f"{module}.") and not self.migration.gone:
            if self.migration.imports:
                self._module_as(node, new_module)
            inner = new_module.removeprefix(f"{module}.")
            self._site(node, lambda updated: _dotted(updated, f"{inner}.{new_name}"))
        else:
            prefix = new_module or new
            place = self._module_as(node, prefix) if not self.migration.gone else self._instead(node, prefix)
            target = f"{place}.{new_name}" if new_module else place
            self._site(node, lambda updated: _like(cst.parse_expression(target), updated))

    def _instead(self, node: cst.CSTNode, module: str) -> str:
        """The module in place of the one that is gone; its import statement is turned into this one's."""
        root = module.partition(".")[0]
        if self._anywhere(root) and not self._imports_only(node, root):
            raise _Unsure(f"{root} has another meaning in this file")
        home = self._import_of(node)
        if home is None:
            raise _Unsure("its import is not found")
        self._add_after(home, f"import {module}")
        return module

    def _import(self, statement: cst.Import) -> None:
        """`import old` of a module that moved or is gone."""
        modules, gone = self.migration.modules, self.migration.gone
        aliases = []
        changed = removed = False
        for alias in statement.names:
            name = alias.evaluated_name
            moved = next((old for old in modules if name == old or name.startswith(f"{old}.")), "")
            if moved and not self._guarded(statement):
                new = modules[moved] + name.removeprefix(moved)
                aliases.append(alias.with_changes(name=cst.parse_expression(new)))
                changed = True
            elif gone and (name == gone or name.startswith(f"{gone}.")) and not self._guarded(statement):
                self._all_known(statement, alias)
                removed = True
            else:
                aliases.append(alias)
        if removed:
            home = self.parents[statement]
            if not isinstance(home, cst.SimpleStatementLine) or len(home.body) > 1:
                raise _Unsure("the import shares its line with other statements")
            added = [line.removeprefix("import ") for line in self.after.pop(home, [])]
            have = {alias.evaluated_name for alias in aliases}
            aliases += [cst.ImportAlias(cst.parse_expression(name)) for name in added if name not in have]  # type: ignore[arg-type]
            if not aliases:
                raise _Unsure("nothing would be left of the import")
            changed = True
        if changed:
            self._site(statement, lambda updated: updated.with_changes(names=_joined(aliases)))

    def _all_known(self, statement: cst.Import, alias: cst.ImportAlias) -> None:
        """Each use of the module that is gone is one that changes. Raises _Unsure naming the first that is not."""
        bound = (alias.evaluated_alias or alias.evaluated_name).partition(".")[0]
        scope = self._scope(statement)
        uses = [
            access.node
            for assignment in (scope[bound] if scope is not None else ())
            if isinstance(assignment, Assignment)
            for access in assignment.references
        ]
        if not uses:
            raise _Unsure(f"{self.migration.gone} is imported and not used in a way that is known")
        for use in uses:
            around = [use, *self._ancestors(use)]
            if not any(node in self.changes for node in (*around[:6], *_walk(use))):
                line = self.places[use].start.line
                raise _Unsure(f"{self.migration.gone} is used otherwise in line {line}")

    def _import_from(self, statement: cst.ImportFrom, renamed: dict[str, str], kept: dict[str, str]) -> None:
        if statement.relative or _is_star(statement):
            return
        module = _module_of(statement)
        if self._guarded(statement):
            return
        modules, gone = self.migration.modules, self.migration.gone
        moved = next((old for old in modules if module == old or module.startswith(f"{old}.")), "")
        if moved:
            public = self.migration.public
            names = [alias.evaluated_name for alias in statement.names]  # type: ignore[union-attr]
            if public and (private := [name for name in names if name not in public]):
                raise _Unsure(f"{private[0]} has no known replacement")
            new = cst.parse_expression(modules[moved] + module.removeprefix(moved))
            self._site(statement, lambda updated: updated.with_changes(module=new))
            return
        assert not isinstance(statement.names, cst.ImportStar)
        stay: list[cst.ImportAlias] = []
        leave: dict[str, list[cst.ImportAlias]] = {}
        changed = False
        for alias in statement.names:
            old = f"{module}.{alias.evaluated_name}"
            new_full = renamed.get(old)
            if new_full is None:
                if gone and (module == gone or module.startswith(f"{gone}.")):
                    raise _Unsure(f"{old} has no known replacement")
                stay.append(alias)
                continue
            if "{module}" in new_full:
                raise _Unsure("an expression takes its place, which cannot be imported")
            new_module, _, new_name = new_full.rpartition(".")
            if new_module == "builtins":
                if alias.asname is not None or alias.evaluated_name != new_name:
                    raise _Unsure(f"it is imported under another name than {new_name}")
                changed = True
                continue
            renamed_alias = self._renamed(statement, alias, new_name, kept)
            changed = True
            if new_module == module:
                stay.append(renamed_alias)
            else:
                leave.setdefault(new_module, []).append(renamed_alias)
        if not changed:
            return
        home = self.parents[statement]
        if not isinstance(home, cst.SimpleStatementLine) or (len(home.body) > 1 and (leave or not stay)):
            raise _Unsure("the import shares its line with other statements")
        if not stay and not leave:
            raise _Unsure("nothing would be left of the import")
        if not stay:
            in_place = next(iter(leave))
            aliases = leave.pop(in_place)
            if in_place:
                path = cst.parse_expression(in_place)
                self._site(
                    statement, lambda updated: updated.with_changes(module=path, names=_joined(aliases, updated))
                )
            else:
                self._site(statement, lambda _: cst.Import(_joined(aliases)))
        else:
            self._site(statement, lambda updated: updated.with_changes(names=_joined(stay, updated)))
        for new_module, moving in leave.items():
            told = ", ".join(self._code(alias.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for alias in moving)
            self._add_after(home, f"from {new_module} import {told}" if new_module else f"import {told}")

    def _renamed(
        self, statement: cst.ImportFrom, alias: cst.ImportAlias, new_name: str, kept: dict[str, str]
    ) -> cst.ImportAlias:
        """The alias under its new name. Its uses change as well, or the old name stays bound to it."""
        old_name = alias.evaluated_name
        renamed = alias.with_changes(name=cst.Name(new_name))
        if alias.asname is not None or new_name == old_name:
            if alias.evaluated_alias == new_name:
                return renamed.with_changes(asname=None)
            return renamed
        quoted = any(re.search(rf"\b{re.escape(old_name)}\b", text) for text in self.strings)
        scope = self._scope(statement)
        several = scope is None or len([each for each in scope[old_name] if not _is_builtin(each)]) != 1
        if self.exported or quoted or several or self._anywhere(new_name) or hasattr(builtins, new_name):
            return renamed.with_changes(asname=cst.AsName(cst.Name(old_name)))
        kept[old_name] = new_name
        return renamed

    # keyword arguments

    def _keywords(self) -> None:
        migration = self.migration
        for node in self.nodes:
            if isinstance(node, cst.Call):
                arg = next((arg for arg in node.args if arg.keyword and arg.keyword.value == migration.keyword), None)
                if arg is not None:
                    try:
                        if self._called(node) and not self._guarded(node):
                            self._site(node, self._keyword(node, arg))
                    except _Unsure as reason:
                        self._leave(node, str(reason))

    def _called(self, call: cst.Call) -> bool:
        if self.migration.calls:
            return bool(self._means(call.func, set(self.migration.calls)))
        if not isinstance(call.func, cst.Attribute) or call.func.attr.value != self.migration.method:
            return False
        self._is_receiver(call.func)
        return True

    def _keyword(self, call: cst.Call, arg: cst.Arg) -> _Change:
        migration = self.migration
        others = {other.keyword.value for other in call.args if other.keyword and other is not arg}
        if any(other.star == "**" for other in call.args):
            others.add("**")
        if migration.special == "fillna":
            return self._filling(call, arg)
        if migration.new:
            if migration.new in others:
                raise _Unsure(f"{migration.new} is given as well")
            new = migration.new
            return lambda updated: _with_arg(
                updated, migration.keyword, lambda each: each.with_changes(keyword=_name(new))
            )
        written = self._code(arg.value)
        becomes = next(
            (value.becomes for value in migration.values if value.written == "*" or _same(value.written, written)), None
        )
        if becomes is None:
            raise _Unsure(f"what takes the place of {migration.keyword}={written[:40]} is not known")
        if not becomes:
            return lambda updated: _with_arg(updated, migration.keyword, lambda _: None)
        keyword, _, value = becomes.partition("=")
        positions = {"sep": 1} if keyword == "sep" else {}
        taken = keyword in others or (keyword == "sep" and "delimiter" in others)
        if taken or sum(other.keyword is None for other in call.args) > positions.get(keyword, 1 << 20):
            raise _Unsure(f"{keyword} is given as well")
        expression = cst.parse_expression(value)
        return lambda updated: _with_arg(
            updated, migration.keyword, lambda each: each.with_changes(keyword=_name(keyword), value=expression)
        )

    def _filling(self, call: cst.Call, arg: cst.Arg) -> _Change:
        """`x.fillna(method="ffill")` to `x.ffill()`."""
        written = self._code(arg.value).strip("\"'")
        name = {"ffill": "ffill", "pad": "ffill", "bfill": "bfill", "backfill": "bfill"}.get(written)
        others = [other for other in call.args if other is not arg]
        if name is None or any(not o.keyword or o.keyword.value not in ("axis", "inplace", "limit") for o in others):
            raise _Unsure("how it fills cannot be told")

        def change(updated: cst.CSTNode) -> cst.CSTNode:
            without = _with_arg(updated, "method", lambda _: None)
            assert isinstance(without, cst.Call)
            assert isinstance(without.func, cst.Attribute)
            return without.with_changes(func=without.func.with_changes(attr=cst.Name(name)))

        return change

    # pydantic

    def _configs(self) -> None:
        """A key of `class Config` in a model of this file."""
        for node in self.nodes:
            if not isinstance(node, cst.Name) or node.value != self.migration.keyword:
                continue
            around = list(self._ancestors(node))
            classes = [parent for parent in around if isinstance(parent, cst.ClassDef)]
            target = around[0]
            if not isinstance(target, cst.AssignTarget) or len(classes) < 2 or classes[0].name.value != "Config":
                continue
            if self._is_model(classes[1], 0):
                self._site(node, lambda updated: updated.with_changes(value=self.migration.new))
            else:
                self._leave(node, f"{classes[1].name.value} is not known to be a model")

    def _is_model(self, definition: cst.ClassDef, depth: int) -> bool:
        for base in definition.bases:
            names, sure = self._full_names(base.value)
            if sure and names & {*self.migration.calls, *self.migration.receivers}:
                return True
            if isinstance(base.value, cst.Name) and depth < 10:
                bound = self._bound(definition, base.value.value)
                if len(bound) == 1 and isinstance(node := getattr(bound[0], "node", None), cst.ClassDef):
                    return self._is_model(node, depth + 1)
        return False

    def _root_validators(self) -> None:
        for node in self.nodes:
            if not isinstance(node, cst.Decorator):
                continue
            call = node.decorator if isinstance(node.decorator, cst.Call) else None
            try:
                if not self._means(call.func if call else node.decorator, set(self.migration.calls)):
                    continue
            except _Unsure as reason:
                self._leave(node, str(reason))
                continue
            given = {arg.keyword.value: self._code(arg.value) for arg in call.args if arg.keyword} if call else {}
            if given.get("pre", "False") == "False" and "skip_on_failure" not in given:
                self._site(node, _skipping_failures)

    def _validators(self) -> bool:
        """The functions below `@validator`; False if one cannot be carried over, and then none changes."""
        for node in self.nodes:
            if not isinstance(node, cst.FunctionDef):
                continue
            for decorator in node.decorators:
                call = decorator.decorator
                try:
                    func = call.func if isinstance(call, cst.Call) else call
                    if not self._means(func, set(self.migration.names)):
                        continue
                    self._validator(node, call)
                except _Unsure as reason:
                    self._leave_all(str(reason))
                    self._leave(node, str(reason))
                    return False
        return True

    def _validator(self, function: cst.FunctionDef, call: cst.BaseExpression) -> None:
        if not isinstance(call, cst.Call):
            raise _Unsure("the validator names no field")
        mode = ""
        for arg in call.args:
            key, value = (arg.keyword.value, self._code(arg.value)) if arg.keyword else ("", "")
            if key == "pre" and value in ("True", "False"):
                mode = "before" if value == "True" else ""
            elif key not in ("", "allow_reuse", "check_fields") or arg.star:
                raise _Unsure(f"the validator has {key or 'arguments that are not known'}")
        params = function.params
        others = [*params.kwonly_params, *params.posonly_params, params.star_kwarg, params.star_arg]
        plain = len(params.params) == 2 and not any(isinstance(other, (cst.Param, cst.ParamStar)) for other in others)
        if not plain or params.params[0].name.value != "cls":
            raise _Unsure("the validator takes more than the class and the value")

        def arguments(updated: cst.CSTNode) -> cst.CSTNode:
            assert isinstance(updated, cst.Call)
            args = [arg for arg in updated.args if not (arg.keyword and arg.keyword.value in ("pre", "allow_reuse"))]
            if mode:
                equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
                args.append(cst.Arg(cst.SimpleString(f'"{mode}"'), cst.Name("mode"), equal))
            args[-1] = args[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            return updated.with_changes(args=args)

        def classmethods(updated: cst.CSTNode) -> cst.CSTNode:
            assert isinstance(updated, cst.FunctionDef)
            return updated.with_changes(decorators=[*updated.decorators, cst.Decorator(cst.Name("classmethod"))])

        self._site(call, arguments)
        if not any(
            isinstance(each.decorator, cst.Name) and each.decorator.value == "classmethod"
            for each in function.decorators
        ):
            self.changes[function] = classmethods

    # methods

    def _methods(self) -> None:
        for node in self.nodes:
            if isinstance(node, cst.Attribute) and node.attr.value == self.migration.method:
                try:
                    self._method(node)
                except _Unsure as reason:
                    self._leave(node, str(reason))

    def _method(self, node: cst.Attribute) -> None:
        if self._in_import(node) or self._full_names(node)[0]:
            return  # a function of a module
        self._is_receiver(node)
        if self._guarded(node):
            return
        migration = self.migration
        call = self.parents[node]
        called = isinstance(call, cst.Call) and call.func is node
        if migration.function or migration.special == "append":
            if not called:
                raise _Unsure("it is not called there")
            assert isinstance(call, cst.Call)
            if not migration.function:
                self._append(node, call)
                return
            module, _, name = migration.function.rpartition(".")
            path = self._module_as(node, module)
            function = cst.parse_expression(f"{path}.{name}")
            self._site(call, lambda updated: _as_function(updated, function))
            return
        new = migration.new
        self._site(node, lambda updated: updated.with_changes(attr=updated.attr.with_changes(value=new)))

    def _append(self, node: cst.Attribute, call: cst.Call) -> None:
        """`df.append(other, ignore_index=True)` to `pd.concat([df, other], ignore_index=True)`."""
        first = next(
            (arg for arg in call.args if arg.keyword is None or arg.keyword.value in ("other", "to_append")), None
        )
        known = {"ignore_index", "verify_integrity", "sort"}
        rest = [arg for arg in call.args if arg is not first]
        if first is None or first.star or any(arg.keyword is None or arg.keyword.value not in known for arg in rest):
            raise _Unsure("its arguments cannot be told")
        kind = self._type_of(first.value)
        row = isinstance(first.value, cst.Dict) or self._is_dict(first.value)
        frames = self.migration.receivers
        if row:
            if not any(arg.keyword and arg.keyword.value == "ignore_index" for arg in rest):
                raise _Unsure("a row without ignore_index=True was refused before as well")
        elif kind not in frames:
            told = self._code(first.value)[:40]
            raise _Unsure(f"whether {told} is a row or a frame cannot be told")
        pandas = self._module_as(node, "pandas")

        def change(updated: cst.CSTNode) -> cst.CSTNode:
            assert isinstance(updated, cst.Call)
            assert isinstance(updated.func, cst.Attribute)
            at = list(call.args).index(first)
            other: cst.BaseExpression = updated.args[at].value
            if row:
                frame = cst.parse_expression(f"{pandas}.DataFrame")
                other = cst.Call(frame, [cst.Arg(cst.List([cst.Element(other)]))])
            both = cst.List([cst.Element(updated.func.value), cst.Element(other)])
            args = [updated.args[at].with_changes(value=both, keyword=None, equal=cst.MaybeSentinel.DEFAULT)]
            args += [arg for index, arg in enumerate(updated.args) if index != at]
            concat = cst.parse_expression(f"{pandas}.concat")
            return updated.with_changes(func=_like(concat, updated.func), args=args)

        self._site(call, change)

    def _is_receiver(self, node: cst.Attribute) -> None:
        """Raises _Unsure where its type does not follow from the file, nor from the line of the traceback."""
        kind = self._type_of(node.value)
        if kind in self.migration.receivers:
            return
        if kind and kind != _ANY:
            raise _Unsure(f"it is a {kind}")
        if not self._pointed(node):
            raise _Unsure(f"the type of {self._code(node.value)[:40]} is not known")
        first, last = self._span(node)
        alike = [
            other
            for other in self.nodes
            if isinstance(other, cst.Attribute)
            and other.attr.value == node.attr.value
            and first <= self.places[other].start.line <= last
        ]
        if len(alike) > 1:
            raise _Unsure(f"which .{node.attr.value} of line {first} failed is not known")

    def _is_dict(self, node: cst.BaseExpression) -> bool:
        if not isinstance(node, cst.Name):
            return False
        values = self._values(node)
        return bool(values) and all(isinstance(value, cst.Dict) for value in values)

    def _values(self, node: cst.Name) -> list[cst.BaseExpression | None]:
        """All that the name is ever bound to; None for what is not an expression."""
        found: list[cst.BaseExpression | None] = []
        for assignment in self._bound(node, node.value):
            value = None
            if isinstance(assignment, Assignment) and not isinstance(assignment, ImportAssignment):
                target = self.parents.get(assignment.node)
                home = self.parents.get(target) if isinstance(target, cst.AssignTarget) else target
                if isinstance(home, cst.Assign) and isinstance(target, cst.AssignTarget):
                    value = home.value if target.target is assignment.node else None
                elif isinstance(home, cst.AnnAssign) and home.target is assignment.node:
                    value = home.value
            found.append(value)
        return found

    def _type_of(self, node: cst.BaseExpression, seen: frozenset[str] = frozenset()) -> str:
        """The full name of its type, as far as the file proves it; empty if it does not."""
        self.looks += 1
        if self.looks > MAX_LOOKS:
            raise Malformed("is too tangled to tell types")
        library = self.migration.library
        if isinstance(node, cst.Call):
            names, sure = self._full_names(node.func)
            if sure and (made := library.makers.get(next(iter(names)))):
                return made
            if self.migration.special == "model" and isinstance(node.func, cst.Name):
                bound = self._bound(node.func, node.func.value)
                made_by = getattr(bound[0], "node", None) if len(bound) == 1 else None
                return (
                    self.migration.receivers[0]
                    if isinstance(made_by, cst.ClassDef) and self._is_model(made_by, 0)
                    else ""
                )
            last = (get_full_name_for_node(node.func) or "").rpartition(".")[2] if _is_path(node.func) else ""
            if last[:1].isupper():  # a class, and none that the table knows
                return next(iter(names), last)
            if isinstance(node.func, cst.Attribute):
                kind = self._type_of(node.func.value, seen)
                if kind == _ANY or node.func.attr.value in library.keeps.get(kind, ()):
                    return kind
            return ""
        if isinstance(node, (cst.List, cst.Dict, cst.Set, cst.Tuple, cst.SimpleString, cst.ListComp)):
            return type(node).__name__.lower()
        if not isinstance(node, cst.Name):
            return ""
        if node.value in seen:
            return _ANY
        if (annotated := self._annotated(node)) is not None:
            return annotated
        values = self._values(node)
        if not values or any(value is None for value in values):
            return ""
        kinds = {self._type_of(value, seen | {node.value}) for value in values if value is not None} - {_ANY}
        return kinds.pop() if len(kinds) == 1 else ""

    def _annotated(self, node: cst.Name) -> str | None:
        """The type that the parameter of this name is annotated with; None if it is no parameter."""
        bound = self._bound(node, node.value)
        for assignment in bound:
            if isinstance(assignment, Assignment) and isinstance(assignment.node, cst.Param):
                annotation = assignment.node.annotation
                if annotation is None or len(bound) > 1:
                    return ""
                names, sure = self._full_names(annotation.annotation)
                return self.migration.library.makers.get(next(iter(names)), "") if sure else ""
        return None


class _Apply(cst.CSTTransformer):
    def __init__(self, plan: _Plan) -> None:
        super().__init__()
        self.plan = plan

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> object:  # type: ignore[override]
        change = self.plan.changes.get(original_node)
        if change is not None:
            updated_node = change(updated_node)
        if isinstance(original_node, cst.SimpleStatementLine) and original_node in self.plan.after:
            config = self.plan.module.config_for_parsing
            added = [cst.parse_statement(line, config) for line in self.plan.after[original_node]]
            return cst.FlattenSentinel([updated_node, *added])
        return updated_node


def _skipping_failures(node: cst.CSTNode) -> cst.CSTNode:
    assert isinstance(node, cst.Decorator)
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    skip = cst.Arg(cst.Name("True"), cst.Name("skip_on_failure"), equal)
    if isinstance(node.decorator, cst.Call):
        return node.with_changes(decorator=node.decorator.with_changes(args=[*node.decorator.args, skip]))
    return node.with_changes(decorator=cst.Call(node.decorator, [skip]))


def _renaming(new: str) -> _Change:
    return lambda updated: updated.with_changes(value=new)


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.children))


def _is_star(statement: cst.ImportFrom) -> bool:
    return isinstance(statement.names, cst.ImportStar)


def _module_of(statement: cst.ImportFrom) -> str:
    return (get_full_name_for_node(statement.module) or "") if statement.module else ""


def _is_builtin(assignment: object) -> bool:
    return type(assignment).__name__ == "BuiltinAssignment"


def _is_path(node: cst.CSTNode) -> bool:
    """Names with dots between, and nothing else: libcst looks through calls."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return isinstance(node, cst.Name)


def _joined(aliases: Sequence[cst.ImportAlias], before: object = None) -> list[cst.ImportAlias]:
    """With a comma between each, and behind the last one only where it stood there."""
    last: cst.Comma | cst.MaybeSentinel = cst.MaybeSentinel.DEFAULT
    if isinstance(before, cst.ImportFrom) and not isinstance(before.names, cst.ImportStar) and before.lpar:
        last = before.names[-1].comma
    found = [
        alias if isinstance(alias.comma, cst.Comma) else alias.with_changes(comma=cst.MaybeSentinel.DEFAULT)
        for alias in aliases[:-1]
    ]
    return [*found, aliases[-1].with_changes(comma=last)]


def _name(text: str) -> cst.Name:
    return cst.Name(text)


def _like(node: cst.BaseExpression, old: cst.BaseExpression) -> cst.BaseExpression:
    """With the parentheses of what it takes the place of."""
    return node.with_changes(lpar=old.lpar, rpar=old.rpar)


def _parenthesized(node: cst.BaseExpression) -> cst.BaseExpression:
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _dotted(node: cst.CSTNode, path: str) -> cst.CSTNode:
    """`base.old` to `base.path`."""
    assert isinstance(node, cst.Attribute)
    first, *rest = path.split(".")
    built: cst.Attribute = node.with_changes(attr=cst.Name(first), lpar=[], rpar=[])
    for name in rest:
        built = cst.Attribute(built, cst.Name(name))
    return built.with_changes(lpar=node.lpar, rpar=node.rpar)


def _same(one: str, other: str) -> bool:
    try:
        return ast.dump(ast.parse(one, mode="eval")) == ast.dump(ast.parse(other.strip(), mode="eval"))
    except SyntaxError:
        return False


def _with_arg(call: cst.CSTNode, keyword: str, change: Callable[[cst.Arg], cst.Arg | None]) -> cst.CSTNode:
    assert isinstance(call, cst.Call)
    args = []
    for arg in call.args:
        new = change(arg) if arg.keyword and arg.keyword.value == keyword else arg
        if new is not None:
            args.append(new)
    if args and len(args) < len(call.args):
        args[-1] = args[-1].with_changes(comma=call.args[-1].comma)
    return call.with_changes(args=args)


def _as_function(call: cst.CSTNode, function: cst.BaseExpression) -> cst.CSTNode:
    """`x.method(a)` to `function(x, a)`."""
    assert isinstance(call, cst.Call)
    assert isinstance(call.func, cst.Attribute)
    receiver = cst.Arg(call.func.value)
    return call.with_changes(func=_like(function, call.func), args=[receiver, *call.args])
