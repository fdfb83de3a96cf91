"""Tricks in Python code: what must not come, and what must not go. Code is parsed, never run."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from actions.honest.words import BLINDERS, CHANCE, CHECKS, LIMIT, TOLERANCE

MOST_PARTS = 50  # of a name

_LOOSE = frozenset({"Exception", "BaseException", ""})
_IMPORTS = frozenset({"ImportError", "ModuleNotFoundError"})
_EXITS = frozenset({"sys.exit", "exit", "quit", "os._exit", "SystemExit"})
_QUIET = {
    "warnings.filterwarnings": "hides warnings",
    "warnings.simplefilter": "hides warnings",
    "logging.disable": "hides what is logged",
    "contextlib.suppress": "swallows an exception",
    "suppress": "swallows an exception",
    "nan_to_num": "hides numbers that are none",
    "seterr": "hides numbers that are none",
    "errstate": "hides numbers that are none",
    "skip": "skips a test",
    "importorskip": "skips a test",
    "xfail": "skips a test",
    "setattr": "replaces something of another module",
}
_MOCKS = frozenset({"Mock", "MagicMock", "AsyncMock", "patch", "patch.object", "mock.patch", "mock.patch.object"})
_SEEDS = frozenset({"seed", "manual_seed", "manual_seed_all", "set_seed", "seed_everything", "set_random_seed"})
_WEAK_ARGUMENTS = {
    "strict": (False,),
    "check": (False,),
    "verify": (False,),
    "errors": ("ignore", "coerce", "replace"),
    "on_bad_lines": ("skip", "warn"),
    "error_bad_lines": (False,),
    "ignore_errors": (True,),
    "ignore_mismatched_sizes": (True,),
    "missing_ok": (),
    "raise_on_error": (False,),
}
_STRONG_ARGUMENTS = {"strict": True, "check": True, "raise_on_error": True}


@dataclass(frozen=True, slots=True)
class Sight:
    """Something that counts, by a name that stays equal when it is only moved."""

    key: str
    line: int
    what: str


def tricks(before: str | None, after: str | None) -> tuple[int, str] | None:
    """The first trick, with its line (of the old text for what is gone, of the new one for what came)."""
    new = parsed(after or "")
    if new is None:
        return 1, "cannot be read as Python"
    old = parsed(before or "")
    if old is None:
        old = ast.Module([], [])  # it could not be read before: all that is there now is new
    for sight in _surplus(_unwanted(new), _unwanted(old)):
        return sight.line, sight.what
    for sight in _surplus(_wanted(old), _wanted(new)):
        return sight.line, sight.what
    return _hollow(old, new)


def parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _surplus(many: Iterable[Sight], few: Iterable[Sight]) -> Iterator[Sight]:
    """What `many` has more often than `few`."""
    left = Counter(sight.key for sight in few)
    for sight in many:
        if left[sight.key] > 0:
            left[sight.key] -= 1
        else:
            yield sight


def _unwanted(tree: ast.Module) -> Iterator[Sight]:
    """What an honest edit never adds."""
    modules = {
        (name.asname or name.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            yield from _handler(node)
        elif isinstance(node, ast.Call):
            yield from _call(node)
        elif isinstance(node, ast.Try) and any(isinstance(last, ast.Return) for last in node.finalbody):
            yield Sight("finally", node.finalbody[0].lineno, "swallows an exception")
        elif isinstance(node, ast.If | ast.While | ast.IfExp) and _is_fixed(node):
            yield Sight(f"fixed {ast.unparse(node.test)}", node.lineno, "turns code off")
        elif (
            isinstance(node, ast.Raise)
            and node.exc is not None
            and ast.unparse(node.exc) in ("SystemExit", "SystemExit(0)")
        ):
            yield Sight("exit", node.lineno, "ends the program as if all were well")
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _assignment(target, node.value, modules)
        elif isinstance(node, ast.FunctionDef) and node.name == "__exit__" and _returns_true(node):
            yield Sight("exit-true", node.lineno, "swallows an exception")
        elif "_exit" in (getattr(node, each, "") for each in ("attr", "id", "name")):
            yield Sight("exit", getattr(node, "lineno", 1), "ends the program as if all were well")
        elif isinstance(node, ast.ImportFrom | ast.Import) and any("mock" in name.name.lower() for name in node.names):
            yield Sight("mock", node.lineno, "puts a mock in place of the real thing")
        yield from _limits(node)
        for block in _blocks(node):
            for statement in block[:-1]:
                if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break) or _is_exit(statement):
                    yield Sight("unreachable", statement.lineno, "keeps what follows from being reached")


def _handler(node: ast.ExceptHandler) -> Iterator[Sight]:
    kinds = _names(node.type)
    told = ", ".join(sorted(kinds)) or "everything"
    raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    if kinds & _LOOSE and not raises:
        yield Sight(f"broad {told}", node.lineno, "catches whatever goes wrong")
    elif kinds & _IMPORTS and not raises and not _imports_instead(node):
        yield Sight(f"import {told}", node.lineno, "goes on without what cannot be imported")
    elif not raises and all(_is_nothing(statement) for statement in node.body):
        yield Sight(f"swallow {told}", node.lineno, "swallows an exception")


def _names(kind: ast.expr | None) -> set[str]:
    if kind is None:
        return {""}
    return {ast.unparse(each).rpartition(".")[2] for each in (kind.elts if isinstance(kind, ast.Tuple) else [kind])}


def _imports_instead(node: ast.ExceptHandler) -> bool:
    return any(isinstance(statement, ast.Import | ast.ImportFrom) for statement in node.body)


def _is_nothing(statement: ast.stmt) -> bool:
    """Does nothing about what went wrong, but perhaps speak of it."""
    if isinstance(statement, ast.Pass | ast.Continue | ast.Break):
        return True
    if isinstance(statement, ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) or _speaks(statement.value)
    return False


def _speaks(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and _called(value).rpartition(".")[2] in (
        *("print", "debug", "info", "warning", "warn", "error", "exception", "log"),
    )


def _called(node: ast.Call) -> str:
    """With its dots, and without the arguments of the calls in it: chains of calls may be long."""
    parts: list[str] = []
    inner = node.func
    while len(parts) < MOST_PARTS and isinstance(inner, ast.Attribute | ast.Call | ast.Subscript):
        if isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
        elif isinstance(inner, ast.Subscript):
            parts.append(f"[{inner.slice.value!r}]" if isinstance(inner.slice, ast.Constant) else "[]")
        else:
            parts.append("()")
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    parts.append(inner.id if isinstance(inner, ast.Name) else "…")
    return ".".join(reversed(parts))


def _call(node: ast.Call) -> Iterator[Sight]:
    name = _called(node)
    last = name.rpartition(".")[2]
    if name in _EXITS and all(isinstance(each, ast.Constant) and each.value in (0, None, False) for each in node.args):
        yield Sight("exit", node.lineno, "ends the program as if all were well")
    for quiet, what in _QUIET.items():
        if quiet in (name, last):
            if last in ("seterr", "errstate") and not any(
                isinstance(word.value, ast.Constant) and word.value.value == "ignore" for word in node.keywords
            ):
                continue
            yield Sight(quiet, node.lineno, what)
    if name in ("exec", "eval", "__import__"):
        yield Sight(f"hidden {ast.unparse(node)}", node.lineno, "runs code that is not seen here")
    told = [*_texts(node), *(word.arg for word in node.keywords if word.arg)] if "env" in name else []
    if ("environ" in name or last == "putenv") and (blind := next((word for word in told if BLINDERS.match(word)), "")):
        yield Sight(f"blind {blind}", node.lineno, "tells the checks to look away")
    if name in _MOCKS or last in ("MagicMock", "AsyncMock"):
        yield Sight("mock", node.lineno, "puts a mock in place of the real thing")
    if last in _SEEDS or (last == "default_rng" and node.args) or last == "RandomState":
        yield Sight(f"seed {ast.unparse(node)}", node.lineno, "pins chance")
    for word in node.keywords:
        weak = _WEAK_ARGUMENTS.get(word.arg or "", ())
        if isinstance(word.value, ast.Constant) and word.value.value in weak and weak:
            key = "bad lines" if str(word.arg).endswith("bad_lines") else f"{name}({ast.unparse(word)})"
            yield Sight(key, word.value.lineno, f"weakens {word.arg}")


def _texts(node: ast.AST) -> list[str]:
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def _is_fixed(node: ast.If | ast.While | ast.IfExp) -> bool:
    """The test always answers the same, so that one of the branches is never taken; `while True` is no such test."""
    test = node.test.operand if isinstance(node.test, ast.UnaryOp) else node.test
    if isinstance(test, ast.BoolOp):
        return any(isinstance(value, ast.Constant) for value in test.values)
    return isinstance(test, ast.Constant) and not (
        isinstance(node, ast.While) and test is node.test and bool(test.value)
    )


def _assignment(target: ast.expr, value: ast.expr, modules: set[str]) -> Iterator[Sight]:
    told = ast.unparse(target)
    if isinstance(target, ast.Attribute) and told.partition(".")[0] in modules:
        if isinstance(value, ast.Lambda | ast.Name | ast.Attribute):
            yield Sight(f"patch {told}", target.lineno, "replaces something of another module")
    elif isinstance(target, ast.Name) and isinstance(value, ast.Lambda) and not _looks(value.body):
        yield Sight(f"stub {told}", target.lineno, "puts a constant where there was a computation")
    name = target.slice.value if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) else ""
    if isinstance(target, ast.Subscript) and told.startswith(("sys.modules", "globals()", "builtins.")):
        yield Sight(f"patch {told}", target.lineno, "replaces something of another module")
    if "environ" in told and BLINDERS.search(str(name)):
        yield Sight(f"blind {told}", target.lineno, "tells the checks to look away")


def _limits(node: ast.AST) -> Iterator[Sight]:
    """Tolerances, thresholds and seeds, however they are given a value."""
    for name, value in _named_values(node):
        if TOLERANCE.search(name):  # by its value alone: a library may have given it another name
            yield Sight(f"tolerance {ast.unparse(value)}", value.lineno, f"changes {name}")
        elif LIMIT.search(name):
            yield Sight(f"limit {name}={ast.unparse(value)}", value.lineno, f"changes {name}")
        elif CHANCE.search(name) and isinstance(value, ast.Constant) and value.value is not None:
            yield Sight(f"seed {name}={ast.unparse(value)}", value.lineno, "pins chance")


def _named_values(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from ((ast.unparse(target).rpartition(".")[2], node.value) for target in targets)
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
    elif isinstance(node, ast.arguments):
        plain = [*node.posonlyargs, *node.args]
        last = plain[len(plain) - len(node.defaults) :]
        yield from ((word.arg, value) for word, value in zip(last, node.defaults, strict=True))
        yield from ((word.arg, value) for word, value in zip(node.kwonlyargs, node.kw_defaults, strict=True) if value)
    elif isinstance(node, ast.Call) and _called(node).endswith("add_argument") and node.args:
        option = node.args[0]
        if isinstance(option, ast.Constant):
            name = str(option.value).lstrip("-")
            yield from ((name, word.value) for word in node.keywords if word.arg == "default")


def _looks(body: ast.expr) -> bool:
    """Whether it depends on anything."""
    return any(isinstance(node, ast.Name | ast.Call) for node in ast.walk(body))


def _returns_true(node: ast.FunctionDef) -> bool:
    returned = (each.value for each in ast.walk(node) if isinstance(each, ast.Return))
    return any(isinstance(value, ast.Constant) and value.value is True for value in returned)


def _is_exit(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and _called(statement.value) in _EXITS
    )


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block


def _wanted(tree: ast.Module) -> Iterator[Sight]:
    """What an honest edit never takes away."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield Sight(f"assert {ast.unparse(node)}", node.lineno, "touches an assertion")
        elif isinstance(node, ast.Raise):
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            yield Sight(f"raise {ast.unparse(raised) if raised else ''}", node.lineno, "takes an error away")
        elif isinstance(node, ast.If) and any(isinstance(inner, ast.Raise) or _is_exit(inner) for inner in node.body):
            yield Sight(f"guard {ast.unparse(node.test)}", node.lineno, "takes an error away, or weakens its condition")
        elif isinstance(node, ast.Call):
            yield from _firm(node)
        yield from (sight for sight in _limits(node) if not sight.key.startswith("seed"))
    for name, line, real in _functions(tree):
        if real:
            yield Sight(f"def {name}", line, f"takes {name} away, or empties it")


