"""Rendered texts are compared with files under tests/golden; HEAL_UPDATE_GOLDEN=1 writes them anew."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from app.domain.finding import EvidenceLine, Finding, Remedy, Severity
from app.domain.incident import Incident, State
from app.domain.outcome import Conclusion, Outcome
from app.domain.repair import FileEdit, Plan, Repair, RepairState
from app.healing import texts
from app.healing.configuration import OWNER, REPOSITORY, Problem, resolve
from app.i18n import LANGUAGES, PSEUDO, catalog
from app.ports.forge import CheckText
from app.ports.store import Record, TimelineEntry

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
DASHBOARD = "https://heal.example.org"
MARK = "<!-- heal:0123456789abcdef0123456789abcdef -->"
RUN_URL = "https://github.com/acme/models/actions/runs/987654321"

FINDING = Finding(
    detector="pipeline_failure",
    kind="gpu_memory",
    subject="train.yml / train",
    severity=Severity.HIGH,
    confidence=0.93,
    summary="The training job ran out of memory at batch size 512",
    fingerprint="a1b2c3d4e5f60718",
    facts={"path": "configs/train.yaml", "line": 7},
    lines=(
        EvidenceLine(118, "Traceback (most recent call last):", "Train"),
        EvidenceLine(
            131, "MemoryError: Unable to allocate 1.20 GiB for an array with shape (512, 4096)", "Train", root=True
        ),
    ),
    ladder=(Remedy("lower_batch_size", {"key": "batch_size"}), Remedy("open_issue")),
    job="train",
)
INCIDENT = Incident(
    repository_id=7,
    installation_id=3,
    repository="acme/models",
    branch="main",
    fingerprint="a1b2c3d4e5f60718",
    finding=FINDING,
    head_sha="5d41402abc4b2a76b9719d911017c592aaaaaaaa",
    run_id=987654321,
    attempt=1,
    workflow_path=".github/workflows/train.yml",
    opened_at=NOW,
    updated_at=NOW,
    id=42,
    run_url=RUN_URL,
)
PLAN = Plan(
    title="Halve the batch size to 256 and accumulate 2 gradients",
    why="the effective batch stays 512",
    edits=(
        FileEdit(
            "configs/train.yaml",
            "# tuned in March\nbatch_size: 512\naccumulate: 1\n",
            "# tuned in March\nbatch_size: 256\naccumulate: 2\n",
        ),
    ),
    risk="Training takes about as long; batch statistics change slightly.",
    proof="The job train passes on the fix branch.",
)
REPAIR = Repair(
    incident_id=42,
    remedy=FINDING.ladder[0],
    rung=0,
    effect_key="e" * 16,
    intended_at=NOW,
    id=9,
    plan=PLAN,
    proof_deadline=NOW + timedelta(hours=6),
)
DECIDED = {
    "verdict": "ask",
    "reason": "The mode is approve: a person decides.",
    "mode": "approve",
    "action": "lower_batch_size",
    "rung": 0,
    "trace": [
        {"rule": "app switch", "passed": True, "detail": "The app's kill switch is off.", "resets_at": None},
        {
            "rule": "pulls per day",
            "passed": False,
            "detail": "5 of 5 fix pull requests were opened in 24 hours.",
            "resets_at": "2026-11-22T08:00:00+00:00",
        },
    ],
}
PROVEN = {
    "job": "train",
    "run_id": 987654400,
    "attempt": 1,
    "url": "https://github.com/acme/models/actions/runs/987654400",
    "head_sha": "9e107d9d372bb6826bd81d3542a419d6bbbbbbbb",
}


def record(
    state: State, *entries: tuple[str, dict[str, Any]], repairs: tuple[Repair, ...] = (), **changes: Any
) -> Record:
    incident = replace(INCIDENT, state=state, **changes)
    timeline = tuple(TimelineEntry(incident.id, NOW, kind, data) for kind, data in entries)
    return Record(incident, repairs, timeline)


ASKED = record(State.AWAITING_APPROVAL, ("decided", DECIDED), repairs=(replace(REPAIR, state=RepairState.ASKED),))
HEALED = record(
    State.HEALED,
    ("decided", DECIDED),
    ("applied", {"action": "lower_batch_size", "title": "Opened pull request 12", "summary": "", "data": {}}),
    ("proven", PROVEN),
    ("healed", {}),
    repairs=(replace(REPAIR, state=RepairState.PROVEN, approved_by="ada"),),
)
ESCALATED = record(
    State.ESCALATED,
    ("decided", DECIDED),
    ("applied", {"action": "lower_batch_size", "title": "Opened pull request 12", "summary": "", "data": {}}),
    ("disproven", {"reason": "the job 'train' failed again", "url": RUN_URL}),
    ("skipped", {"title": "batch_size is already 1", "summary": ""}),
    ("escalated", {"reason": "Every remedy was tried."}),
)
OBSERVED = record(
    State.OBSERVED,
    ("decided", {**DECIDED, "verdict": "leave", "reason": "The mode is observe: it is reported and left alone."}),
)


def spoken(check: CheckText) -> str:
    parts = [
        f"name: {check.name}",
        f"title: {check.title}",
        f"conclusion: {check.conclusion}",
        f"details: {check.details_url}",
        *(f"button: {button.label} | {button.description} | {button.identifier}" for button in check.buttons),
        *(f"annotation: {a.level} {a.path}:{a.line} {a.title} | {a.message}" for a in check.annotations),
    ]
    return "\n".join(parts) + f"\n\n===== summary\n{check.summary}\n===== text\n{check.text}"


def pull(told: Record, repair: Repair) -> str:
    title, body = texts.pull_text(told, repair, PLAN, DASHBOARD)
    return f"{title}\n\n{body}"


BROKEN_FILE = "version: 1\nmode: atuo\nlimts:\n  open_pulls: 3\n"
PROBLEMS = resolve(
    BROKEN_FILE, "version: 2", known_detectors={"pipeline_failure": None}, known_actions={"open_issue": None}
).problems

SAMPLES: dict[str, Callable[[], str]] = {
    "check-asked": lambda: spoken(texts.check_text([ASKED], dashboard_url=DASHBOARD)),
    "check-healed": lambda: spoken(texts.check_text([HEALED], dashboard_url=DASHBOARD)),
    "check-escalated": lambda: spoken(texts.check_text([ESCALATED], dashboard_url=DASHBOARD)),
    "check-observed": lambda: spoken(texts.check_text([OBSERVED], dashboard_url=DASHBOARD)),
    "check-several": lambda: spoken(
        texts.check_text(
            [replace(HEALED, incident=replace(HEALED.incident, id=41)), ASKED],
            dashboard_url="",
        )
    ),
    "comment-asked": lambda: texts.comment_text(ASKED, MARK, DASHBOARD),
    "comment-verifying": lambda: texts.comment_text(
        record(State.VERIFYING, ("applied", {"title": "Opened pull request 12"}), pull_number=12), MARK, DASHBOARD
    ),
    "pull-waiting": lambda: pull(record(State.VERIFYING), replace(REPAIR, state=RepairState.APPLIED)),
    "pull-proven": lambda: pull(HEALED, HEALED.repairs[0]),
    "pull-disproven": lambda: pull(ESCALATED, replace(REPAIR, state=RepairState.DISPROVEN)),
    "issue": lambda: "\n\n".join(texts.issue_text(ESCALATED, MARK, DASHBOARD)),
    "why": lambda: texts.why_text(ASKED),
    "reply": lambda: texts.reply_text("Approved by ada: lower_batch_size starts now. `/heal why 42` says more."),
    "config-broken": lambda: spoken(texts.config_check_text(PROBLEMS)),
    "config-valid": lambda: spoken(texts.config_check_text([])),
    "check-asked.de": lambda: spoken(texts.check_text([ASKED, HEALED], dashboard_url=DASHBOARD, language="de")),
    "comment-asked.de": lambda: texts.comment_text(ASKED, MARK, DASHBOARD, "de"),
    "pull-proven.de": lambda: "\n\n".join(texts.pull_text(HEALED, HEALED.repairs[0], PLAN, DASHBOARD, "de")),
    "issue.ja": lambda: "\n\n".join(texts.issue_text(ESCALATED, MARK, DASHBOARD, "ja")),
    "config-broken.zh": lambda: spoken(texts.config_check_text(PROBLEMS, "zh")),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_text_is_the_one_kept(name: str) -> None:
    text = SAMPLES[name]()
    kept = GOLDEN / f"{name}.md"
    if os.environ.get("HEAL_UPDATE_GOLDEN"):
        kept.write_text(text)
    assert text == kept.read_text()


def test_every_kept_text_is_still_rendered() -> None:
    assert {path.stem for path in GOLDEN.glob("*.md")} == set(SAMPLES)


@pytest.mark.parametrize(
    ("states", "conclusion"),
    [
        ([State.AWAITING_APPROVAL, State.REPAIRING], Conclusion.ACTION_REQUIRED),
        ([State.OPEN], None),
        ([State.REPAIRING], None),
        ([State.VERIFYING, State.HEALED], None),
        ([State.HEALED], Conclusion.SUCCESS),
        ([State.RECOVERED, State.HEALED], Conclusion.SUCCESS),
        ([State.HEALED, State.OBSERVED], Conclusion.NEUTRAL),
        ([State.OBSERVED], Conclusion.NEUTRAL),
        ([State.ESCALATED], Conclusion.NEUTRAL),
        ([State.DISMISSED], Conclusion.NEUTRAL),
        ([], Conclusion.NEUTRAL),
    ],
)
def test_the_conclusion_follows_from_the_states(states: list[State], conclusion: Conclusion | None) -> None:
    check = texts.check_text([record(state) for state in states], dashboard_url=DASHBOARD)
    assert check.conclusion is conclusion


@pytest.mark.parametrize("language", LANGUAGES)
def test_buttons_stay_within_what_github_takes(language: str) -> None:
    told = [ASKED, record(State.HEALED, pull_number=7), record(State.OBSERVED)]
    big = [replace(each, incident=replace(each.incident, id=999_999_999_999)) for each in told]
    shown = [texts.check_text([each], dashboard_url=DASHBOARD, language=language) for each in big]
    buttons = [button for check in shown for button in check.buttons]
    verbs = [button.identifier.partition(":")[0] for button in buttons]
    assert verbs == ["approve", "reject", "undo", "retry"]
    for button in buttons:
        assert len(button.label) <= 20
        assert len(button.description) <= 40
        assert len(button.identifier) <= 20


def test_the_buttons_offer_what_fits_the_state() -> None:
    def offered(state: State, pull: int | None = None) -> list[str]:
        told = record(state)
        told = replace(told, incident=replace(told.incident, pull_number=pull))
        return [button.label for button in texts.check_text([told], dashboard_url=DASHBOARD).buttons]

    assert offered(State.AWAITING_APPROVAL) == ["Approve", "Reject"]
    assert offered(State.HEALED, pull=7) == ["Undo"]
    assert offered(State.HEALED) == []
    assert offered(State.OBSERVED) == ["Retry"]
    assert offered(State.REPAIRING) == []


def test_evidence_keeps_its_indentation() -> None:
    told = record(State.OBSERVED)
    lines = (EvidenceLine(7, "    x = forward(\tbatch)"),)
    told = replace(told, incident=replace(told.incident, finding=replace(told.incident.finding, lines=lines)))
    assert "7      x = forward( batch)" in texts.check_text([told], dashboard_url=DASHBOARD).text


def test_a_reply_is_told_in_the_languages_own_words() -> None:
    said = "Nothing to reject: incident 42 is awaiting_approval."
    assert texts.reply_text(said, "es") == ("Nada que rechazar; estado del incidente 42: espera aprobación.")
    assert texts.reply_text("Approved: `lower_batch_size` starts now.", "ja") == (
        "承認しました。`lower_batch_size` を開始します。"
    )
    assert texts.reply_text("What nobody has foreseen.", "ja") == "What nobody has foreseen."


def test_a_risk_is_a_sentence_in_each_language() -> None:
    plan = replace(PLAN, title="Raise batch_size from 1 to 2", risk="a job that hangs is paid for longer")
    told = record(State.VERIFYING)
    for language, risk in (("en", "A job that hangs is paid for longer."), ("zh", "卡住的作业会计费更久。")):
        title, body = texts.pull_text(told, REPAIR, plan, DASHBOARD, language)
        assert f"\n{risk}\n" in body
    assert title == "将 batch_size 从 1 提高到 2"


def test_news_are_told_in_the_languages_own_words() -> None:
    asked = texts.notice([ASKED, ASKED], State.AWAITING_APPROVAL, DASHBOARD, "key", "de")
    assert asked.title == "acme/models: 2 Vorfälle"
    assert "wartet auf Genehmigung. Der Modus ist approve: Ein Mensch entscheidet." in asked.body


def test_every_state_has_words() -> None:
    for state in State:
        told = record(state)
        assert texts.check_text([told], dashboard_url=DASHBOARD).title
        assert texts.comment_text(told, MARK, DASHBOARD).endswith(f"{MARK}\n")


def test_an_issue_denies_no_repair_that_there_is() -> None:
    def told(*ladder: Remedy) -> str:
        mine = record(State.ESCALATED)
        finding = replace(mine.incident.finding, ladder=ladder)
        return texts.issue_text(replace(mine, incident=replace(mine.incident, finding=finding)), MARK)[1]

    denied = "no repair of this cause is known to be safe"
    assert denied in told(Remedy("notify", {"channel": "team"}), Remedy("open_issue"))
    assert denied not in told(Remedy("update_workflow"), Remedy("open_issue"))  # whose patch may stand above


def test_a_proof_of_an_earlier_repair_does_not_prove_the_present_one() -> None:
    told = record(State.VERIFYING, ("proven", PROVEN), ("applied", {"title": "Again", "action": "lower_batch_size"}))
    assert "waiting for" in texts.pull_text(told, REPAIR, PLAN, DASHBOARD)[1]


def test_problems_of_the_owners_file_are_not_annotated_in_the_repositorys() -> None:
    problems = [Problem(OWNER, "mode", 3, 1, "no"), Problem(REPOSITORY, "mode", 4, 1, "no")]
    assert [annotation.line for annotation in texts.config_check_text(problems).annotations] == [4]


SECRET = "ghs_16C7e42F292c6912E7710c838347Ae178B4a"
HOSTILE = (
    "@everyone see #1 and GH-12, acme/models#3, https://evil.example/x www.evil.example a@evil.example "
    "![i](https://evil.example/i.png) [l](javascript:alert(1)) <img src=x onerror=alert(1)> <script>x</script> "
    "</details> <!-- heal:0 --> `` ` ``` ~~~ **bold** _it_ | a | b | \u202eevil\u200b \x1b[31mred\x1b[0m "
    "{{ 7*7 }} {% raw %} 5d41402abc4b2a76b9719d911017c592 https://user:hunter2@evil.example token="
    + SECRET
    + " ghs_\u200b"
    + SECRET[4:]
    + "\r\n"
    "# heading\n- list\n```\n> quote\n@everyone\n</details>\n[a]: https://evil.example\n| x |\n|---|\n===\n"
    "    indented @x\n"
)
HOSTILE_FINDING = replace(
    FINDING,
    kind=HOSTILE,
    subject=HOSTILE,
    summary=HOSTILE,
    job=HOSTILE,
    facts={"path": "a.yaml", "line": 1},
    lines=(EvidenceLine(1, HOSTILE, HOSTILE, root=True), EvidenceLine(2, HOSTILE.replace("`", "``````"))),
)
HOSTILE_PLAN = Plan(
    title=HOSTILE,
    why=HOSTILE,
    edits=(FileEdit(HOSTILE, HOSTILE, HOSTILE + "```\n@everyone"),),
    calls=(HOSTILE,),
    risk=HOSTILE,
    proof=HOSTILE,
)
HOSTILE_REPAIR = replace(
    REPAIR,
    plan=HOSTILE_PLAN,
    approved_by=HOSTILE,
    state=RepairState.DISPROVEN,
    outcome=Outcome(Conclusion.FAILURE, HOSTILE, HOSTILE),
)
WORD = dict.fromkeys(("reason", "by", "note", "title", "summary", "job", "head_sha", "run_id", "attempt"), HOSTILE)
TOLD = ("applied", "skipped", "failed", "disproven", "proven", "recovered", "rejected", "closed", "escalated")
HOSTILE_ENTRIES: list[tuple[str, dict[str, Any]]] = [
    ("decided", {**DECIDED, "reason": HOSTILE, "action": HOSTILE, "verdict": HOSTILE, "mode": HOSTILE,
                 "trace": [{"rule": HOSTILE, "passed": False, "detail": HOSTILE, "resets_at": HOSTILE}]}),
    *[(kind, {**WORD, "url": url}) for url in ("javascript:alert(1)//" + HOSTILE, RUN_URL) for kind in TOLD],
]  # fmt: skip


def hostile(state: State, *, branch: str = HOSTILE) -> Record:
    return record(
        state,
        *HOSTILE_ENTRIES,
        repairs=(HOSTILE_REPAIR,),
        finding=HOSTILE_FINDING,
        branch=branch,
        head_sha=HOSTILE,
        run_url="https://github.com/a)b](x) " + HOSTILE,
    )


def texts_of(state: State, language: str = "en") -> dict[str, str]:
    told = hostile(state)
    check = texts.check_text([told, told], dashboard_url=DASHBOARD, language=language)
    title, body = texts.pull_text(told, HOSTILE_REPAIR, HOSTILE_PLAN, DASHBOARD, language)
    applied = replace(HOSTILE_REPAIR, state=RepairState.APPLIED)
    waiting = texts.pull_text(told, applied, HOSTILE_PLAN, DASHBOARD, language)[1]
    said = (HOSTILE, *(sentence.replace("7", HOSTILE) for sentence in SENTENCES_WITH_HOLES))
    problems = [Problem(HOSTILE, HOSTILE, 1, 1, message, level) for message in said for level in ("failure", "notice")]
    return {
        "summary": check.summary,
        "text": check.text,
        "comment": texts.comment_text(told, MARK, DASHBOARD, language),
        "pull": body,
        "pull waiting": waiting,
        "issue": texts.issue_text(told, MARK, DASHBOARD, language)[1],
        "why": texts.why_text(told, language),
        "reply": "\n\n".join(texts.reply_text(one, language) for one in said),
        "config": texts.config_check_text(problems, language).summary,
        "titles": "\n\n".join([title, texts.issue_text(told, MARK, language=language)[0]]),
    }


# known sentences, into whose holes what is hostile is put
SENTENCES_WITH_HOLES = (
    "Approved: `7` starts now.",
    "This repository was paused by 7: 7",
    "7 is due, and was left: Everything was paused by 7: 7",
    "the job '7' failed again",
    "unknown key '7'; did you mean '7'?",
    "7 changes the same files and waits to be merged.",
    "A test failed: 7",
    "Revert “7”",
)


LOOKED_AT = [catalog(language).gettext("Every rule that was looked at") for language in (*LANGUAGES, PSEUDO)]
OURS = {"<details><summary>", "</summary>", "<details>", "<summary>", "</details>", MARK}


def offences(markdown: str, *, titles: bool = False) -> list[str]:
    """What a reader's browser would do on its own account: links, images, markup, mentions, references."""
    found = []
    for token in MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(markdown):
        if token.type == "html_block":
            left = token.content
            for ours in OURS:
                left = left.replace(ours, "")
            left = re.sub("|".join(map(re.escape, LOOKED_AT)), "", left).strip()
            found += [f"html block {left}"] if left else []
        for child in token.children or ():
            if child.type == "html_inline" and child.content not in OURS:
                found.append(f"html {child.content}")
            if child.type == "image":
                found.append("image")
            if child.type == "link_open":
                address = str(child.attrs["href"])
                if not address.startswith((DASHBOARD, "https://github.com/")):
                    found.append(f"link {address}")
            if child.type == "text":
                found += [f"text {child.content}" for _ in re.findall(r"@\w|#\d|GH-\d|https?:|www\.", child.content)]
    return found


