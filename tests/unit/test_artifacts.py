"""Archives that a job uploaded: a few files within bounds, or Malformed."""

import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.github.artifacts import MOST_FILES, files_of
from app.domain.errors import Malformed


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def read(raw: bytes, most: int = 1_000_000) -> dict[str, bytes]:
    return files_of(io.BytesIO(raw), most_bytes=most)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_files_come_out_as_they_went_in(compression: int) -> None:
    files = {"churn.parquet": bytes(range(256)) * 20, "deep/er.json": b"[]", "../up.json": b"{}"}
    assert read(packed(files, compression)) == files


def test_what_is_too_large_is_left_out_and_the_rest_is_read() -> None:
    files = {"a": b"a" * 600, "huge": bytes(50_000_000), "b": b"b" * 300, "c": b"c" * 300}
    assert set(read(packed(files), most=1000)) == {"a", "b"}


def test_only_so_many_files_are_read() -> None:
    assert len(read(packed({f"{n}.json": b"" for n in range(MOST_FILES + 50)}))) == MOST_FILES


def test_an_archive_that_lies_about_a_size_gives_no_more_than_it_said() -> None:
    raw = packed({"a": b"x" * 100_000})
    entry = raw.rindex(b"PK\x01\x02")
    lied = raw[: entry + 24] + (10).to_bytes(4, "little") + raw[entry + 28 :]
    try:
        found = read(lied, most=1000)
    except Malformed:
        return
    assert sum(map(len, found.values())) <= 1000


@pytest.mark.parametrize(
    "raw", [b"", b"PK", b"no archive", packed({"a": b"x" * 100})[:80]], ids=["empty", "short", "text", "cut off"]
)
def test_what_is_no_archive_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read(raw)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5), st.integers(0, 400))
def test_a_damaged_archive_is_files_or_malformed(changes: list[tuple[int, int]], cut: int) -> None:
    raw = bytearray(packed({"a.json": b"[]" * 50, "b/c.parquet": bytes(200)}))
    for place, value in changes:
        raw[place % len(raw)] = value
    try:
        found = read(bytes(raw[: len(raw) - cut % len(raw)]), most=10_000)
    except Malformed:
        return
    assert sum(map(len, found.values())) <= 10_000
