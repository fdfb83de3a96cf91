"""Which version serves: the aliases of a registered model, moved so that a crash or a second try does no harm.

The registry has no compare-and-swap. So what is about to be done is written down before it is done, each alias is
looked at before it is set, and what somebody else has set is left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from actions import retrain_model
from app.domain.incident import Incident
from app.domain.model import ModelRules
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Look, Repair
from app.ports.plugins import Tools
from app.ports.registry import Registry, Version

PREVIOUS = "previous"  # the alias of the version that served before
REHEARSAL = "heal-rehearsal"  # an alias that nothing serves
BY, AT = "heal.promoted_by", "heal.promoted_at"  # tags of a version
_MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Move:
    """Of the champion's alias. `previous` is what the alias of that name pointed at before, None: at nothing."""

    name: str
    alias: str
    start: int
    to: int
    previous: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "registry": self.name,
            "alias": self.alias,
            "from": self.start,
            "to": self.to,
            "previous": self.previous,
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Move":
        return cls(data["registry"], data["alias"], int(data["from"]), int(data["to"]), data["previous"])


def rules_of(model: str, tools: Tools) -> ModelRules | str:
    """What heal.yml says of a model that has a place in the registry; a text: why there is nothing to act on."""
    rules = tools.policy.models.get(model)
    if rules is None:
        names = ", ".join(sorted(tools.policy.models)[:10]) or "none"
        return f"heal.yml describes no model {model[:100]!r} (it describes: {names}); add it under `models`"
    if not rules.registry:
        return f"heal.yml does not say what {model} is called in the registry; set `models.{model}.registry`"
    if rules.champion in (PREVIOUS, REHEARSAL):
        return f"the alias {rules.champion} is used for other things; set `models.{model}.champion` to another one"
    return rules


def model_of(incident: Incident, named: str) -> str:
    """The model that was named, or that the finding is about."""
    return named or retrain_model.model_of(incident)


def rules_now(named: str, tools: Tools) -> ModelRules:
    return tools.policy.models.get(model_of(tools.incident, named)) or ModelRules()


def patience_s(rules: ModelRules) -> int:
    """How long the proof of a move takes: to the end of the canary, and a look after it."""
    return rules.canary_s + 600


def number_at(registry: Registry, name: str, alias: str) -> int | None:
    found = registry.aliased(name, alias)
    return found.number if found else None


def calls(move: Move, *, previous: bool) -> tuple[str, ...]:
    """What will be set, in words."""
    told = f"{PREVIOUS}: {move.previous if move.previous is not None else 'none'} → {move.start}"
    both = (f"{move.alias}: {move.start} → {move.to}", told)
    return both if previous and move.previous != move.start else both[:1]


def last_promotion(name: str, champion: Version, tools: Tools) -> datetime | None:
    """When we made a champion last: as we wrote down, or as the champion's own tag says."""
    kept = tools.shelf.get(_shelf(name)) or {}
    told = [kept.get("promoted_at"), champion.tags.get(AT)]
    return max((at for at in map(_moment, told) if at is not None), default=None)


