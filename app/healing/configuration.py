"""`.github/heal.yml`: read strictly, laid over the owner's defaults, and never bolder than intended."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from app.domain.finding import Remedy
from app.domain.knowledge import rung_of
from app.domain.model import ModelRules
from app.domain.policy import CONFIG_PATH, Autonomy, Limits, Mode, Policy, min_mode
from app.healing.durations import Duration, spoken
from app.healing.freeze_section import MOST_FREEZES, FreezeSection
from app.healing.freeze_section import told as freeze_told
from app.healing.models_section import ModelName, ModelSection, SignalsSection, promotion, section_at
from app.healing.playbooks_section import (
    MOST_PLAYBOOKS,
    MOST_ROUTES,
    AutonomySection,
    Cause,
    Playbook,
    RouteSection,
    RungSection,
)
from app.healing.playbooks_section import mistakes as rungs_wrong
from app.healing.signatures_section import MOST as MOST_SIGNATURES
from app.healing.signatures_section import SignatureSection, mistakes
from app.security.yaml import NOT_YAML

REPOSITORY = CONFIG_PATH
OWNER = f"the owner's {CONFIG_PATH}"
ON_ALL = "the installation on all repositories"  # nobody chose this repository, so it is only observed

_MAX_BYTES = 64 * 1024
_MAX_DEPTH = 20
_MAX_VALUES = 2_000
_DAY_S = 24 * 3600

Place = tuple[str | int, ...]
Models = Mapping[str, type[BaseModel] | None]


UNREADABLE = "\0"  # stands for the text of a file that is there and cannot be read


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a file that its author should know.

    `origin` is REPOSITORY or OWNER; `path` the dotted key, "" for the whole file; `line` and `column` are 1-based.
    `level` is GitHub's annotation level: `failure`, `warning` or `notice`. Only a failure puts the file out of force.
    """

    origin: str
    path: str
    line: int
    column: int
    message: str
    level: str = "failure"


@dataclass(frozen=True, slots=True)
class Configured:
    """The policy in force and what was found wrong on the way to it."""

    policy: Policy
    problems: tuple[Problem, ...] = ()


def _rule(value: object) -> object:
    return {"mode": value} if isinstance(value, str) else value


Glob = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Confidence = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class DetectorRule(_Section):
    """A detector's own mode, confidence and settings."""

    mode: Mode | None = None
    """The mode for what this detector finds, in place of the general one."""
    min_confidence: Confidence | None = None
    """Findings of this detector below this confidence are only reported."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Thresholds and the like; the detector's page says which there are."""


class LimitsSection(_Section):
    """How much may be done."""

    open_pulls: Annotated[int, Field(ge=0, le=50)] | None = None
    """Fix pull requests that may be open at once."""
    pulls_per_day: Annotated[int, Field(ge=0, le=100)] | None = None
    """Fix pull requests that may be opened in 24 hours."""
    reruns_per_run: Annotated[int, Field(ge=0, le=10)] | None = None
    """Times one workflow run may be re-run."""
    attempts_per_fingerprint: Annotated[int, Field(ge=0, le=20)] | None = None
    """Repairs of the same failure in 24 hours."""
    cooldown: Annotated[Duration, Field(le=30 * _DAY_S)] | None = None
    """Rest after a repair of the same failure was disproven."""
    api_points_per_hour: Annotated[int, Field(ge=0, le=12_500)] | None = None
    """What repairs may ask of GitHub, in its points: a read is 1, a write 5."""
    content_calls_per_hour: Annotated[int, Field(ge=0, le=500)] | None = None
    """Calls that create what people are told of: pull requests, issues, comments, commits."""
    gpu_minutes_per_day: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """GPU minutes of workloads that run beside the bot."""
    money_per_month: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """What trainings and benchmarks may cost in 30 days, where they tell a cost."""
    breaker_after: Annotated[int, Field(ge=0, le=20)] | None = None
    """Failed proofs of one action in a row after which it rests in this repository; 0: it never does."""
    breaker_rest: Annotated[Duration, Field(ge=60, le=_DAY_S)] | None = None
    """How long it rests then; each further failure doubles it, up to a day."""
    closed_unmerged: Annotated[int, Field(ge=0, le=20)] | None = None
    """Fix pull requests for one cause that people close unmerged before the bot is silent about it; 0: it never is."""
    approval_expires_days: Annotated[int, Field(ge=1, le=90)] | None = None
    """Days after which a repair that nobody has approved or rejected is not asked for any more."""


