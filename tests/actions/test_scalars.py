import json
import re
import tomllib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from actions.scalars import ANY, Addition, Kind, defaults, divide, find, is_whole, rewrite, whole, write_whole
from app.domain.errors import Malformed

KEYS = frozenset({"lr", "batch_size"})


@pytest.mark.parametrize(
    ("literal", "by", "expected"),
    [
        ("2.5", 10, "0.25"),
        ("1e-3", 10, "1e-4"),
        ("1e-9", 10, "1e-10"),
        ("3.0E-04", 10, "3.0E-05"),
        ("1e3", 10, "1e2"),
        ("5e+01", 100, "5e-01"),
        ("1e-3", 2, "5e-4"),
        ("3.0e-4", 2, "1.5e-4"),
        (".5", 10, ".05"),
        ("0.10", 10, "0.01"),
        ("2.0", 2, "1.0"),
        ("1", 10, "0.1"),
        ("1.", 10, "0.1"),
        ("+0.5", 10, "+0.05"),
        ("1_000.0", 10, "100.0"),
        ("0.00001", 10, "0.000001"),
        ("0.1234567890123456789", 10, "0.01234567890123456789"),
        ("0.3", 7, "0.0428571428571"),
    ],
)
def test_a_divided_number_keeps_its_notation(literal: str, by: int, expected: str) -> None:
    assert divide(literal, by) == expected


@given(
    st.from_regex(r"\A[0-9]{1,6}(\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?\Z").filter(lambda t: Decimal(t) > 0),
    st.sampled_from([2, 10, 100]),
)
def test_a_divided_number_has_the_right_value(literal: str, by: int) -> None:
    assert Decimal(divide(literal, by)) == pytest.approx(Decimal(literal) / by, rel=Decimal("1e-11"))


def test_whole_numbers_keep_their_grouping() -> None:
    assert is_whole("4_096")
    assert not is_whole("4.0")
    assert not is_whole("1e3")
    assert whole("4_096") == 4096
    assert write_whole(2048, "4_096") == "2_048"
    assert write_whole(512, "1_024") == "512"
    assert write_whole(32, "+64") == "+32"
    assert write_whole(32, "64") == "32"


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("a.yaml", "train:\n  lr: 1e-3  # lr: 5\nbatch_size: 4_096\n", ["train.lr", "batch_size"]),
        ("a.yaml", "a: {lr: .5, x: [{batch_size: 8}]}\n", ["a.lr", "a.x.0.batch_size"]),
        ("a.yaml", "lr: '0.1'\nbatch_size: many\n", []),
        ("a.yaml", "lr: 0x10\nbatch_size: 010\n", []),
        ("a.yaml", "text: |\n  lr: 1\n", []),
        ("a.yaml", "a: &d {lr: 1}\nb: *d\n", ["a.lr"]),
        ("a.yaml", "lr: 1\n---\nlr: 2\n", ["0.lr", "1.lr"]),
        ("a.yaml", "\ufefflr: 1\r\nbatch_size: 2\r\n", ["lr", "batch_size"]),
        ("a.yaml", "π: 🧪\nlr: 1\n", ["lr"]),
        ("a.toml", "[o]\nlr = 2.5 # lr = 1\nx = {batch_size = 8}\n", ["o.lr", "o.x.batch_size"]),
        ("a.toml", 'train.lr = 1e-3\n"batch_size"= 4_096\n', ["train.lr", "batch_size"]),
        ("a.toml", 's = """\nlr = 1\n"""\n', []),
        ("a.toml", 'lr = "1"\nmy_batch_size = 3\nbatch_size_max = 3\n', []),
        ("a.toml", "[[x]]\nlr = 1\n[[x]]\nlr = 2\n", ["x.0.lr", "x.1.lr"]),
        ("a.json", '{"lr": 1e-3, "a": [{"batch_size": 8}], "s": "\\"lr\\": 5"}', ["lr", "a.0.batch_size"]),
        ("a.json", '{"lr": 1, "lr": 2}', ["lr"]),
        ("a.json", '{"lr": "1", "batch_size": null}', []),
    ],
)
def test_only_plain_numbers_of_the_named_keys_are_found(file: str, text: str, names: list[str]) -> None:
    found = find(file, text, KEYS)
    assert [scalar.name for scalar in found] == names
    assert all(text[scalar.start : scalar.end] == scalar.literal for scalar in found)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.yaml", "a: [\n"),
        ("a.yaml", "a: " + "[" * 5000),
        ("a.yaml", "- " * 5000),
        ("a.toml", "a = \n"),
        ("a.json", "{'lr': 1}"),
        ("a.json", "[" * 100_000),
        ("a.json", "[" + ",".join('{"lr": 1}' for _ in range(50)) + "]"),
    ],
)
def test_a_file_that_cannot_be_read_is_malformed(file: str, text: str) -> None:
    with pytest.raises(Malformed):
        find(file, text, KEYS)


