"""Tricks in shell scripts: a command that may fail unseen, is put under a condition, or is not run any more."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from actions.honest.words import BLINDERS, SUPPRESSION

MOST_CHARACTERS = 200_000

_KEYWORDS = frozenset({"if", "then", "else", "elif", "while", "until", "for", "do", "case", "!", "{", "time"})
_OPENS = frozenset({"if", "while", "until", "for", "case", "{"})
_CLOSES = frozenset({"fi", "done", "esac", "}"})
_NOTHING = frozenset({"true", ":", "/bin/true", "/usr/bin/true"})
_ASSIGNED = re.compile(r"^[A-Za-z_]\w*=")
_RUNNERS = frozenset(
    {"python", "python3", "bash", "sh", "node", "make", "npm", "npx", "yarn", "pnpm", "go", "cargo", "dvc"}
)
_CHECK = re.compile(
    r"^(?:pytest|py\.test|tox|nox|mypy|pyright|ruff|flake8|pylint|black|isort|bandit|pip-audit|safety|coverage|unittest"
    r"|nosetests|behave|eslint|jest|vitest|mocha|tsc|ctest|pre-commit|hypothesis|doctest|shellcheck|hadolint|trivy"
    r"|lint-imports|interrogate|mutmut)$"
)
_HARMLESS = re.compile(
    r"^(?:-v+|--verbose|-q+|--quiet|-x|--exitfirst|--maxfail=\d+|-r[A-Za-z]+|-l|--showlocals|--tb=\w+|--durations=\d+"
    r"|--color=\w+|--full-trace|-s|--capture=no|--diff|--show-\S+|--output-format=\w+)$"
)
_NARROWER = re.compile(
    r"^--?(?:k|skip\S*|exclude\S*|ignore\S*|deselect\S*|allow-\S+|no-fail\S*|keep-going|dry-run|help|version|collect-only"
    r"|passWithNoTests|exit-zero|no-verify|no-cov\S*|insecure|no-deps)(?:=.*)?$"
)
_OF_TESTS = re.compile(r"(?:^|[/'\"*.])(?:tests?(?:[/'\"*]|$)|test_|conftest)|_test\.", re.IGNORECASE)
_EXPRESSION = re.compile(r"\$\{\{(?:(?!\$\{\{).)*?\}\}", re.DOTALL)


class Unreadable(ValueError):
    """The script cannot be taken apart; the message is for the refusal."""


@dataclass(slots=True)
class Command:
    """One simple command: its words without keywords and assignments, where it stands, and what stands around it."""

    line: int
    words: list[str] = field(default_factory=list)
    keywords: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    depth: int = 0

    @property
    def program(self) -> tuple[str, ...]:
        """What is run: the program, of an interpreter with what it runs."""
        first = self.words[0] if self.words else ""
        if first.rpartition("/")[2] not in _RUNNERS:
            return (first,)
        plain = [word for word in self.words[1:] if not word.startswith("-") or word in ("-m", "-c")]
        return (first, *plain[: 2 if plain[:1] in (["-m"], ["-c"], ["run"]) else 1])

    @property
    def check(self) -> bool:
        """One that is there to find failures."""
        return any(_CHECK.match(word.rpartition("/")[2]) for word in self.words[:5]) or "test" in self.program


def tricks(before: str, after: str) -> tuple[int, str] | None:
    """The first trick in the new script, with its line there."""
    try:
        old, new = commands(before), commands(after)
    except Unreadable as error:
        return 1, str(error)
    at, known = 0, set[int]()
    for command in old:
        if not command.words:
            continue
        found = next((n for n in range(at, len(new)) if new[n].words and new[n].program == command.program), None)
        if found is None:
            line = new[min(at, len(new) - 1)].line if new else 1
            return line, f"does not run {' '.join(command.words)[:60]!r} any more"
        known.add(found)
        at = found + 1
        if reason := _weaker(command, new[found]):
            return new[found].line, reason
    for number, command in enumerate(new):
        if number not in known and (reason := _new(command)):
            return command.line, reason
    return None


def new_script(text: str) -> tuple[int, str] | None:
    """The first trick in a script that was not there before."""
    return tricks("", text) or _loud(text)


def _loud(text: str) -> tuple[int, str] | None:
    for number, line in enumerate(text.split("\n"), start=1):
        if SUPPRESSION.search(line):
            return number, "suppresses a failure"
    return None


def _weaker(old: Command, new: Command) -> str:
    if new.after != old.after and new.after in ("||", "|", "|&", "&"):
        return "suppresses a failure" if new.after == "||" else f"hides how {old.words[0]!r} ends"
    if new.before != old.before and new.before in ("||", "&&", "|"):
        return f"runs {old.words[0]!r} only under a condition"
    if new.depth > old.depth or new.keywords != old.keywords:
        return f"runs {old.words[0]!r} only under a condition"
    if reason := _blinded(new, old.assigned):
        return reason
    came = [word for word in new.words if word not in old.words]
    if old.check or new.check:
        gone = [word for word in old.words if word not in new.words]
        changed = [word for word in came + gone if not _HARMLESS.match(word)]
        if changed and not _count_only(old.words, new.words):
            return f"changes what is checked: {changed[0][:40]!r}"
    elif narrower := next((word for word in came if _NARROWER.match(word)), ""):
        return f"leaves something out: {narrower[:40]!r}"
    if old.words[0] in ("set", "trap", "exit") and old.words != new.words:
        return "lets the script go on after a failure"
    return ""


def _count_only(old: Sequence[str], new: Sequence[str]) -> bool:
    """Only the number of processes is another: the value of `-n`, `-j` or `--numprocesses`."""
    if len(old) != len(new):
        return False
    places = [at for at in range(len(old)) if old[at] != new[at]]
    return all(at and old[at - 1] in ("-n", "-j", "--numprocesses", "--jobs") for at in places)


def _new(command: Command) -> str:
    if reason := _blinded(command, ()):
        return reason
    first, *rest = command.words or [""]
    if command.before == "||" or command.after == "||" or first in _NOTHING:
        return "suppresses a failure"
    if command.after == "&":
        return f"hides how {first!r} ends"
    ends_well = first in ("exit", "return") and (not rest or rest[0] == "0")
    lets_go = first == "set" and any(word.startswith("+") for word in rest)
    if ends_well or lets_go or first in ("trap", "alias", "exec", "shopt", "eval", "function") or "()" in command.words:
        return "lets the script go on after a failure"
    if not command.check and any(_OF_TESTS.search(word) for word in rest):
        return "touches the tests"
    if first == "git" and rest[:1] in (["checkout"], ["reset"], ["revert"], ["switch"], ["restore"], ["stash"], ["rm"]):
        return "changes what is looked at"
    return ""


def _blinded(command: Command, known: Sequence[str]) -> str:
    """A variable that tells the checks to look away."""
    given = [word for word in (*command.assigned, *command.words) if _ASSIGNED.match(word) and word not in known]
    name = next((word.partition("=")[0] for word in given if BLINDERS.match(word.partition("=")[0])), "")
    return f"sets {name}, which tells the checks to look away" if name else ""


def commands(script: str) -> list[Command]:
    """The simple commands of a script, in order. Raises Unreadable."""
    if len(script) > MOST_CHARACTERS:
        raise Unreadable("is too long to be looked at")
    found: list[Command] = []
    depth = 0
    current = Command(1)
    for word, line in _words(script):
        if word in ("\n", ";", "&&", "||", "|", "|&", "&", ";;"):
            if current.words or current.keywords or current.assigned:
                current.after = word
                found.append(current)
                current = Command(line, before=word if word in ("&&", "||", "|", "|&", "&") else "", depth=depth)
            continue
        if not (current.words or current.keywords or current.assigned):
            current.line, current.depth = line, depth
        if word in ("(", ")"):
            depth = max(0, depth + (1 if word == "(" else -1))
            if word == ")" and current.words[-1:] == ["("]:
                current.words[-1:] = ["()"]
            elif current.words:
                current.words.append(word)
        elif not current.words and (word in _KEYWORDS or word in _CLOSES):
            depth = max(0, depth + (word in _OPENS) - (word in _CLOSES))
            current.keywords = (*current.keywords, word)
        elif not current.words and _ASSIGNED.match(word):
            current.assigned = (*current.assigned, word)
        else:
            current.words.append(word)
    if current.words or current.keywords or current.assigned:
        found.append(current)
    return found


def _words(script: str) -> Iterator[tuple[str, int]]:
    """Words and operators, with their lines. Quotes are kept as they are written; comments are left out."""
    text = _EXPRESSION.sub(lambda match: re.sub(r"[^\w.\n]", "_", match[0]), script)
    place, line, word, began = 0, 1, "", 1
    waiting: list[str] = []
    opened = False
    while place < len(text):
        letter = text[place]
        if letter == "\\" and place + 1 < len(text):
            if text[place + 1] == "\n":
                line += 1
            else:
                word += text[place : place + 2]
            place += 2
            continue
        if letter in "'\"`" or text.startswith("$(", place):
            end = _closing(text, place)
            began = began if word else line
            word += text[place:end]
            line += text.count("\n", place, end)
            place = end
            continue
        if letter == "#" and not word:
            place = end if (end := text.find("\n", place)) >= 0 else len(text)
            continue
        if letter.isspace() or letter in ";&|()":
            if word:
                yield word, began
                if word.startswith("<<") and not word.startswith("<<<"):
                    ends = word.lstrip("<-").strip("'\"")
                    waiting += [ends] if ends else []
                    opened = not ends
                elif opened:
                    waiting.append(word.strip("'\""))
                    opened = False
                word = ""
            if letter == "\n":
                yield "\n", line
                place, line = place + 1, line + 1
                for name in waiting:
                    found = re.compile(rf"^[ \t]*{re.escape(name)}[ \t\r]*$", re.MULTILINE).search(text, place)
                    if found is None:
                        raise Unreadable("has a here-document without an end")
                    yield f"<<{text[place : found.start()]}", line
                    line += text.count("\n", place, found.end())
                    place = found.end()
                waiting = []
                continue
            if letter in ";&|()":
                pair = text[place : place + 2]
                before = text[place - 1] if place else ""
                if letter == "&" and (before in "<>" or text[place + 1 : place + 2] == ">"):
                    word += "&"  # a redirection
                    place += 1
                    continue
                operator = pair if pair in ("&&", "||", "|&", ";;") else letter
                yield operator, line
                place += len(operator)
                continue
            place += 1
            continue
        began = began if word else line
        word += letter
        place += 1
    if word:
        yield word, began


def _closing(text: str, place: int) -> int:
    """Where what begins at `place` ends: a quoted text, or a command in `$(…)`."""
    if text.startswith("$(", place):
        depth, at = 0, place + 1
        while at < len(text):
            if text[at] in "'\"`":
                at = _closing(text, at)
                continue
            depth += (text[at] == "(") - (text[at] == ")")
            at += 1
            if depth == 0:
                return at
        raise Unreadable("has a parenthesis that is never closed")
    quote, at = text[place], place + 1
    while at < len(text):
        if text[at] == "\\" and quote != "'":
            at += 2
        elif text[at] == quote:
            return at + 1
        elif quote == '"' and text.startswith("$(", at):
            at = _closing(text, at)
        else:
            at += 1
    raise Unreadable("has a quote that is never closed")
