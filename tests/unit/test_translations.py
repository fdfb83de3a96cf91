"""Every message that the sources use is in every language's file, translated, with the holes of the original."""

from pathlib import Path

import pytest

from app.i18n import LANGUAGES, PSEUDO, catalog
from app.i18n.catalogs import LOCALES
from app.i18n.messages import TRANSLATED, Mistake, check, extract, missing, read, update, write


@pytest.fixture(scope="module")
def mistakes() -> list[Mistake]:
    return check(extract())


@pytest.mark.parametrize("language", ["", *TRANSLATED], ids=lambda language: language or "source")
def test_every_message_is_sound_in_every_language(mistakes: list[Mistake], language: str) -> None:
    assert [str(mistake) for mistake in mistakes if mistake.language == language] == []


def test_every_language_but_english_has_a_file() -> None:
    assert {folder.name for folder in LOCALES.iterdir()} == set(LANGUAGES) - {"en"}
    assert PSEUDO not in TRANSLATED


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one page and one module, and files of its own for the languages."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "page.html").write_text(
        '<p>{{ _("Hello %(who)s") }}</p>{{ ngettext("%(num)s line", "%(num)s lines", n) }}'
        "{% trans %}Not now{% endtrans %}"
    )
    (app / "page.py").write_text('def told(visit):\n    return visit.t("Open " "it"), visit.nt("one", "many", 2)\n')
    monkeypatch.setattr("app.i18n.messages.po_file", lambda language: tmp_path / f"{language}.po")
    return app


def messages(sources: Path) -> set[str]:
    return {str(message.id) for message in extract(sources) if message.id and "sentences" not in str(message.locations)}


def test_templates_and_modules_are_read(sources: Path) -> None:
    assert messages(sources) == {
        "Hello %(who)s",
        "('%(num)s line', '%(num)s lines')",
        "Not now",
        "Open it",
        "('one', 'many')",
    }


def test_an_update_keeps_what_is_translated_and_drops_what_is_not_used(sources: Path) -> None:
    update("de", extract(sources), {"Hello %(who)s": "Hallo %(who)s", "Not now": "Nicht jetzt"})
    (sources / "page.html").write_text('{{ _("Hello %(who)s") }}')
    update("de", extract(sources))
    known = read("de")
    assert known.get("Hello %(who)s").string == "Hallo %(who)s"
    assert known.get("Not now") is None
    assert not any(mistake.why.startswith("is not used") for mistake in check(extract(sources)))


def test_an_update_twice_changes_nothing_and_writes_no_line_numbers_or_dates(sources: Path, tmp_path: Path) -> None:
    update("ja", extract(sources))
    first = (tmp_path / "ja.po").read_text()
    (sources / "page.py").write_text("\n\n" + (sources / "page.py").read_text())
    update("ja", extract(sources))
    assert (tmp_path / "ja.po").read_text() == first
    assert "#: app/page.py\n" in first
    assert "Date" not in first


def test_what_is_missing_is_told_until_it_is_filled_in(sources: Path) -> None:
    update("fr", extract(sources), {"Hello %(who)s": "Bonjour %(who)s"})
    left = {row["message"]: row for row in missing("fr", extract(sources))}
    assert "Hello %(who)s" not in left
    assert left["%(num)s line"]["plural"] == "%(num)s lines"
    assert left["%(num)s line"]["forms"] == 2
    update("fr", extract(sources), {"%(num)s line": ["%(num)s ligne", "%(num)s lignes"]})
    assert "%(num)s line" not in {row["message"] for row in missing("fr", extract(sources))}


@pytest.mark.parametrize(
    ("message", "translation", "why"),
    [
        ("Hello %(who)s", "", "is not translated"),
        ("Hello %(who)s", "Hallo", "holes"),
        ("Hello %(who)s", "Hallo %(wer)s", "holes"),
        ("Hello %(who)s", " Hallo %(who)s", "space"),
        ("Hello %(who)s", "Hallo <b>%(who)s</b>", "markup"),
        ("Hello %(who)s", "Hallo %(who)s 100 %", "no hole"),
        ("Hello %(who)s", "Hallo `%(who)s`", "backticks"),
        ("Hello %(who)s", "Hallo\n%(who)s", "line break"),
        ("%(num)s line", ["%(num)s Zeile"], "not translated"),
        ("%(num)s line", ["eine Zeile", "Zeilen"], "holes"),
    ],
)
def test_a_translation_that_would_do_harm_is_refused(
    sources: Path, message: str, translation: str | list[str], why: str
) -> None:
    update("de", extract(sources), {message: translation})
    told = [one.why for one in check(extract(sources)) if (one.language, one.message) == ("de", message)]
    assert any(why in one for one in told), told


def test_a_message_marked_fuzzy_or_unknown_is_a_mistake(sources: Path) -> None:
    found = extract(sources)
    update("de", found, {"Not now": "Nicht jetzt"})
    known = read("de")
    known.get("Not now").flags.add("fuzzy")
    known.add("Gone", "Weg")
    write("de", known)
    told = {(one.message, one.why) for one in check(found) if one.language == "de"}
    assert ("Not now", "is marked fuzzy") in told
    assert ("Gone", "is not used any more") in told


def test_a_message_of_the_sources_that_nobody_could_translate_is_refused(sources: Path) -> None:
    (sources / "page.html").write_text('{{ _("<b>x</b>") }}{{ _(" y") }}{{ _("50%") }}')
    told = {one.message: one.why for one in check(extract(sources)) if not one.language}
    assert set(told) == {"<b>x</b>", " y", "50%"}


@pytest.mark.parametrize("language", TRANSLATED)
def test_each_plural_form_is_used_and_no_number_is_left_without_one(language: str) -> None:
    pair = ("%(num)s line added", "%(num)s lines added")
    forms = read(language).get(pair).string
    said = {catalog(language).form(*pair, n) for n in (0, 1, 2, 5, 1_000_000)}
    assert said == set(forms)
