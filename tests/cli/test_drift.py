"""`heal drift` and `heal profile`: files in, verdict out."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

from app.cli import app


def table(seed: int, shift: float = 0.0, rows: int = 2_000) -> pa.Table:
    r = np.random.default_rng(seed)
    plans = np.array(["free", "team", "firm"], object)
    at = np.datetime64("2026-11-01T00:00:00", "s") + np.arange(rows) * np.timedelta64(600, "s")
    return pa.table(
        {
            "id": np.arange(rows) + seed * rows,
            "age": r.normal(40 + shift, 10, rows),
            "plan": plans[r.integers(0, 3, rows)],
            "at": at,
        }
    )


def heal(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, made in (("old", table(1)), ("new", table(2)), ("moved", table(3, shift=4.0))):
        pyarrow.parquet.write_table(made, tmp_path / f"{name}.parquet")
        pyarrow.csv.write_csv(made, tmp_path / f"{name}.csv")
        with pyarrow.ipc.new_file(tmp_path / f"{name}.arrow", made.schema) as file:
            file.write_table(made)
        with pyarrow.ipc.new_stream(tmp_path / f"{name}.arrows", made.schema) as stream:
            stream.write_table(made)
    return tmp_path


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow", "arrows"])
def test_what_moved_is_told_whatever_the_files_are(files: Path, kind: str) -> None:
    result = heal("drift", files / "old.parquet", files / f"moved.{kind}", "--leave-out", "id", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["drifted"] is True
    assert [(each["column"], each["change"]) for each in told["found"]] == [("age", "location")]
    assert told["rows"] == {"reference": 2_000, "current": 2_000}


def test_quiet_tables_have_not_drifted(files: Path) -> None:
    result = heal("drift", files / "old.parquet", files / "new.parquet", "--leave-out", "id", "--exit-code")
    assert (result.exit_code, result.stdout) == (0, "no drift in 3 columns\n")


def test_the_exit_code_tells_a_change_when_asked(files: Path) -> None:
    words = ("drift", files / "old.parquet", files / "moved.parquet")
    assert heal(*words).exit_code == 0
    assert heal(*words, "--exit-code").exit_code == 1


def test_a_stored_profile_stands_for_its_table(files: Path) -> None:
    kept = files / "kept.json"
    assert heal("profile", files / "old.parquet", "--out", kept, "--leave-out", "id").exit_code == 0
    words = (files / "moved.parquet", "--leave-out", "id", "--json")
    by_profile = json.loads(heal("drift", kept, *words).stdout)
    by_table = json.loads(heal("drift", files / "old.parquet", *words).stdout)
    assert by_profile == by_table


def test_seasons_are_kept_and_used_when_a_time_is_named(files: Path) -> None:
    kept = files / "kept.json"
    heal("profile", files / "old.csv", "--out", kept, "--time", "at")
    assert "weekday 00-06" in json.loads(kept.read_text())["seasons"]


def test_importance_ranks(files: Path) -> None:
    words = ("drift", files / "old.parquet", files / "moved.parquet", "--json")
    ids_first = json.loads(heal(*words).stdout)["found"][0]["column"]
    other = json.loads(heal(*words, "--importance", "age=50").stdout)["found"][0]["column"]
    assert (ids_first, other) == ("id", "age")


def test_the_page_is_written(files: Path) -> None:
    page = files / "report.html"
    assert heal("drift", files / "old.parquet", files / "moved.parquet", "--html", page).exit_code == 0
    assert "moved.parquet against old.parquet" in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("drift", "missing.csv", "old.csv"), "cannot be read"),
        (("drift", "old.csv", "noise.bin"), "noise.bin"),
        (("drift", "broken.json", "old.csv"), "broken.json"),
        (("drift", "other.json", "old.csv"), "this is no profile"),
        (("drift", "old.csv", "new.csv", "--importance", "age"), "is not NAME=WEIGHT"),
        (("drift", "old.csv", "new.csv", "--importance", "age=nan"), "is not NAME=WEIGHT"),
        (("drift", "old.csv", "new.csv", "--time", "when"), "no column 'when'"),
        (("profile", "old.csv", "--out", "no/such/folder.json"), "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(files)
    (files / "noise.bin").write_bytes(b"PAR1 but not really")
    (files / "broken.json").write_text("{")
    (files / "other.json").write_text('{"a": 1}')
    result = heal(*words)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
