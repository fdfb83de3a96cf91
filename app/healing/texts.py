"""What people read: check runs, comments, pull requests, issues, replies. Pure functions; templates beside this file.

Whatever is put into a template is masked and neutralised on its way out (`output`); only `Markdown` passes as it is.
Each is written in the language that the repository has chosen.

The texts are told from an incident's timeline. Its entries, by kind, and what their `data` holds:

    found       kind, summary, confidence, run_id, attempt, head_sha, url, before: {runs, healed_by, pull}
    decided     verdict, reason, mode, action, rung, trace: [{rule, passed, detail, resets_at}]
    planned     title, why, diff, calls, risk, refusal
    asked       action, expires_at  expired    action
    approved    by, reason          rejected   by, reason, note: "undo" where a change is taken back
    seconded    by, account, reason, action, needs: one yes of several
    muted       by, reason          unmuted    by, reason
    applied     action, title, summary, data
    skipped     title, summary      failed     title, summary
    proven      job, run_id, attempt, url, head_sha
    disproven   reason, url
    healed
    escalated   reason
    recovered   run_id, url
    merged      pull                closed     pull, by
    relapsed    run_id, url         undone     title
    held        run_id, url         retried    by, reason

Times in `data` are ISO 8601 text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.domain.evidence import Annotation
from app.domain.finding import EvidenceLine, Severity
from app.domain.incident import Incident, State
from app.domain.interval import BENCHMARK, drawn
from app.domain.knowledge import LAST_RESORTS
from app.domain.outcome import Conclusion
from app.domain.policy import CONFIG_PATH, ISSUE
from app.domain.repair import FileEdit, Plan, Repair, RepairState
from app.healing.configuration import REPOSITORY, Problem
from app.healing.wording import Wording, code, flat, output, told, wording
from app.i18n import DEFAULT
from app.ports.forge import Button, CheckText
from app.ports.notifier import Notice
from app.ports.store import Record
from app.security.markdown import Markdown, cell, clean, code_block, code_span, inline, link, shorten
from app.security.masking import mask

CHECK_NAME = "heal"
CONFIG_CHECK_NAME = "heal / configuration"

_TITLE_LIMIT = 100
_TEXT_LIMIT = 60_000  # GitHub takes 65,535 characters
_DIFF_LIMIT = 20_000
_MOST_INCIDENTS = 10
_MOST_LINES = 15
_MOST_ANNOTATIONS = 50

_UNDER_WAY = frozenset({State.OPEN, State.REPAIRING, State.VERIFYING})
_WELL = frozenset({State.HEALED, State.RECOVERED})


def check_text(records: Sequence[Record], *, dashboard_url: str, language: str = DEFAULT) -> CheckText:
    """The check run of one SHA: everything that was found there."""
    words = wording(language)
    states = {record.incident.state for record in records}
    asked = next((record for record in records if record.incident.state is State.AWAITING_APPROVAL), None)
    ordered = sorted(records, key=lambda record: (record is not asked, record.incident.id))
    shown = ordered[:_MOST_INCIDENTS]
    return CheckText(
        name=CHECK_NAME,
        title=_check_title(ordered, words),
        summary=render("check_summary.md.j2", words, records=shown, more=len(ordered) - len(shown), url=dashboard_url),
        text=_check_body(shown, words),
        conclusion=_check_conclusion(states, regressed=any(_regressed(record) for record in records)),
        annotations=tuple(_annotations(shown, words))[:_MOST_ANNOTATIONS],
        buttons=_buttons(asked, ordered, words),
        details_url=_incident_url(ordered[0].incident, dashboard_url) if ordered else dashboard_url,
    )


def superseded_text(language: str = DEFAULT) -> CheckText:
    """The check run of a commit that its incidents have left for a newer one."""
    words = wording(language)
    title = words.gettext("superseded: the same failure was seen on a newer commit")
    summary = words.gettext("The check run of the newer commit says how it stands.")
    return CheckText(CHECK_NAME, title, summary, "", Conclusion.NEUTRAL)


def comment_text(record: Record, marker: str, dashboard_url: str, language: str = DEFAULT) -> str:
    """The sticky comment on a pull request whose run failed."""
    return render(
        "comment.md.j2",
        wording(language),
        record=record,
        marker=Markdown(marker),
        url=dashboard_url,
        diff_limit=_DIFF_LIMIT,
    )


def pull_text(
    record: Record, repair: Repair, plan: Plan, dashboard_url: str, language: str = DEFAULT
) -> tuple[str, str]:
    """Title and body of a fix pull request; written again when the fix is proven or disproven."""
    words = wording(language)
    title = _plain_title(words.told_plainly(plan.title))
    body = render(
        "pull.md.j2",
        words,
        record=record,
        repair=repair,
        plan=plan,
        proof=_proof(record),
        disproof=_latest(record, "disproven") if repair.state is RepairState.DISPROVEN else None,
        url=dashboard_url,
    )
    return title, body


def notice(records: Sequence[Record], state: State, dashboard_url: str, key: str, language: str = DEFAULT) -> Notice:
    """A message for people in a channel, as plain text. Several incidents: a digest."""
    words = wording(language)
    worst = max((record.incident.finding.severity for record in records), key=list(Severity).index)
    first = records[0].incident
    lines = [_notice_line(record, dashboard_url, words) for record in records[:_MOST_TOLD]]
    if len(records) > _MOST_TOLD:
        more = len(records) - _MOST_TOLD
        lines.append(words.ngettext("and %(num)s more", "and %(num)s more", more))
    if len(records) == 1:
        title = words.gettext(
            "%(repository)s: %(summary)s (%(state)s)",
            repository=first.repository,
            summary=_summary(first, words),
            state=words.word("state", state),
        )
    else:
        title = words.ngettext(
            "%(repository)s: %(num)s incident",
            "%(repository)s: %(num)s incidents",
            len(records),
            repository=first.repository,
        )
    return Notice(
        key=key,
        title=shorten(told(title, 200), 200),
        body="\n".join(lines),
        severity=worst,
        url=_incident_url(first, dashboard_url) if len(records) == 1 else dashboard_url,
    )


def _notice_line(record: Record, dashboard_url: str, words: Wording) -> str:
    incident = record.incident
    said = {"escalated": "escalated", "healed": "proven"}.get(str(incident.state), "decided")
    latest = _latest(record, said) or {}
    line = words.gettext(
        "%(summary)s: %(state)s. %(reason)s",
        summary=_summary(incident, words),
        state=words.word("state", incident.state),
        reason=words.told_plainly(latest.get("reason", "")),
    )
    where = _incident_url(incident, dashboard_url) or incident.run_url
    return shorten(told(line, 400), 400) + (f" {where}" if where else "")


def _summary(incident: Incident, words: Wording) -> str:
    return flat(words.told_plainly(incident.finding.summary))


_MOST_TOLD = 20


def issue_text(record: Record, marker: str, dashboard_url: str = "", language: str = DEFAULT) -> tuple[str, str]:
    """Title and body of the issue that asks a person to look."""
    words = wording(language)
    title = _plain_title(f"{record.incident.finding.subject}: {_summary(record.incident, words)}")
    return title, render("issue.md.j2", words, record=record, marker=Markdown(marker), url=dashboard_url)


def why_text(record: Record, language: str = DEFAULT) -> str:
    """The latest decision with every rule that was looked at."""
    return render("why.md.j2", wording(language), record=record)


def reply_text(answer: str, language: str = DEFAULT) -> str:
    """The answer to a `/heal` command, from one plain line in which backticks enclose commands."""
    known = wording(language).told(answer)
    if isinstance(known, Markdown):
        return known
    parts = mask(clean(answer[:8_192])).split("`")
    rendered = [code_span(part) if index % 2 else inline(part, 1_000) for index, part in enumerate(parts)]
    text = " ".join(part for part in rendered if part)
    return re.sub(r"` (?=[.,:;?!)](?: |$))", "`", text)


def config_check_text(problems: Sequence[Problem], language: str = DEFAULT) -> CheckText:
    """The verdict on `heal.yml` at a commit, with its problems at their lines."""
    words = wording(language)
    failures = [problem for problem in problems if problem.level == "failure"]
    if failures:
        title = words.ngettext(
            "%(num)s error: until this is mended, the bot only observes",
            "%(num)s errors: until this is mended, the bot only observes",
            len(failures),
        )
    elif problems:
        title = words.ngettext("valid, with %(num)s remark", "valid, with %(num)s remarks", len(problems))
    else:
        title = words.gettext("valid")
    annotations = [
        Annotation(problem.level, shorten(flat(words.told_plainly(problem.message)), 500), CONFIG_PATH, problem.line)
        for problem in problems
        if problem.origin == REPOSITORY
    ]
    return CheckText(
        name=CONFIG_CHECK_NAME,
        title=title,
        summary=render(
            "config_check.md.j2", words, repository=REPOSITORY, problems=problems[:_MOST_ANNOTATIONS], failures=failures
        ),
        conclusion=Conclusion.FAILURE if failures else Conclusion.SUCCESS,
        annotations=tuple(annotations[:_MOST_ANNOTATIONS]),
    )


# --- parts of a check run ------------------------------------------------------------------------------------------


def _check_title(records: Sequence[Record], words: Wording) -> str:
    if not records:
        return words.gettext("Nothing to report")
    incident, others = records[0].incident, len(records) - 1
    summary, state = _summary(incident, words), words.word("state", incident.state)

    def told_as(summary: str) -> str:
        if not others:
            return words.gettext("%(summary)s: %(state)s", summary=summary, state=state)
        return words.ngettext(
            "%(summary)s: %(state)s (+%(num)s more)",
            "%(summary)s: %(state)s (+%(num)s more)",
            others,
            summary=summary,
            state=state,
        )

    return told_as(shorten(summary, _TITLE_LIMIT - len(told_as(""))))


def _check_body(records: Sequence[Record], words: Wording) -> str:
    """As many incidents in full as fit; the summary names the others."""
    sections: list[str] = []
    room = _TEXT_LIMIT
    for record in records:
        section = render("check_incident.md.j2", words, record=record, diff_limit=_DIFF_LIMIT)
        room -= len(section) + 10
        if room < 0:
            break
        sections.append(section)
    return "\n---\n\n".join(sections)


def _check_conclusion(states: set[State], *, regressed: bool = False) -> Conclusion | None:
    if State.AWAITING_APPROVAL in states:
        return Conclusion.ACTION_REQUIRED
    if states & _UNDER_WAY:
        return None
    if regressed:
        return Conclusion.FAILURE
    return Conclusion.SUCCESS if states and states <= _WELL else Conclusion.NEUTRAL


def _buttons(asked: Record | None, records: Sequence[Record], words: Wording) -> tuple[Button, ...]:
    """What a person may want next. With several incidents at one commit the buttons are about the first."""
    if not records:
        return ()
    _ = words.gettext
    record = asked or records[0]
    incident = record.incident
    if asked is not None:
        return (
            # Translators: buttons have at most 20, what they do at most 40 characters.
            Button(_("Approve"), _("Carry out the plan shown below"), f"approve:{incident.id}"),
            Button(_("Reject"), _("Leave it, and do not ask again"), f"reject:{incident.id}"),
        )
    stands = any(each.outcome and each.outcome.data.get("stands") for each in record.repairs if each.state in _STANDING)
    if incident.state in (State.VERIFYING, State.HEALED) and (incident.pull_number is not None or stands):
        return (Button(_("Undo"), _("Take the change back"), f"undo:{incident.id}"),)
    if incident.state in (State.OBSERVED, State.ESCALATED) and incident.finding.ladder:
        return (Button(_("Retry"), _("Try the remedies from the first on"), f"retry:{incident.id}"),)
    return ()


_STANDING = frozenset({RepairState.APPLIED, RepairState.PROVEN})


def _annotations(records: Iterable[Record], words: Wording) -> Iterable[Annotation]:
    for record in records:
        finding = record.incident.finding
        path, line = finding.facts.get("path"), finding.facts.get("line")
        if isinstance(path, str) and path and isinstance(line, int) and line > 0:
            level = "notice" if record.incident.state in _WELL else "warning"
            summary = shorten(_summary(record.incident, words), 500)
            yield Annotation(level, summary, path, line, _plain_title(finding.kind))


# --- what templates ask for ----------------------------------------------------------------------------------------


def _latest(record: Record, *kinds: str) -> Mapping[str, Any] | None:
    return next((entry.data for entry in reversed(record.timeline) if entry.kind in kinds), None)


def _measured(record: Record) -> Mapping[str, Any] | None:
    """What a benchmark showed, if the last repair that was looked at was one."""
    report = (_latest(record, "proven", "disproven") or {}).get("report")
    return report if isinstance(report, Mapping) and report.get("kind") == BENCHMARK else None


def _regressed(record: Record) -> bool:
    measured = _measured(record)
    return record.incident.state is State.ESCALATED and measured is not None and measured.get("open") is False


def _attempts(record: Record) -> list[dict[str, str]]:
    """What was tried, and how it ended, oldest first."""
    tried: list[dict[str, str]] = []
    for entry in record.timeline:
        data = entry.data
        if entry.kind == "applied" and data.get("action") != ISSUE:
            tried.append({"title": str(data.get("title", "")), "detail": ""})
        elif entry.kind in ("skipped", "failed"):
            tried.append({"title": str(data.get("title", "")), "detail": str(data.get("summary", ""))})
        elif entry.kind == "disproven" and tried:
            tried[-1]["detail"] = str(data.get("reason", ""))
    return tried


def _change(edit: FileEdit, words: Wording) -> Markdown:
    """How many lines an edit adds and takes away."""
    lines = edit.diff().split("\n")[2:]
    added = sum(line.startswith("+") for line in lines)
    removed = sum(line.startswith("-") for line in lines)
    return words.markdown(
        "%(added)s, %(removed)s",
        added=words.nmarkdown("%(num)s line added", "%(num)s lines added", added),
        removed=words.nmarkdown("%(num)s line removed", "%(num)s lines removed", removed),
    )


def _sentence(text: str, words: Wording) -> str:
    """With a capital letter and a full stop."""
    known = words.told(text.rstrip("."))
    # Translators: the full stop at the end of a sentence.
    stop = words.gettext(".")
    ended = f"{known[:1].upper()}{known[1:]}{stop}"
    return Markdown(ended) if isinstance(known, Markdown) else ended


def _proof(record: Record) -> Mapping[str, Any] | None:
    """The proof of the repair that was applied last, not of an earlier one."""
    for entry in reversed(record.timeline):
        if entry.kind == "proven":
            return entry.data
        if entry.kind in ("applied", "disproven"):
            return None
    return None


def _plan(record: Record) -> Plan | None:
    """The plan that waits for a person, or that was carried out last."""
    return next((repair.plan for repair in reversed(record.repairs) if repair.plan is not None), None)


def _incident_url(incident: Incident, dashboard_url: str) -> str:
    return f"{dashboard_url.rstrip('/')}/incidents/{incident.id}" if dashboard_url else ""


def _evidence(lines: Sequence[EvidenceLine], limit: int = 6_000) -> Markdown:
    """The lines with their numbers, the telling one marked; masked as one text, so that a key over lines is seen."""
    shown = sorted(lines, key=lambda line: not line.root)[:_MOST_LINES]
    shown.sort(key=lambda line: line.number)
    texts = mask("\n".join(_as_it_stood(line.text) for line in shown)).split("\n")
    width = len(str(shown[-1].number)) if shown else 0
    rows = [
        f"{'>' if line.root else ' '} {line.number:>{width}}  {text}" for line, text in zip(shown, texts, strict=True)
    ]
    return code_block("\n".join(rows), limit=limit)


def _as_it_stood(text: str) -> str:
    """One line of a log with its indentation."""
    return re.sub(r"\s", " ", clean(text[:8_192])).rstrip()


def _plain_title(text: str) -> str:
    # titles render no markup, but a mention or a reference in one would still be linked
    return shorten(flat(text).replace("@", "(at)").replace("#", "no. "), _TITLE_LIMIT)


def _moment(value: object) -> Markdown:
    """A time for people, to the minute, in UTC; nothing for what is no time."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return Markdown("")
    return Markdown(f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else "")