class ProtectedSection(_Section):
    """What is never touched. Both lists add to the defaults and to the owner's; nothing can be taken off them."""

    branches: tuple[Glob, ...] = Field(default=(), max_length=100)
    """Branches that no fix pull request targets; `*` matches any characters, also `/`."""
    paths: tuple[Glob, ...] = Field(default=(), max_length=100)
    """Paths that no fix changes; `**` matches any directories. `.github/**` and CODEOWNERS are always protected."""


class HealFile(_Section):
    """`.github/heal.yml` on the default branch, or in the owner's `.github` repository for all of the owner's."""

    model_config = ConfigDict(title="heal.yml")

    version: Literal[1]
    """The version of this format."""
    mode: Mode | None = None
    """The mode for everything that is not named below: off, observe, propose, approve or auto."""
    detectors: dict[str, Annotated[DetectorRule, BeforeValidator(_rule)]] = Field(default_factory=dict)
    """Modes of single detectors, in place of `mode`."""
    actions: dict[str, Mode] = Field(default_factory=dict)
    """Modes of single actions, and of `revert_repair`. Where detector and action are named, the quieter is in force."""
    limits: LimitsSection = LimitsSection()
    protected: ProtectedSection = ProtectedSection()
    min_confidence: Confidence | None = None
    """Findings below this confidence are only reported."""
    proof_deadline: Annotated[Duration, Field(ge=60, le=30 * _DAY_S)] | None = None
    """How long a repair may take to be proven before the next remedy is tried."""
    watch: Annotated[Duration, Field(le=90 * _DAY_S)] | None = None
    """How long after its merge a fix is watched for a relapse."""
    paused: bool = False
    """Repair nothing; go on watching and reporting. In force if either file says so."""
    models: dict[ModelName, ModelSection] = Field(default_factory=dict, max_length=100)
    """The models whose observations are sent here."""
    signals: SignalsSection = SignalsSection()
    signatures: tuple[SignatureSection, ...] = Field(default=(), max_length=MOST_SIGNATURES)
    """How failures of the team's own show in a log."""
    playbooks: dict[Cause, Playbook] = Field(default_factory=dict, max_length=MOST_PLAYBOOKS)
    """What to do about a cause, from the gentlest on, in place of the usual."""
    autonomy: AutonomySection = AutonomySection()
    notify: tuple[RouteSection, ...] = Field(default=(), max_length=MOST_ROUTES)
    """Who is told what, where. The lists of the owner and of the repository add up."""
    freeze: tuple[FreezeSection, ...] = Field(default=(), max_length=MOST_FREEZES)
    """Times in which nothing is done without a person. The lists of the owner and of the repository add up."""
    language: Literal["en", "es", "fr", "de", "ja", "zh"] | None = None
    """The language of check runs, comments, pull requests, issues and news."""
    approvals: dict[str, Annotated[int, Field(ge=1, le=2)]] = Field(default_factory=dict)
    """How many people must say yes to an action; 2 has it asked for in every mode. Of both files, the more counts."""


def resolve(
    repository_text: str | None,
    owner_text: str | None,
    *,
    known_detectors: Mapping[str, type[BaseModel] | None],
    known_actions: Mapping[str, type[BaseModel] | None],
    on_all: bool = False,
) -> Configured:
    """The policy of a repository: the repository's file over the owner's over the defaults, key by key.

    None means that there is no such file. Where a file has a failure, it is left out and the mode is observe at most.
    `known_detectors` are kinds with the model of their settings, None for those without. `on_all`: the App is installed
    on all repositories; one without a file of its own or its owner's was chosen by nobody, and is only observed.
    """
    kinds = tuple(known_detectors.items()), tuple(known_actions.items())
    configured = _resolve(repository_text, owner_text, *kinds)
    if on_all and repository_text is None and owner_text is None:
        return Configured(replace(configured.policy, mode=Mode.OBSERVE, origin={"mode": ON_ALL}))
    return configured