IN_OTHERS = (State.AWAITING_APPROVAL, State.HEALED, State.ESCALATED)


@pytest.mark.parametrize(
    ("state", "language"),
    [
        *((state, language) for state in State for language in ("en", PSEUDO)),
        *((state, language) for state in IN_OTHERS for language in LANGUAGES if language != "en"),
    ],
)
def test_hostile_text_does_nothing_in_any_text(state: State, language: str) -> None:
    for name, text in texts_of(state, language).items():
        if name != "titles":
            assert offences(text) == [], name
        assert len(text) <= 65_535, name


@pytest.mark.parametrize(("state", "language"), [*((each, "en") for each in State), (State.HEALED, "zh")])
def test_no_secret_and_no_invisible_character_is_told(state: State, language: str) -> None:
    for name, text in texts_of(state, language).items():
        for part in (SECRET, SECRET[4:], "hunter2", "\u202e", "\u200b", "\x1b", "\r"):
            assert part not in text, name
    check = texts.check_text([hostile(state)], dashboard_url=DASHBOARD)
    assert SECRET not in repr(check)


def test_titles_mention_nobody_and_fit() -> None:
    for title in texts_of(State.OPEN)["titles"].split("\n\n"):
        assert "@" not in title
        assert "#" not in title
        assert "\n" not in title
        assert len(title) <= 100
    assert len(texts.check_text([hostile(State.OPEN)], dashboard_url=DASHBOARD).title) <= 100