def _cell(value: object) -> Markdown:
    if isinstance(value, Markdown):
        return Markdown(value.replace("|", "\\|"))
    return cell("" if value is None else told(value, 300), 300)


def _diff(text: str, limit: int = 30_000) -> Markdown:
    return code_block(told(text, limit), language="diff", limit=limit)


def _intervals(report: Mapping[str, Any]) -> Markdown:
    return code_block(told(drawn(report), 6_000), limit=6_000)


def _link(label: object, url: object) -> Markdown:
    return link(label if isinstance(label, Markdown) else told(label, 100), mask(str(url or "")[:2_000]))


@lru_cache(maxsize=16)
def _environment(words: Wording) -> Environment:
    environment = Environment(
        loader=PackageLoader("app.healing"),
        autoescape=False,  # noqa: S701 -- the output is Markdown; `finalize` neutralises every value
        finalize=output,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bold": lambda text: Markdown(f"**{output(text)}**"),
        "cell": _cell,
        "change": lambda edit: _change(edit, words),
        "code": code,
        "diff": _diff,
        "evidence": _evidence,
        "intervals": _intervals,
        "moment": _moment,
        "percent": words.percent,
        "sentence": lambda text: _sentence(text, words),
        "rendered": Markdown,  # only for the output of our own macros
        "told": words.told,
    }
    environment.globals |= {
        "_": words.markdown,
        "ngettext": words.nmarkdown,
        "attempts": _attempts,
        "incident_url": _incident_url,
        "LAST_RESORTS": LAST_RESORTS,
        "latest": _latest,
        "measured": _measured,
        "link": _link,
        "plan_of": _plan,
        "State": State,
        "word": words.word,
    }
    return environment


def render(template: str, words: Wording, **values: object) -> str:
    """A template of this folder as Markdown; every value in it is neutralised."""
    text = _environment(words).get_template(template).render(**values).strip()
    lines = text.split("\n")
    # templates leave runs of blank lines where a part is absent
    kept = [line for index, line in enumerate(lines) if line or index == 0 or lines[index - 1]]
    return "\n".join(kept) + "\n"
