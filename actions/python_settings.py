"""Settings in Python files: option defaults, fields, constants and keyword arguments, found and changed by position.

The file is parsed by `ast`, which refuses what is nested too deep; parsers written in native code die of it.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from actions.scalars import NUMBERS, Addition, Kind, Path, Scalar, splice
from app.domain.errors import Malformed

MAX_LINE = 5000  # characters; where not all are ASCII, each position costs a look at its line

_LINE_END = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(r"(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
_PRODUCT = re.compile(r"[1-9][0-9_]*(?:[ ]*\*[ ]*[1-9][0-9_]*){1,5}")
_DECLARES = frozenset({"add_argument", "add_arg", "option", "argument"})  # argparse, click
_FIELDS = frozenset({"field", "Field", "Option", "Argument", "attrib", "ib"})  # dataclasses, pydantic, typer, attrs
_RUNS = frozenset({"run", "Fire", "cli", "CLI", "auto_cli"})  # typer.run(main), fire.Fire(main), tyro.cli(main)
_COMMANDS = frozenset({"command", "callback", "main", "task"})
_HIDDEN = "\N{SECTION SIGN}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call with keyword arguments. `splat`: it takes more from a dictionary, so nobody can say what is missing."""

    name: str
    keywords: tuple[Scalar, ...]
    splat: bool

    def keyword(self, name: str) -> Scalar | None:
        return next((keyword for keyword in self.keywords if keyword.key == name), None)


def find(text: str, keys: frozenset[str], kinds: frozenset[Kind] = NUMBERS) -> list[Scalar]:
    """What stands under one of `keys`, in the order of the file. Raises Malformed for a file it cannot read."""
    found: dict[int, Scalar] = {}
    for scalar in every(text):
        if scalar.word in keys and scalar.kind in kinds:
            found.setdefault(scalar.start, scalar)
    return list(found.values())


def every(text: str) -> list[Scalar]:
    """Every setting of the file, in its order; one with several names stands there once for each.

    Raises Malformed for a file it cannot read.
    """
    return sorted(_settings(_Source(text)), key=lambda scalar: scalar.start)


def calls(text: str) -> list[Call]:
    """Every call that has keyword arguments. Raises Malformed for a file it cannot read."""
    source = _Source(text)
    found = []
    for path, node in source.nodes():
        if isinstance(node, ast.Call) and node.keywords:
            name = _last_name(node.func)
            keywords = tuple(
                source.scalar((*path, name, keyword.arg), keyword.value, keyword, handed_on=True)
                for keyword in node.keywords
                if keyword.arg is not None
            )
            found.append(Call(name, keywords, any(keyword.arg is None for keyword in node.keywords)))
    return found


def imports(text: str) -> list[str]:
    """The modules that a file imports, with dots; of `from a import b` both `a` and `a.b`, relative ones with theirs.

    Raises Malformed for a file it cannot read.
    """
    found = []
    for _, node in _Source(text).nodes():
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            dot = "" if module.endswith(".") else "."
            found += [module, *(f"{module}{dot}{alias.name}" for alias in node.names)]
    return found


def rewrite(file: str, text: str, changes: Mapping[Scalar, str], additions: Sequence[Addition] = ()) -> str:
    """`text` with new literals at those places and new keyword arguments, checked by parsing.

    Raises Malformed if something else would change.
    """
    insertions = [_insertion(text, addition) for addition in additions]
    new = splice(file, text, changes, insertions)
    moved = [(scalar.start, scalar.start, scalar.end, literal) for scalar, literal in changes.items()]
    moved += [(at, at, at, inserted) for at, inserted in insertions]
    spans: set[tuple[int, int]] = set()
    removed: set[tuple[int, int]] = set()
    shift = 0
    for _, start, end, literal in sorted(moved):
        (spans if start < end else removed).add((start + shift, start + shift + len(literal)))
        shift += len(literal) - (end - start)
    before = _Source(text).picture({(scalar.start, scalar.end) for scalar in changes}, set())
    if before != _Source(new).picture(spans, removed):
        named = ", ".join([scalar.name for scalar in changes] + [addition.key for addition in additions])
        raise Malformed(f"{file} cannot be changed at {named} alone")
    return new


def _insertion(text: str, addition: Addition) -> tuple[int, str]:
    """In front of its neighbour, so that no other line changes."""
    at = addition.beside.key_start
    margin = re.search(r"[\r\n]([ \t]*)$", text[:at])
    end = "\r\n" if "\r\n" in text else "\n"
    return at, f"{addition.key}={addition.literal},{end + margin[1] if margin else ' '}"


