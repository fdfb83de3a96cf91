"""Reads a resolver's own proof: which requirement of whom contradicts which.

Understood are the explanations of uv and Poetry (PubGrub: "Because a==1 depends on b>=2 and you require b==1, …"), pip
("a 1 depends on b>=2"), libmamba (a tree of what would require what) and npm (ERESOLVE). Linear in the text, which is
cut at 16,000 characters.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

CHARACTERS, MOST = 16_000, 60
YOU = "you"


@dataclass(frozen=True, slots=True)
class Requirement:
    """`who` (`name==version`, or YOU for the project) requires `package` in the versions `spec`, "" for any."""

    who: str
    package: str
    spec: str = ""

    def __str__(self) -> str:
        return f"{self.package}{self.spec}"


@dataclass(frozen=True, slots=True)
class Proof:
    """`requirements` in the order of the text; `missing` are requirements that no version on the index fulfils;
    `python` are the versions of Python that were asked for, as they were written."""

    requirements: tuple[Requirement, ...] = ()
    missing: tuple[str, ...] = ()
    python: tuple[str, ...] = ()

    @property
    def contested(self) -> tuple[str, ...]:
        """The packages that the contradiction is about: required in different versions, or not to be had at all."""
        asked = [r.package for r in self.requirements if self._claims(r.package) > 1]
        lost = [package_of(text) for text in self.missing]
        return tuple({normal(package): package.partition("[")[0] for package in (*asked, *lost)}.values())

    @property
    def packages(self) -> tuple[str, ...]:
        """All packages named, the contested ones first."""
        named = [part for r in self.requirements for part in (r.package, package_of(r.who)) if part != YOU]
        first: dict[str, str] = {}
        for package in (*self.contested, *named):
            first.setdefault(normal(package), package.partition("[")[0])
        return tuple(first.values())

    def _claims(self, package: str) -> int:
        return len({r.spec for r in self.requirements if normal(r.package) == normal(package)})


def normal(package: str) -> str:
    """PEP 503: case and separators do not tell packages apart. Extras are no part of a package's name."""
    return re.sub(r"[-_.]+", "-", package.partition("[")[0]).lower()


def package_of(text: str) -> str:
    """The package of `name==1.0`, `name 1.0`, `name (1.0)` or `@scope/name@1.0`."""
    found = re.match(r"@?[A-Za-z0-9][\w./-]*", text.strip())
    return found[0].rstrip(".-") if found else text


_BOUND = r"(?:===|==|~=|!=|<=|>=|<|>|\^|=)? ?v?[0-9*][\w.*+!-]{0,60}"


def _name(group: str) -> str:
    """`name`, `name[extra]`, and what uv writes behind it for a marker: `name{python_version < '3.13'}`."""
    return rf"(?P<{group}>[A-Za-z0-9][\w.-]{{0,100}}(?:\[[\w, .-]{{0,80}}\])?)(?:\{{[^}}]{{0,120}}\}})?"


def _required(package: str = "package", spec: str = "spec") -> str:
    """A name with what may stand behind it: `>=1,<2`, ` (>=1,<2)`, ` (^1.0)`."""
    operator = r"(?:===|==|~=|!=|<=|>=|<|>)"
    bounds = rf" ?{operator} ?v?[0-9][\w.*+!-]{{0,60}}(?:, ?{_BOUND}){{0,8}}"
    return rf"{_name(package)}(?P<{spec}> ?\([^()]{{0,120}}\)|{bounds})?"


_MARGIN = re.compile(r"^[\s×╰─▶│├└┬|*]*(?:cause:\s)?")
# What follows from the facts is no fact: up to the next sentence.
_CONCLUSION = re.compile(
    r"we can conclude that .{0,2000}?(?=(?:And|So,|Thus,|Because|and) ?because |Because |\(\d\)|hint: |$)"
)
_DEPENDS = re.compile(
    rf"(?:(?P<all>all versions of )?{_name('who')}(?P<version>==?=?\S{{1,60}}?|[<>!~]=?\S{{1,60}}?"
    rf"| \([^()]{{0,120}}\)| v?[0-9]\S{{0,60}})?)"
    rf" depends? on (?:both |one of: )?{_required()}"
)
_REQUIRE = re.compile(rf"you require {_required()}")
_ALSO = re.compile(
    rf" and (?!because |you |all |any |only |there |no ){_required()}(?! depends| is | was | has | are )"
)
_UNKNOWN = re.compile(
    rf"(?:there (?:is|are) no versions? of|[Nn]o versions of) {_required()}"
    rf"(?: match (?P<match>[\w.*<>=!~^,| -]{{1,120}}?)(?= and |, |$))?"
)
_ABSENT = re.compile(
    rf"{_required()} (?:was not found in|which doesn't (?:match any versions|exist)|has no (?:usable )?wheels"
    r"|was yanked|is unusable|has no publicly available)"
)
_PYTHON = re.compile(
    r"(?:depends on Python|requires Python|Python version|Python requirement|python_requires:?) ?\(?"
    rf"(?P<spec>{_BOUND}(?:, ?{_BOUND})*)"
    r"|(?:current|requested|active) Python version \((?P<have>[\w.]+)\)",
)


def read_proof(lines: Iterable[str]) -> Proof:
    """What the explanation says; empty where it is of no known kind."""
    text = [_MARGIN.sub("", line).rstrip() for line in _bounded(lines)]
    if any(line.startswith(("npm error", "npm ERR!", "ERR_PNPM")) or "ERESOLVE" in line for line in text):
        return Proof(tuple(_npm(text)))
    if any("would require" in line or "which requires" in line for line in text):
        return Proof(_first(_conda(_bounded(lines))))
    pip = list(_pip(text))
    if pip:
        return Proof(_first(pip))
    return _pubgrub(" ".join(line for line in text if line))


