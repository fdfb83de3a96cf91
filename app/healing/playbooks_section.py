"""The sections of heal.yml about what is done: playbooks, autonomy, and who is told."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from app.domain.finding import Remedy, Severity
from app.domain.policy import Route

MOST_PLAYBOOKS, MOST_RUNGS, MOST_ROUTES = 100, 8, 10

Cause = Annotated[str, StringConstraints(pattern=r"^(?:team:[a-z][a-z0-9_-]{0,49}|[a-z][a-z0-9_]{1,49})$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=50)]
Told = Literal["awaiting_approval", "healed", "recovered", "escalated", "observed"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


def _rung(value: object) -> object:
    return {"action": value} if isinstance(value, str) else value


class RungSection(_Section):
    """One rung: an action's name, or its name with parameters and what follows it."""

    action: Name
    """Which action."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Its parameters; its page says which there are."""
    then: Annotated["RungSection | None", BeforeValidator(_rung)] = None
    """The rung that follows once this one is proven."""

    def remedy(self) -> Remedy:
        return Remedy(self.action, dict(self.params), self.then.remedy() if self.then else None)


Playbook = Annotated[
    tuple[Annotated[RungSection, BeforeValidator(_rung)], ...], Field(min_length=1, max_length=MOST_RUNGS)
]


class AutonomySection(_Section):
    """How the bot learns what it may do."""

    suggest_at: Annotated[float, Field(ge=0.5, le=1)] | None = None
    """A bolder mode is suggested once a repair's chance of proven success is surely (95 %) above this."""
    lower_after_revert: bool | None = None
    """Ask a person again about what was proven and then taken back, until two more were proven."""
    shadow: bool | None = None
    """Plan what is only observed, and compare it with what people do."""
    learn_order: bool | None = None
    """Climb first what has worked in this repository."""


class QuietSection(_Section):
    """Hours in which only what is urgent is told, UTC."""

    start: Annotated[int, Field(ge=0, le=23, alias="from")]
    """The first hour."""
    end: Annotated[int, Field(ge=0, le=23, alias="to")]
    """The hour in which it ends."""


class RouteSection(_Section):
    """Where news go."""

    channel: Name
    """The name of a channel that the operator has configured."""
    on: Annotated[tuple[Told, ...], Field(min_length=1, max_length=5)] = ("awaiting_approval", "escalated")
    """The states of an incident that are told."""
    least: Severity = Severity.LOW
    """Severity from which on it is told."""
    quiet: QuietSection | None = None
    """Hours in which only what is urgent is told."""
    urgent: Severity = Severity.CRITICAL
    """What is told in quiet hours, too."""
    digest: Annotated[int, Field(ge=0, le=24 * 60)] = 0
    """Minutes within which what happens is gathered into one message; 0: each at once."""

    def route(self) -> Route:
        quiet = (self.quiet.start, self.quiet.end) if self.quiet else None
        told = (self.channel, frozenset(self.on), self.least.value, quiet, self.urgent.value, self.digest * 60)
        return Route(*told)


def mistakes(
    playbooks: Any, known: Mapping[str, type[BaseModel] | None]
) -> Iterator[tuple[tuple[str | int, ...], str, list[str]]]:
    """What is wrong with rungs whose form the model judges: the place in the section, a sentence, names that fit."""
    for cause, ladder in playbooks.items() if isinstance(playbooks, dict) else ():
        for at, rung in enumerate(ladder if isinstance(ladder, list) else ()):
            yield from _of_rung((cause, at), rung, known)


def _of_rung(
    place: tuple[str | int, ...], rung: Any, known: Mapping[str, type[BaseModel] | None]
) -> Iterator[tuple[tuple[str | int, ...], str, list[str]]]:
    while rung is not None:
        named = rung if isinstance(rung, str) else rung.get("action") if isinstance(rung, dict) else None
        if not isinstance(named, str):
            return
        model = known.get(named)
        if model is None:
            yield (
                place,
                f"no action that can be a rung is called {json.dumps(named)}",
                [k for k, m in known.items() if m],
            )
            return
        params = rung.get("params", {}) if isinstance(rung, dict) else {}
        try:
            model.model_validate_json(json.dumps(params))
        except ValidationError as error:
            for details in error.errors(include_url=False):
                inner = ".".join(str(part) for part in details["loc"])
                yield (*place, "params"), f"{named} does not take this: {inner}: {details['msg']}", []
        rung = rung.get("then") if isinstance(rung, dict) else None
        place = (*place, "then")