class _Source:
    """A parsed file with the positions of its nodes in the text. Raises Malformed."""

    def __init__(self, text: str) -> None:
        try:
            self._tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Malformed(f"not Python: {type(error).__name__}") from error
        self._text = text
        self._lines = [0, *(match.end() for match in _LINE_END.finditer(text))]
        self._ascii = text.isascii()
        if not self._ascii and any(b - a > MAX_LINE for a, b in pairwise([*self._lines, len(text)])):
            raise Malformed("a line is too long")

    def nodes(self) -> Iterator[tuple[Path, ast.AST]]:
        """Every node with the names of the classes, functions and assignment targets that it stands in."""
        waiting: list[tuple[Path, ast.AST]] = [((), self._tree)]
        while waiting:
            path, node = waiting.pop()
            yield path, node
            inner = path
            if isinstance(node, ast.ClassDef):
                inner = (*path, node.name)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (*path, f"{node.name}()")
            elif isinstance(node, ast.Assign | ast.AnnAssign) and (name := _target(node)):
                inner = (*path, name)
            waiting.extend((inner, child) for child in reversed(list(ast.iter_child_nodes(node))))

    def span(self, node: ast.expr | ast.keyword) -> tuple[int, int]:
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno or 0, node.end_col_offset or 0)

    def scalar(
        self, path: Path, node: ast.expr, key: ast.expr | ast.keyword | None = None, *, handed_on: bool = False
    ) -> Scalar:
        start, end = self.span(node)
        kind, literal = Kind.OTHER, self._text[start:end]
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool):
                kind = Kind.BOOLEAN
            elif isinstance(node.value, int | float):
                kind = Kind.NUMBER if _NUMBER.fullmatch(literal) else Kind.OTHER
            elif node.value is None:
                kind = Kind.NULL
            elif isinstance(node.value, str) and re.fullmatch(r"'[^'\\\n]*'|\"[^\"\\\n]*\"", literal):
                kind = Kind.TEXT
        elif isinstance(node, ast.BinOp) and _PRODUCT.fullmatch(literal):
            kind = Kind.NUMBER
        return Scalar(path, literal, start, end, kind, self.span(key)[0] if key is not None else -1, handed_on)

    def picture(self, spans: set[tuple[int, int]], removed: set[tuple[int, int]]) -> str:
        """The meaning of the file without what stands at `spans`, and without the arguments at `removed`."""
        try:
            for node in ast.walk(self._tree):
                for name, value in ast.iter_fields(node):
                    if isinstance(value, ast.expr) and self.span(value) in spans:
                        setattr(node, name, ast.Constant(_HIDDEN))
                    elif isinstance(value, list):
                        kept = [
                            item for item in value if not (isinstance(item, ast.keyword) and self._in(item, removed))
                        ]
                        hidden = [
                            ast.Constant(_HIDDEN) if isinstance(item, ast.expr) and self.span(item) in spans else item
                            for item in kept
                        ]
                        setattr(node, name, hidden)
            return ast.dump(self._tree)
        except RecursionError as error:
            raise Malformed("nested too deeply") from error

    def _in(self, keyword: ast.keyword, removed: set[tuple[int, int]]) -> bool:
        start, end = self.span(keyword)
        return any(low == start and end <= high for low, high in removed)

    def _at(self, line: int, column: int) -> int:
        start = self._lines[line - 1]
        if self._ascii:
            return start + column
        stop = self._lines[line] if line < len(self._lines) else len(self._text)
        return start + len(self._text[start:stop].encode()[:column].decode(errors="ignore"))


def _settings(source: _Source) -> Iterator[Scalar]:
    started = _started(source)
    for path, node in source.nodes():
        if isinstance(node, ast.Call):
            yield from _of_call(source, path, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and (name := _target(node)):
            value = _default(node.value)
            local = any(isinstance(part, str) and part.endswith("()") for part in path)
            attribute = not isinstance(node.targets[0] if isinstance(node, ast.Assign) else node.target, ast.Name)
            yield source.scalar((*path, name), value, handed_on=local or attribute)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == "__init__" or _is_command(node, started):
                yield from _of_parameters(source, path, node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield source.scalar((*path, key.value), value, key)


def _of_call(source: _Source, path: Path, node: ast.Call) -> Iterator[Scalar]:
    name = _last_name(node.func)
    texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    keywords = {keyword.arg: keyword for keyword in node.keywords if keyword.arg is not None}
    if name in _DECLARES:
        dest = keywords.get("dest")
        named = [*texts]
        if dest is not None and isinstance(dest.value, ast.Constant):
            named.append(str(dest.value.value))
        if "default" in keywords:
            for option in named:
                yield source.scalar((*path, option), keywords["default"].value)
    elif name.startswith("DEFINE_") and texts and len(node.args) > 1:
        yield source.scalar((*path, texts[0]), node.args[1])
    elif name in ("clip_grad_norm_", "clip_grad_norm") and len(node.args) > 1:
        yield source.scalar((*path, name, "max_norm"), node.args[1], handed_on=True)
    else:
        for keyword in node.keywords:
            if keyword.arg is not None:
                yield source.scalar((*path, name, keyword.arg), keyword.value, keyword, handed_on=True)


def _of_parameters(source: _Source, path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Scalar]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(reversed(positional), reversed(arguments.defaults), strict=False))
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    for argument, default in pairs:
        named = (*path, f"{node.name}()", argument.arg)
        yield source.scalar(named, _default(default), handed_on=node.name == "__init__")


def _default(value: ast.expr) -> ast.expr:
    """What `field(default=64)`, `Field(64)` or `typer.Option(64, …)` stand for."""
    if isinstance(value, ast.Call) and _last_name(value.func) in _FIELDS:
        for keyword in value.keywords:
            if keyword.arg == "default":
                return keyword.value
        if value.args:
            return value.args[0]
    return value


def _started(source: _Source) -> set[str]:
    """The functions whose parameters are options: `typer.run(main)`."""
    found = set()
    for _, node in source.nodes():
        if isinstance(node, ast.Call) and _last_name(node.func) in _RUNS and node.args:
            found.add(_last_name(node.args[0]))
    return found


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef, started: set[str]) -> bool:
    names = {_last_name(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list}
    return node.name in started or bool(names & _COMMANDS)


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if isinstance(node, ast.Assign) and len(node.targets) > 1:
        return ""
    return _last_name(target)


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