def _bounded(lines: Iterable[str]) -> list[str]:
    kept: list[str] = []
    left = CHARACTERS
    for line in lines:
        if left <= 0:
            break
        kept.append(line[:left])
        left -= len(line) + 1
    return kept


def _first(found: Iterable[Requirement]) -> tuple[Requirement, ...]:
    return tuple(dict.fromkeys(found))[:MOST]


def _pubgrub(text: str) -> Proof:
    python = tuple(dict.fromkeys(m["spec"] or m["have"] for m in _PYTHON.finditer(text)))
    facts = _CONCLUSION.sub("", text)
    placed: list[tuple[int, Requirement]] = []
    for pattern in (_DEPENDS, _REQUIRE):
        for match in pattern.finditer(facts):
            who = _who(match) if pattern is _DEPENDS else YOU
            if match["package"] != "Python":
                placed.append((match.start(), Requirement(who, match["package"], _spec(match["spec"]))))
            also = _ALSO.match(facts, match.end())
            while also and (also["spec"] or pattern is _REQUIRE):
                placed.append((also.start(), Requirement(who, also["package"], _spec(also["spec"]))))
                also = _ALSO.match(facts, also.end())
    missing = {
        f"{match['package']}{_spec(match.groupdict().get('match') or match['spec'])}": None
        for pattern in (_UNKNOWN, _ABSENT)
        for match in pattern.finditer(facts)
    }
    ordered = (requirement for _, requirement in sorted(placed, key=lambda item: item[0]))
    return Proof(_first(ordered), tuple(missing)[:MOST], python[:MOST])


def _who(match: re.Match[str]) -> str:
    """A name without a version is the project: PubGrub writes one for everything that it chose from an index."""
    version = (match["version"] or "").strip()
    return f"{match['who']}{_spec(version)}" if version or match["all"] else YOU


def _spec(text: str | None) -> str:
    """`==1.0` of `==1.0`, ` (1.0)`, `(>=1,<2)` and ` 1.0`."""
    bare = re.sub(r"\s", "", text or "").removeprefix("(").removesuffix(")")
    return f"=={bare}" if re.fullmatch(r"v?[0-9][\w.+!-]*", bare) else bare


_PIP_DEPENDS = re.compile(
    r"^(?P<who>[A-Za-z0-9][\w.-]{0,100})(?:\[[\w, -]{0,80}\])? (?P<version>[0-9]\S{0,60}) depends on "
    r"(?P<package>[A-Za-z0-9][\w.-]{0,100})(?:\[[\w, -]{0,80}\])?(?P<spec>[^;]{0,200})"
)
_PIP_REQUESTED = re.compile(
    r"^The user requested (?:\(constraint\) )?"
    r"(?P<package>[A-Za-z0-9][\w.-]{0,100})(?:\[[\w, -]{0,80}\])?(?P<spec>[^;]{0,200})"
)


def _pip(lines: Iterable[str]) -> Iterator[Requirement]:
    for line in lines:
        if found := _PIP_REQUESTED.match(line):
            yield Requirement(YOU, found["package"], _joined(found["spec"]))
        elif found := _PIP_DEPENDS.match(line):
            yield Requirement(f"{found['who']}=={found['version']}", found["package"], _joined(found["spec"]))


def _joined(spec: str) -> str:
    """pip writes `<3.0.0 and >=2.4.2`."""
    parts = re.split(r" and |,", spec.strip())
    bounds = [part.replace(" ", "") for part in parts if re.fullmatch(r"\s*(?:[<>=!~]=?=?)\s*\S{1,60}\s*", part)]
    return ",".join(bounds)


_CONDA = re.compile(
    r"^(?P<tree>[\s│├└─]*)(?P<package>[A-Za-z0-9_][\w.-]{0,100})(?P<spec> +[^│├└]{0,200}?)? +"
    r"(?P<said>is not installable|would require|is requested|is installable|but there are no|, which|with the potential"
    r"|which (?:requires|can be installed|does not exist|conflicts))"
)


def _conda(lines: Iterable[str]) -> Iterator[Requirement]:
    """Each node of the tree is required by its nearest ancestor, the first ones by the project."""
    path: list[tuple[int, str]] = []
    for line in lines:
        found = _CONDA.match(line.replace(", which", " , which"))
        if found is None:
            continue
        depth = len(found["tree"])
        while path and path[-1][0] >= depth:
            path.pop()
        spec = re.sub(r"\s+", " ", (found["spec"] or "").strip(" ,"))
        parent = next((who for _, who in reversed(path) if who.partition(" ")[0] != found["package"]), YOU)
        if not path or path[-1][1].partition(" ")[0] != found["package"]:
            yield Requirement(parent, found["package"], f" {spec}" if spec else "")
        path.append((depth, f"{found['package']} {spec}".strip()))


_NPM_EDGE = re.compile(
    r"(?:^|\s)(?:peer|dev|prod|optional|peerOptional|bundled)? ?"
    r"(?P<package>@?[A-Za-z0-9][\w./-]{0,200})@\"(?P<spec>[^\"]{0,120})\" from "
    r"(?P<who>the root project|@?[A-Za-z0-9][\w./@-]{0,200})"
)


def _npm(lines: Iterable[str]) -> Iterator[Requirement]:
    seen: set[Requirement] = set()
    for line in lines:
        if found := _NPM_EDGE.search(line):
            who = YOU if found["who"] == "the root project" else found["who"]
            requirement = Requirement(who, found["package"], f"@{found['spec']}")
            if requirement not in seen and len(seen) < MOST:
                seen.add(requirement)
                yield requirement
