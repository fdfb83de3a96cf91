import pytest

from app.security.toml import load_toml


@pytest.mark.parametrize(
    "text", ["a." * 200 + "a = 1", 'x = {y = """a"""", ' + "a." * 200 + "a = 1}", "[" + "a . " * 60 + "a]"]
)
def test_a_key_of_very_many_parts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="more than 50 parts"):
        load_toml(text)


def test_dots_in_strings_and_comments_are_no_parts() -> None:
    assert load_toml('a = "' + "." * 99 + '" # ' + "." * 99) == {"a": "." * 99}


def test_deep_nesting_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        load_toml("a = " + "[" * 20_000)