@lru_cache(maxsize=256)  # files change seldom, and are asked for at every event
def _resolve(
    repository_text: str | None,
    owner_text: str | None,
    known_detectors: tuple[tuple[str, type[BaseModel] | None], ...],
    known_actions: tuple[tuple[str, type[BaseModel] | None], ...],
) -> Configured:
    policy = Policy(origin={})
    problems: list[Problem] = []
    broken = []
    for origin, text in ((OWNER, owner_text), (REPOSITORY, repository_text)):
        if text is None:
            continue
        file, found = _read(text, origin, dict(known_detectors), dict(known_actions))
        problems += found
        if file is None:
            broken.append(origin)
        else:
            policy = _overlay(policy, file, origin)
    if broken:
        because = f"{' and '.join(broken)} (not valid)"
        policy = replace(
            policy,
            mode=min_mode(policy.mode, Mode.OBSERVE),
            detectors={kind: min_mode(mode, Mode.OBSERVE) for kind, mode in policy.detectors.items()},
            actions={kind: min_mode(mode, Mode.OBSERVE) for kind, mode in policy.actions.items()},
            origin={**policy.origin, "mode": because},
        )
    return Configured(policy, tuple(problems))


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file, for editors."""
    schema = HealFile.model_json_schema()
    rules = schema["properties"]["detectors"]
    rules["additionalProperties"] = {"anyOf": [{"$ref": "#/$defs/Mode"}, rules["additionalProperties"]]}
    asked = schema["$defs"]["SignalsSection"]["properties"]["prometheus"]["patternProperties"]
    for name, query in asked.items():
        asked[name] = {"anyOf": [{"type": "string"}, query]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_null(schema)}


def explain(configured: Configured) -> list[tuple[str, str, str]]:
    """Every key of the policy in force: key, value, and the file (or "default") that it comes from."""
    policy = configured.policy
    limits = policy.limits
    rows: list[tuple[str, str]] = [("mode", str(policy.mode))]
    rows += [(f"detectors.{kind}", str(mode)) for kind, mode in sorted(policy.detectors.items())]
    rows += [(f"detectors.{kind}.min_confidence", f"{least:g}") for kind, least in sorted(policy.confidence.items())]
    rows += [
        (f"detectors.{kind}.settings.{name}", json.dumps(value))
        for kind, given in sorted(policy.settings.items())
        for name, value in sorted(given.items())
    ]
    rows += [(f"actions.{kind}", str(mode)) for kind, mode in sorted(policy.actions.items())]
    rows += [
        ("limits.open_pulls", str(limits.open_pulls)),
        ("limits.pulls_per_day", str(limits.pulls_per_day)),
        ("limits.reruns_per_run", str(limits.reruns_per_run)),
        ("limits.attempts_per_fingerprint", str(limits.attempts_per_fingerprint)),
        ("limits.cooldown", spoken(limits.cooldown_s)),
        *((f"limits.{key}", _limit_told(key, getattr(limits, name))) for key, name in _FURTHER_LIMITS.items()),
        ("protected.branches", ", ".join(policy.protected_branches)),
        ("protected.paths", ", ".join(policy.protected_paths)),
        ("min_confidence", f"{policy.min_confidence:g}"),
        ("proof_deadline", spoken(policy.proof_deadline_s)),
        ("watch", spoken(policy.watch_s)),
        ("paused", "true" if policy.paused else "false"),
        *((f"models.{name}", _model_told(rules)) for name, rules in sorted(policy.models.items())),
        *((f"signals.prometheus.{name}", asked.promql) for name, asked in sorted(policy.queries.items())),
        *((f"signatures.{one.name}", f"{one.kind}: {one.title}") for one in policy.signatures),
        *((f"autonomy.{name}", json.dumps(getattr(policy.autonomy, name))) for name in AutonomySection.model_fields),
        *((f"playbooks.{cause}", ladder_told(ladder)) for cause, ladder in sorted(policy.playbooks.items())),
        *((f"approvals.{action}", str(number)) for action, number in sorted(policy.approvals.items())),
        ("language", policy.language),
        *(("freeze", f"{one.name}: {freeze_told(one)}") for one in policy.freeze),
        *(("notify", f"{route.channel}: {', '.join(sorted(route.on))}") for route in policy.notify),
    ]
    return [(key, value, policy.origin.get(key, "default")) for key, value in rows]


def lines(text: str) -> Mapping[str, int]:
    """Where each key of a file stands: dotted key → line (1-based). Empty for a file that cannot be read."""
    try:
        keys = _parse(text).keys if text != UNREADABLE else {}
    except _Unreadable:
        return {}
    return {".".join(map(str, place)): line for place, (line, _) in keys.items()}


def _limit_told(key: str, value: float) -> str:
    return spoken(int(value)) if key == "breaker_rest" else f"{value:g}"


def ladder_told(ladder: Sequence[Remedy]) -> str:
    """In one line: `lower_batch_size {"factor": 2} → open_issue`."""
    return " → ".join(rung_told(remedy) for remedy in ladder)


def rung_told(remedy: Remedy) -> str:
    return rung_of(remedy) + (f", then {rung_told(remedy.then)}" if remedy.then else "")


def _model_told(rules: ModelRules) -> str:
    told = {**rules.columns, "window": spoken(rules.window_s), "keep": rules.keep}
    told |= {
        name: value for name, value in (("importance", rules.importance), ("objectives", rules.objectives)) if value
    }
    return json.dumps(told | promotion(rules))


# --- reading -------------------------------------------------------------------------------------------------------


class _Unreadable(Exception):
    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class _Document:
    """Plain values, and where keys and values stand (line, column; 1-based)."""

    value: Any
    keys: Mapping[Place, tuple[int, int]]
    values: Mapping[Place, tuple[int, int]]

    def at(self, place: Place, *, key: bool = False) -> tuple[int, int]:
        """The nearest known position: of the place itself, or of what it is in."""
        for end in range(len(place), -1, -1):
            found = (self.keys if key else self.values).get(place[:end])
            if found is not None:
                return found
        return (1, 1)


def _read(
    text: str,
    origin: str,
    known_detectors: Mapping[str, type[BaseModel] | None],
    known_actions: Mapping[str, type[BaseModel] | None],
) -> tuple[HealFile | None, list[Problem]]:
    if text == UNREADABLE:
        what = "the file is there, but it cannot be read: it must be a text in UTF-8, and no link"
        return None, [Problem(origin, "", 1, 1, what)]
    try:
        document = _parse(text)
    except _Unreadable as error:
        return None, [Problem(origin, "", error.line, error.column, str(error))]
    problems = []
    file = None
    try:
        # through JSON: strict there still takes "auto" for a Mode, and nothing else for one
        file = HealFile.model_validate_json(json.dumps(document.value, ensure_ascii=False))
    except ValidationError as error:
        found = error.errors(include_url=False)
        # a list whose one entry is wrong is told to be too short as well
        whole = [one for one in found if not (one["type"] == "too_short" and _has_worse(one, found))]
        problems += [_problem(details, document, origin) for details in whole]
    problems += _empty_values(document.value, (), document, origin)
    problems += _unknown_names(document, origin, "detectors", tuple(known_detectors))
    problems += _wrong_settings(document, origin, known_detectors)
    problems += _unknown_names(document, origin, "actions", tuple(known_actions))
    problems += _unknown_names(document, origin, "approvals", tuple(known_actions))
    problems += _attempts_to_unprotect(document, origin)
    problems += _wrong_signatures(document, origin)
    problems += _wrong_playbooks(document, origin, known_actions)
    problems.sort(key=lambda problem: (problem.line, problem.column))
    return (None if any(problem.level == "failure" for problem in problems) else file), problems


def _has_worse(short: ErrorDetails, found: Sequence[ErrorDetails]) -> bool:
    place = short["loc"]
    return any(len(one["loc"]) > len(place) and one["loc"][: len(place)] == place for one in found)


def _parse(text: str) -> _Document:
    if len(text.encode(errors="replace")) > _MAX_BYTES:
        raise _Unreadable(f"the file is larger than {_MAX_BYTES // 1024} KB")
    try:
        _refuse_extras(YAML(typ="safe", pure=True).parse(text))
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise _Unreadable(f"not valid YAML: {error.problem or error.context}", line, column) from None
    except NOT_YAML as error:
        raise _Unreadable(f"not valid YAML: {(str(error).splitlines() or [type(error).__name__])[0][:200]}") from None
    if root is None:
        raise _Unreadable("the file is empty; write at least `version: 1`")
    keys: dict[Place, tuple[int, int]] = {}
    values: dict[Place, tuple[int, int]] = {}
    return _Document(_plain(root, (), keys, values), keys, values)


def _refuse_extras(events: Iterable[Any]) -> None:
    """Refuse what the format does not need and an attacker does: aliases, anchors, tags, directives, depth, length."""
    depth = documents = 0
    for count, event in enumerate(events):
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if count > _MAX_VALUES:
            raise _Unreadable(f"more than {_MAX_VALUES} keys and values", line, column)
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            raise _Unreadable("anchors and aliases (& and *) are not allowed; write the value out", line, column)
        if isinstance(event, (ScalarEvent, CollectionStartEvent)) and event.tag is not None:
            raise _Unreadable("tags (!) are not allowed", line, column)
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Unreadable("more than one document", line, column)
            if event.version is not None or event.tags:
                raise _Unreadable("directives (%) are not allowed", line, column)
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _Unreadable(f"nested deeper than {_MAX_DEPTH} levels", line, column)
        elif isinstance(event, CollectionEndEvent):
            depth -= 1


def _plain(node: Node, place: Place, keys: dict[Place, tuple[int, int]], values: dict[Place, tuple[int, int]]) -> Any:
    values[place] = _position(node)
    if isinstance(node, MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = _position(key_node)
            if not isinstance(key_node, ScalarNode):
                raise _Unreadable("a key must be a word", line, column)
            key = str(key_node.value).encode(errors="replace").decode()
            if key in mapping:
                raise _Unreadable(f"the key {key!r} stands twice", line, column)
            keys[*place, key] = (line, column)
            mapping[key] = _plain(value_node, (*place, key), keys, values)
        return mapping
    if isinstance(node, SequenceNode):
        return [_plain(item, (*place, index), keys, values) for index, item in enumerate(node.value)]
    return _scalar(node)


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _scalar(node: Node) -> str | int | float | bool | None:
    text: str = node.value.encode(errors="replace").decode()  # escapes can spell half a character
    kind = str(node.tag).rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float"):
        try:
            # a number of the format has few digits; anything else stays text and is refused as such
            return int(text) if kind == "int" and len(text) <= 12 else float(text[:40])
        except ValueError:
            return text
    return text


# --- judging -------------------------------------------------------------------------------------------------------


def _problem(details: ErrorDetails, document: _Document, origin: str, names: Sequence[str] | None = None) -> Problem:
    """`names` are those that may stand at the place; None: those of the format itself."""
    place = details["loc"]
    dotted = ".".join(str(part) for part in place)
    kind, given = details["type"], details["input"]
    line, column = document.at(place, key=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        message = f"unknown key {place[-1]!r}" + _did_you_mean(
            str(place[-1]), _fields(place[:-1]) if names is None else names
        )
    elif kind == "missing":
        message = "`version: 1` is missing" if place == ("version",) else f"`{dotted}` is missing"
    elif kind == "enum" and names is None:
        modes = [str(mode) for mode in Mode]
        message = f"{_shown(given)} is not a mode{_did_you_mean(str(given), modes)} (one of {', '.join(modes)})"
    elif kind == "literal_error" and place == ("version",):
        message = f"version {_shown(given)} is not known; this is version 1 of the format"
    elif kind == "value_error":
        message = str(details["ctx"]["error"]) if "ctx" in details else details["msg"]
    else:
        message = f"{details['msg'][:1].lower()}{details['msg'][1:]}, not {_shown(given)}"
    return Problem(origin, dotted, line, column, message)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _fields(place: Place) -> list[str]:
    """The names that may stand at `place`."""
    models: dict[Place, type[BaseModel]] = {(): HealFile, ("limits",): LimitsSection, ("protected",): ProtectedSection}
    if place[:1] == ("models",):
        models |= {place: section_at(place[2:])}
    if place[:1] == ("signatures",):
        models |= {place: SignatureSection}
    if place[:1] == ("playbooks",):
        models |= {place: RungSection}
    models |= {("autonomy",): AutonomySection}
    if place[:1] == ("notify",):
        models |= {place: RouteSection}
    if place[:1] == ("freeze",):
        models |= {place: FreezeSection}
    model = models.get(place, DetectorRule if place[:1] == ("detectors",) else None)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _did_you_mean(given: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(given[:60], names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _empty_values(value: object, place: Place, document: _Document, origin: str) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _empty_values(inner, (*place, key), document, origin)
    elif value is None and place:
        dotted = ".".join(str(part) for part in place)
        yield Problem(
            origin, dotted, *document.at(place, key=True), f"`{dotted}` has no value; give one or leave it out"
        )


def _unknown_names(document: _Document, origin: str, section: str, known: Sequence[str]) -> Iterator[Problem]:
    given = document.value.get(section) if isinstance(document.value, dict) else None
    for name in given if isinstance(given, dict) else ():
        if name not in known:
            hint = _did_you_mean(name, known) or f" (one of {', '.join(known)})"
            line, column = document.at((section, name), key=True)
            yield Problem(
                origin, f"{section}.{name}", line, column, f"no {section[:-1]} is called {_shown(name)}{hint}"
            )


def _wrong_settings(document: _Document, origin: str, known: Mapping[str, type[BaseModel] | None]) -> Iterator[Problem]:
    rules = document.value.get("detectors") if isinstance(document.value, dict) else None
    for kind, rule in rules.items() if isinstance(rules, dict) else ():
        given = rule.get("settings") if isinstance(rule, dict) else None
        if not given or not isinstance(given, dict) or kind not in known:
            continue
        place = ("detectors", kind, "settings")
        model = known[kind]
        if model is None:
            line, column = document.at(place, key=True)
            yield Problem(origin, ".".join(place), line, column, f"{kind} has no settings")
            continue
        try:
            model.model_validate_json(json.dumps(given))
        except ValidationError as error:
            for details in error.errors(include_url=False):
                yield _problem(
                    {**details, "loc": (*place, *details["loc"])}, document, origin, list(model.model_fields)
                )


def _wrong_signatures(document: _Document, origin: str) -> Iterator[Problem]:
    rows = document.value.get("signatures") if isinstance(document.value, dict) else None
    for place, why in mistakes(rows):
        whole = ("signatures", *place)
        yield Problem(origin, ".".join(map(str, whole)), *document.at(whole), why)


def _wrong_playbooks(
    document: _Document, origin: str, known: Mapping[str, type[BaseModel] | None]
) -> Iterator[Problem]:
    given = document.value.get("playbooks") if isinstance(document.value, dict) else None
    for place, why, names in rungs_wrong(given, known):
        whole = ("playbooks", *place)
        rung = document.value
        for part in whole[:3]:
            rung = rung[part]
        asked = rung if isinstance(rung, str) else str(rung.get("action", ""))
        hint = (_did_you_mean(asked, names) or f" (one of {', '.join(names)})") if names else ""
        yield Problem(origin, ".".join(map(str, whole)), *document.at(whole), f"{why}{hint}")


def _attempts_to_unprotect(document: _Document, origin: str) -> Iterator[Problem]:
    protected = document.value.get("protected") if isinstance(document.value, dict) else None
    for name, given in protected.items() if isinstance(protected, dict) else ():
        for index, pattern in enumerate(given if isinstance(given, list) else ()):
            if isinstance(pattern, str) and pattern.startswith("!"):
                message = "nothing can be taken off the protected list; patterns only add to it"
                yield Problem(origin, f"protected.{name}.{index}", *document.at(("protected", name, index)), message)
        if name == "paths" and given == []:
            message = f"the list only adds; always protected are {', '.join(Policy().protected_paths)}"
            yield Problem(origin, "protected.paths", *document.at(("protected", "paths")), message, "notice")


_FURTHER_LIMITS = {
    "api_points_per_hour": "api_points_per_hour",
    "content_calls_per_hour": "content_calls_per_hour",
    "gpu_minutes_per_day": "gpu_minutes_per_day",
    "money_per_month": "money_per_month",
    "breaker_after": "breaker_after",
    "breaker_rest": "breaker_rest_s",
    "closed_unmerged": "closed_unmerged",
    "approval_expires_days": "approval_expires_days",
}

# --- overlaying ----------------------------------------------------------------------------------------------------

_T = TypeVar("_T")


def _overlay(policy: Policy, file: HealFile, origin: str) -> Policy:
    origins = dict(policy.origin)

    def newer(key: str, mine: _T | None, theirs: _T) -> _T:
        if mine is None:
            return theirs
        origins[key] = origin
        return mine

    def added(key: str, mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
        more = tuple(pattern for pattern in dict.fromkeys(mine) if pattern not in theirs)
        if more:
            origins[key] = f"{origins.get(key, 'default')} + {origin}" if theirs else origin
        return theirs + more

    detectors, confidence, actions = dict(policy.detectors), dict(policy.confidence), dict(policy.actions)
    settings = {kind: dict(given) for kind, given in policy.settings.items()}
    for kind, rule in file.detectors.items():
        if rule.mode is not None:
            detectors[kind] = newer(f"detectors.{kind}", rule.mode, Mode.AUTO)
        for name, value in rule.settings.items():
            settings[kind] = {**settings.get(kind, {}), name: newer(f"detectors.{kind}.settings.{name}", value, None)}
        if rule.min_confidence is not None:
            confidence[kind] = newer(f"detectors.{kind}.min_confidence", rule.min_confidence, 0.0)
    for kind, mode in file.actions.items():
        actions[kind] = newer(f"actions.{kind}", mode, Mode.AUTO)
    limits, given = policy.limits, file.limits
    return replace(
        policy,
        mode=newer("mode", file.mode, policy.mode),
        detectors=detectors,
        confidence=confidence,
        settings=settings,
        actions=actions,
        limits=Limits(
            open_pulls=newer("limits.open_pulls", given.open_pulls, limits.open_pulls),
            pulls_per_day=newer("limits.pulls_per_day", given.pulls_per_day, limits.pulls_per_day),
            reruns_per_run=newer("limits.reruns_per_run", given.reruns_per_run, limits.reruns_per_run),
            attempts_per_fingerprint=newer(
                "limits.attempts_per_fingerprint", given.attempts_per_fingerprint, limits.attempts_per_fingerprint
            ),
            cooldown_s=newer("limits.cooldown", given.cooldown, limits.cooldown_s),
            **{
                name: newer(f"limits.{key}", getattr(given, key), getattr(limits, name))
                for key, name in _FURTHER_LIMITS.items()
            },
        ),
        autonomy=Autonomy(
            **{
                name: newer(f"autonomy.{name}", getattr(file.autonomy, name), getattr(policy.autonomy, name))
                for name in AutonomySection.model_fields
            }
        ),
        playbooks={
            **policy.playbooks,
            **{
                cause: newer(f"playbooks.{cause}", tuple(rung.remedy() for rung in ladder), ())
                for cause, ladder in file.playbooks.items()
            },
        },
        notify=newer(
            "notify", (*policy.notify, *(one.route() for one in file.notify)) if file.notify else None, policy.notify
        ),
        freeze=newer(
            "freeze", (*policy.freeze, *(one.freeze() for one in file.freeze)) if file.freeze else None, policy.freeze
        ),
        language=newer("language", file.language, policy.language),
        approvals={
            **policy.approvals,
            **{
                action: newer(f"approvals.{action}", number, 1)
                for action, number in file.approvals.items()
                if number >= policy.approvals.get(action, 1)
            },
        },
        protected_branches=added("protected.branches", file.protected.branches, policy.protected_branches),
        protected_paths=added("protected.paths", file.protected.paths, policy.protected_paths),
        min_confidence=newer("min_confidence", file.min_confidence, policy.min_confidence),
        proof_deadline_s=newer("proof_deadline", file.proof_deadline, policy.proof_deadline_s),
        watch_s=newer("watch", file.watch, policy.watch_s),
        paused=newer("paused", file.paused or None, policy.paused),
        models={
            **policy.models,
            **{name: newer(f"models.{name}", model.rules(), ModelRules()) for name, model in file.models.items()},
        },
        queries={
            **policy.queries,
            **{
                name: newer(f"signals.prometheus.{name}", asked, asked)
                for name, asked in file.signals.queries().items()
            },
        },
        signatures=tuple(
            {
                **{one.name: one for one in policy.signatures},
                **{
                    one.name: newer(f"signatures.{one.name}", one, one)
                    for one in (rule.signature() for rule in file.signatures)
                },
            }.values()
        ),
        origin=origins,
    )


def _without_null(schema: Any) -> Any:
    """The schema without the null that stands for an absent key: `mode:` with nothing behind it is refused."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    choices = schema.get("anyOf", [])
    if {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        schema = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        schema |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    return {key: _without_null(value) for key, value in schema.items()}
