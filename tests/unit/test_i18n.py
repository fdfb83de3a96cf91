"""Words by language, numbers and times by locale, and known sentences told again."""

import ast
import datetime as dt
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.domain.budget import Spent, Unit
from app.domain.finding import Finding, Remedy, Severity
from app.domain.freeze import Freeze
from app.domain.incident import State
from app.domain.knowledge import Track
from app.domain.policy import Decision, History, Limits, Mode, Policy, Switch, Verdict, decide
from app.healing.command import VERBS
from app.i18n import DEFAULT, LANGUAGES, PSEUDO, catalog, formats, negotiate, tag
from app.i18n.pseudo import disguised
from app.i18n.retell import SENTENCES, recognised, word

ROOT = Path(__file__).resolve().parents[2]
AT = dt.datetime(2026, 11, 21, 18, 49, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("header", "chosen", "language"),
    [
        (None, None, "en"),
        ("", None, "en"),
        ("*", None, "en"),
        ("fr-CA,fr;q=0.9,en;q=0.8", None, "fr"),
        ("xx, de;q=0.5, ja;q=0.7", None, "ja"),
        ("de;q=0, es;q=0.1", None, "es"),
        ("zh-Hans-CN", None, "zh"),
        ("DE", None, "de"),
        ("de", "ja", "ja"),
        ("de", "klingon", "de"),
        ("de;q=high, es", None, "es"),
        ("x" * 100_000, None, "en"),
        ("," * 100_000 + "de", None, "en"),
    ],
)
def test_a_reader_gets_the_language_chosen_or_the_best_that_the_browser_asks_for(
    header: str | None, chosen: str | None, language: str
) -> None:
    assert negotiate(header, chosen) == language


def test_the_pseudo_locale_is_offered_to_nobody_and_may_be_chosen() -> None:
    assert PSEUDO not in LANGUAGES
    assert negotiate(None, PSEUDO) == PSEUDO
    assert tag("zh") == "zh-Hans"


def test_a_message_without_a_translation_stays_english() -> None:
    said = catalog("de").gettext("No translator has seen %(what)s.", what="this")
    assert said == "No translator has seen this."
    assert catalog("tlh") is catalog(DEFAULT)


def test_a_plural_takes_its_form_from_the_number() -> None:
    words = catalog("en")
    assert words.ngettext("%(num)s line of %(file)s", "%(num)s lines of %(file)s", 1, file="a") == "1 line of a"
    assert words.ngettext("%(num)s line", "%(num)s lines", 1_000, num="1,000") == "1,000 lines"


def test_without_values_a_message_keeps_its_holes_for_the_template_to_fill() -> None:
    assert catalog("en").gettext("by %(who)s") == "by %(who)s"


def test_in_html_values_are_escaped_and_words_are_not() -> None:
    words = catalog("en").html()
    assert words["_"]("R&D by %(who)s", who="<b>") == "R&D by &lt;b&gt;"
    assert words["ngettext"]("%(num)s <", "%(num)s < %(x)s", 2, x="<") == "2 < &lt;"


@pytest.mark.parametrize("message", ["Search incidents", "opened by %(who)s", "%(num)s lines", "Write `/heal why`."])
def test_the_pseudo_locale_is_longer_and_keeps_holes_and_code(message: str) -> None:
    text = disguised(message)
    words = re.sub(r"%\(\w+\)s|`.*`", "", message)
    assert len(text) - len(message) >= 0.4 * len(words) - 1
    assert all(part in text for part in ("%(who)s", "%(num)s", "`/heal why`") if part in message)
    assert "e" not in text.replace("%(num)s", "").replace("%(who)s", "").replace("/heal why", "")


