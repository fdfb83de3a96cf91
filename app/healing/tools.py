"""What an action may reach of the world, for one incident and one repair of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.domain.errors import Refused
from app.domain.incident import Incident
from app.domain.policy import Policy
from app.domain.repair import Plan, Repair
from app.healing import texts
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.mending import mending
from app.ports.forge import Forge
from app.ports.plugins import Tools
from app.ports.store import Store

MOST_KEPT_BYTES = 256 * 1024


def tools_for(kit: Kit, hold: Hold, forge: Forge, incident: Incident, policy: Policy, current: Repair) -> Tools:
    """The incident is pinned to the run, attempt and commit that the repair was decided for."""
    intent = current.intent
    pinned = replace(incident, run_id=intent.run_id, attempt=intent.attempt, head_sha=intent.head_sha)
    with kit.store.begin() as ledger:
        record = ledger.record(incident.id)
        here = ledger.incidents_at(incident.repository_id, head_sha=intent.head_sha) if intent.run_id else []
    others = tuple(each.finding for each in here if each.id != incident.id and each.run_id == intent.run_id)
    made = {str(each.outcome.data.get("head_sha", "")) for each in record.repairs if each.outcome}
    since = current.applied_at
    again = [entry.at for entry in record.timeline if entry.kind == "found" and since and entry.at > since]
    return Tools(
        forge=forge,
        incident=pinned,
        policy=policy,
        resolver=kit.resolver,
        clock=kit.clock,
        pull_text=partial(_pull_text, kit, incident, policy.language),
        issue_text=partial(_issue_text, kit, incident, policy.language),
        marker=kit.mark(current.effect_key),
        guard=hold.guard,
        shelf=_Shelf(kit.store, incident.repository_id),
        ours=frozenset(made - {""}),
        repairs=record.repairs,
        again_at=max(again, default=None),
        others=others,
        mending=partial(mending, kit, incident.repository_id),
        registry=kit.registry.only(incident.repository),
        launchers=kit.launchers,
        notifier=kit.notifier,
        workflow_check=kit.workflow_check,
    )


@dataclass(frozen=True)
class _Shelf:
    store: Store
    repository_id: int

    def get(self, name: str) -> Mapping[str, Any] | None:
        with self.store.begin() as ledger:
            return ledger.shelved(self.repository_id, name)

    def put(self, name: str, data: Mapping[str, Any]) -> None:
        if len(json.dumps(data)) > MOST_KEPT_BYTES:
            raise Refused(f"{name} is more than {MOST_KEPT_BYTES} bytes, which is more than is kept")
        with self.store.begin() as ledger:
            ledger.shelve(self.repository_id, name, data)


def _pull_text(kit: Kit, incident: Incident, language: str, current: Repair, plan: Plan) -> tuple[str, str]:
    with kit.store.begin() as ledger:
        record = ledger.record(incident.id)
    return texts.pull_text(record, current, plan, kit.dashboard_url, language)


def _issue_text(kit: Kit, incident: Incident, language: str, current: Repair) -> tuple[str, str]:
    with kit.store.begin() as ledger:
        record = ledger.record(incident.id)
    return texts.issue_text(record, kit.mark(current.effect_key), kit.dashboard_url, language)
