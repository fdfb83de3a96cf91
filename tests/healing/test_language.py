"""What is written on GitHub follows the repository's language."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from app.domain.event import Pushed
from app.domain.tenant import Sender
from app.healing.report import language_of
from tests.healing.world import OUT_OF_MEMORY, World

GERMAN = "version: 1\nmode: approve\nlanguage: de\n"


@dataclass
class Clock:
    at: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


def test_check_pull_request_and_reply_are_in_the_repositorys_language(world: World) -> None:
    world.project(GERMAN)
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    check = world.forge.checks[0].text
    assert check.title.endswith(": wartet auf Genehmigung")
    assert "## Was fehlgeschlagen ist" in check.text
    assert "Der Notschalter der App ist aus." in check.text
    assert [button.label for button in check.buttons] == ["Genehmigen", "Ablehnen"]
    world.press("approve:1")
    world.drain()
    pull = world.forge.pulls[1]
    assert "### Wie es nachgewiesen wurde" in pull.body
    world.say("reject", number=1)
    world.drain()
    replies = [comment.body for comment in world.forge.comments[1] if comment.author == world.forge.login]
    assert "Abgelehnt. Vorfall 1 wird in Ruhe gelassen." in replies[-1]


def test_a_question_that_nobody_can_answer_is_asked_in_the_owners_language(world: World) -> None:
    world.forge.owner_files[".github/heal.yml"] = "version: 1\nmode: auto\nlanguage: ja\n"
    world.project(None)
    world.fail("FAILED tests/test_metric.py::test_recall - assert 0.75 == 0.8")
    world.drain()
    (issue,) = world.forge.issues.values()
    assert "### 何が失敗したか" in issue.body


def test_the_verdict_on_a_pushed_file_is_in_its_own_language_or_the_one_in_force(world: World) -> None:
    world.project(GERMAN)
    for text in ("version: 1\nmode: atuo\n", "version: 1\nlanguage: ja\n"):
        sha = world.forge.push("feature", {".github/heal.yml": text})
        event = Pushed(
            repository=world.forge.repository,
            sender=Sender("maria"),
            branch="feature",
            before="",
            head_sha=sha,
            paths=frozenset({".github/heal.yml"}),
        )
        world.arrive(event)
        world.drain()
    broken, valid = (check.text for check in world.forge.checks)
    assert broken.title == "1 Fehler: bis er behoben ist, beobachtet der Bot nur"
    assert valid.title == "有効"


def test_the_language_is_asked_for_again_after_a_while_and_not_at_each_report(world: World) -> None:
    clock = Clock()
    kit = replace(world.kit, clock=clock)
    world.project(GERMAN)
    assert language_of(kit, world.forge) == "de"
    world.forge.push("main", {".github/heal.yml": "version: 1\nlanguage: fr\n"})
    clock.at += timedelta(minutes=9)
    assert language_of(kit, world.forge) == "de"
    clock.at += timedelta(minutes=2)
    assert language_of(kit, world.forge) == "fr"
