"""Everything that has a name has its paragraph, and everything that is shown works."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import actions
from app.adapters import sources
from app.adapters.github import webhook
from app.cli import app
from app.domain.incident import State
from app.healing.command import VERBS
from app.healing.configuration import resolve
from app.settings import Settings
from detectors import builtin
from detectors.signatures import parse_signature
from tests.docs.pages import DOCS, ROOT, anchors, blocks, named, pages, prose

PLUGINS = [*builtin.BUILTIN, *actions.BUILTIN]
EXAMPLES = [
    pytest.param(text, id=f"{named(page)}-{number}")
    for page in pages()
    for number, text in enumerate(blocks(page, "ya?ml"))
    if re.search(r"^version: 1$", text, re.MULTILINE)
]


def _settings() -> Iterator[tuple[str, Any]]:
    for group, field in Settings.model_fields.items():
        for name, setting in getattr(field.annotation, "model_fields", {}).items():
            yield f"HEAL_{group}__{name}".upper(), setting


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from _commands(below, (*words, name))
    else:
        yield " ".join(words), command


COMMANDS = list(_commands(typer.main.get_command(app)))


def _section(page: Path, title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _rows(page: Path) -> dict[str, list[str]]:
    """Table rows by the text of their first cell, without backticks."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {first.strip("`"): rest for first, *rest in cells}


@pytest.mark.parametrize(("variable", "setting"), list(_settings()), ids=lambda value: str(value)[:40])
def test_every_setting_has_its_row_with_its_default(variable: str, setting: Any) -> None:
    row = _rows(DOCS / "reference/settings.md").get(variable)
    assert row is not None
    default, meaning = row
    assert meaning
    shown = {None: "none", "": "empty", (): "empty", True: "`true`", False: "`false`"}
    value = setting.default or (None if isinstance(setting.default, dict) else setting.default)
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    assert default == (shown[value] if value in (None, "", ()) or isinstance(value, bool) else f"`{value}`")


def test_no_row_tells_of_a_setting_that_does_not_exist() -> None:
    told = {row for row in _rows(DOCS / "reference/settings.md") if row.startswith("HEAL_")}
    assert told == {variable for variable, _ in _settings()}


@pytest.mark.parametrize("page", pages(), ids=named)
def test_no_page_speaks_of_a_setting_that_does_not_exist(page: Path) -> None:
    spoken = set(re.findall(r"HEAL_[A-Z]+__[A-Z_]*[A-Z]", page.read_text()))
    assert spoken - {variable for variable, _ in _settings()} <= {"HEAL_GROUP__NAME"}


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_every_command_has_its_section_with_every_option(words: str, command: Any) -> None:
    section = _section(DOCS / "reference/cli.md", f"heal {words}")
    assert section
    options = [name for each in command.params if each.param_type_name == "option" for name in each.opts]
    assert [name for name in options if f"`{name}" not in section and name != "--help"] == []


def test_no_section_tells_of_a_command_that_does_not_exist() -> None:
    told = re.findall(r"^### heal (.+)$", (DOCS / "reference/cli.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(words for words, _ in COMMANDS)


def test_every_exit_code_of_the_command_line_is_told() -> None:
    assert {"0", "1", "2", "3"} <= set(_rows(DOCS / "reference/cli.md"))


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.kind)
def test_every_plugin_has_a_page(plugin: Any) -> None:
    assert (DOCS / "plugins" / f"{plugin.kind}.md").exists()


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.kind)
def test_the_readme_leads_to_every_plugin(plugin: Any) -> None:
    assert f"](docs/plugins/{plugin.kind}.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("event", sorted({event for event, _ in webhook._READERS}))
def test_every_event_that_is_acted_on_is_told(event: str) -> None:
    assert event in _rows(DOCS / "reference/events.md")


@pytest.mark.parametrize("verb", VERBS)
def test_every_comment_command_is_told(verb: str) -> None:
    assert f"/heal {verb}" in _rows(DOCS / "reference/events.md")


@pytest.mark.parametrize("state", State)
def test_every_state_of_an_incident_is_in_the_glossary(state: State) -> None:
    assert state in _rows(DOCS / "glossary.md")


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "tutorial.md"], ids=named)
def test_every_repository_of_the_demo_is_told(page: Path) -> None:
    repositories = [readme.parent.name for readme in (ROOT / "sandbox/repositories").glob("*/README.md")]
    assert len(repositories) == 5
    assert [name for name in repositories if name not in page.read_text()] == []


@pytest.mark.parametrize(("place", "section"), [("webhook.py", "POST /webhooks/github"), ("api", "POST /api/v1/…")])
def test_every_error_of_the_ways_in_is_told(place: str, section: str) -> None:
    there = ROOT / "app/web" / place
    files = [ROOT / "app/web/answer.py", *(there.glob("*.py") if there.is_dir() else [there])]
    code = re.compile(r"(?:Answer\(\s*(\d{3})|_unknown\()[,\s]*\"(\w+)\"")
    codes = {(status or "401", name) for file in files for status, name in code.findall(file.read_text())}
    told = _section(DOCS / "reference/api.md", section)
    assert len(codes) >= 8
    assert [code for status, code in codes if f"| {status} | `{code}` |" not in told] == []


@pytest.mark.parametrize("source", sources.READERS)
def test_every_other_source_is_told(source: str) -> None:
    assert source in _rows(DOCS / "reference/events.md")


def test_every_metric_is_told() -> None:
    families = set(re.findall(r"\"(heal_[a-z_]+)\"", (ROOT / "app/web/health.py").read_text()))
    assert families
    assert families <= set(_rows(DOCS / "reference/metrics.md"))


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_heal_yml_is_valid(text: str) -> None:
    configured = resolve(
        text,
        None,
        known_detectors={plugin.kind: plugin.Settings for plugin in builtin.BUILTIN},
        known_actions={plugin.kind: plugin.Params for plugin in actions.BUILTIN},
    )
    assert configured.problems == ()


def test_the_pages_show_examples_of_heal_yml() -> None:
    assert len(EXAMPLES) >= 3


def test_the_example_of_a_signature_is_one() -> None:
    (example,) = (text for text in blocks(DOCS / "how-to/write-a-plugin.md", "toml") if "patterns" in text)
    signature = parse_signature("example", example)
    assert any(re.search(pattern, line) for pattern in signature.patterns for line in signature.examples)


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_make_target_that_is_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:^\$ |`)make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert shown - targets == set()


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    known = [words.split() for words, _ in COMMANDS]
    for line in re.findall(r"(?:`|^\$ |bin/|exec \w+ )heal ([a-z][a-z -]*)", page.read_text(), re.MULTILINE):
        words = line.split()
        assert any(words[: len(command)] == command for command in known), f"heal {line}"


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_link_inside_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def test_every_page_is_in_the_table_of_contents() -> None:
    index = "\n".join(blocks(DOCS / "index.md", r"\{toctree\}"))
    entries = [line for line in index.splitlines() if line and not line.startswith(":")]
    listed = {page for entry in entries for page in DOCS.glob(f"{entry}.md" if not entry.endswith("*") else entry)}
    assert {page for page in DOCS.rglob("*.md") if "_build" not in page.parts} - listed == {DOCS / "index.md"}


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=named)
def test_a_decision_is_short_and_says_its_four_things(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= 50
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
        "Alternatives",
    ]


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:4]) for page in (DOCS / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_changelog_knows_the_present_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