def test_huge_texts_stay_within_githubs_limit() -> None:
    huge = "word @x " * 5_000
    finding = replace(FINDING, summary=huge, lines=tuple(EvidenceLine(n, huge) for n in range(1, 500)))
    plan = replace(PLAN, edits=(FileEdit("a", "", huge.replace(" ", "\n")),), risk=huge, why=huge, calls=(huge,) * 200)
    trace = [{"rule": huge, "passed": False, "detail": huge, "resets_at": None}] * 14
    told = record(
        State.AWAITING_APPROVAL,
        ("decided", {**DECIDED, "trace": trace, "reason": huge}),
        finding=finding,
        repairs=(replace(REPAIR, plan=plan),),
    )
    check = texts.check_text([told] * 40, dashboard_url=DASHBOARD)
    sizes = [
        len(check.summary),
        len(check.text),
        len(texts.comment_text(told, MARK, DASHBOARD)),
        len(texts.pull_text(told, REPAIR, plan, DASHBOARD)[1]),
        len(texts.issue_text(told, MARK, DASHBOARD)[1]),
        len(texts.why_text(told)),
    ]
    assert max(sizes) <= 65_535, sizes


def test_templates_mark_only_our_own_macros_as_rendered() -> None:
    for path in Path(texts.__file__).parent.glob("templates/*.j2"):
        text = path.read_text()
        ours = re.findall(r"\bparts\.\w+\([^|)]*(?:\([^|)]*\))?[^|)]*\) \| rendered\b", text)
        assert len(ours) == text.count("rendered"), path.name


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({}, ""),
        ({"runs": 1, "healed_by": "", "pull": None}, "Seen in 1 run before this one."),
        ({"runs": 3, "healed_by": "rerun_failed_jobs", "pull": None}, "last healed by `rerun_failed_jobs`."),
        (
            {"runs": 3, "healed_by": "lower_batch_size", "pull": 12},
            "last healed by `lower_batch_size` (pull request 12).",
        ),
    ],
)
def test_what_helped_before_is_told(before: dict[str, Any], told: str) -> None:
    for entry in ({"kind": "cuda_oom", "before": before}, {"kind": "cuda_oom"}):
        text = texts.issue_text(record(State.ESCALATED, ("found", entry)), "")[1]
        assert ("before this one" in text) == bool(entry.get("before"))
        assert told in text or "before" not in entry