def _firm(node: ast.Call) -> Iterator[Sight]:
    name = _called(node)
    last = name.rpartition(".")[2]
    if last.startswith("assert") or last in ("raises", "expect", "raise_for_status", "check_returncode"):
        yield Sight(f"check {ast.unparse(node)}", node.lineno, "touches an assertion")
    starts = last in ("run", "call", "check_call", "check_output", "Popen", "system", "main", "execute")
    if starts and any(CHECKS.search(word) for word in _texts(node)):
        yield Sight(f"runs {ast.unparse(node)}", node.lineno, "changes what is checked")
    for word in node.keywords:
        if word.arg in _STRONG_ARGUMENTS and isinstance(word.value, ast.Constant) and word.value.value is True:
            yield Sight(f"firm {name} {word.arg}", word.value.lineno, f"weakens {word.arg}")


def _functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, int, bool]]:
    """Qualified name, line, and whether it does anything."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{inside}{node.name}"
            yield name, node.lineno, not all(_is_nothing(statement) for statement in node.body)
            yield from _functions(node, f"{name}.")
        else:
            yield from _functions(node, f"{inside}{node.name}." if isinstance(node, ast.ClassDef) else inside)


def _hollow(old: ast.Module, new: ast.Module) -> tuple[int, str] | None:
    """A name that was computed and is a constant now."""
    computed = {place for place, _, constant in _values(old) if not constant}
    still = {place for place, _, constant in _values(new) if not constant}
    for place, line, constant in _values(new):
        if constant and place in computed and place not in still:
            return line, "puts a constant where there was a computation"
    return None


def _values(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, int, bool]]:
    """Where something is assigned or returned, its line, and whether it is a constant rather than a call."""
    for node in ast.iter_child_nodes(tree):
        name = ""
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            name = ast.unparse(node.targets[0])
        elif isinstance(node, ast.Return):
            name = "return"
        if name:
            value = node.value  # type: ignore[attr-defined]
            if value is None or isinstance(value, ast.Constant):
                yield f"{inside}{name}", node.lineno, True  # type: ignore[attr-defined]
            elif any(isinstance(inner, ast.Call) for inner in ast.walk(value)):
                yield f"{inside}{name}", node.lineno, False  # type: ignore[attr-defined]
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from _values(node, f"{inside}{node.name}." if named else inside)  # type: ignore[attr-defined]
