"""Have people revoke a leaked secret: an issue with the steps. The secret itself is neither read nor kept nor told."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from actions.open_issue import LABEL
from actions.secret_types import Issuer, fitting, issuer_of, names_in
from app.domain.errors import Refused
from app.domain.incident import Incident
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools
from app.security.markdown import clean, code_span, link, shorten
from app.security.masking import mask

KIND = "secret_leaked"
LABELS = (LABEL, "security")
MOST_WORKFLOWS, MOST_BYTES, MOST_NAMES = 50, 256 * 1024, 20
_WORKFLOW = re.compile(r"\.github/workflows/[^/]{1,200}\.ya?ml")
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_VALIDITY = {
    "active": "GitHub says that it still works.",
    "inactive": "GitHub says that it does not work any more.",
}


class RotateParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RotateSecret:
    """Nothing is revoked by the bot, and nothing confirmed: that a secret is dead, only its issuer knows."""

    kind = "rotate_secret"
    Params: type[BaseModel] = RotateParams
    proves = Proof.NOTHING

    def plan(self, incident: Incident, params: RotateParams, tools: Tools) -> Plan:
        title = f"Ask for the leaked {_issuer(incident).name} to be revoked"
        if incident.finding.kind != KIND:
            return Plan(
                title, refusal=f"{incident.finding.kind} is no leaked secret; take rotate_secret off its ladder"
            )
        return Plan(
            title,
            why="whoever has read it can use it until it is revoked; deleting the line does not help",
            calls=(f"open an issue labelled {' and '.join(LABELS)}, with where it leaked and how to revoke it",),
            risk="whoever reads the repository reads the issue; it tells where the secret stood, and nothing of it",
        )

    def apply(self, repair: Repair, params: RotateParams, plan: Plan, tools: Tools) -> Outcome:
        incident = tools.incident
        issuer = _issuer(incident)
        body = "\n".join(_body(incident, issuer, _used(issuer, incident, tools)))
        tools.guard()
        number = tools.forge.ensure_issue(tools.marker, f"Revoke a leaked secret: {issuer.name}", body, LABELS)
        return Outcome(Conclusion.SUCCESS, f"asked for it to be revoked in issue #{number}", data={"issue": number})

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        number = repair.outcome.data.get("issue") if repair.outcome else None
        if number is None:
            return Outcome(Conclusion.NEUTRAL, "no issue was opened")
        tools.guard()
        tools.forge.close_issue(number, "Taken back.")
        return Outcome(Conclusion.SUCCESS, f"closed issue #{number}", data={"issue": number})


def _kind(incident: Incident) -> str:
    """What a detector or GitHub calls the type; "" for what is no plain word: it might be anything."""
    facts = incident.finding.facts
    told = facts.get("rule") or facts.get("type")
    return told if isinstance(told, str) and _TYPE.fullmatch(told) else ""


def _issuer(incident: Incident) -> Issuer:
    return issuer_of(_kind(incident))


def _used(issuer: Issuer, incident: Incident, tools: Tools) -> list[tuple[str, str]]:
    """Names of secrets in workflows that may be it, each with the first workflow that reads it."""
    ref = incident.head_sha or tools.forge.branch_head(incident.branch or tools.forge.repository.default_branch)
    if not ref:
        return []
    found: dict[str, str] = {}
    try:
        paths = [path for path in tools.forge.paths(ref) if _WORKFLOW.fullmatch(path)]
        for path in sorted(paths)[:MOST_WORKFLOWS]:
            file = tools.forge.file(path, ref)
            if file is not None and len(file.text) <= MOST_BYTES:
                for name in fitting(issuer, names_in(file.text)):
                    found.setdefault(name, path)
    except Refused:  # the commit is gone: the steps are worth telling all the same
        return []
    return sorted(found.items())[:MOST_NAMES]


# --- the text ------------------------------------------------------------------------------------------------------


def _body(incident: Incident, issuer: Issuer, used: list[tuple[str, str]]) -> Iterator[str]:
    yield f"A secret has leaked into this repository: {_a(issuer.name)}."
    yield "**Whoever has read it can use it until it is revoked.**"
    yield "Deleting the line, or the commit, is not enough: it stays in clones, forks, caches and logs."
    yield ""
    yield "### Where it leaked"
    yield ""
    yield from _where(incident)
    yield ""
    yield "### What to do"
    yield ""
    steps = list(issuer.steps)
    first = f"Go to {link('where it is managed', issuer.manage)}." if issuer.manage else ""
    told = [first, *(f"{step[0].upper()}{step[1:]}." for step in steps)]
    told += [
        "Store the new one as a secret (of the repository, its environment, or outside), never in a file.",
        "Then take it out of the files. To take it out of the history, too, see "
        + link("GitHub's guide", "https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/removing-sensitive-data-from-a-repository")
        + "; that does not replace the revocation.",
    ]  # fmt: skip
    for number, step in enumerate((step for step in told if step), start=1):
        yield f"{number}. {step}"
    yield ""
    yield "### What to check afterwards"
    yield ""
    for each in issuer.check:
        yield f"- [ ] {each[0].upper()}{each[1:]}."
    yield ""
    if used:
        yield "### Where it may be in use"
        yield ""
        yield "Going by their names alone, these secrets of workflows may be the same one."
        yield "The bot cannot know: their values cannot be read, and it does not try."
        yield ""
        for name, path in used:
            yield f"- {code_span(mask(name))} in {_told(path)}"
        yield ""
    yield "### When this is over"
    yield ""
    yield _over(incident)
    yield ""
    source = link("the documentation", issuer.source)
    yield f"Source of the steps: {source} · Incident {incident.id}, `/heal why {incident.id}`"


def _where(incident: Incident) -> Iterator[str]:
    facts = incident.finding.facts
    path, line = facts.get("path"), facts.get("line")
    if isinstance(path, str) and path:
        at = f", line {line}" if type(line) is int and line > 0 else ""
        yield f"- File: {_told(path)}{at}"
    if _SHA.fullmatch(incident.head_sha):
        on = f" on {_told(incident.branch)}" if incident.branch else ""
        yield f"- Commit: {code_span(incident.head_sha)}{on}, or one that was pushed with it"
    if _kind(incident):
        yield f"- Type: {code_span(_kind(incident))}"
    alert, url = facts.get("alert"), facts.get("url")
    if type(alert) is int:
        yield f"- GitHub's alert: {link(f'alert {alert}', mask(url) if isinstance(url, str) else '')}"
    elif incident.run_id:
        yield f"- Found in: {link(f'run {incident.run_id}', incident.run_url)}, whose log says more"
    if facts.get("publicly_leaked") is True:
        yield "- GitHub has seen it in public, outside this repository, too."
    if said := _VALIDITY.get(str(facts.get("validity", ""))):
        yield f"- {said}"


def _over(incident: Incident) -> str:
    if type(incident.finding.facts.get("alert")) is int:
        return "Close GitHub's alert as revoked: the incident ends with it. Then close this issue."
    if incident.finding.failed_jobs != ("",):
        return "The incident ends when the job that found it passes again. Close this issue only when it is revoked."
    reject = f"`/heal reject {incident.id}`"
    return f"Nothing tells the bot that it was revoked: write {reject} when it is, and close this issue."


def _told(text: str) -> str:
    """A name of somebody else's, as code; masked, for a secret may stand in it."""
    return code_span(shorten(mask(clean(text[:2_000])), 200))


def _a(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' or name.startswith('npm') else 'a'} {name}"