def test_an_alias_bomb_costs_nothing() -> None:
    layers = ["a0: &a0 {lr: 1}"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    text = "\n".join(layers)
    (scalar,) = find("a.yaml", text, KEYS)
    assert rewrite("a.yaml", text, {scalar: "2"}) == text.replace("lr: 1", "lr: 2")


def test_a_change_that_is_not_where_it_was_found_is_refused() -> None:
    (scalar,) = find("a.yaml", "lr: 1\n", KEYS)
    with pytest.raises(Malformed):
        rewrite("a.yaml", "# moved\nlr: 1\n", {scalar: "2"})


def test_a_change_that_would_become_something_else_is_refused() -> None:
    (scalar,) = find("a.toml", "lr = 1\n", KEYS)
    with pytest.raises(Malformed):
        rewrite("a.toml", "lr = 1\n", {scalar: ".5"})


WORDS = st.text("abcdefghijklmnop", min_size=1, max_size=6).filter(lambda word: word not in KEYS)
NUMBERS = st.sampled_from(["1", "64", "4_096", "2.5", "1e-3", "0.10", "3.0E-04"])
JSON_NUMBERS = st.sampled_from(["1", "64", "2.5", "1e-3", "0.10", "3.0E-04"])
COMMENTS = st.sampled_from(["", "  # lr: 7", " # batch_size = 9", " # ünïcödé 🧪", "   "])
ENDS = st.sampled_from(["\n", "\r\n"])


@st.composite
def yaml_files(draw: Any) -> tuple[str, str, str]:
    end = draw(ENDS)
    lines = [f"{key}:  {value}{draw(COMMENTS)}" for key, value in draw(_others(['"lr: 3"', "[1, 2]", "'it''s'", "~"]))]
    number = draw(NUMBERS)
    nested = draw(st.booleans())
    lr = f"lr:   {number}{draw(COMMENTS)}"
    lines.insert(draw(st.integers(0, len(lines))), f"section:{end}    {lr}" if nested else lr)
    return "a.yaml", end.join(lines) + draw(st.sampled_from(["", end])), number


@st.composite
def toml_files(draw: Any) -> tuple[str, str, str]:
    end = draw(ENDS)
    values = ['"lr = 3"', "[1, 2]", "'lr = 4'", "{x = 1}", "1979-05-27"]
    lines = [f"{key}  =  {value}{draw(COMMENTS)}" for key, value in draw(_others(values))]
    number = draw(NUMBERS)
    lines.append(f"lr   = {number}{draw(COMMENTS)}")
    return "a.toml", end.join(lines) + draw(st.sampled_from(["", end])), number


@st.composite
def json_files(draw: Any) -> tuple[str, str, str]:
    end, number = draw(ENDS), draw(JSON_NUMBERS)
    members = [f'"{key}" :  {value}' for key, value in draw(_others(['"\\"lr\\": 3"', "[1, 2]", "null", "1.50"]))]
    members.insert(draw(st.integers(0, len(members))), f'"lr" : {number}')
    body = f",{end}\t".join(members)
    return "a.json", f"{{{end}\t{body} {end}}}{draw(st.sampled_from(['', end]))}", number


def _others(values: list[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.dictionaries(WORDS, st.sampled_from(values), max_size=5).map(lambda found: list(found.items()))


def _parse(file: str, text: str) -> Any:
    if file.endswith(".json"):
        return json.loads(text)
    return tomllib.loads(text) if file.endswith(".toml") else YAML(typ="safe", pure=True).load(text)


def _without_lr(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_lr(value) for key, value in data.items() if key != "lr"}
    return data


@given(st.one_of(yaml_files(), toml_files(), json_files()))
def test_a_rewrite_touches_one_number_and_nothing_else(drawn: tuple[str, str, str]) -> None:
    file, text, number = drawn
    (scalar,) = find(file, text, KEYS)
    assert scalar.literal == number
    lower = divide(number, 10)
    after = rewrite(file, text, {scalar: lower})
    assert after == text[: scalar.start] + lower + text[scalar.end :]
    old, new = re.split(r"(?<=\n)", text), re.split(r"(?<=\n)", after)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
    assert _without_lr(_parse(file, after)) == _without_lr(_parse(file, text))
    (again,) = find(file, after, KEYS)
    assert (again.path, again.literal) == (scalar.path, lower)


# --- other kinds, and what is added


@pytest.mark.parametrize(
    ("file", "text", "kind", "literal"),
    [
        ("a.yaml", "lr: true # on\n", Kind.BOOLEAN, "true"),
        ("a.yaml", "lr: Off\n", Kind.BOOLEAN, "Off"),
        ("a.yaml", "lr: ~\n", Kind.NULL, "~"),
        ("a.yaml", "lr:   # nothing\nx: 1\n", Kind.NULL, ""),
        ("a.yaml", "lr: 'a b'\n", Kind.TEXT, "'a b'"),
        ("a.yaml", "lr: auto\n", Kind.TEXT, "auto"),
        ("a.yaml", "lr: ${a.b}\n", Kind.OTHER, "${a.b}"),
        ("a.yaml", "lr: &x 1\ny: 2\n", Kind.NUMBER, "1"),
        ("a.yaml", "lr: &x 1\ny: *x\n", Kind.OTHER, "1"),
        ("a.yaml", "LR: 1\n", Kind.NUMBER, "1"),
        ("a.yaml", "a: one\n  two\nlr: 1\n", Kind.NUMBER, "1"),
        ("a.toml", "lr = false\n", Kind.BOOLEAN, "false"),
        ("a.toml", "lr = 'a'\n", Kind.TEXT, "'a'"),
        ("a.json", '{"lr": null}', Kind.NULL, "null"),
        ("a.json", '{"lr": "a\\"b"}', Kind.TEXT, '"a\\"b"'),
    ],
)
def test_every_kind_of_setting_is_known(file: str, text: str, kind: Kind, literal: str) -> None:
    (scalar,) = find(file, text, KEYS, ANY)
    assert (scalar.kind, scalar.literal) == (kind, literal)
    assert text[scalar.start : scalar.end] == literal


@pytest.mark.parametrize(
    ("text", "new", "expected"),
    [
        ("lr: off # x\n", "on", "lr: on # x\n"),
        ("lr:\nx: 1\n", "1.0", "lr: 1.0\nx: 1\n"),
        ("x: 1\nlr:", "1.0", "x: 1\nlr: 1.0"),
        ("{x: 1, lr: null}\n", "a/b", "{x: 1, lr: a/b}\n"),
    ],
)
def test_any_kind_can_be_replaced(text: str, new: str, expected: str) -> None:
    (scalar,) = find("a.yaml", text, KEYS, ANY)
    assert rewrite("a.yaml", text, {scalar: new}) == expected


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("a.yaml", "a:\n    lr: 1 # one\nb: 2\n", "a:\n    lr: 1 # one\n    new: 7\nb: 2\n"),
        ("a.yaml", "a:\r\n  lr: 1\r\n", "a:\r\n  lr: 1\r\n  new: 7\r\n"),
        ("a.yaml", "x: 1\nlr: 1", "x: 1\nlr: 1\nnew: 7"),
        ("a.yaml", "a: {lr: 1, x: 2}\n", "a: {lr: 1, new: 7, x: 2}\n"),
        ("a.yaml", "a:\n- lr: 1\n  x: 2\n", "a:\n- lr: 1\n  new: 7\n  x: 2\n"),
        ("a.yaml", "a: {\n  lr: 1,\n  x: 2\n}\n", "a: {\n  lr: 1, new: 7,\n  x: 2\n}\n"),
        ("a.toml", "[a]\n  lr = 1 # one\n[b]\n", "[a]\n  lr = 1 # one\n  new = 7\n[b]\n"),
        ("a.toml", "a = {lr = 1}\n", "a = {lr = 1, new = 7}\n"),
        ("a.json", '{\n\t"lr" : 1\n}', '{\n\t"new" : 7,\n\t"lr" : 1\n}'),
        ("a.json", '{"x":[{"lr":1}]}', '{"x":[{"new":7, "lr":1}]}'),
    ],
)
def test_a_setting_is_added_beside_another_in_its_own_style(file: str, text: str, expected: str) -> None:
    (scalar,) = find(file, text, KEYS)
    assert rewrite(file, text, {}, [Addition(scalar, "new", "7")]) == expected


@pytest.mark.parametrize(
    ("file", "text"),
    [("a.yaml", "lr: 1\nnew: 2\n"), ("a.toml", "lr = 1\nnew = 2\n"), ("a.json", '{"lr": 1, "new": 2}')],
)
def test_a_setting_that_is_there_already_is_not_added(file: str, text: str) -> None:
    (scalar,) = find(file, text, KEYS)
    with pytest.raises(Malformed):
        rewrite(file, text, {}, [Addition(scalar, "new", "7")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "defaults:\n  - data: a\n  - override /hydra/launcher: local\n  - _self_\n",
            {"data": "a", "hydra/launcher": "local"},
        ),
        ("defaults: [base, model/small, optional db@x: y]\n", {"": "base", "model": "small", "db": "y"}),
        ("defaults: &d {lr: 1}\n", None),
        ("x: 1\n", None),
        ("defaults:\n  - [\n", None),
    ],
)
def test_a_defaults_list_tells_what_is_chosen(text: str, expected: dict[str, str] | None) -> None:
    assert defaults(text) == expected
