"""Which lines differ between two texts."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.changes import MOST_COMPARED, changes, split
from app.domain.repair import FileEdit

lines = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n"]), max_size=12)


@given(lines, lines)
def test_the_changes_turn_the_old_lines_into_the_new_ones(old: list[str], new: list[str]) -> None:
    made: list[str] = []
    place = 0
    for tag, old_from, old_to, new_from, new_to in changes(old, new):
        assert old_from == place
        place = old_to
        made += old[old_from:old_to] if tag == "equal" else new[new_from:new_to]
    assert (made, place) == (new, len(old))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nc\n", "a\nB\nc\n"),
        ("a\n" * 9_000, "a\n" * 4_000 + "b\n" + "a\n" * 5_000),
        ("one\n" * 20 + "two\n" + "one\n" * 20, "one\n" * 20 + "one\n" * 20),
        ("a\nb", "a\nb\n"),
        (None, "new\nfile\n"),
        ("".join(f"{n}\n" for n in range(3_000)), "".join(f"{n}!\n" for n in range(3_000))),
    ],
)
def test_git_applies_the_diff(before: str | None, after: str, tmp_path: Path) -> None:
    if before is not None:
        (tmp_path / "f.txt").write_text(before)
    (tmp_path / "d.patch").write_text(FileEdit("f.txt", before, after).diff())
    subprocess.run(["git", "apply", "d.patch"], cwd=tmp_path, check=True)
    assert (tmp_path / "f.txt").read_text() == after


def test_one_line_more_among_equal_ones_is_one_line_of_a_diff() -> None:
    diff = FileEdit("f", "a\n" * 9_000, "a\n" * 4_000 + "b\n" + "a\n" * 5_000).diff()
    assert [line for line in diff.splitlines()[2:] if line[0] in "+-"] == ["+b"]


def test_what_is_too_much_to_compare_is_one_replacement() -> None:
    many = MOST_COMPARED + 1
    assert changes(["a"] * many, ["b"] * many) == [("replace", 0, many, 0, many)]


def test_lines_end_at_line_feeds_alone() -> None:
    assert split("a\fb\r\nc\u2028d") == ["a\fb\r\n", "c\u2028d"]