@pytest.mark.parametrize(
    ("language", "number", "percent", "day"),
    [
        ("en", "12,345.5", "12.5%", "Nov 21, 2026"),
        ("es", "12.345,5", "12,5\xa0%", "21 nov 2026"),
        ("fr", "12\u202f345,5", "12,5\xa0%", "21 nov. 2026"),
        ("de", "12.345,5", "12,5\xa0%", "21.11.2026"),
        ("ja", "12,345.5", "12.5%", "2026/11/21"),
        ("zh", "12,345.5", "12.5%", "2026年11月21日"),
    ],
)
def test_numbers_and_days_are_written_as_the_language_does(language: str, number: str, percent: str, day: str) -> None:
    assert formats.number(12_345.5, language) == number
    assert formats.percent(0.125, language, 1) == percent
    assert formats.date(AT, language) == day


def test_a_time_is_told_in_the_readers_zone_which_is_named() -> None:
    assert formats.datetime(AT, "en") == "Nov 21, 2026, 6:49:01\u202fPM UTC"
    assert formats.datetime(AT, "de", ZoneInfo("Europe/Berlin")) == "21.11.2026, 19:49:01 MEZ"
    assert formats.date(AT, "en", ZoneInfo("Asia/Tokyo")) == "Nov 22, 2026"
    assert formats.time(AT, "fr", ZoneInfo("Asia/Tokyo")) == "03:49"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (59.6, "1 min"),
        (3_600, "1 h"),
        (3_605, "1 h"),
        (3_725, "1 h 2 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, told: str) -> None:
    assert formats.duration(seconds, "en").replace("\xa0", " ") == told


def test_a_duration_has_the_languages_own_units() -> None:
    assert formats.duration(90_061, "ja") == "1日 1時間"
    assert formats.duration(90_061, "fr") == "1\xa0j 1\xa0h"


PSEUDO_WORDS = catalog(PSEUDO)
NOW = AT
FINDING = Finding(
    "pipeline_failure",
    "gpu_memory",
    "train",
    Severity.HIGH,
    0.93,
    "It ran out",
    "f" * 16,
    ladder=(Remedy("open_issue"),),
)
REMEDIES = [None, *(Remedy(kind) for kind in ("rerun_failed_jobs", "open_issue", "update_workflow", "rotate_secret"))]
SPENT = {unit: Spent(9_999, NOW) for unit in Unit}
HISTORIES = [
    History(),
    History(open_pulls=9, attempts_of_fingerprint=9, reruns_of_run=9, spent=SPENT, oldest_attempt_at=NOW),
    History(switches=(Switch("app", "ada", NOW, "the release"), Switch("repository:7", "ada", NOW, "the release"))),
    History(switches=(Switch("app", "ada", NOW), Switch("repository:7", "ada", NOW))),
    History(failures_in_row=4, failed_at=NOW, closed_unmerged=3, twin=41, disproven_at=NOW),
    History(failures_in_row=4, failed_at=NOW - dt.timedelta(days=2), disproven_at=NOW - dt.timedelta(days=2)),
    History(muted=Switch("mute:7:gpu_memory", "ada", NOW)),
    History(muted=Switch("mute:7:gpu_memory", "ada", NOW, "it is meant")),
    History(tracks={"update_workflow": Track(proven=1, reverted_at=NOW)}),
]
POLICIES = [
    *(Policy(mode=mode) for mode in Mode),
    Policy(mode=Mode.AUTO, actions=dict.fromkeys(("update_workflow", "rotate_secret"), Mode.AUTO)),
    Policy(mode=Mode.AUTO, limits=Limits(cooldown_s=3_600), protected_branches=("main",), paused=True),
    Policy(mode=Mode.AUTO, approvals={"update_workflow": 2}),
    Policy(mode=Mode.AUTO, freeze=(Freeze("always", hours=(0, 24 * 60)),)),
    Policy(detectors={"pipeline_failure": Mode.OBSERVE}, origin={"detectors.pipeline_failure": ".github/heal.yml"}),
]


def decisions() -> Iterator[Decision]:
    for remedy in REMEDIES:
        for history in HISTORIES:
            for policy in POLICIES:
                for finding in (FINDING, replace(FINDING, ladder=(), actionable=False)):
                    for from_fork, costs in ((False, {}), (True, dict.fromkeys(Unit, 1.0))):
                        facts = (finding, remedy, policy, history, NOW)
                        yield decide(*facts, branch="main", from_fork=from_fork, costs=costs)


def test_every_sentence_of_the_policy_is_told_again_and_none_is_kept_for_nothing() -> None:
    told = {decision.reason for decision in decisions()}
    told |= {check.detail for decision in decisions() for check in decision.trace}
    assert sorted(text for text in told if PSEUDO_WORDS.retell(text) == text) == []
    used = {recognised(text) for text in told}
    kept = tomllib.loads(SENTENCES.read_text())["sentences"]["policy"]
    assert [sentence for sentence in kept if sentence not in used] == []


def test_every_rule_and_state_and_verdict_has_a_word() -> None:
    rules = {check.rule for decision in decisions() for check in decision.trace}
    assert {rule for rule in rules if word("rule", rule) is None} == set()
    assert {state for state in State if word("state", state) is None} == set()
    assert {verdict for verdict in Verdict if word("verdict", verdict) is None} == set()


def spoken_in(module: str, name: str) -> Iterator[str]:
    """What the calls of `name` in a module say, and what is named message or done, with 7 for each value."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield from (text for argument in node.args for text in _texts(argument))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in ("message", "done"):
                yield from _texts(node.value)
            if node.targets[0].id == "_TOO_LATE" and isinstance(node.value, ast.Dict):
                yield from (text.format("7") for value in node.value.values for text in _texts(value))


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(_sample(part) for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def _sample(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return "'7'" if isinstance(part, ast.FormattedValue) and part.conversion == ord("r") else "7"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("app/healing/command.py", "Reply"),
        ("app/healing/steer.py", "Steered"),
        ("app/healing/verify.py", "Observation"),
        ("app/adapters/github/webhook.py", "Ignored"),
        ("app/healing/interpret.py", "Ignored"),
    ],
)
def test_what_the_loop_says_is_told_again(module: str, name: str) -> None:
    told = list(spoken_in(module, name))
    assert told
    not_shown = {"How incident 7 was decided:"}  # the decision itself is shown in its place
    verbs = "I know `/heal 7`."
    assert [one for one in told if " " in one and recognised(one) is None and one not in {*not_shown, verbs}] == []
    assert recognised(f"I know `/heal {'`, `/heal '.join(VERBS)}`.")


def test_what_log_signatures_say_is_told_again() -> None:
    files = [tomllib.loads(file.read_text()) for file in (ROOT / "detectors/signatures").glob("*.toml")]
    rows = [row for file in files for row in (file, *file.get("signatures", ()))]
    said = {row[key] for row in rows for key in ("title", "summary") if key in row}
    assert said
    templates = {re.sub(r"\{(\w+)\}", r"%(\1)s", text) for text in said}
    assert templates == set(tomllib.loads(SENTENCES.read_text())["sentences"]["signatures"])


def test_values_are_taken_over_and_prose_among_them_is_told_again() -> None:
    told = PSEUDO_WORDS.retell("The mode is auto (mode in the defaults): it is done.")
    assert "auto (mode" in told
    assert "the defaults" not in told
    kept = PSEUDO_WORDS.retell("Every remedy was tried. is not protected.")  # the name of a branch, odd as it is
    assert "Every remedy was tried." in kept


def test_what_is_no_sentence_of_ours_stays_as_it_is() -> None:
    for text in ("", "CUDA out of memory", "x" * 1_000_000, "%(branch)s", "100 % sure", "a\nb"):
        assert PSEUDO_WORDS.retell(text) == text


def test_a_value_can_not_become_a_hole() -> None:
    assert "%(pattern)s" in PSEUDO_WORDS.retell("%(pattern)s is not protected.")


def test_long_values_cost_no_more_than_their_length() -> None:
    text = "The mode is " + "is (in (in " * 150 + "): it is done"
    assert PSEUDO_WORDS.retell(text) == text
