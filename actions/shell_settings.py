"""Settings on command lines: `--batch-size 64` and `train.batch_size=64`, in shell scripts and in workflows."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename

from actions.scalars import NUMBERS, Addition, Kind, Scalar, splice
from app.domain.errors import Malformed

MAX_MATCHES = 40

_STARTS = re.compile(
    r"(?<![\w.-])(?:python[\d.]*|torchrun|accelerate|deepspeed|srun|mpirun|uv|poetry|pdm|ray)(?![\w.-])"
)
_NUMBER = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORD = r"""(?:"[^"\n]{0,200}"|'[^'\n]{0,200}'|[^\s"';&|)]{1,200})"""


def is_script(path: str) -> bool:
    return path.endswith((".sh", ".bash")) or basename(path) in ("Makefile", "makefile")


def find(text: str, keys: frozenset[str], kinds: frozenset[Kind] = NUMBERS) -> list[Scalar]:
    """What the commands that start a program set, in the order of the file. Raises Malformed if there are too many."""
    found: list[Scalar] = []
    for start, command in _commands(text):
        for match in re.finditer(_pattern(keys), command):
            if len(found) >= MAX_MATCHES:
                raise Malformed(f"more than {MAX_MATCHES} settings fit")
            at, end = match.span("value")
            literal = match["value"]
            if len(literal) > 2 and literal[0] in "\"'" and _NUMBER.fullmatch(literal[1:-1]):
                at, end, literal = at + 1, end - 1, literal[1:-1]
            kind = Kind.NUMBER if _NUMBER.fullmatch(literal) else Kind.OTHER
            path = (*filter(None, (match["dotted"] or "").split(".")), match["option"] or match["key"])
            found.append(Scalar(path, literal, start + at, start + end, kind, start + match.start()))
    return [scalar for scalar in found if scalar.kind in kinds]


def given(commands: str, keys: frozenset[str]) -> list[str]:
    """What the commands of a workflow (without its comments) set, as written there; environment variables too."""
    found = [match[0].strip() for match in re.finditer(_pattern(keys), commands)]
    names = "|".join(sorted(re.escape(key.upper()) for key in keys))
    found += [
        m[0].strip(" -\t") for m in re.finditer(rf"(?m)^[ \t-]*(?:{names}):[ \t]*[\"']?[\d$][^\n]{{0,80}}", commands)
    ]
    return [f"`{text[:80]}`" for text in found]


def rewrite(file: str, text: str, changes: Mapping[Scalar, str], additions: Sequence[Addition] = ()) -> str:
    """`text` with new numbers at those places and new options behind their neighbours, checked word by word.

    Raises Malformed if something else would change.
    """
    insertions = []
    for addition in additions:
        end = addition.beside.end
        end += text[end : end + 1] in ("'", '"') and 1
        insertions.append((end, f" {addition.key} {addition.literal}"))
    new = splice(file, text, changes, insertions)
    before, after = _words(text), _words(new)
    for addition in additions:
        pairs = (n for n in range(len(after) - 1) if after[n : n + 2] == [addition.key, addition.literal])
        if (at := next(pairs, None)) is not None:
            del after[at : at + 2]
    if len(before) != len(after) or sum(a != b for a, b in zip(before, after, strict=True)) > len(changes):
        raise Malformed(f"{file} cannot be changed at {', '.join(scalar.name for scalar in changes)} alone")
    return new


def _pattern(keys: frozenset[str]) -> str:
    names = "|".join(sorted((re.escape(key).replace("_", "[_-]") for key in keys), key=len, reverse=True))
    option = rf"(?P<option>--?(?i:{names}))(?:=|[ \t]+)"
    assigned = rf"(?:--|\+{{0,2}})(?P<dotted>(?:\w+\.){{0,10}})(?P<key>(?i:{names}))="
    return rf"(?<![\w.-])(?:{option}|{assigned})(?P<value>{_WORD})"


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """Each command that starts a program, with what continues its line, and where it begins; and plain assignments."""
    for match in re.finditer(r"(?m)^(?:[^\n]*\\\r?\n)*[^\n]*$", text):
        line = match[0]
        code = re.sub(r"(?m)(^|\s)#.*$", lambda m: m[1] + " " * (len(m[0]) - len(m[1])), line)
        if re.match(r"[\s@-]*(?:echo|printf)\b", code):
            continue
        if _STARTS.search(code) or re.match(r"[ \t]*(?:export[ \t]+)?[A-Z_]+=\S+[ \t]*$", code):
            yield match.start(), code


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError as error:
        raise Malformed("the quotes of this script do not fit") from error
