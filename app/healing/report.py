"""Deliver one side effect that was decided: look, then create or edit in place, then verify."""

from datetime import datetime, timedelta

from app.domain.effect import Effect, EffectKind
from app.domain.errors import Permanent
from app.healing import texts
from app.healing.gather import configuration, configured_at
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.news import news
from app.healing.onboarding import introduce
from app.ports.forge import Forge

_LANGUAGE_HOLDS = timedelta(minutes=10)


def report(kit: Kit, hold: Hold) -> None:
    """Texts are rendered from the present state, so that a late or doubled report is never an outdated one."""
    with kit.store.begin(hold.lease) as ledger:
        effect = ledger.effect(hold.lease.row_id)
        repository = ledger.repository(effect.repository_id)
    if repository is None:
        raise Permanent("the App is not installed on this repository any more")
    forge = kit.app.forge(repository)
    deliver = {
        EffectKind.CHECK: check,
        EffectKind.PULL_COMMENT: comment,
        EffectKind.PULL_BODY: pull_body,
        EffectKind.REPLY: reply,
        EffectKind.NEWS: news,
        EffectKind.CONFIG_CHECK: config_check,
        EffectKind.ONBOARDING: introduce,
    }[effect.kind]
    remote_id = deliver(kit, hold, forge, effect)
    kit.passing(f"after {effect.kind}")
    with kit.store.begin(hold.lease) as ledger:
        ledger.settle_effect(effect, remote_id)


def check(kit: Kit, hold: Hold, forge: Forge, effect: Effect) -> str:
    sha = str(effect.request["sha"])
    with kit.store.begin() as ledger:
        here = ledger.incidents_at(effect.repository_id, head_sha=sha)
        records = [ledger.record(incident.id) for incident in here]
    if not records and not effect.remote_id:
        return ""
    language = language_of(kit, forge)
    text = texts.superseded_text(language)
    if records:
        text = texts.check_text(records, dashboard_url=kit.dashboard_url, language=language)
    hold.guard()
    return str(forge.ensure_check(sha, effect.key, text))


def comment(kit: Kit, hold: Hold, forge: Forge, effect: Effect) -> str:
    """On the open pull request from the branch that failed, if there is one."""
    with kit.store.begin() as ledger:
        record = ledger.record(effect.incident_id or 0)
    branch = record.incident.branch
    if branch == forge.repository.default_branch:
        return ""
    pull = next((pull for pull in forge.pulls_of(branch) if pull.state == "open"), None)
    if pull is None:
        return ""
    mark = kit.mark(effect.key)
    body = texts.comment_text(record, mark, kit.dashboard_url, language_of(kit, forge))
    hold.guard()
    return str(forge.ensure_comment(pull.number, mark, body))


def pull_body(kit: Kit, hold: Hold, forge: Forge, effect: Effect) -> str:
    """The fix pull request says how it stands: waiting for proof, proven, or disproven."""
    with kit.store.begin() as ledger:
        record = ledger.record(effect.incident_id or 0)
    number = record.incident.pull_number
    if number is None:
        return ""
    pull = forge.pull(number)
    held = [r for r in record.repairs if r.plan and r.outcome and r.outcome.data.get("pull") == number]
    if pull.state != "open" or not held or held[-1].plan is None:
        return ""
    title, body = texts.pull_text(record, held[-1], held[-1].plan, kit.dashboard_url, language_of(kit, forge))
    hold.guard()
    forge.edit_pull(number, title=title, body=body)
    return str(number)


def reply(kit: Kit, hold: Hold, forge: Forge, effect: Effect) -> str:
    request = effect.request
    language = language_of(kit, forge)
    body = texts.reply_text(str(request["message"]), language)
    if request.get("show"):
        with kit.store.begin() as ledger:
            body = texts.why_text(ledger.record(int(request["show"])), language)
    mark = kit.mark(effect.key)
    hold.guard()
    if request.get("react"):
        forge.react(int(request["comment_id"]), "eyes")
    return str(forge.ensure_comment(int(request["number"]), mark, f"{body}\n\n{mark}"))


def config_check(kit: Kit, hold: Hold, forge: Forge, effect: Effect) -> str:
    """heal.yml's verdict at that commit, with the errors at their lines. No file there: nothing to say."""
    sha = str(effect.request["sha"])
    configured = configured_at(kit, forge, sha)
    if configured is None:
        return ""
    chosen = configured.policy.language if "language" in configured.policy.origin else language_of(kit, forge)
    hold.guard()
    return str(forge.ensure_check(sha, effect.key, texts.config_check_text(configured.problems, chosen)))


def language_of(kit: Kit, forge: Forge) -> str:
    """Of what is written in this repository. heal.yml is asked for it again after some minutes, not at each report."""
    key = ("language", forge.repository.id)
    known: tuple[str, datetime] | None = kit.recent.get(key)
    now = kit.clock.now()
    if known is None or known[1] <= now:
        known = (configuration(kit, forge).policy.language, now + _LANGUAGE_HOLDS)
        kit.recent.keep(key, known)
    return known[0]