def _moment(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None


def rehearse(version: Version | None, number: int, rules: ModelRules, tools: Tools) -> str:
    """Go back to `version` with an alias that nothing serves. What would stop a roll back, or "" if nothing would."""
    if version is None:
        return f"version {number} is not in the registry any more"
    registry, name = tools.registry, rules.registry
    if registry.file(version, rules.evaluation, most_bytes=_MOST_BYTES) is None:
        return f"the files of version {number} are gone ({rules.evaluation})"
    tools.guard()
    registry.point(name, REHEARSAL, number)
    try:
        seen = number_at(registry, name, REHEARSAL)
    finally:
        registry.point(name, REHEARSAL, None)
    return "" if seen == number else f"an alias that was set to version {number} reads as {seen}"


def carry_out(move: Move, repair: Repair, rules: ModelRules, tools: Tools, *, promotion: bool) -> Outcome:
    """Move the champion's alias. A promotion rehearses the way back first, and sets `previous` besides; a roll back is
    the way back, and nothing may stand in its way."""
    registry, shelf = tools.registry, _shelf(move.name)
    kept = dict(tools.shelf.get(shelf) or {})
    begun = kept.get("begun") or {}
    ours = begun.get("effect") == repair.effect_key
    now_at = number_at(registry, move.name, move.alias)
    if kept.get("done") == repair.effect_key and now_at == move.to:
        return _moved(move, registry, str(kept.get("at", "")), promotion=promotion)
    if now_at == move.to and not ours:
        return Outcome(Conclusion.NEUTRAL, f"{move.alias} points at version {move.to} already; somebody else set it")
    if now_at not in (move.start, move.to):
        told = f"version {now_at}" if now_at else "nothing"
        return Outcome(Conclusion.STALE, f"{move.alias} points at {told}, and no longer at version {move.start}")
    if now_at == move.start:
        target = registry.version(move.name, move.to)
        if target is None:
            return Outcome(Conclusion.NEUTRAL, f"version {move.to} is not in the registry any more; nothing was moved")
        if promotion:
            trouble = rehearse(registry.version(move.name, move.start), move.start, rules, tools)
            if trouble:
                return Outcome(Conclusion.NEUTRAL, f"nothing was moved: a roll back would fail, for {trouble}")
    at = str(begun["at"]) if ours else tools.clock.now().isoformat()
    if not ours:
        begun = {"effect": repair.effect_key, "at": at, **move.to_json()}
        tools.guard()
        tools.shelf.put(shelf, {**kept, "begun": begun})
    if promotion:
        _point(tools, move.name, PREVIOUS, move.start)
    if now_at == move.start:
        seen = number_at(registry, move.name, move.alias)  # once more, as late as can be
        if seen not in (move.start, move.to):
            return Outcome(Conclusion.STALE, f"{move.alias} was moved to version {seen} at the same time; it is left")
        _point(tools, move.name, move.alias, move.to)
    if promotion:
        for tag, value in ((BY, repair.effect_key), (AT, at)):
            tools.guard()
            registry.tag(move.name, move.to, tag, value)
    seen = number_at(registry, move.name, move.alias)
    if seen != move.to:
        return Outcome(Conclusion.FAILURE, f"{move.alias} was set to version {move.to} and reads as {seen}")
    done = {key: value for key, value in kept.items() if key != "begun"} | {"done": repair.effect_key, "at": at}
    done |= {"promoted_at": at} if promotion else {}
    tools.guard()
    tools.shelf.put(shelf, done)
    return _moved(move, registry, at, promotion=promotion)


def _moved(move: Move, registry: Registry, at: str, *, promotion: bool) -> Outcome:
    target = registry.version(move.name, move.to)
    # a promotion that does not hold is taken back; a roll back that did not help is not
    data = {**move.to_json(), "at": at, "url": target.url if target else "", **({"stands": True} if promotion else {})}
    title = f"{'promoted' if promotion else 'went back to'} version {move.to} of {move.name}"
    return Outcome(Conclusion.SUCCESS, title, f"{move.alias}: {move.start} → {move.to}", data)


def _point(tools: Tools, name: str, alias: str, number: int | None) -> None:
    if number_at(tools.registry, name, alias) != number:
        tools.guard()
        tools.registry.point(name, alias, number)


def take_back(repair: Repair, tools: Tools, *, promotion: bool) -> Outcome:
    """Where the aliases stand as this repair left them, they are set back; what somebody else has set is left."""
    data = dict(repair.outcome.data) if repair.outcome else {}
    if "to" not in data:
        data = _begun(repair, tools)  # it was stopped on its way
    if "to" not in data:
        return Outcome(Conclusion.NEUTRAL, "nothing was moved")
    move = Move.of(data)
    registry = tools.registry
    now_at = number_at(registry, move.name, move.alias)
    if now_at not in (move.start, move.to):
        told = f"version {now_at}" if now_at else "nothing"
        title = f"{move.alias} points at {told}, and no longer at version {move.to}: it is left as it is"
        return Outcome(Conclusion.NEUTRAL, title)
    if registry.version(move.name, move.start) is None:
        return Outcome(
            Conclusion.NEUTRAL, f"version {move.start} is not in the registry any more; a person must choose"
        )
    if now_at == move.to:
        _point(tools, move.name, move.alias, move.start)
    if promotion and number_at(registry, move.name, PREVIOUS) == move.start and move.previous != move.start:
        gone = move.previous is not None and registry.version(move.name, move.previous) is None
        _point(tools, move.name, PREVIOUS, None if gone else move.previous)
    return Outcome(
        Conclusion.SUCCESS, f"{move.alias} points at version {move.start} again", data={**data, "stands": False}
    )


def _begun(repair: Repair, tools: Tools) -> dict[str, Any]:
    """What this repair wrote down before it began, while it is the newest that did."""
    params = repair.remedy.params
    rules = rules_now(str(params.get("model", "")), tools)
    begun = (tools.shelf.get(_shelf(rules.registry)) or {}).get("begun") or {}
    return dict(begun) if begun.get("effect") == repair.effect_key else {}


def watch(repair: Repair, rules: ModelRules, tools: Tools) -> Look:
    """Whether the move holds: nobody moved the alias since, and for `canary_s` the cause was not found again."""
    data = repair.outcome.data if repair.outcome else {}
    move = Move.of(data)
    url = str(data.get("url", ""))
    found = tools.registry.aliased(move.name, move.alias)
    if found is None:
        return Look(False, f"the alias {move.alias} is gone; somebody removed it", url)
    if found.number != move.to:
        later = (tools.shelf.get(_shelf(move.name)) or {}).get("done")
        whom = "a later repair" if later and later != repair.effect_key else "somebody else"
        told = f"{move.alias} was moved from version {move.to} to {found.number} by {whom}"
        return Look(False, told, found.url or url, data={"alias_at": found.number})
    if tools.again_at is not None:
        reason = f"the canary does not hold: the cause was found again at {tools.again_at:%Y-%m-%d %H:%M} UTC"
        return Look(False, reason, url, data={"again_at": tools.again_at.isoformat()})
    since = repair.applied_at or _moment(data.get("at")) or tools.clock.now()
    until = since + timedelta(seconds=rules.canary_s)
    if tools.clock.now() >= until:
        reason = f"version {move.to} has served since {since:%Y-%m-%d %H:%M} UTC, and the cause was not found again"
        return Look(True, reason, url, data={"to": move.to})
    waiting = f"version {move.to} is watched until {until:%Y-%m-%d %H:%M} UTC"
    return Look(None, waiting, url, progress=waiting)


def _shelf(name: str) -> str:
    return f"promotion/{name}"
